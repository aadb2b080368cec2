// SPDX-License-Identifier: Apache-2.0
//
// Sum of two normalised numbers, rounded once into a code; combinational.
//
//   code = R(x + y),   x = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent        (y alike)
//
//   Zeros    a zero sum of equal signs keeps the sign; any other is +0, or -0 under RDN.
//   NaN      of either, and infinity minus infinity, give the canonical NaN.
//   Infinity stays under OVERFLOW_INF, else becomes what OVERFLOW says.
//   Flags    of the rounding; infinity minus infinity is INVALID.
module fp_sum #(
    parameter int EXP         = 5,
    parameter int MAN         = 10,
    parameter int BIAS        = 15,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int OUTWARD     = 0,                      // see fp_round_pack
    parameter int RANDOM_BITS = 0,                      // with ROUND_SR, else 0
    parameter int EXP_W       = 8,                      // holds every exponent here less SIG_W+4, and one more
    parameter int SIG_W       = 11                      // at least MAN+1+RANDOM_BITS
) (
    input  logic                                         x_sign_i,
    input  logic signed [EXP_W-1:0]                      x_exponent_i,
    input  logic [SIG_W-1:0]                             x_significand_i,
    input  logic                                         x_inf_i,
    input  logic                                         x_nan_i,
    input  logic                                         y_sign_i,
    input  logic signed [EXP_W-1:0]                      y_exponent_i,
    input  logic [SIG_W-1:0]                             y_significand_i,
    input  logic                                         y_inf_i,
    input  logic                                         y_nan_i,
    input  logic [fpsim_pkg::max_of(RANDOM_BITS, 1)-1:0] random_i,
    output logic [EXP+MAN:0]                             code_o,
    output logic [4:0]                                   flags_o
);

  localparam int SUM_W = SIG_W + 4;  // carry, guard, round, sticky

  logic s_sign, sign, inf, nan, opposite;
  logic [4:0] rounding_flags;
  logic signed [EXP_W-1:0] s_exponent;
  logic [SUM_W-1:0] s_significand;

  fp_align_add #(
      .SIG_W(SIG_W), .EXP_W(EXP_W), .ZERO_SIGN(ROUNDING == fpsim_pkg::ROUND_RDN)
  ) u_align_add (
      .x_sign_i(x_sign_i), .x_exponent_i(x_exponent_i), .x_significand_i(x_significand_i),
      .y_sign_i(y_sign_i), .y_exponent_i(y_exponent_i), .y_significand_i(y_significand_i),
      .sign_o(s_sign), .exponent_o(s_exponent), .significand_o(s_significand)
  );

  assign opposite = x_inf_i & y_inf_i & (x_sign_i ^ y_sign_i);
  assign nan  = x_nan_i | y_nan_i | opposite;
  assign inf  = x_inf_i | y_inf_i;
  assign sign = x_inf_i ? x_sign_i : y_inf_i ? y_sign_i : s_sign;

  fp_round_pack #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .OUTWARD(OUTWARD), .RANDOM_BITS(RANDOM_BITS),
      .EXP_W(EXP_W), .SIG_W(SUM_W)
  ) u_round_pack (
      .sign_i(sign), .exponent_i(s_exponent), .significand_i(s_significand),
      .inf_i(inf), .nan_i(nan), .random_i(random_i), .code_o(code_o), .flags_o(rounding_flags)
  );

  assign flags_o = rounding_flags | ((opposite & ~x_nan_i & ~y_nan_i) ? fpsim_pkg::FLAG_INVALID : '0);

endmodule
