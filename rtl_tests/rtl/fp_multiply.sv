// SPDX-License-Identifier: Apache-2.0
//
// Exact product of two decoded numbers, times 2^scale; combinational. Nothing is rounded, a zero
// keeps its sign.
//
//   value = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,   SIG_W = A_SIG_W + B_SIG_W
//
// Two significands below 2 make a product below 4: its top bit weighs 2^(a + b + 1).
module fp_multiply #(
    parameter int A_SIG_W = 2,
    parameter int B_SIG_W = 2,
    parameter int EXP_W   = 10  // holds the product's exponent
) (
    input  logic                           a_sign_i,
    input  logic signed [EXP_W-1:0]        a_exponent_i,
    input  logic [A_SIG_W-1:0]             a_significand_i,
    input  logic                           b_sign_i,
    input  logic signed [EXP_W-1:0]        b_exponent_i,
    input  logic [B_SIG_W-1:0]             b_significand_i,
    input  logic signed [EXP_W-1:0]        scale_i,
    output logic                           sign_o,
    output logic signed [EXP_W-1:0]        exponent_o,
    output logic [A_SIG_W+B_SIG_W-1:0]     significand_o
);

  localparam logic signed [EXP_W-1:0] ONE = {{(EXP_W - 1) {1'b0}}, 1'b1};  // as wide as its sum

  assign sign_o        = a_sign_i ^ b_sign_i;
  assign exponent_o    = a_exponent_i + b_exponent_i + scale_i + ONE;
  assign significand_o = {{B_SIG_W{1'b0}}, a_significand_i} * {{A_SIG_W{1'b0}}, b_significand_i};

endmodule
