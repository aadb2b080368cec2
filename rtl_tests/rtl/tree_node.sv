// SPDX-License-Identifier: Apache-2.0
//
// One adder of a tree: the exact sum of N numbers, rounded once into a code and unpacked; combinational.
//
//   code = R(sum_i x_i)
//   x_i  = {sign, exponent, significand, inf, nan} = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,
//          normalised; node_o is the code as another such number
//
// Two are added as fp_sum does, more as integers as wide as the exponents' range. Zeros, NaN and
// infinity: see fp_sum.
module tree_node #(
    parameter int N          = 2,
    parameter int EXP        = 5,
    parameter int MAN        = 10,
    parameter int BIAS       = 15,
    parameter int SPECIALS   = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING   = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW   = fpsim_pkg::OVERFLOW_INF,
    parameter int SIG_W      = 11,                           // at least MAN+1 and 2
    parameter int LOW        = -24,                          // exponents of numbers other than zero
    parameter int HIGH       = 15,
    parameter int EXP_W      = 8,                            // see fp_sum; with N > 2 for a sum's width
    parameter int NODE_W     = 1 + EXP_W + SIG_W + 2         // derived, do not change
) (
    input  logic [N*NODE_W-1:0] nodes_i,
    output logic [EXP+MAN:0]    code_o,
    output logic [NODE_W-1:0]   node_o,
    output logic [4:0]          flags_o
);

  logic [N-1:0] sign, inf, nan;
  logic [N*EXP_W-1:0] exponent;
  logic [N*SIG_W-1:0] significand;

  generate
    for (genvar i = 0; i < N; i++) begin : g_child
      assign {sign[i], exponent[i*EXP_W+:EXP_W], significand[i*SIG_W+:SIG_W], inf[i], nan[i]} =
          nodes_i[i*NODE_W+:NODE_W];
    end

    if (N <= 2) begin : g_pair
      localparam int Y = N - 1;              // of one number: its second is a zero that changes nothing
      localparam logic PAIR = N == 2;

      fp_sum #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)
      ) u_sum (
          .x_sign_i(sign[0]), .x_exponent_i(exponent[EXP_W-1:0]),
          .x_significand_i(significand[SIG_W-1:0]), .x_inf_i(inf[0]), .x_nan_i(nan[0]),
          .y_sign_i(sign[Y]), .y_exponent_i(exponent[Y*EXP_W+:EXP_W]),
          .y_significand_i(significand[Y*SIG_W+:SIG_W] & {SIG_W{PAIR}}),
          .y_inf_i(inf[Y] & PAIR), .y_nan_i(nan[Y] & PAIR),
          .random_i(1'b0), .code_o(code_o), .flags_o(flags_o)
      );
    end else begin : g_many
      localparam int SPAN  = HIGH - LOW;
      localparam int SUM_W = SIG_W + SPAN + 1 + $clog2(N);
      localparam logic signed [EXP_W-1:0] TOP = EXP_W'(LOW + SUM_W - SIG_W);  // of the sum's first bit

      logic [SUM_W-1:0] sum;
      logic plus_inf, minus_inf, zero_sign;
      logic [4:0] rounding_flags;

      grid_sum #(
          .N(N), .SIG_W(SIG_W), .EXP_W(EXP_W), .LOW(LOW), .SPAN(SPAN), .SUM_W(SUM_W)
      ) u_sum (
          .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .sum_o(sum)
      );

      infinities #(
          .N(N)
      ) u_infinities (
          .nan_before_i(1'b0), .sign_i(sign), .inf_i(inf), .nan_i(nan), .plus_o(plus_inf), .minus_o(minus_inf)
      );

      assign zero_sign = (ROUNDING == fpsim_pkg::ROUND_RDN) ? |sign : &sign;

      fp_convert #(
          .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(SUM_W), .EXP_W(EXP_W)
      ) u_round (
          .sign_i((|inf) ? minus_inf : (|sum) ? sum[SUM_W-1] : zero_sign), .exponent_i(TOP),
          .significand_i(sum[SUM_W-1] ? -sum : sum), .inf_i(|inf),
          .nan_i((|nan) | (plus_inf & minus_inf)), .code_o(code_o),
          .flags_o(rounding_flags)
      );

      assign flags_o = rounding_flags | ((plus_inf & minus_inf) ? fpsim_pkg::FLAG_INVALID : '0);
    end
  endgenerate

  logic o_sign, o_inf, o_nan;
  logic signed [EXP_W-1:0] o_exponent;
  logic [SIG_W-1:0] o_significand;

  fp_unpack #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_unpack (
      .code_i(code_o),
      .sign_o(o_sign), .exponent_o(o_exponent), .significand_o(o_significand),
      .inf_o(o_inf), .nan_o(o_nan)
  );

  assign node_o = {o_sign, o_exponent, o_significand, o_inf, o_nan};

endmodule
