// SPDX-License-Identifier: Apache-2.0
//
// A float32 code times a positive number, rounded to float32 (nearest, ties to even); combinational.
//
//   code_o = fl(code_i * significand / 2^(SIG_W-1) * 2^exponent)      subnormal numbers and overflow included
module float32_product #(
    parameter int SIG_W = 24,  // at least 2
    parameter int EXP_W = 12   // holds the exponents of both, their sum and what normalising takes off
) (
    input  logic [31:0]             code_i,
    input  logic signed [EXP_W-1:0] exponent_i,
    input  logic [SIG_W-1:0]        significand_i,
    output logic [31:0]             code_o
);

  localparam int PRODUCT_W = SIG_W + 24;

  logic a_sign, a_inf, a_nan, sign, inf, nan, invalid, unused_flags;
  logic [4:0] flags;
  logic signed [EXP_W-1:0] a_exponent, p_exponent, exponent;
  logic [23:0] a_significand;
  logic [PRODUCT_W-1:0] product, significand;

  fp_decode #(
      .EXP(8), .MAN(23), .BIAS(127), .SPECIALS(fpsim_pkg::SPECIALS_IEEE), .EXP_W(EXP_W)
  ) u_decode (
      .code_i(code_i), .sign_o(a_sign), .exponent_o(a_exponent), .significand_o(a_significand),
      .inf_o(a_inf), .nan_o(a_nan)
  );

  fp_multiply #(
      .A_SIG_W(24), .B_SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_multiply (
      .a_sign_i(a_sign), .a_exponent_i(a_exponent), .a_significand_i(a_significand),
      .a_inf_i(a_inf), .a_nan_i(a_nan),
      .b_sign_i(1'b0), .b_exponent_i(exponent_i), .b_significand_i(significand_i),
      .b_inf_i(1'b0), .b_nan_i(1'b0), .scale_i({EXP_W{1'b0}}),
      .sign_o(sign), .exponent_o(p_exponent), .significand_o(product), .inf_o(inf), .nan_o(nan),
      .invalid_o(invalid)
  );

  fp_normalise #(
      .SIG_W(PRODUCT_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(p_exponent), .significand_i(product),
      .exponent_o(exponent), .significand_o(significand)
  );

  fp_round_pack #(
      .EXP(8), .MAN(23), .BIAS(127), .SPECIALS(fpsim_pkg::SPECIALS_IEEE),
      .ROUNDING(fpsim_pkg::ROUND_RNE), .OVERFLOW(fpsim_pkg::OVERFLOW_INF),
      .EXP_W(EXP_W), .SIG_W(PRODUCT_W)
  ) u_round_pack (
      .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .inf_i(inf), .nan_i(nan),
      .random_i(1'b0), .code_o(code_o), .flags_o(flags)
  );

  assign unused_flags = &{1'b0, invalid, flags};

endmodule
