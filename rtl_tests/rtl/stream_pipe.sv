// SPDX-License-Identifier: Apache-2.0
//
// DEPTH registers of a valid/ready stream; 0 is a wire. Each stage takes a beat when it is empty or
// its own beat leaves, so a full pipeline moves one beat every clock and a stall loses nothing.
//
// A beat moves on the rising edge of clk_i at which valid and ready are both 1. ready_o depends on
// ready_i in the same clock; valid never waits for ready. rst_ni = 0 empties every stage.
module stream_pipe #(
    parameter int W     = 8,
    parameter int DEPTH = 1
) (
    input  logic         clk_i,
    input  logic         rst_ni,
    input  logic         valid_i,
    output logic         ready_o,
    input  logic [W-1:0] data_i,
    output logic         valid_o,
    input  logic         ready_i,
    output logic [W-1:0] data_o
);

  generate
    if (DEPTH == 0) begin : g_wire
      logic unused_clock;
      assign unused_clock = &{1'b0, clk_i, rst_ni};
      assign valid_o = valid_i;
      assign ready_o = ready_i;
      assign data_o  = data_i;
    end else begin : g_registers
      for (genvar i = 0; i < DEPTH; i++) begin : g_stage
        logic valid_d, valid_q, accept, leave;
        logic [W-1:0] data_d, data_q;

        if (i == 0) begin : g_first
          assign valid_d = valid_i;
          assign data_d  = data_i;
        end else begin : g_next
          assign valid_d = g_stage[i-1].valid_q;
          assign data_d  = g_stage[i-1].data_q;
        end
        if (i == DEPTH - 1) begin : g_last
          assign leave = ready_i;
        end else begin : g_inner
          assign leave = g_stage[i+1].accept;
        end

        assign accept = ~valid_q | leave;

        always_ff @(posedge clk_i or negedge rst_ni) begin
          if (!rst_ni) valid_q <= 1'b0;
          else if (accept) valid_q <= valid_d;
        end

        always_ff @(posedge clk_i) begin
          if (accept & valid_d) data_q <= data_d;
        end
      end

      assign ready_o = g_stage[0].accept;
      assign valid_o = g_stage[DEPTH-1].valid_q;
      assign data_o  = g_stage[DEPTH-1].data_q;
    end
  endgenerate

endmodule
