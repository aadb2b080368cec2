// SPDX-License-Identifier: Apache-2.0
//
// Rounds a number, which may have leading zeros, once into a code; combinational.
//
//   code = R((-1)^sign * significand / 2^(TERM_W-1) * 2^exponent)        see fp_round_pack
module fp_convert #(
    parameter int EXP         = 5,
    parameter int MAN         = 10,
    parameter int BIAS        = 15,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int OUTWARD     = 0,
    parameter int TERM_W      = 4,
    parameter int EXP_W       = 8                       // holds every exponent less the width of a significand
) (
    input  logic                    sign_i,
    input  logic signed [EXP_W-1:0] exponent_i,
    input  logic [TERM_W-1:0]       significand_i,
    input  logic                    inf_i,
    input  logic                    nan_i,
    output logic [EXP+MAN:0]        code_o,
    output logic [4:0]              flags_o
);

  localparam int SIG_W = fpsim_pkg::max_of(TERM_W, MAN + 3);

  logic signed [EXP_W-1:0] exponent;
  logic [SIG_W-1:0] wide, significand;

  assign wide = {{(SIG_W - TERM_W) {1'b0}}, significand_i} << (SIG_W - TERM_W);

  fp_normalise #(
      .SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(exponent_i), .significand_i(wide),
      .exponent_o(exponent), .significand_o(significand)
  );

  fp_round_pack #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .OUTWARD(OUTWARD), .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_round_pack (
      .sign_i(sign_i), .exponent_i(exponent), .significand_i(significand),
      .inf_i(inf_i), .nan_i(nan_i), .random_i(1'b0), .code_o(code_o), .flags_o(flags_o)
  );

endmodule
