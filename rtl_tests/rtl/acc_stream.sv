// SPDX-License-Identifier: Apache-2.0
//
// The accumulator at the end of a stream of beats; every dot product ends in one.
//
//   op IDLE: acc <- acc    CLEAR: acc <- 0    MAC, DOT: acc <- sum_i    LOAD: acc <- c_i
//
// sum_i is the sum of the beat and addend_o, which is c_i under DOT and acc otherwise. The result of a
// beat with last_i is on acc_o, with valid_o, from the next clock until ready_i takes it; until then
// no further beat is taken, so the accumulator is the only register.
//
// With FLAGS, flags_o beside it is what flags_i was in any beat with MAC or DOT of the vector that ends there,
// and added_o whether there was one.
module acc_stream #(
    parameter int W     = 16,
    parameter int FLAGS = 0
) (
    input  logic         clk_i,
    input  logic         rst_ni,   // asynchronous, active low: acc <- 0, no result waits
    input  logic         valid_i,
    output logic         ready_o,
    input  logic [2:0]   op_i,
    input  logic         last_i,
    input  logic [W-1:0] c_i,
    output logic [W-1:0] addend_o,
    input  logic [W-1:0] sum_i,
    output logic         valid_o,
    input  logic         ready_i,
    output logic [W-1:0] acc_o,
    input  logic [4:0]   flags_i,
    output logic [4:0]   flags_o,
    output logic         added_o
);

  logic [W-1:0] acc_d, acc_q;
  logic valid_q, step;

  assign ready_o  = ~valid_q | ready_i;
  assign step     = valid_i & ready_o;
  assign addend_o = (op_i == fpsim_pkg::OP_DOT) ? c_i : acc_q;

  always_comb begin
    case (op_i)
      fpsim_pkg::OP_CLEAR:                   acc_d = '0;
      fpsim_pkg::OP_MAC, fpsim_pkg::OP_DOT:  acc_d = sum_i;
      fpsim_pkg::OP_LOAD:                    acc_d = c_i;
      default:                               acc_d = acc_q;
    endcase
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      acc_q   <= '0;
      valid_q <= 1'b0;
    end else begin
      if (step) acc_q <= acc_d;
      if (ready_o) valid_q <= valid_i & last_i;
    end
  end

  generate
    if (FLAGS != 0) begin : g_flags
      logic adds, open_q, added_q;
      logic [4:0] flags_q;

      assign adds = (op_i == fpsim_pkg::OP_MAC) | (op_i == fpsim_pkg::OP_DOT);
      always_ff @(posedge clk_i or negedge rst_ni) begin
        if (!rst_ni) begin
          open_q  <= 1'b0;
          added_q <= 1'b0;
          flags_q <= '0;
        end else if (step) begin
          open_q  <= ~last_i;  // further beats of this vector follow
          added_q <= adds | (open_q & added_q);
          flags_q <= (adds ? flags_i : '0) | (open_q ? flags_q : '0);
        end
      end
      assign flags_o = flags_q;
      assign added_o = added_q;
    end else begin : g_no_flags
      logic unused_flags;
      assign unused_flags = &{1'b0, flags_i};
      assign flags_o = '0;
      assign added_o = 1'b0;
    end
  endgenerate

  assign valid_o = valid_q;
  assign acc_o   = acc_q;

endmodule
