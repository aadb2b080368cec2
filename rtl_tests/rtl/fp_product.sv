// SPDX-License-Identifier: Apache-2.0
//
// From two codes and a run-time exponent to their exact product; combinational. For operands, and
// for a pair of scales.
//
//   value = a * b * 2^exp = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent
//
// SCALE_W = 0 leaves the exponent adder out: exp_i (then 1 bit wide) is ignored.
module fp_product #(
    parameter int A_SIGNED     = 1,
    parameter int A_EXP        = 2,
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_SIGNED     = 1,
    parameter int B_EXP        = 2,
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int SCALE_W      = 9,
    parameter int EXP_W        = 12, // above SCALE_W, A_EXP and B_EXP; holds every exponent of a product
    // derived, do not change
    parameter int A_W          = fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN),
    parameter int B_W          = fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN)
) (
    input  logic [A_W-1:0]                                  a_i,
    input  logic [B_W-1:0]                                  b_i,
    input  logic signed [fpsim_pkg::max_of(SCALE_W, 1)-1:0] exp_i,
    output logic                                            sign_o,
    output logic signed [EXP_W-1:0]                         exponent_o,
    output logic [A_MAN+B_MAN+1:0]                          significand_o,
    output logic                                            inf_o,
    output logic                                            nan_o,
    output logic                                            invalid_o  // infinity times zero
);

  localparam int PORT_W = fpsim_pkg::max_of(SCALE_W, 1);  // a port has at least one bit
  localparam logic SCALED = SCALE_W > 0;                  // 1 bit: is the exponent used

  logic a_sign, b_sign, a_inf, b_inf, a_nan, b_nan;
  logic signed [EXP_W-1:0] a_exponent, b_exponent, scale;
  logic [A_MAN:0] a_significand;
  logic [B_MAN:0] b_significand;

  assign scale = $signed({{(EXP_W - PORT_W) {exp_i[PORT_W-1]}}, exp_i} & {EXP_W{SCALED}});

  fp_decode #(
      .SIGNED(A_SIGNED), .EXP(A_EXP), .MAN(A_MAN), .BIAS(A_BIAS), .SPECIALS(A_SPECIALS), .SUBNORMALS(A_SUBNORMALS),
      .EXP_W(EXP_W)
  ) u_decode_a (
      .code_i(a_i),
      .sign_o(a_sign), .exponent_o(a_exponent), .significand_o(a_significand),
      .inf_o(a_inf), .nan_o(a_nan)
  );

  fp_decode #(
      .SIGNED(B_SIGNED), .EXP(B_EXP), .MAN(B_MAN), .BIAS(B_BIAS), .SPECIALS(B_SPECIALS), .SUBNORMALS(B_SUBNORMALS),
      .EXP_W(EXP_W)
  ) u_decode_b (
      .code_i(b_i),
      .sign_o(b_sign), .exponent_o(b_exponent), .significand_o(b_significand),
      .inf_o(b_inf), .nan_o(b_nan)
  );

  fp_multiply #(
      .A_SIG_W(A_MAN + 1), .B_SIG_W(B_MAN + 1), .EXP_W(EXP_W)
  ) u_multiply (
      .a_sign_i(a_sign), .a_exponent_i(a_exponent), .a_significand_i(a_significand),
      .a_inf_i(a_inf), .a_nan_i(a_nan),
      .b_sign_i(b_sign), .b_exponent_i(b_exponent), .b_significand_i(b_significand),
      .b_inf_i(b_inf), .b_nan_i(b_nan),
      .scale_i(scale),
      .sign_o(sign_o), .exponent_o(exponent_o), .significand_o(significand_o),
      .inf_o(inf_o), .nan_o(nan_o), .invalid_o(invalid_o)
  );

endmodule
