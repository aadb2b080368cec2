// SPDX-License-Identifier: Apache-2.0
//
// Multiplies a number by a pair of scale codes, exactly; combinational.
//
//   value = term * a_scale * b_scale = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,
//   SIG_W = TERM_W + A_MAN + B_MAN + 2
//
// counts_o says that both scales are numbers other than zero.
// With NAN_ZERO a NaN of either scale makes the value +0, else NaN; for scales without infinity.
module fp_scale #(
    parameter int TERM_W       = 14,
    parameter int A_SIGNED     = 0,                              // scales: default E8M0
    parameter int A_EXP        = 8,
    parameter int A_MAN        = 0,
    parameter int A_BIAS       = 127,
    parameter int A_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int B_SIGNED     = 0,
    parameter int B_EXP        = 8,
    parameter int B_MAN        = 0,
    parameter int B_BIAS       = 127,
    parameter int B_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int NAN_ZERO     = 0,
    parameter int EXP_W        = 12                              // holds the value's exponent
) (
    input  logic                               sign_i,
    input  logic signed [EXP_W-1:0]            exponent_i,
    input  logic [TERM_W-1:0]                  significand_i,
    input  logic                               inf_i,
    input  logic                               nan_i,
    input  logic [A_SIGNED+A_EXP+A_MAN-1:0]    a_scale_i,
    input  logic [B_SIGNED+B_EXP+B_MAN-1:0]    b_scale_i,
    output logic                               sign_o,
    output logic signed [EXP_W-1:0]            exponent_o,
    output logic [TERM_W+A_MAN+B_MAN+1:0]      significand_o,
    output logic                               inf_o,
    output logic                               nan_o,
    output logic                               invalid_o,  // infinity times zero, a value dropped
    output logic                               counts_o
);

  localparam int SCALE_W = A_MAN + B_MAN + 2;

  logic s_sign, s_inf, s_nan, s_invalid, sign, inf, nan, invalid, dropped;
  logic signed [EXP_W-1:0] s_exponent;
  logic [SCALE_W-1:0] s_significand;
  logic [TERM_W+SCALE_W-1:0] significand;

  fp_product #(
      .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS),
      .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
      .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS),
      .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
      .SCALE_W(0), .EXP_W(EXP_W)
  ) u_scales (
      .a_i(a_scale_i), .b_i(b_scale_i), .exp_i(1'b0),
      .sign_o(s_sign), .exponent_o(s_exponent), .significand_o(s_significand),
      .inf_o(s_inf), .nan_o(s_nan), .invalid_o(s_invalid)
  );

  fp_multiply #(
      .A_SIG_W(TERM_W), .B_SIG_W(SCALE_W), .EXP_W(EXP_W)
  ) u_multiply (
      .a_sign_i(sign_i), .a_exponent_i(exponent_i), .a_significand_i(significand_i),
      .a_inf_i(inf_i), .a_nan_i(nan_i),
      .b_sign_i(s_sign), .b_exponent_i(s_exponent), .b_significand_i(s_significand),
      .b_inf_i(s_inf), .b_nan_i(s_nan),
      .scale_i({EXP_W{1'b0}}),
      .sign_o(sign), .exponent_o(exponent_o), .significand_o(significand), .inf_o(inf), .nan_o(nan),
      .invalid_o(invalid)
  );

  assign dropped       = (NAN_ZERO != 0) & s_nan;
  assign sign_o        = sign & ~dropped;
  assign significand_o = dropped ? '0 : significand;
  assign inf_o         = inf & ~dropped;
  assign nan_o         = nan & ~dropped;
  assign invalid_o     = s_invalid | invalid | dropped;
  assign counts_o      = (|s_significand) & ~s_inf & ~s_nan;

endmodule
