// SPDX-License-Identifier: Apache-2.0
//
// One step of a fused dot product: N products and an addend aligned to their largest exponent, added as
// integers, rounded once; combinational. As tensor cores add (arXiv 2512.07004, 2511.10909).
//
//   E   = max(max_i, e(c) if early)                     max_i: of the terms, and a floor
//   S   = sum_i A(p_i 2^(F-E)) + A(c 2^(F-E)) if early   A: ALIGN;  wrapped or saturated to W_SUM bits
//   JOINED: S and c in a second window, see aligned_join; with 2 WINDOWS even and odd terms apart
//   sum = R(S 2^(E-F))                                  R: ROUNDING to OUT_MAN mantissa bits
//   sum = R'(sum + c) if late                           R': LATE_ROUNDING to MAN mantissa bits
//
//   p_i = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,   |p_i| < 2^(E+HEAD)
//
//   Zeros    a zero result is +0; with SIGNED_ZERO as IEEE 754 has it for the whole sum.
//   NaN      of any term or c, and infinities of both signs, give NAN_CODE.
//   Overflow is what OVERFLOW says in every rounding mode.
//   Flags    INEXACT: an integer A or J is not its term, or R, R'; OVERFLOW: of the W_SUM bits, or R, R'. Of
//            infinities R's alone; where they have both signs INVALID, as infinities has it with c for the last,
//            unless c is NaN.
module aligned_add #(
    parameter int N             = 8,
    parameter int SIG_W         = 4,
    parameter int FRACTION_BITS = 13,
    parameter int HEAD          = 2,                         // at least 1
    parameter int ALIGN         = fpsim_pkg::ROUND_RTZ,
    parameter int LATE          = 0,
    parameter int LATE_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int JOINED        = 0,
    parameter int WINDOWS       = 1,                         // 2 where joined
    parameter int JOIN_SUM_BITS = 31,
    parameter int JOIN_C_BITS   = 24,
    parameter int JOIN_ROUNDING = fpsim_pkg::ROUND_RDN,
    parameter int JOIN_REACH    = -1,                        // -1: any
    parameter int W_SUM         = 0,                         // 0: as wide as needed
    parameter int SUM_OVERFLOW  = fpsim_pkg::OVERFLOW_WRAP,
    parameter int SIGNED_ZERO   = 0,
    parameter int NAN_CODE      = 0,
    parameter int EXP           = 8,                         // codes of c and the result
    parameter int MAN           = 23,
    parameter int BIAS          = 127,
    parameter int SPECIALS      = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS    = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int OUT_MAN       = 13,                        // at most MAN
    parameter int ROUNDING      = fpsim_pkg::ROUND_RTZ,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int EXP_W         = 12                         // see dot
) (
    input  logic [N-1:0]             sign_i,
    input  logic [N*EXP_W-1:0]       exponent_i,
    input  logic [N*SIG_W-1:0]       significand_i,
    input  logic [N-1:0]             inf_i,
    input  logic [N-1:0]             nan_i,
    input  logic [WINDOWS*EXP_W-1:0] max_i,
    input  logic [EXP+MAN:0]         c_i,
    output logic [EXP+MAN:0]         sum_o,
    output logic [4:0]               flags_o
);

  localparam int CODE_W  = 1 + EXP + MAN;
  localparam int C_SIG_W = (LATE != 0 || JOINED != 0) ? 0 : MAN + 1;     // of an addend in the window
  localparam int PART    = (N + WINDOWS - 1) / WINDOWS;                  // terms of the largest window
  localparam int S_W     = FRACTION_BITS + HEAD + 2 + $clog2((C_SIG_W > 0) ? PART + 1 : PART);
  localparam int JOIN_W  = fpsim_pkg::max_of(JOIN_SUM_BITS, JOIN_C_BITS) + S_W - FRACTION_BITS + 5;
  localparam int TOTAL_W = (JOINED != 0) ? JOIN_W : S_W;
  localparam int NORM_W  = fpsim_pkg::max_of(TOTAL_W, OUT_MAN + 3);      // what is rounded
  localparam int CUT_W   = MAN - OUT_MAN;
  localparam logic signed [EXP_W-1:0] ABOVE = EXP_W'(HEAD - 1);

  // -- the addend -----------------------------------------------------------------------------------
  logic c_sign, c_inf, c_nan;
  logic signed [EXP_W-1:0] c_exponent;
  logic [MAN:0] c_significand;

  fp_decode #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS), .EXP_W(EXP_W)
  ) u_decode_c (
      .code_i(c_i),
      .sign_o(c_sign), .exponent_o(c_exponent), .significand_o(c_significand),
      .inf_o(c_inf), .nan_o(c_nan)
  );

  // -- the windows: term i is in window i % WINDOWS ---------------------------------------------------
  logic [WINDOWS*S_W-1:0] totals;
  logic [WINDOWS*EXP_W-1:0] maxima;
  logic [WINDOWS-1:0] zeros, lost, over;

  generate
    for (genvar w = 0; w < WINDOWS; w++) begin : g_window
      localparam int OWN = (N - w + WINDOWS - 1) / WINDOWS;
      logic signed [EXP_W-1:0] max, largest;
      logic [PART-1:0] sign;
      logic [PART*EXP_W-1:0] exponent;
      logic [PART*SIG_W-1:0] significand;

      for (genvar i = 0; i < PART; i++) begin : g_part
        if (i < OWN) begin : g_own
          assign sign[i] = sign_i[i*WINDOWS+w];
          assign exponent[i*EXP_W+:EXP_W]    = exponent_i[(i*WINDOWS+w)*EXP_W+:EXP_W];
          assign significand[i*SIG_W+:SIG_W] = significand_i[(i*WINDOWS+w)*SIG_W+:SIG_W];
        end else begin : g_zero
          assign sign[i] = 1'b0;
          assign exponent[i*EXP_W+:EXP_W]    = '0;
          assign significand[i*SIG_W+:SIG_W] = '0;
        end
      end

      assign max     = max_i[w*EXP_W+:EXP_W];
      assign largest = ((C_SIG_W > 0) & (|c_significand) & (c_exponent > max)) ? c_exponent : max;
      assign maxima[w*EXP_W+:EXP_W] = largest;

      aligned_window #(
          .N(PART), .SIG_W(SIG_W), .C_SIG_W(C_SIG_W), .FRACTION_BITS(FRACTION_BITS), .HEAD(HEAD),
          .ALIGN(ALIGN), .W_SUM(W_SUM), .SUM_OVERFLOW(SUM_OVERFLOW), .EXP_W(EXP_W)
      ) u_window (
          .sign_i(sign), .exponent_i(exponent), .significand_i(significand),
          .c_sign_i(c_sign), .c_exponent_i(c_exponent),
          .c_significand_i(c_significand[fpsim_pkg::max_of(C_SIG_W, 1)-1:0]),
          .top_i(largest + ABOVE), .total_o(totals[w*S_W+:S_W]), .zero_o(zeros[w]),
          .lost_o(lost[w]), .over_o(over[w])
      );
    end
  endgenerate

  logic [TOTAL_W-1:0] total;
  logic signed [EXP_W-1:0] top;  // exponent of total's first bit
  logic all_zero, join_lost;

  generate
    if (JOINED != 0) begin : g_joined
      aligned_join #(
          .WINDOWS(WINDOWS), .S_W(S_W), .FRACTION_BITS(FRACTION_BITS), .C_SIG_W(MAN + 1),
          .SUM_BITS(JOIN_SUM_BITS), .ADDEND_BITS(JOIN_C_BITS), .JOIN_ROUNDING(JOIN_ROUNDING),
          .REACH(JOIN_REACH), .EXP_W(EXP_W)
      ) u_join (
          .totals_i(totals), .max_i(maxima),
          .c_sign_i(c_sign), .c_exponent_i(c_exponent), .c_significand_i(c_significand),
          .total_o(total), .exponent_o(top), .lost_o(join_lost)
      );
      logic unused_zeros;
      assign unused_zeros = &{1'b0, zeros};
      assign all_zero     = 1'b0;  // a sum of two windows that is zero is +0
    end else begin : g_single
      assign total    = totals;
      assign top      = maxima + EXP_W'(S_W - 1 - FRACTION_BITS);
      assign all_zero = zeros;
      assign join_lost = 1'b0;
    end
  endgenerate

  // -- rounding ---------------------------------------------------------------------------------------
  logic negative, zero_sign, any_nan, any_inf, inf_sign, nan, plus_inf, minus_inf;
  logic [4:0] window_flags, narrow_flags, late_flags;
  logic [TOTAL_W-1:0] magnitude;
  logic [NORM_W-1:0] wide, normalised;
  logic signed [EXP_W-1:0] exponent;
  logic [EXP+OUT_MAN:0] narrow;
  logic [CODE_W-1:0] widened;

  assign negative  = total[TOTAL_W-1];
  assign magnitude = negative ? -total : total;
  assign wide      = {{(NORM_W - TOTAL_W) {1'b0}}, magnitude} << (NORM_W - TOTAL_W);

  fp_normalise #(
      .SIG_W(NORM_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(top), .significand_i(wide),
      .exponent_o(exponent), .significand_o(normalised)
  );

  // A sum that the register's width wraps to zero is +0.
  logic any_minus, all_minus;
  assign any_minus = (|sign_i) | ((C_SIG_W > 0) & c_sign);
  assign all_minus = (&sign_i) & ((C_SIG_W == 0) | c_sign);
  assign zero_sign = (SIGNED_ZERO != 0) & all_zero
                   & ((ROUNDING == fpsim_pkg::ROUND_RDN) ? any_minus : all_minus);

  assign any_inf  = (|inf_i) | c_inf;
  assign inf_sign = (|(inf_i & sign_i)) | (c_inf & c_sign);
  assign any_nan  = (|nan_i) | c_nan | (inf_sign & ((|(inf_i & ~sign_i)) | (c_inf & ~c_sign)));

  fp_round_pack #(
      .EXP(EXP), .MAN(OUT_MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .OUTWARD(1), .EXP_W(EXP_W), .SIG_W(NORM_W)
  ) u_round_pack (
      .sign_i(any_inf ? inf_sign : (|total) ? negative : zero_sign),
      .exponent_i(exponent), .significand_i(normalised),
      .inf_i(any_inf), .nan_i(1'b0), .random_i(1'b0), .code_o(narrow), .flags_o(narrow_flags)
  );

  assign widened = {{CUT_W{1'b0}}, narrow} << CUT_W;

  // -- the late addend --------------------------------------------------------------------------------
  logic [CODE_W-1:0] code;

  generate
    if (LATE == 0) begin : g_done
      assign nan  = any_nan;
      assign code = widened;
      assign late_flags = '0;
    end else begin : g_late
      localparam int SUM_SIG_W = fpsim_pkg::max_of(MAN + 1, 2);
      logic x_sign, x_inf, x_nan, y_sign, y_inf, y_nan;
      logic signed [EXP_W-1:0] x_exponent, y_exponent;
      logic [SUM_SIG_W-1:0] x_significand, y_significand;
      logic [CODE_W-1:0] summed;

      fp_unpack #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
          .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_unpack_x (
          .code_i(widened), .sign_o(x_sign), .exponent_o(x_exponent),
          .significand_o(x_significand), .inf_o(x_inf), .nan_o(x_nan)
      );

      fp_unpack #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
          .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_unpack_y (
          .code_i(c_i), .sign_o(y_sign), .exponent_o(y_exponent),
          .significand_o(y_significand), .inf_o(y_inf), .nan_o(y_nan)
      );

      fp_sum #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS), .ROUNDING(LATE_ROUNDING),
          .OVERFLOW(OVERFLOW), .OUTWARD(1), .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_late (
          .x_sign_i(x_sign), .x_exponent_i(x_exponent), .x_significand_i(x_significand),
          .x_inf_i(x_inf), .x_nan_i(x_nan),
          .y_sign_i(y_sign), .y_exponent_i(y_exponent), .y_significand_i(y_significand),
          .y_inf_i(y_inf), .y_nan_i(y_nan),
          .random_i(1'b0), .code_o(summed), .flags_o(late_flags)
      );

      assign nan  = any_nan | x_nan;
      assign code = any_inf ? widened : summed;
    end
  endgenerate

  // -- flags ------------------------------------------------------------------------------------------
  infinities #(
      .N(N + 1)
  ) u_infinities (
      .nan_before_i(c_nan), .sign_i({c_sign, sign_i}), .inf_i({c_inf, inf_i}), .nan_i({c_nan, nan_i}),
      .plus_o(plus_inf), .minus_o(minus_inf)
  );

  assign window_flags = ((|over) ? fpsim_pkg::FLAG_OVERFLOW : '0)
                      | ((|{over, lost, join_lost}) ? fpsim_pkg::FLAG_INEXACT : '0);
  always_comb begin
    flags_o = window_flags | narrow_flags | late_flags;
    if (any_nan) flags_o = (plus_inf & minus_inf) ? fpsim_pkg::FLAG_INVALID : '0;
    else if (any_inf) flags_o = narrow_flags;
  end

  logic minus_zero;
  assign minus_zero = (SIGNED_ZERO == 0) & (SPECIALS != fpsim_pkg::SPECIALS_ZERO) & code[CODE_W-1] & ~|code[CODE_W-2:0];
  assign sum_o      = nan ? CODE_W'(NAN_CODE) : minus_zero ? '0 : code;

endmodule
