// SPDX-License-Identifier: Apache-2.0
//
// Dot product as a chain of fused multiply-adds: one element per beat, one rounding per element.
//
//   acc <- R(x + a * b * a_scale * b_scale)     x: acc under MAC, c_i under DOT
//
// A scale per operand and beat is LLM-FP4's pre-shifted exponent and MX's shared one, as E8M0 codes.
// SCALED = 0 leaves the scales out of the logic. Stream and operations: see acc_stream; zeros, NaN and
// infinity: see fp_sum.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between products and sum,
// the others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes
// one clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot_chain #(
    parameter int A_EXP         = 2,                              // operands: see fp_decode
    parameter int A_MAN         = 1,
    parameter int A_BIAS        = 1,
    parameter int A_SPECIALS    = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_EXP         = 2,
    parameter int B_MAN         = 1,
    parameter int B_BIAS        = 1,
    parameter int B_SPECIALS    = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int SCALED        = 1,
    parameter int SA_SIGNED     = 0,                              // scales: default E8M0
    parameter int SA_EXP        = 8,
    parameter int SA_MAN        = 0,
    parameter int SA_BIAS       = 127,
    parameter int SA_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int SA_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int SB_SIGNED     = 0,
    parameter int SB_EXP        = 8,
    parameter int SB_MAN        = 0,
    parameter int SB_BIAS       = 127,
    parameter int SB_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int SB_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int ACC_EXP       = 8,                              // accumulator: up to E8M23
    parameter int ACC_MAN       = 23,
    parameter int ACC_BIAS      = 127,
    parameter int ACC_SPECIALS  = fpsim_pkg::SPECIALS_IEEE,
    parameter int ROUNDING      = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int PIPELINE      = 1                               // registers before the accumulator
) (
    input  logic                               clk_i,
    input  logic                               rst_ni,     // asynchronous, active low
    input  logic                               valid_i,
    output logic                               ready_o,
    input  logic [2:0]                         op_i,       // fpsim_pkg::OP_*
    input  logic                               last_i,     // a result is due after this beat
    input  logic [A_EXP+A_MAN:0]               a_i,
    input  logic [B_EXP+B_MAN:0]               b_i,
    input  logic [SA_SIGNED+SA_EXP+SA_MAN-1:0] a_scale_i,
    input  logic [SB_SIGNED+SB_EXP+SB_MAN-1:0] b_scale_i,
    input  logic [ACC_EXP+ACC_MAN:0]           c_i,
    output logic                               valid_o,
    input  logic                               ready_i,
    output logic [ACC_EXP+ACC_MAN:0]           acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = 1 + ACC_EXP + ACC_MAN;
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;
  localparam int TERM_W    = PRODUCT_W + ((SCALED != 0) ? SA_MAN + SB_MAN + 2 : 0);
  localparam int SUM_W     = fpsim_pkg::max_of(ACC_MAN + 1, TERM_W) + 4;  // of fp_accumulate

  // Exponents of top bits: the terms', the accumulator's, and what normalising can take off.
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int SCALE_HIGH = fpsim_pkg::exponent_high(SA_EXP, SA_MAN, SA_BIAS)
                            + fpsim_pkg::exponent_high(SB_EXP, SB_MAN, SB_BIAS) + 1;
  localparam int SCALE_LOW  = fpsim_pkg::exponent_low(SA_EXP, SA_MAN, SA_BIAS, SA_SUBNORMALS)
                            + fpsim_pkg::exponent_low(SB_EXP, SB_MAN, SB_BIAS, SB_SUBNORMALS) + 1;
  localparam int TERM_HIGH    = PRODUCT_HIGH + ((SCALED != 0) ? fpsim_pkg::max_of(SCALE_HIGH, 0) + 1 : 0);
  localparam int TERM_LOW     = PRODUCT_LOW + ((SCALED != 0) ? fpsim_pkg::min_of(SCALE_LOW, 0) : 0);
  localparam int RANGE_W      = fpsim_pkg::signed_width(
      fpsim_pkg::min_of(fpsim_pkg::min_of(TERM_LOW, SCALE_LOW), 1 - ACC_BIAS) - SUM_W,
      fpsim_pkg::max_of(fpsim_pkg::max_of(TERM_HIGH, SCALE_HIGH), (1 << ACC_EXP) - ACC_BIAS));
  localparam int FIELD_W      = 1 + fpsim_pkg::max_of(fpsim_pkg::max_of(A_EXP, B_EXP),
      fpsim_pkg::max_of(ACC_EXP, fpsim_pkg::max_of(SA_EXP, SB_EXP)));
  localparam int EXP_W        = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  localparam int SCALES_W = SA_SIGNED + SA_EXP + SA_MAN + SB_SIGNED + SB_EXP + SB_MAN;
  localparam int BEAT_W   = 3 + 1 + A_EXP + A_MAN + 1 + B_EXP + B_MAN + 1 + SCALES_W + ACC_W;
  localparam int TERMS_W  = 3 + 1 + 1 + EXP_W + TERM_W + 2 + ACC_W;

  // -- beats in ---------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [A_EXP+A_MAN:0] a;
  logic [B_EXP+B_MAN:0] b;
  logic [SA_SIGNED+SA_EXP+SA_MAN-1:0] a_scale;
  logic [SB_SIGNED+SB_EXP+SB_MAN-1:0] b_scale;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, a_scale_i, b_scale_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a, b, a_scale, b_scale, c})
  );

  // -- term -------------------------------------------------------------------------------------------
  logic p_sign, p_inf, p_nan, sign, inf, nan;
  logic signed [EXP_W-1:0] p_exponent, exponent;
  logic [PRODUCT_W-1:0] p_significand;
  logic [TERM_W-1:0] significand;

  fp_product #(
      .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
      .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
      .SCALE_W(0), .EXP_W(EXP_W)
  ) u_product (
      .a_i(a), .b_i(b), .exp_i(1'b0),
      .sign_o(p_sign), .exponent_o(p_exponent), .significand_o(p_significand),
      .inf_o(p_inf), .nan_o(p_nan)
  );

  generate
    if (SCALED != 0) begin : g_scaled
      fp_scale #(
          .TERM_W(PRODUCT_W),
          .A_SIGNED(SA_SIGNED), .A_EXP(SA_EXP), .A_MAN(SA_MAN), .A_BIAS(SA_BIAS),
          .A_SPECIALS(SA_SPECIALS), .A_SUBNORMALS(SA_SUBNORMALS),
          .B_SIGNED(SB_SIGNED), .B_EXP(SB_EXP), .B_MAN(SB_MAN), .B_BIAS(SB_BIAS),
          .B_SPECIALS(SB_SPECIALS), .B_SUBNORMALS(SB_SUBNORMALS),
          .EXP_W(EXP_W)
      ) u_scale (
          .sign_i(p_sign), .exponent_i(p_exponent), .significand_i(p_significand),
          .inf_i(p_inf), .nan_i(p_nan), .a_scale_i(a_scale), .b_scale_i(b_scale),
          .sign_o(sign), .exponent_o(exponent), .significand_o(significand),
          .inf_o(inf), .nan_o(nan)
      );
    end else begin : g_unscaled
      logic unused_scales;
      assign unused_scales = &{1'b0, a_scale, b_scale};
      assign {sign, exponent, significand} = {p_sign, p_exponent, p_significand};
      assign {inf, nan} = {p_inf, p_nan};
    end
  endgenerate

  // -- sum --------------------------------------------------------------------------------------------
  logic t_valid, t_ready, t_last, t_sign, t_inf, t_nan;
  logic [2:0] t_op;
  logic signed [EXP_W-1:0] t_exponent;
  logic [TERM_W-1:0] t_significand;
  logic [ACC_W-1:0] t_c, addend, sum;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, sign, exponent, significand, inf, nan, c}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_sign, t_exponent, t_significand, t_inf, t_nan, t_c})
  );

  fp_accumulate #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(TERM_W), .EXP_W(EXP_W)
  ) u_accumulate (
      .acc_i(addend),
      .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
      .inf_i(t_inf), .nan_i(t_nan), .sum_o(sum)
  );

  acc_stream #(
      .W(ACC_W)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc_o)
  );

endmodule
