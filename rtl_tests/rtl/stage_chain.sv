// SPDX-License-Identifier: Apache-2.0
//
// Adds N terms to a floating-point code, one after another with one rounding each; combinational.
//
//   to = R(...R(R(from + term_0) + term_1)... + term_N-1)
//
// ROUNDED rounds each term to the format first. Each rounding under ROUND_SR takes RANDOM_BITS of
// random_i, the first the lowest. Zeros, NaN and infinity: see fp_sum.
module stage_chain #(
    parameter int N           = 1,
    parameter int ROUNDED     = 0,
    parameter int EXP         = 8,
    parameter int MAN         = 23,
    parameter int BIAS        = 127,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int RANDOM_BITS = 0,
    parameter int TERM_W      = 4,
    parameter int EXP_W       = 8                        // see fp_accumulate
) (
    input  logic [EXP+MAN:0]                               from_i,
    input  logic [N-1:0]                                   sign_i,
    input  logic [N*EXP_W-1:0]                             exponent_i,
    input  logic [N*TERM_W-1:0]                            significand_i,
    input  logic [N-1:0]                                   inf_i,
    input  logic [N-1:0]                                   nan_i,
    input  logic [fpsim_pkg::max_of(N*RANDOM_BITS, 1)-1:0] random_i,
    output logic [EXP+MAN:0]                               to_o,
    output logic [4:0]                                     flags_o  // of all roundings
);

  localparam int CODE_W   = 1 + EXP + MAN;
  localparam int RANDOM_W = fpsim_pkg::max_of(RANDOM_BITS, 1);
  localparam int ADDED_W  = (ROUNDED != 0) ? MAN + 1 : TERM_W;

  logic [N*5-1:0] product_flags, sum_flags;

  generate
    for (genvar i = 0; i < N; i++) begin : g_add
      logic [CODE_W-1:0] from, to;
      logic [RANDOM_W-1:0] random;
      logic sign, inf, nan;
      logic signed [EXP_W-1:0] exponent;
      logic [ADDED_W-1:0] significand;

      if (i == 0) begin : g_first
        assign from = from_i;
      end else begin : g_next
        assign from = g_add[i-1].to;
      end

      if (RANDOM_BITS > 0) begin : g_random
        assign random = random_i[i*RANDOM_BITS+:RANDOM_W];
      end else begin : g_no_random
        assign random = random_i;
      end

      if (ROUNDED != 0) begin : g_rounded
        logic [CODE_W-1:0] code;

        fp_convert #(
            .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
            .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(TERM_W), .EXP_W(EXP_W)
        ) u_round (
            .sign_i(sign_i[i]), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),
            .significand_i(significand_i[i*TERM_W+:TERM_W]), .inf_i(inf_i[i]), .nan_i(nan_i[i]),
            .code_o(code), .flags_o(product_flags[i*5+:5])
        );

        fp_decode #(
            .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
            .EXP_W(EXP_W)
        ) u_decode (
            .code_i(code),
            .sign_o(sign), .exponent_o(exponent), .significand_o(significand), .inf_o(inf), .nan_o(nan)
        );
      end else begin : g_exact
        assign sign        = sign_i[i];
        assign exponent    = exponent_i[i*EXP_W+:EXP_W];
        assign significand = significand_i[i*TERM_W+:TERM_W];
        assign inf         = inf_i[i];
        assign nan         = nan_i[i];
        assign product_flags[i*5+:5] = '0;
      end

      fp_accumulate #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS),
          .TERM_W(ADDED_W), .EXP_W(EXP_W)
      ) u_accumulate (
          .acc_i(from),
          .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .inf_i(inf), .nan_i(nan),
          .random_i(random), .sum_o(to), .flags_o(sum_flags[i*5+:5])
      );
    end
  endgenerate

  assign to_o = g_add[N-1].to;

  any_flags #(
      .N(2 * N)
  ) u_flags (
      .flags_i({product_flags, sum_flags}), .any_o(flags_o)
  );

endmodule
