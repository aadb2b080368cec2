// SPDX-License-Identifier: Apache-2.0
//
// Dot product of blocks with shared scales: MXFP4, NVFP4, AMXFP4. One block per beat.
//
//   s   = sum_i a_i * b_i                       of LANES elements, exact
//   acc <- R(x + s * a_scale * b_scale)         x: acc under MAC, c_i under DOT; one rounding
//
// With A_SPLIT or B_SPLIT an operand has a scale for codes without sign bit and one for those with; then
// there is a sum per combination of signs, added in the order ++, +-, -+, -- with one rounding each.
// NAN_ZERO: a NaN scale drops its block instead of making it NaN; for scales without infinity.
// Stream and operations: see acc_stream; zeros, NaN and infinity: see fp_sum.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between products and sum,
// the others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes
// one clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot_block #(
    parameter int LANES         = 32,                             // elements per block
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
    parameter int A_SPLIT       = 0,
    parameter int B_SPLIT       = 0,
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
    parameter int NAN_ZERO      = 0,
    parameter int ACC_EXP       = 8,                              // accumulator: up to E8M23
    parameter int ACC_MAN       = 23,
    parameter int ACC_BIAS      = 127,
    parameter int ACC_SPECIALS  = fpsim_pkg::SPECIALS_IEEE,
    parameter int ROUNDING      = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int PIPELINE      = 1                               // registers before the accumulator
) (
    input  logic                                             clk_i,
    input  logic                                             rst_ni,     // asynchronous, active low
    input  logic                                             valid_i,
    output logic                                             ready_o,
    input  logic [2:0]                                       op_i,       // fpsim_pkg::OP_*
    input  logic                                             last_i,     // a result is due after this beat
    input  logic [LANES*(A_EXP+A_MAN+1)-1:0]                 a_i,        // element 0 in the low bits
    input  logic [LANES*(B_EXP+B_MAN+1)-1:0]                 b_i,
    input  logic [(1+A_SPLIT)*(SA_SIGNED+SA_EXP+SA_MAN)-1:0] a_scale_i,  // of codes without sign bit in the low bits
    input  logic [(1+B_SPLIT)*(SB_SIGNED+SB_EXP+SB_MAN)-1:0] b_scale_i,
    input  logic [ACC_EXP+ACC_MAN:0]                         c_i,
    output logic                                             valid_o,
    input  logic                                             ready_i,
    output logic [ACC_EXP+ACC_MAN:0]                         acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W   = 1 + ACC_EXP + ACC_MAN;
  localparam int TERMS   = (1 + A_SPLIT) * (1 + B_SPLIT);
  localparam int SPAN    = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                         + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS)
                         - fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                         - fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS);
  localparam int TOTAL_W = A_MAN + B_MAN + 2 + SPAN + $clog2(LANES);  // of block_sum
  localparam int TERM_W  = TOTAL_W + SA_MAN + SB_MAN + 2;
  localparam int SUM_W   = fpsim_pkg::max_of(ACC_MAN + 1, TERM_W) + 4;  // of fp_accumulate

  // Exponents of top bits: the block sum's (a constant), the scales', and what normalising takes off.
  localparam int TOTAL_TOP  = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                            + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1 + $clog2(LANES);
  localparam int SCALE_HIGH = fpsim_pkg::exponent_high(SA_EXP, SA_MAN, SA_BIAS)
                            + fpsim_pkg::exponent_high(SB_EXP, SB_MAN, SB_BIAS) + 1;
  localparam int SCALE_LOW  = fpsim_pkg::exponent_low(SA_EXP, SA_MAN, SA_BIAS, SA_SUBNORMALS)
                            + fpsim_pkg::exponent_low(SB_EXP, SB_MAN, SB_BIAS, SB_SUBNORMALS) + 1;
  localparam int RANGE_W    = fpsim_pkg::signed_width(
      fpsim_pkg::min_of(fpsim_pkg::min_of(SCALE_LOW + fpsim_pkg::min_of(TOTAL_TOP, 0), TOTAL_TOP), 1 - ACC_BIAS)
          - SUM_W,
      fpsim_pkg::max_of(fpsim_pkg::max_of(SCALE_HIGH + fpsim_pkg::max_of(TOTAL_TOP, 0) + 1, TOTAL_TOP),
                        (1 << ACC_EXP) - ACC_BIAS));
  localparam int FIELD_W    = 1 + fpsim_pkg::max_of(ACC_EXP, fpsim_pkg::max_of(SA_EXP, SB_EXP));
  localparam int EXP_W      = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  localparam int SA_W    = SA_SIGNED + SA_EXP + SA_MAN;
  localparam int SB_W    = SB_SIGNED + SB_EXP + SB_MAN;
  localparam int A_W     = LANES * (A_EXP + A_MAN + 1);
  localparam int B_W     = LANES * (B_EXP + B_MAN + 1);
  localparam int BEAT_W  = 3 + 1 + A_W + B_W + (1 + A_SPLIT) * SA_W + (1 + B_SPLIT) * SB_W + ACC_W;
  localparam int TERMS_W = 3 + 1 + TERMS * (1 + EXP_W + TERM_W + 2) + ACC_W;

  // -- beats in ---------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [A_W-1:0] a;
  logic [B_W-1:0] b;
  logic [(1+A_SPLIT)*SA_W-1:0] a_scale;
  logic [(1+B_SPLIT)*SB_W-1:0] b_scale;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, a_scale_i, b_scale_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a, b, a_scale, b_scale, c})
  );

  // -- block sums and their scales --------------------------------------------------------------------
  logic [TERMS-1:0] sign, inf, nan;
  logic [TERMS*EXP_W-1:0] exponent;
  logic [TERMS*TERM_W-1:0] significand;

  generate
    for (genvar i = 0; i < TERMS; i++) begin : g_term
      localparam int A_SIDE = i / (1 + B_SPLIT);  // which of the scales
      localparam int B_SIDE = i % (1 + B_SPLIT);
      logic s_sign, s_inf, s_nan;
      logic [TOTAL_W-1:0] s_total;

      block_sum #(
          .N(LANES),
          .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
          .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
          .A_SIGN((A_SPLIT != 0) ? A_SIDE : -1), .B_SIGN((B_SPLIT != 0) ? B_SIDE : -1)
      ) u_sum (
          .a_i(a), .b_i(b), .sign_o(s_sign), .total_o(s_total), .inf_o(s_inf), .nan_o(s_nan)
      );

      fp_scale #(
          .TERM_W(TOTAL_W),
          .A_SIGNED(SA_SIGNED), .A_EXP(SA_EXP), .A_MAN(SA_MAN), .A_BIAS(SA_BIAS),
          .A_SPECIALS(SA_SPECIALS), .A_SUBNORMALS(SA_SUBNORMALS),
          .B_SIGNED(SB_SIGNED), .B_EXP(SB_EXP), .B_MAN(SB_MAN), .B_BIAS(SB_BIAS),
          .B_SPECIALS(SB_SPECIALS), .B_SUBNORMALS(SB_SUBNORMALS),
          .NAN_ZERO(NAN_ZERO), .EXP_W(EXP_W)
      ) u_scale (
          .sign_i(s_sign), .exponent_i(EXP_W'(TOTAL_TOP)), .significand_i(s_total),
          .inf_i(s_inf), .nan_i(s_nan),
          .a_scale_i(a_scale[A_SIDE*SA_W+:SA_W]), .b_scale_i(b_scale[B_SIDE*SB_W+:SB_W]),
          .sign_o(sign[i]), .exponent_o(exponent[i*EXP_W+:EXP_W]),
          .significand_o(significand[i*TERM_W+:TERM_W]), .inf_o(inf[i]), .nan_o(nan[i])
      );
    end
  endgenerate

  // -- sum --------------------------------------------------------------------------------------------
  logic t_valid, t_ready, t_last;
  logic [2:0] t_op;
  logic [TERMS-1:0] t_sign, t_inf, t_nan;
  logic [TERMS*EXP_W-1:0] t_exponent;
  logic [TERMS*TERM_W-1:0] t_significand;
  logic [ACC_W-1:0] t_c, addend, sum;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, sign, exponent, significand, inf, nan, c}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_sign, t_exponent, t_significand, t_inf, t_nan, t_c})
  );

  generate
    for (genvar i = 0; i < TERMS; i++) begin : g_add
      logic [ACC_W-1:0] from, to;

      if (i == 0) begin : g_first
        assign from = addend;
      end else begin : g_next
        assign from = g_add[i-1].to;
      end

      fp_accumulate #(
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(TERM_W), .EXP_W(EXP_W)
      ) u_accumulate (
          .acc_i(from),
          .sign_i(t_sign[i]), .exponent_i(t_exponent[i*EXP_W+:EXP_W]),
          .significand_i(t_significand[i*TERM_W+:TERM_W]), .inf_i(t_inf[i]), .nan_i(t_nan[i]),
          .sum_o(to)
      );
    end
  endgenerate

  assign sum = g_add[TERMS-1].to;

  acc_stream #(
      .W(ACC_W)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc_o)
  );

endmodule
