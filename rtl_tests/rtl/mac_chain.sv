// SPDX-License-Identifier: Apache-2.0
//
// Floating-point multiply-accumulate with one rounding per step (a chain of fused multiply-adds).
//
//   MAC:  acc <- R(acc + a * b * 2^exp)      on every rising clock edge with op_i = 2
//   IDLE (0) holds, CLEAR (1) gives +0, LOAD (3) takes c_i as it is; see acc_register
//
// A product of infinity and zero is NaN.
//   Zeros    a zero product has the sign of its factors; a zero sum of equal signs keeps the sign,
//            any other zero sum is +0, or -0 under RDN; a result rounded to zero keeps its sign.
//   NaN      stays, as the canonical NaN; so does infinity minus infinity.
//   Infinity stays under OVERFLOW_INF, else becomes what OVERFLOW says.
//   Overflow is decided after rounding with an unbounded exponent.
// One register; exp_i is tied to 0 when unused, or left out of the logic with SCALE_W = 0.
module mac_chain #(
    parameter int A_SIGNED     = 1,
    parameter int A_EXP        = 2,                          // operand a: ExMy and bias; see fp_decode
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_SIGNED     = 1,
    parameter int B_EXP        = 2,                          // operand b
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter logic [fpsim_pkg::TABLE_W-1:0] A_TABLE = '0,   // of storage codes, see code_lookup; 0: none
    parameter logic [fpsim_pkg::TABLE_W-1:0] B_TABLE = '0,
    parameter int ACC_EXP      = 5,                          // accumulator: up to E8M23
    parameter int ACC_MAN      = 10,
    parameter int ACC_BIAS     = 15,
    parameter int ACC_SPECIALS = fpsim_pkg::SPECIALS_IEEE,
    parameter int ACC_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING     = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW     = fpsim_pkg::OVERFLOW_INF,
    parameter int SCALE_W      = 9,                          // bits of exp_i, two's complement
    // derived, do not change
    parameter int A_W          = fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN),
    parameter int B_W          = fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN)
) (
    input  logic                                            clk_i,
    input  logic                                            rst_ni,  // asynchronous, active low
    input  logic [1:0]                                      op_i,
    input  logic [((A_TABLE != '0) ? fpsim_pkg::TABLE_CODE : A_W)-1:0] a_i,
    input  logic [((B_TABLE != '0) ? fpsim_pkg::TABLE_CODE : B_W)-1:0] b_i,
    input  logic [ACC_EXP+ACC_MAN:0]                        c_i,
    input  logic signed [fpsim_pkg::max_of(SCALE_W, 1)-1:0] exp_i,
    output logic [ACC_EXP+ACC_MAN:0]                        acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = 1 + ACC_EXP + ACC_MAN;                 // an accumulator code
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;                     // exact product
  localparam int SUM_W     = fpsim_pkg::max_of(ACC_MAN + 1, PRODUCT_W) + 4;  // of fp_accumulate

  // Exponents (of top bits): products, accumulator, and what normalising can take off.
  localparam int SCALE_SPAN   = (1 << SCALE_W) / 2;                 // exp_i is in -span .. span-1
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1 + SCALE_SPAN;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1 - SCALE_SPAN;
  localparam int ACC_HIGH     = (1 << ACC_EXP) - 1 - ACC_BIAS;
  localparam int ACC_LOW      = 1 - ACC_BIAS;
  localparam int RANGE_W      = fpsim_pkg::signed_width(            // every exponent above
      fpsim_pkg::min_of(PRODUCT_LOW, ACC_LOW) - SUM_W,
      fpsim_pkg::max_of(PRODUCT_HIGH, ACC_HIGH) + 1);
  localparam int FIELD_W      = 1 + fpsim_pkg::max_of(              // and every field with a sign
      fpsim_pkg::max_of(A_EXP, B_EXP), fpsim_pkg::max_of(ACC_EXP, SCALE_W));
  localparam int EXP_W        = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  logic [A_W-1:0] a;
  logic [B_W-1:0] b;
  logic sign, inf, nan;
  logic signed [EXP_W-1:0] exponent;
  logic [PRODUCT_W-1:0] significand;
  logic [ACC_W-1:0] sum;
  logic [4:0] flags;
  logic invalid, unused_flags;  // of streams alone

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
      .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
      .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
      .SCALE_W(SCALE_W), .EXP_W(EXP_W)
  ) u_product (
      .a_i(a), .b_i(b), .exp_i(exp_i),
      .sign_o(sign), .exponent_o(exponent), .significand_o(significand), .inf_o(inf), .nan_o(nan),
      .invalid_o(invalid)
  );

  fp_accumulate #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
      .SUBNORMALS(ACC_SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(PRODUCT_W), .EXP_W(EXP_W)
  ) u_accumulate (
      .acc_i(acc_o),
      .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .inf_i(inf), .nan_i(nan),
      .random_i(1'b0), .sum_o(sum), .flags_o(flags)
  );

  assign unused_flags = &{1'b0, invalid, flags};

  acc_register #(
      .W(ACC_W)
  ) u_register (
      .clk_i(clk_i), .rst_ni(rst_ni), .op_i(op_i), .sum_i(sum), .c_i(c_i), .acc_o(acc_o)
  );

endmodule
