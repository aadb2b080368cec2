// SPDX-License-Identifier: Apache-2.0
//
// One step of a floating-point accumulator: a code plus an exact term, rounded once; combinational.
//
//   sum = R(acc + term),   term = (-1)^sign * significand / 2^(TERM_W-1) * 2^exponent
//
// The term may have leading zeros. Zeros, NaN, infinity and overflow: see fp_sum and fp_round_pack.
module fp_accumulate #(
    parameter int EXP         = 5,
    parameter int MAN         = 10,
    parameter int BIAS        = 15,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int RANDOM_BITS = 0,                      // with ROUND_SR, else 0
    parameter int TERM_W      = 4,
    parameter int EXP_W       = 8                       // holds every exponent less the width of a sum, and one more
) (
    input  logic [EXP+MAN:0]                             acc_i,
    input  logic                                         sign_i,
    input  logic signed [EXP_W-1:0]                      exponent_i,
    input  logic [TERM_W-1:0]                            significand_i,
    input  logic                                         inf_i,
    input  logic                                         nan_i,
    input  logic [fpsim_pkg::max_of(RANDOM_BITS, 1)-1:0] random_i,
    output logic [EXP+MAN:0]                             sum_o,
    output logic [4:0]                                   flags_o
);

  localparam int SIG_W = fpsim_pkg::max_of(fpsim_pkg::max_of(MAN + 1 + RANDOM_BITS, TERM_W), 2);  // either addend

  logic acc_sign, acc_inf, acc_nan;
  logic signed [EXP_W-1:0] acc_exponent, term_exponent;
  logic [SIG_W-1:0] acc_significand, wide, term_significand;

  fp_unpack #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_unpack_acc (
      .code_i(acc_i),
      .sign_o(acc_sign), .exponent_o(acc_exponent), .significand_o(acc_significand),
      .inf_o(acc_inf), .nan_o(acc_nan)
  );

  assign wide = {{(SIG_W - TERM_W) {1'b0}}, significand_i} << (SIG_W - TERM_W);

  fp_normalise #(
      .SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_normalise_term (
      .exponent_i(exponent_i), .significand_i(wide),
      .exponent_o(term_exponent), .significand_o(term_significand)
  );

  fp_sum #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS), .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_sum (
      .x_sign_i(acc_sign), .x_exponent_i(acc_exponent), .x_significand_i(acc_significand),
      .x_inf_i(acc_inf), .x_nan_i(acc_nan),
      .y_sign_i(sign_i), .y_exponent_i(term_exponent), .y_significand_i(term_significand),
      .y_inf_i(inf_i), .y_nan_i(nan_i),
      .random_i(random_i), .code_o(sum_o), .flags_o(flags_o)
  );

endmodule
