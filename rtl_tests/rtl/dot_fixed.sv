// SPDX-License-Identifier: Apache-2.0
//
// Dot product into a fixed-point accumulator of W_ACC bits (two's complement) with weight 2^LSB of its
// last bit: one element per beat, each product rounded onto the grid, each sum wrapped or saturated.
//
//   acc <- O(x + R(a * b / 2^LSB))              x: acc under MAC, c_i under DOT
//
// Every operand code is a number. Stream and operations: see acc_stream.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between products and sum,
// the others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes
// one clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot_fixed #(
    parameter int A_EXP        = 2,                              // operands: see fp_decode
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_EXP        = 2,
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int W_ACC        = 24,                             // 4 .. 64
    parameter int LSB          = -2,
    parameter int ROUNDING     = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW     = fpsim_pkg::OVERFLOW_WRAP,       // or OVERFLOW_SATURATE
    parameter int PIPELINE     = 1                                // registers before the accumulator
) (
    input  logic                 clk_i,
    input  logic                 rst_ni,     // asynchronous, active low
    input  logic                 valid_i,
    output logic                 ready_o,
    input  logic [2:0]           op_i,       // fpsim_pkg::OP_*
    input  logic                 last_i,     // a result is due after this beat
    input  logic [A_EXP+A_MAN:0] a_i,
    input  logic [B_EXP+B_MAN:0] b_i,
    input  logic [W_ACC-1:0]     c_i,
    output logic                 valid_o,
    input  logic                 ready_i,
    output logic [W_ACC-1:0]     acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = W_ACC;
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;
  localparam int MAG_W     = W_ACC + 1;          // an addend of 2^W_ACC always overflows

  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int ORIGIN       = LSB + PRODUCT_W - 1;                // exponent that needs no shift
  localparam int RANGE_W      = fpsim_pkg::signed_width(            // exponents, origin and shifts
      fpsim_pkg::min_of(fpsim_pkg::min_of(PRODUCT_LOW, ORIGIN), PRODUCT_LOW - ORIGIN),
      fpsim_pkg::max_of(fpsim_pkg::max_of(PRODUCT_HIGH, ORIGIN),
                        fpsim_pkg::max_of(PRODUCT_HIGH - ORIGIN, MAG_W)));
  localparam int EXP_W        = fpsim_pkg::max_of(RANGE_W, 1 + fpsim_pkg::max_of(A_EXP, B_EXP));

  localparam int BEAT_W  = 3 + 1 + A_EXP + A_MAN + 1 + B_EXP + B_MAN + 1 + ACC_W;
  localparam int TERMS_W = 3 + 1 + 1 + MAG_W + 1 + ACC_W;

  // -- beats in ---------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [A_EXP+A_MAN:0] a;
  logic [B_EXP+B_MAN:0] b;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a, b, c})
  );

  // -- product on the grid ----------------------------------------------------------------------------
  logic sign, inf, nan, huge;
  logic signed [EXP_W-1:0] exponent;
  logic [PRODUCT_W-1:0] significand;
  logic [MAG_W-1:0] magnitude;

  fp_product #(
      .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SUBNORMALS(A_SUBNORMALS),
      .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SUBNORMALS(B_SUBNORMALS),
      .SCALE_W(0), .EXP_W(EXP_W)
  ) u_product (
      .a_i(a), .b_i(b), .exp_i(1'b0),
      .sign_o(sign), .exponent_o(exponent), .significand_o(significand), .inf_o(inf), .nan_o(nan)
  );

  // Every operand code is a number, so these are constant 0.
  logic unused_specials;
  assign unused_specials = &{1'b0, inf, nan};

  fp_to_grid #(
      .SIG_W(PRODUCT_W), .EXP_W(EXP_W), .MAG_W(MAG_W), .LSB(LSB), .ROUNDING(ROUNDING)
  ) u_to_grid (
      .sign_i(sign), .exponent_i(exponent), .significand_i(significand),
      .magnitude_o(magnitude), .huge_o(huge)
  );

  // -- sum --------------------------------------------------------------------------------------------
  logic t_valid, t_ready, t_last, t_sign, t_huge;
  logic [2:0] t_op;
  logic [MAG_W-1:0] t_magnitude;
  logic [ACC_W-1:0] t_c, addend, sum;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, sign, magnitude, huge, c}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_sign, t_magnitude, t_huge, t_c})
  );

  fixed_add #(
      .W(W_ACC), .OVERFLOW(OVERFLOW)
  ) u_add (
      .acc_i(addend), .negative_i(t_sign), .magnitude_i(t_magnitude), .huge_i(t_huge), .sum_o(sum)
  );

  acc_stream #(
      .W(ACC_W)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc_o)
  );

endmodule
