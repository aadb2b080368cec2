// SPDX-License-Identifier: Apache-2.0
//
// Fused dot product of LANES products and an addend on one alignment, as tensor cores add. One window
// per beat; a longer dot product is windows in a row, each with the accumulator as its addend.
//
//   acc <- aligned_add(x, a_i * b_i)            x: acc under MAC, c_i under DOT
//
// e(x) of an operand is the exponent of its code, a subnormal's that of the smallest normal number; the
// products' are sums of two. NORMALISED takes floor(log2 |a_i b_i|) instead. FLOOR_ON adds FLOOR to the
// exponents that are compared. Settings of the sum: see aligned_add; stream and operations: acc_stream.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between products and sum,
// the others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes
// one clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot_aligned #(
    parameter int LANES         = 32,                             // products per window
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
    parameter int FRACTION_BITS = 13,
    parameter int ALIGN         = fpsim_pkg::ROUND_RTZ,
    parameter int LATE          = 0,
    parameter int LATE_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int FLOOR_ON      = 0,
    parameter int FLOOR         = 0,
    parameter int NORMALISED    = 0,
    parameter int W_SUM         = 0,
    parameter int SUM_OVERFLOW  = fpsim_pkg::OVERFLOW_WRAP,
    parameter int SIGNED_ZERO   = 0,
    parameter int NAN_CODE      = 'h7FC00000,
    parameter int ACC_EXP       = 8,                              // container of c and results
    parameter int ACC_MAN       = 23,
    parameter int ACC_BIAS      = 127,
    parameter int ACC_SPECIALS  = fpsim_pkg::SPECIALS_IEEE,
    parameter int ROUNDING      = fpsim_pkg::ROUND_RTZ,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int OUT_MAN       = 13,                             // mantissa bits that survive rounding
    parameter int PIPELINE      = 1                               // registers before the accumulator
) (
    input  logic                             clk_i,
    input  logic                             rst_ni,     // asynchronous, active low
    input  logic                             valid_i,
    output logic                             ready_o,
    input  logic [2:0]                       op_i,       // fpsim_pkg::OP_*
    input  logic                             last_i,     // a result is due after this beat
    input  logic [LANES*(A_EXP+A_MAN+1)-1:0] a_i,        // element 0 in the low bits
    input  logic [LANES*(B_EXP+B_MAN+1)-1:0] b_i,
    input  logic [ACC_EXP+ACC_MAN:0]         c_i,
    output logic                             valid_o,
    input  logic                             ready_i,
    output logic [ACC_EXP+ACC_MAN:0]         acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = 1 + ACC_EXP + ACC_MAN;
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;
  localparam int SIG_W     = PRODUCT_W + ((NORMALISED != 0) ? 1 : 0);

  // Exponents: products', the addend's, the floor, the sum's top bit, and what normalising takes off.
  localparam int SUM_W = FRACTION_BITS + 5 + $clog2(LANES + 1) + ACC_MAN + 4;
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int HIGH    = fpsim_pkg::max_of(PRODUCT_HIGH, (1 << ACC_EXP) - ACC_BIAS) + SUM_W;
  localparam int LOW     = fpsim_pkg::min_of(PRODUCT_LOW - PRODUCT_W, 1 - ACC_BIAS) - SUM_W;
  localparam int RANGE_W = 1 + fpsim_pkg::signed_width(            // 1: distances
      fpsim_pkg::min_of(LOW, (FLOOR_ON != 0) ? FLOOR - SUM_W : LOW),
      fpsim_pkg::max_of(HIGH, (FLOOR_ON != 0) ? FLOOR + SUM_W : HIGH));
  localparam int FIELD_W = 1 + fpsim_pkg::max_of(ACC_EXP, fpsim_pkg::max_of(A_EXP, B_EXP));
  localparam int EXP_W   = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  localparam int A_W     = LANES * (A_EXP + A_MAN + 1);
  localparam int B_W     = LANES * (B_EXP + B_MAN + 1);
  localparam int BEAT_W  = 3 + 1 + A_W + B_W + ACC_W;
  localparam int TERMS_W = 3 + 1 + LANES * (1 + EXP_W + SIG_W + 2) + EXP_W + ACC_W;

  // -- beats in ---------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [A_W-1:0] a;
  logic [B_W-1:0] b;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a, b, c})
  );

  // -- products ---------------------------------------------------------------------------------------
  localparam logic signed [EXP_W-1:0] ONE = {{(EXP_W - 1) {1'b0}}, 1'b1};  // as wide as its sum

  logic [LANES-1:0] sign, inf, nan, counts;
  logic [LANES*EXP_W-1:0] exponent;
  logic [LANES*SIG_W-1:0] significand;
  logic signed [EXP_W-1:0] max;

  generate
    for (genvar i = 0; i < LANES; i++) begin : g_lane
      logic signed [EXP_W-1:0] top;
      logic [PRODUCT_W-1:0] product;

      fp_product #(
          .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
          .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
          .SCALE_W(0), .EXP_W(EXP_W)
      ) u_product (
          .a_i(a[i*(A_EXP+A_MAN+1)+:A_EXP+A_MAN+1]), .b_i(b[i*(B_EXP+B_MAN+1)+:B_EXP+B_MAN+1]),
          .exp_i(1'b0),
          .sign_o(sign[i]), .exponent_o(top), .significand_o(product), .inf_o(inf[i]), .nan_o(nan[i])
      );

      assign counts[i] = (|product) & ~inf[i] & ~nan[i];

      if (NORMALISED != 0) begin : g_normalised
        logic signed [EXP_W-1:0] shifted_exponent;
        logic [PRODUCT_W-1:0] shifted;

        fp_normalise #(
            .SIG_W(PRODUCT_W), .EXP_W(EXP_W)
        ) u_normalise (
            .exponent_i(top), .significand_i(product),
            .exponent_o(shifted_exponent), .significand_o(shifted)
        );
        assign exponent[i*EXP_W+:EXP_W]    = shifted_exponent;
        assign significand[i*SIG_W+:SIG_W] = {1'b0, shifted};
      end else begin : g_raw
        assign exponent[i*EXP_W+:EXP_W]    = top - ONE;  // two bits above the point
        assign significand[i*SIG_W+:SIG_W] = product;
      end
    end
  endgenerate

  max_exponent #(
      .N(LANES), .EXP_W(EXP_W), .FLOOR((FLOOR_ON != 0) ? FLOOR : LOW)
  ) u_max (
      .exponents_i(exponent), .counts_i(counts), .max_o(max)
  );

  // -- sum --------------------------------------------------------------------------------------------
  logic t_valid, t_ready, t_last;
  logic [2:0] t_op;
  logic [LANES-1:0] t_sign, t_inf, t_nan;
  logic [LANES*EXP_W-1:0] t_exponent;
  logic [LANES*SIG_W-1:0] t_significand;
  logic signed [EXP_W-1:0] t_max;
  logic [ACC_W-1:0] t_c, addend, sum;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, sign, exponent, significand, inf, nan, max, c}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_sign, t_exponent, t_significand, t_inf, t_nan, t_max, t_c})
  );

  aligned_add #(
      .N(LANES), .SIG_W(SIG_W), .FRACTION_BITS(FRACTION_BITS), .ALIGN(ALIGN),
      .LATE(LATE), .LATE_ROUNDING(LATE_ROUNDING), .W_SUM(W_SUM), .SUM_OVERFLOW(SUM_OVERFLOW),
      .SIGNED_ZERO(SIGNED_ZERO), .NAN_CODE(NAN_CODE),
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .OUT_MAN(OUT_MAN),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W)
  ) u_add (
      .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
      .inf_i(t_inf), .nan_i(t_nan), .max_i(t_max), .c_i(addend), .sum_o(sum)
  );

  acc_stream #(
      .W(ACC_W)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc_o)
  );

endmodule
