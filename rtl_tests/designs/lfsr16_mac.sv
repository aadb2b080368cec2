// SPDX-License-Identifier: Apache-2.0
//
// A MAC with stochastic rounding whose random bits are the low ones of a 16-bit register of its own: Galois,
// x^16 + x^14 + x^13 + x^11 + 1, one step per sum.
module lfsr16_mac (
    input  logic       clk,
    input  logic       rst_n,
    input  logic [2:0] op,
    input  logic       valid,
    output logic       ready,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [7:0] c,
    output logic       done,
    output logic [7:0] y
);

  logic [15:0] state;
  logic        sums;

  assign sums = valid & ready & ((op == fpsim_pkg::OP_MAC) | (op == fpsim_pkg::OP_DOT));

  always_ff @(posedge clk or negedge rst_n) begin
    if (!rst_n) state <= 16'hACE1;
    else if (sums) state <= {1'b0, state[15:1]} ^ (state[0] ? 16'hB400 : 16'h0);
  end

  logic [4:0] unused_flags;

  dot #(
      .ACC_EXP(4), .ACC_MAN(3), .ACC_BIAS(7), .ROUNDING(fpsim_pkg::ROUND_SR), .RANDOM_BITS(5), .PIPELINE(0)
  ) u_dot (
      .clk_i(clk), .rst_ni(rst_n), .valid_i(valid), .ready_o(ready), .op_i(op), .last_i(1'b1),
      .a_i(a), .b_i(b), .a_scale_i(8'd0), .b_scale_i(8'd0), .random_i(state[4:0]), .c_i(c),
      .valid_o(done), .ready_i(1'b1), .acc_o(y), .flags_o(unused_flags)
  );

endmodule
