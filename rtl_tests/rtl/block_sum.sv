// SPDX-License-Identifier: Apache-2.0
//
// Exact sum of a block's products without their scales; combinational. Products of small formats are
// integers on one grid, so nothing is aligned and nothing rounds.
//
//   value = (-1)^sign * total / 2^(TOTAL_W-1) * 2^EXPONENT        total may have leading zeros
//
// A_SIGN and B_SIGN choose what counts: the elements without sign bit (0), with it (1), or all (-1).
// A zero sum is +0. NaN of an element, and infinities of both signs, are NaN; invalid_o as infinities has it,
// and for infinity times zero.
module block_sum #(
    parameter int N            = 32,
    parameter int A_SIGNED     = 1,
    parameter int A_EXP        = 2,                               // operands: see fp_decode
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int A_SIGN       = -1,
    parameter int B_SIGNED     = 1,
    parameter int B_EXP        = 2,
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_SIGN       = -1,
    // derived, do not change
    parameter int SPAN         = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                               + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS)
                               - fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                               - fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS),
    parameter int INT_W        = A_MAN + B_MAN + 2 + SPAN,        // one product's magnitude
    parameter int TOTAL_W      = INT_W + $clog2(N)
) (
    input  logic [N*fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN)-1:0] a_i,
    input  logic [N*fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN)-1:0] b_i,
    output logic                         sign_o,
    output logic [TOTAL_W-1:0]           total_o,
    output logic                         inf_o,
    output logic                         nan_o,
    output logic                         invalid_o
);

  localparam int A_W       = fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN);
  localparam int B_W       = fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN);
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;
  localparam int LOW       = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                           + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int EXP_W     = 1 + fpsim_pkg::max_of(               // every exponent, the shift, the fields
      fpsim_pkg::signed_width(fpsim_pkg::min_of(LOW, -1), fpsim_pkg::max_of(LOW + SPAN, SPAN)),
      fpsim_pkg::max_of(A_EXP, B_EXP));

  logic [N-1:0] sign, infs, nans, invalids;
  logic plus_inf, minus_inf;
  logic [N*EXP_W-1:0] exponent;
  logic [N*PRODUCT_W-1:0] significand;
  logic [TOTAL_W:0] sum;

  generate
    for (genvar i = 0; i < N; i++) begin : g_lane
      logic [A_W-1:0] a;
      logic [B_W-1:0] b;
      logic inf, nan, invalid, counts;
      logic [PRODUCT_W-1:0] product;

      assign a = a_i[i*A_W+:A_W];
      assign b = b_i[i*B_W+:B_W];
      assign counts = (A_SIGN < 0 | a[A_W-1] == (A_SIGN == 1)) & (B_SIGN < 0 | b[B_W-1] == (B_SIGN == 1));

      fp_product #(
          .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
          .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
          .SCALE_W(0), .EXP_W(EXP_W)
      ) u_product (
          .a_i(a), .b_i(b), .exp_i(1'b0),
          .sign_o(sign[i]), .exponent_o(exponent[i*EXP_W+:EXP_W]), .significand_o(product),
          .inf_o(inf), .nan_o(nan), .invalid_o(invalid)
      );

      assign significand[i*PRODUCT_W+:PRODUCT_W] = counts ? product : '0;
      assign nans[i]      = counts & nan;
      assign infs[i]      = counts & inf;
      assign invalids[i]  = counts & invalid;
    end
  endgenerate

  grid_sum #(
      .N(N), .SIG_W(PRODUCT_W), .EXP_W(EXP_W), .LOW(LOW), .SPAN(SPAN), .SUM_W(TOTAL_W + 1)
  ) u_sum (
      .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .sum_o(sum)
  );

  infinities #(
      .N(N)
  ) u_infinities (
      .nan_before_i(1'b0), .sign_i(sign), .inf_i(infs), .nan_i(nans), .plus_o(plus_inf), .minus_o(minus_inf)
  );

  assign inf_o     = plus_inf | minus_inf;
  assign nan_o     = (|nans) | (plus_inf & minus_inf);
  assign invalid_o = (|invalids) | (plus_inf & minus_inf);
  assign sign_o    = inf_o ? minus_inf : sum[TOTAL_W];
  assign total_o   = sum[TOTAL_W] ? -sum[TOTAL_W-1:0] : sum[TOTAL_W-1:0];

endmodule
