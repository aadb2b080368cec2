// SPDX-License-Identifier: Apache-2.0
//
// Adds N terms to an exact (Kulisch) sum, and rounds that with an addend; combinational.
//
//   partial_o = partial_i + term_0 + ... + term_N-1          an integer and the signs and specials seen
//   to        = R(from + partial_o)                          one rounding for all of them
//
// The integer is as wide as the terms' range and COUNT_W carries: the sum of up to 2^COUNT_W terms is
// exact, and from, of any size, is added where the sum is rounded. partial_i = 0 is an empty sum.
//   Zeros    a zero sum of addends of one sign keeps it; any other is +0, or -0 under RDN.
//   NaN      of any term, and infinities of both signs, are NaN.
//   Flags    of the rounding; infinities of both signs are INVALID, but after a NaN: from is the first addend.
module stage_exact #(
    parameter int N           = 1,
    parameter int COUNT_W     = 16,                      // at least clog2(N)
    parameter int EXP         = 8,
    parameter int MAN         = 23,
    parameter int BIAS        = 127,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int RANDOM_BITS = 0,
    parameter int TERM_W      = 4,
    parameter int LOW         = 0,                       // exponents of terms: LOW .. LOW + SPAN
    parameter int SPAN        = 4,
    parameter int EXP_W       = 8,                       // see fp_accumulate, with SUM_W for TERM_W
    // derived, do not change
    parameter int SUM_W       = TERM_W + SPAN + 1 + COUNT_W,
    parameter int PARTIAL_W   = SUM_W + 5
) (
    input  logic [PARTIAL_W-1:0]                         partial_i,
    input  logic [EXP+MAN:0]                             from_i,
    input  logic [N-1:0]                                 sign_i,
    input  logic [N*EXP_W-1:0]                           exponent_i,
    input  logic [N*TERM_W-1:0]                          significand_i,
    input  logic [N-1:0]                                 inf_i,
    input  logic [N-1:0]                                 nan_i,
    input  logic [fpsim_pkg::max_of(RANDOM_BITS, 1)-1:0] random_i,
    output logic [PARTIAL_W-1:0]                         partial_o,
    output logic [EXP+MAN:0]                             to_o,
    output logic [4:0]                                   flags_o
);

  localparam logic signed [EXP_W-1:0] TOP = EXP_W'(LOW + SPAN + 1 + COUNT_W);  // of the sum's first bit

  logic [SUM_W-1:0] prior, terms, sum, magnitude;
  logic [4:0] seen_prior, seen;  // NaN, +infinity and -infinity before it, any plus, any minus
  logic zero_sign, sign, nan, plus_inf, minus_inf;
  logic from_sign, from_inf, from_nan, unused_from, invalid;
  logic signed [EXP_W-1:0] from_exponent;
  logic [MAN:0] from_significand;
  logic [4:0] sum_flags;

  grid_sum #(
      .N(N), .SIG_W(TERM_W), .EXP_W(EXP_W), .LOW(LOW), .SPAN(SPAN), .SUM_W(SUM_W)
  ) u_terms (
      .sign_i(sign_i), .exponent_i(exponent_i), .significand_i(significand_i), .sum_o(terms)
  );

  assign {seen_prior, prior} = partial_i;

  infinities #(
      .N(N)
  ) u_infinities (
      .nan_before_i(seen_prior[4]), .sign_i(sign_i), .inf_i(inf_i), .nan_i(nan_i),
      .plus_o(plus_inf), .minus_o(minus_inf)
  );

  assign seen      = seen_prior | {|nan_i, plus_inf, minus_inf, |(~sign_i), |sign_i};
  assign sum       = prior + terms;
  assign partial_o = {seen, sum};

  assign zero_sign = (ROUNDING == fpsim_pkg::ROUND_RDN) ? seen[0] : ~seen[1];
  assign nan       = seen[4] | (seen[3] & seen[2]);
  assign sign      = (seen[3] | seen[2]) ? seen[2] : (|sum) ? sum[SUM_W-1] : zero_sign;
  assign magnitude = sum[SUM_W-1] ? -sum : sum;

  fp_accumulate #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS),
      .TERM_W(SUM_W), .EXP_W(EXP_W)
  ) u_accumulate (
      .acc_i(from_i),
      .sign_i(sign), .exponent_i(TOP), .significand_i(magnitude),
      .inf_i(seen[3] | seen[2]), .nan_i(nan), .random_i(random_i), .sum_o(to_o), .flags_o(sum_flags)
  );

  fp_decode #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS), .EXP_W(EXP_W)
  ) u_decode_from (
      .code_i(from_i), .sign_o(from_sign), .exponent_o(from_exponent), .significand_o(from_significand),
      .inf_o(from_inf), .nan_o(from_nan)
  );

  assign unused_from = &{1'b0, from_exponent, from_significand};
  assign invalid = ~from_nan & (seen[3] | (from_inf & ~from_sign)) & (seen[2] | (from_inf & from_sign));
  assign flags_o = sum_flags | (invalid ? fpsim_pkg::FLAG_INVALID : '0);

endmodule
