// SPDX-License-Identifier: Apache-2.0
//
// Floating-point multiply-accumulate with one rounding per step (a chain of fused multiply-adds).
//
//   MAC:  acc <- R(acc + a * b * 2^exp)      on every rising clock edge with op_i = 2
//   IDLE (0) holds, CLEAR (1) gives +0, LOAD (3) takes c_i as it is; see acc_register
//
// Operands are finite formats with gradual subnormals; the accumulator has gradual subnormals too.
//   Zeros    a zero product has the sign of its factors; a zero sum of equal signs keeps the sign,
//            any other zero sum is +0, or -0 under RDN; a result rounded to zero keeps its sign.
//   NaN      in the accumulator stays, as the canonical NaN.
//   Infinity in the accumulator stays under OVERFLOW_INF, else becomes what OVERFLOW says.
//   Overflow is decided after rounding with an unbounded exponent.
// One register; exp_i is tied to 0 when unused, or left out of the logic with SCALE_W = 0.
module mac_chain #(
    parameter int A_EXP        = 2,                          // operand a: ExMy and bias, EXP >= 1
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int B_EXP        = 2,                          // operand b
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int ACC_EXP      = 5,                          // accumulator: up to E8M23
    parameter int ACC_MAN      = 10,
    parameter int ACC_BIAS     = 15,
    parameter int ACC_SPECIALS = fpsim_pkg::SPECIALS_IEEE,
    parameter int ROUNDING     = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW     = fpsim_pkg::OVERFLOW_INF,
    parameter int SCALE_W      = 9                           // bits of exp_i, two's complement
) (
    input  logic                                            clk_i,
    input  logic                                            rst_ni,  // asynchronous, active low
    input  logic [1:0]                                      op_i,
    input  logic [A_EXP+A_MAN:0]                            a_i,
    input  logic [B_EXP+B_MAN:0]                            b_i,
    input  logic [ACC_EXP+ACC_MAN:0]                        c_i,
    input  logic signed [fpsim_pkg::max_of(SCALE_W, 1)-1:0] exp_i,
    output logic [ACC_EXP+ACC_MAN:0]                        acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = 1 + ACC_EXP + ACC_MAN;                 // an accumulator code
  localparam int ACC_SIG_W = ACC_MAN + 1;                           // hidden bit and mantissa
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;                     // exact product
  localparam int SIG_W     = fpsim_pkg::max_of(ACC_SIG_W, PRODUCT_W);  // either addend, exactly
  localparam int SUM_W     = SIG_W + 4;                             // carry, guard, round, sticky

  // Exponents (of top bits): products, accumulator, and what normalising can take off.
  localparam int SCALE_SPAN   = (1 << SCALE_W) / 2;                 // exp_i is in -span .. span-1
  localparam int PRODUCT_HIGH = (1 << A_EXP) - A_BIAS + (1 << B_EXP) - B_BIAS - 1 + SCALE_SPAN;
  localparam int PRODUCT_LOW  = 3 - A_BIAS - B_BIAS - SCALE_SPAN;
  localparam int ACC_HIGH     = (1 << ACC_EXP) - 1 - ACC_BIAS;
  localparam int ACC_LOW      = 1 - ACC_BIAS;
  localparam int RANGE_W      = fpsim_pkg::signed_width(            // every exponent above
      fpsim_pkg::min_of(PRODUCT_LOW, ACC_LOW) - SUM_W,
      fpsim_pkg::max_of(PRODUCT_HIGH, ACC_HIGH) + 1);
  localparam int FIELD_W      = 1 + fpsim_pkg::max_of(              // and every field with a sign
      fpsim_pkg::max_of(A_EXP, B_EXP), fpsim_pkg::max_of(ACC_EXP, SCALE_W));
  localparam int EXP_W        = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  // -- product --------------------------------------------------------------------------------------
  logic p_sign;
  logic signed [EXP_W-1:0] p_exponent, pn_exponent;
  logic [PRODUCT_W-1:0] p_significand;
  logic [SIG_W-1:0] p_wide, pn_significand;

  fp_product #(
      .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS),
      .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS),
      .SCALE_W(SCALE_W), .EXP_W(EXP_W)
  ) u_product (
      .a_i(a_i), .b_i(b_i), .exp_i(exp_i),
      .sign_o(p_sign), .exponent_o(p_exponent), .significand_o(p_significand)
  );

  assign p_wide = {{(SIG_W - PRODUCT_W) {1'b0}}, p_significand} << (SIG_W - PRODUCT_W);

  fp_normalise #(
      .SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_normalise_product (
      .exponent_i(p_exponent), .significand_i(p_wide),
      .exponent_o(pn_exponent), .significand_o(pn_significand)
  );

  // -- accumulator ------------------------------------------------------------------------------------
  logic c_sign, c_inf, c_nan;
  logic signed [EXP_W-1:0] c_exponent, cn_exponent;
  logic [ACC_SIG_W-1:0] c_significand;
  logic [SIG_W-1:0] c_wide, cn_significand;

  fp_decode #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .EXP_W(EXP_W)
  ) u_decode_acc (
      .code_i(acc_o),
      .sign_o(c_sign), .exponent_o(c_exponent), .significand_o(c_significand),
      .inf_o(c_inf), .nan_o(c_nan)
  );

  assign c_wide = {{(SIG_W - ACC_SIG_W) {1'b0}}, c_significand} << (SIG_W - ACC_SIG_W);

  fp_normalise #(
      .SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_normalise_acc (
      .exponent_i(c_exponent), .significand_i(c_wide),
      .exponent_o(cn_exponent), .significand_o(cn_significand)
  );

  // -- sum ----------------------------------------------------------------------------------------------
  logic s_sign;
  logic signed [EXP_W-1:0] s_exponent;
  logic [SUM_W-1:0] s_significand;
  logic [ACC_W-1:0] sum;

  fp_align_add #(
      .SIG_W(SIG_W), .EXP_W(EXP_W), .ZERO_SIGN(ROUNDING == fpsim_pkg::ROUND_RDN)
  ) u_align_add (
      .x_sign_i(c_sign), .x_exponent_i(cn_exponent), .x_significand_i(cn_significand),
      .y_sign_i(p_sign), .y_exponent_i(pn_exponent), .y_significand_i(pn_significand),
      .sign_o(s_sign), .exponent_o(s_exponent), .significand_o(s_significand)
  );

  fp_round_pack #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SUM_W)
  ) u_round_pack (
      .sign_i(c_inf ? c_sign : s_sign), .exponent_i(s_exponent), .significand_i(s_significand),
      .inf_i(c_inf), .nan_i(c_nan), .code_o(sum)
  );

  acc_register #(
      .W(ACC_W)
  ) u_register (
      .clk_i(clk_i), .rst_ni(rst_ni), .op_i(op_i), .sum_i(sum), .c_i(c_i), .acc_o(acc_o)
  );

endmodule
