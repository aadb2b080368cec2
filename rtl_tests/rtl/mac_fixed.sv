// SPDX-License-Identifier: Apache-2.0
//
// Multiply-accumulate into a fixed-point accumulator of W_ACC bits (two's complement) with weight
// 2^LSB of its last bit.
//
//   MAC:  acc <- O(acc + R(a * b * 2^exp / 2^LSB))      on every rising clock edge with op_i = 2
//   IDLE (0) holds, CLEAR (1) gives 0, LOAD (3) takes c_i as it is; see acc_register
//
// Each product is rounded onto the grid, then added exactly; O wraps or saturates that sum, once per
// step. Every operand code is a number; a zero has no sign here.
// One register; exp_i is tied to 0 when unused, or left out of the logic with SCALE_W = 0.
module mac_fixed #(
    parameter int A_SIGNED     = 1,
    parameter int A_EXP        = 2,                         // operand a: ExMy and bias; see fp_decode
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_SIGNED     = 1,
    parameter int B_EXP        = 2,                         // operand b
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter logic [fpsim_pkg::TABLE_W-1:0] A_TABLE = '0,   // of storage codes, see code_lookup; 0: none
    parameter logic [fpsim_pkg::TABLE_W-1:0] B_TABLE = '0,
    parameter int W_ACC        = 24,                        // 4 .. 64
    parameter int LSB          = -2,
    parameter int ROUNDING     = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW     = fpsim_pkg::OVERFLOW_WRAP,  // or OVERFLOW_SATURATE
    parameter int SCALE_W      = 9,                         // bits of exp_i, two's complement
    // derived, do not change
    parameter int A_W          = fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN),
    parameter int B_W          = fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN)
) (
    input  logic                                            clk_i,
    input  logic                                            rst_ni,  // asynchronous, active low
    input  logic [1:0]                                      op_i,
    input  logic [((A_TABLE != '0) ? fpsim_pkg::TABLE_CODE : A_W)-1:0] a_i,
    input  logic [((B_TABLE != '0) ? fpsim_pkg::TABLE_CODE : B_W)-1:0] b_i,
    input  logic [W_ACC-1:0]                                c_i,
    input  logic signed [fpsim_pkg::max_of(SCALE_W, 1)-1:0] exp_i,
    output logic [W_ACC-1:0]                                acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;  // exact product
  localparam int MAG_W     = W_ACC + 1;          // an addend of 2^W_ACC always overflows

  localparam int SCALE_SPAN   = (1 << SCALE_W) / 2;                 // exp_i is in -span .. span-1
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1 + SCALE_SPAN;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1 - SCALE_SPAN;
  localparam int ORIGIN       = LSB + PRODUCT_W - 1;                // exponent that needs no shift
  localparam int RANGE_W      = fpsim_pkg::signed_width(            // exponents, origin and shifts
      fpsim_pkg::min_of(fpsim_pkg::min_of(PRODUCT_LOW, ORIGIN), PRODUCT_LOW - ORIGIN),
      fpsim_pkg::max_of(fpsim_pkg::max_of(PRODUCT_HIGH, ORIGIN),
                        fpsim_pkg::max_of(PRODUCT_HIGH - ORIGIN, MAG_W)));
  localparam int FIELD_W      = 1 + fpsim_pkg::max_of(              // and every field with a sign
      fpsim_pkg::max_of(A_EXP, B_EXP), SCALE_W);
  localparam int EXP_W        = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  logic [A_W-1:0] a;
  logic [B_W-1:0] b;
  logic p_sign, p_inf, p_nan, p_invalid, huge, lost, over;
  logic signed [EXP_W-1:0] p_exponent;
  logic [PRODUCT_W-1:0] p_significand;
  logic [MAG_W-1:0] magnitude;
  logic [W_ACC-1:0] sum;

  code_lookup #(
      .N(1), .W(A_W), .TABLE(A_TABLE)
  ) u_a_codes (
      .code_i(a_i), .code_o(a)
  );

  code_lookup #(
      .N(1), .W(B_W), .TABLE(B_TABLE)
  ) u_b_codes (
      .code_i(b_i), .code_o(b)
  );

  fp_product #(
      .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SUBNORMALS(A_SUBNORMALS),
      .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SUBNORMALS(B_SUBNORMALS),
      .SCALE_W(SCALE_W), .EXP_W(EXP_W)
  ) u_product (
      .a_i(a), .b_i(b), .exp_i(exp_i),
      .sign_o(p_sign), .exponent_o(p_exponent), .significand_o(p_significand),
      .inf_o(p_inf), .nan_o(p_nan), .invalid_o(p_invalid)
  );

  // Every operand code is a number, so specials are constant 0; streams alone have status flags.
  logic unused_specials, unused_flags;
  assign unused_specials = &{1'b0, p_inf, p_nan, p_invalid};
  assign unused_flags    = &{1'b0, lost, over};

  fp_to_grid #(
      .SIG_W(PRODUCT_W), .EXP_W(EXP_W), .MAG_W(MAG_W), .LSB(LSB), .ROUNDING(ROUNDING)
  ) u_to_grid (
      .sign_i(p_sign), .exponent_i(p_exponent), .significand_i(p_significand),
      .magnitude_o(magnitude), .huge_o(huge), .lost_o(lost)
  );

  fixed_add #(
      .W(W_ACC), .OVERFLOW(OVERFLOW)
  ) u_add (
      .acc_i(acc_o), .negative_i(p_sign), .magnitude_i(magnitude), .huge_i(huge), .sum_o(sum), .over_o(over)
  );

  acc_register #(
      .W(W_ACC)
  ) u_register (
      .clk_i(clk_i), .rst_ni(rst_ni), .op_i(op_i), .sum_i(sum), .c_i(c_i), .acc_o(acc_o)
  );

endmodule
