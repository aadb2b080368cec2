// SPDX-License-Identifier: Apache-2.0
//
// Exact product of two decoded numbers, times 2^scale; combinational. Nothing is rounded, a zero
// keeps its sign. Infinity times zero is NaN, and an invalid operation.
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
    input  logic                           a_inf_i,
    input  logic                           a_nan_i,
    input  logic                           b_sign_i,
    input  logic signed [EXP_W-1:0]        b_exponent_i,
    input  logic [B_SIG_W-1:0]             b_significand_i,
    input  logic                           b_inf_i,
    input  logic                           b_nan_i,
    input  logic signed [EXP_W-1:0]        scale_i,
    output logic                           sign_o,
    output logic signed [EXP_W-1:0]        exponent_o,
    output logic [A_SIG_W+B_SIG_W-1:0]     significand_o,
    output logic                           inf_o,
    output logic                           nan_o,
    output logic                           invalid_o
);

  localparam logic signed [EXP_W-1:0] ONE = {{(EXP_W - 1) {1'b0}}, 1'b1};  // as wide as its sum

  // An infinity's significand means nothing, so it does not count as zero.
  logic a_zero, b_zero, undefined;
  assign a_zero = ~|a_significand_i & ~a_inf_i;
  assign b_zero = ~|b_significand_i & ~b_inf_i;

  assign sign_o        = a_sign_i ^ b_sign_i;
  assign exponent_o    = a_exponent_i + b_exponent_i + scale_i + ONE;
  assign significand_o = {{B_SIG_W{1'b0}}, a_significand_i} * {{A_SIG_W{1'b0}}, b_significand_i};
  assign undefined     = (a_inf_i & b_zero) | (a_zero & b_inf_i);
  assign nan_o         = a_nan_i | b_nan_i | undefined;
  assign invalid_o     = undefined & ~a_nan_i & ~b_nan_i;
  assign inf_o         = (a_inf_i | b_inf_i) & ~nan_o;

endmodule
