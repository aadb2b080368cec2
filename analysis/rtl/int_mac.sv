// SPDX-License-Identifier: Apache-2.0
//
// The integer multiply-accumulate that 4-bit floating point is compared with: a plain two's complement
// multiplier, a plain adder that wraps, and the same accumulator register as the reference MACs have.
module int_multiply #(
    parameter int W = 4
) (
    input  logic signed [W-1:0]   a_i,
    input  logic signed [W-1:0]   b_i,
    output logic signed [2*W-1:0] product_o
);
  assign product_o = a_i * b_i;
endmodule

module int_mac #(
    parameter int W     = 4,
    parameter int W_ACC = 16
) (
    input  logic             clk_i,
    input  logic             rst_ni,
    input  logic [1:0]       op_i,
    input  logic [W-1:0]     a_i,
    input  logic [W-1:0]     b_i,
    input  logic [W_ACC-1:0] c_i,
    output logic [W_ACC-1:0] acc_o
);
  logic signed [2*W-1:0] product;
  logic [W_ACC-1:0]      sum;

  int_multiply #(.W(W)) u_multiply (.a_i(a_i), .b_i(b_i), .product_o(product));
  assign sum = acc_o + W_ACC'(product);
  acc_register #(.W(W_ACC)) u_register (
      .clk_i(clk_i), .rst_ni(rst_ni), .op_i(op_i), .sum_i(sum), .c_i(c_i), .acc_o(acc_o)
  );
endmodule
