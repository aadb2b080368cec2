// SPDX-License-Identifier: Apache-2.0
//
// One step of a fused dot product: N products and an addend aligned to their largest exponent, added as
// integers, rounded once; combinational. As tensor cores add (arXiv 2512.07004, 2511.10909).
//
//   E   = max(max_i, e(c) if early)                     max_i: of the products, and a floor
//   S   = sum_i A(p_i 2^(F-E)) + A(c 2^(F-E)) if early   A: ALIGN;  wrapped or saturated to W_SUM bits
//   sum = R(S 2^(E-F))                                  R: ROUNDING to OUT_MAN mantissa bits
//   sum = R'(sum + c) if late                           R': LATE_ROUNDING to MAN mantissa bits
//
//   p_i = (-1)^sign * significand / 2^(SIG_W-2) * 2^exponent
//
//   Zeros    a zero result is +0; with SIGNED_ZERO as IEEE 754 has it for the whole sum.
//   NaN      of any term or c, and infinities of both signs, give NAN_CODE.
//   Overflow is what OVERFLOW says in every rounding mode.
module aligned_add #(
    parameter int N             = 8,
    parameter int SIG_W         = 4,
    parameter int FRACTION_BITS = 13,
    parameter int ALIGN         = fpsim_pkg::ROUND_RTZ,
    parameter int LATE          = 0,
    parameter int LATE_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int W_SUM         = 0,                         // 0: as wide as needed
    parameter int SUM_OVERFLOW  = fpsim_pkg::OVERFLOW_WRAP,
    parameter int SIGNED_ZERO   = 0,
    parameter int NAN_CODE      = 0,
    parameter int EXP           = 8,                         // codes of c and the result
    parameter int MAN           = 23,
    parameter int BIAS          = 127,
    parameter int SPECIALS      = fpsim_pkg::SPECIALS_IEEE,
    parameter int OUT_MAN       = 13,                        // at most MAN
    parameter int ROUNDING      = fpsim_pkg::ROUND_RTZ,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int EXP_W         = 12                         // see dot_aligned
) (
    input  logic [N-1:0]            sign_i,
    input  logic [N*EXP_W-1:0]      exponent_i,
    input  logic [N*SIG_W-1:0]      significand_i,
    input  logic [N-1:0]            inf_i,
    input  logic [N-1:0]            nan_i,
    input  logic signed [EXP_W-1:0] max_i,
    input  logic [EXP+MAN:0]        c_i,
    output logic [EXP+MAN:0]        sum_o
);

  localparam int CODE_W = 1 + EXP + MAN;
  localparam int TERM_W = FRACTION_BITS + 4;
  localparam int ROWS   = (LATE != 0) ? N : N + 1;
  localparam int S_W    = TERM_W + $clog2(ROWS);                  // S, two's complement
  localparam int NORM_W = fpsim_pkg::max_of(S_W, OUT_MAN + 3);    // what is rounded
  localparam int CUT_W  = MAN - OUT_MAN;

  // -- the addend -----------------------------------------------------------------------------------
  logic c_sign, c_inf, c_nan, c_counts;
  logic signed [EXP_W-1:0] c_exponent, max;
  logic [MAN:0] c_significand;

  fp_decode #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .EXP_W(EXP_W)
  ) u_decode_c (
      .code_i(c_i),
      .sign_o(c_sign), .exponent_o(c_exponent), .significand_o(c_significand),
      .inf_o(c_inf), .nan_o(c_nan)
  );

  assign c_counts = (LATE == 0) & (|c_significand) & (c_exponent > max_i);
  assign max      = c_counts ? c_exponent : max_i;

  // -- the window -----------------------------------------------------------------------------------
  logic [ROWS*TERM_W-1:0] rows;
  logic [ROWS-1:0] signs;
  logic [S_W-1:0] exact;

  generate
    for (genvar i = 0; i < N; i++) begin : g_term
      align_term #(
          .SIG_W(SIG_W), .EXP_W(EXP_W), .FRACTION_BITS(FRACTION_BITS), .ROUNDING(ALIGN)
      ) u_align (
          .sign_i(sign_i[i]), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),
          .significand_i(significand_i[i*SIG_W+:SIG_W]), .max_i(max),
          .term_o(rows[i*TERM_W+:TERM_W])
      );
      assign signs[i] = sign_i[i];
    end

    if (LATE == 0) begin : g_early
      align_term #(
          .SIG_W(MAN + 2), .EXP_W(EXP_W), .FRACTION_BITS(FRACTION_BITS), .ROUNDING(ALIGN)
      ) u_align (
          .sign_i(c_sign), .exponent_i(c_exponent), .significand_i({1'b0, c_significand}),
          .max_i(max), .term_o(rows[N*TERM_W+:TERM_W])
      );
      assign signs[N] = c_sign;
    end
  endgenerate

  compressor_tree #(
      .N(ROWS), .W(TERM_W), .SUM_W(S_W)
  ) u_sum (
      .rows_i(rows), .sum_o(exact)
  );

  // -- the register's width ---------------------------------------------------------------------------
  logic [S_W-1:0] total;

  generate
    if (W_SUM == 0 || W_SUM >= S_W) begin : g_exact
      assign total = exact;
    end else begin : g_limited
      logic over;
      logic [W_SUM-1:0] limited;
      assign over    = exact[S_W-1:W_SUM-1] != {(S_W - W_SUM + 1) {exact[W_SUM-1]}};
      assign limited = (over & (SUM_OVERFLOW == fpsim_pkg::OVERFLOW_SATURATE))
                     ? {exact[S_W-1], {(W_SUM - 1) {~exact[S_W-1]}}} : exact[W_SUM-1:0];
      assign total   = {{(S_W - W_SUM) {limited[W_SUM-1]}}, limited};
    end
  endgenerate

  // -- rounding ---------------------------------------------------------------------------------------
  localparam logic signed [EXP_W-1:0] TOP = EXP_W'(S_W - 1 - FRACTION_BITS);  // of |S| above E

  logic negative, zero_sign, any_nan, any_inf, inf_sign, nan;
  logic [S_W-1:0] magnitude;
  logic [NORM_W-1:0] wide, normalised;
  logic signed [EXP_W-1:0] exponent;
  logic [EXP+OUT_MAN:0] narrow;
  logic [CODE_W-1:0] widened;

  assign negative  = total[S_W-1];
  assign magnitude = negative ? -total : total;
  assign wide      = {{(NORM_W - S_W) {1'b0}}, magnitude} << (NORM_W - S_W);

  fp_normalise #(
      .SIG_W(NORM_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(max + TOP), .significand_i(wide),
      .exponent_o(exponent), .significand_o(normalised)
  );

  // A sum that the register's width wraps to zero is +0.
  assign zero_sign = (SIGNED_ZERO != 0) & ~|exact
                   & ((ROUNDING == fpsim_pkg::ROUND_RDN) ? |signs : &signs);

  assign any_inf  = (|inf_i) | c_inf;
  assign inf_sign = (|(inf_i & sign_i)) | (c_inf & c_sign);
  assign any_nan  = (|nan_i) | c_nan | (inf_sign & ((|(inf_i & ~sign_i)) | (c_inf & ~c_sign)));

  fp_round_pack #(
      .EXP(EXP), .MAN(OUT_MAN), .BIAS(BIAS), .SPECIALS(SPECIALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .OUTWARD(1), .EXP_W(EXP_W), .SIG_W(NORM_W)
  ) u_round_pack (
      .sign_i(any_inf ? inf_sign : (|total) ? negative : zero_sign),
      .exponent_i(exponent), .significand_i(normalised),
      .inf_i(any_inf), .nan_i(1'b0), .code_o(narrow)
  );

  assign widened = {{CUT_W{1'b0}}, narrow} << CUT_W;

  // -- the late addend --------------------------------------------------------------------------------
  logic [CODE_W-1:0] code;

  generate
    if (LATE == 0) begin : g_done
      assign nan  = any_nan;
      assign code = widened;
    end else begin : g_late
      localparam int SUM_SIG_W = fpsim_pkg::max_of(MAN + 1, 2);
      logic x_sign, x_inf, x_nan, y_sign, y_inf, y_nan;
      logic signed [EXP_W-1:0] x_exponent, y_exponent;
      logic [SUM_SIG_W-1:0] x_significand, y_significand;
      logic [CODE_W-1:0] summed;

      fp_unpack #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_unpack_x (
          .code_i(widened), .sign_o(x_sign), .exponent_o(x_exponent),
          .significand_o(x_significand), .inf_o(x_inf), .nan_o(x_nan)
      );

      fp_unpack #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_unpack_y (
          .code_i(c_i), .sign_o(y_sign), .exponent_o(y_exponent),
          .significand_o(y_significand), .inf_o(y_inf), .nan_o(y_nan)
      );

      fp_sum #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .ROUNDING(LATE_ROUNDING),
          .OVERFLOW(OVERFLOW), .OUTWARD(1), .EXP_W(EXP_W), .SIG_W(SUM_SIG_W)
      ) u_late (
          .x_sign_i(x_sign), .x_exponent_i(x_exponent), .x_significand_i(x_significand),
          .x_inf_i(x_inf), .x_nan_i(x_nan),
          .y_sign_i(y_sign), .y_exponent_i(y_exponent), .y_significand_i(y_significand),
          .y_inf_i(y_inf), .y_nan_i(y_nan),
          .code_o(summed)
      );

      assign nan  = any_nan | x_nan;
      assign code = any_inf ? widened : summed;
    end
  endgenerate

  logic minus_zero;
  assign minus_zero = (SIGNED_ZERO == 0) & code[CODE_W-1] & ~|code[CODE_W-2:0];
  assign sum_o      = nan ? CODE_W'(NAN_CODE) : minus_zero ? '0 : code;

endmodule
