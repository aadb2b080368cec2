// SPDX-License-Identifier: Apache-2.0
//
// One place of the chain that brings a column's results down: those of the ABOVE rows over this one,
// then its own, tile after tile. So a column's results leave in the order of rows.
//
// The own result is held aside until its turn, so that the MAC goes on with the next tile.
module array_drain #(
    parameter int W     = 16,
    parameter int ABOVE = 1   // rows over this one
) (
    input  logic         clk_i,
    input  logic         rst_ni,         // asynchronous, active low: no result is here
    input  logic         own_valid_i,
    output logic         own_ready_o,
    input  logic [W-1:0] own_i,
    input  logic         above_valid_i,
    output logic         above_ready_o,
    input  logic [W-1:0] above_i,
    output logic         valid_o,
    input  logic         ready_i,
    output logic [W-1:0] data_o
);

  localparam int TURN_W = $clog2(ABOVE + 1) + 1;  // 1: a width above 0

  logic held_valid, held_ready, own_turn, next_valid, room;
  logic [W-1:0] held;
  logic [TURN_W-1:0] turn_q;

  stream_pipe #(
      .W(W), .DEPTH(1)
  ) u_held (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(own_valid_i), .ready_o(own_ready_o), .data_i(own_i),
      .valid_o(held_valid), .ready_i(held_ready), .data_o(held)
  );

  assign own_turn      = turn_q == ABOVE[TURN_W-1:0];
  assign next_valid    = own_turn ? held_valid : above_valid_i;
  assign held_ready    = own_turn & room;
  assign above_ready_o = ~own_turn & room;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) turn_q <= '0;
    else if (next_valid & room) turn_q <= own_turn ? '0 : turn_q + 1'b1;
  end

  stream_pipe #(
      .W(W), .DEPTH(1)
  ) u_down (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(next_valid), .ready_o(room),
      .data_i(own_turn ? held : above_i),
      .valid_o(valid_o), .ready_i(ready_i), .data_o(data_o)
  );

endmodule
