// SPDX-License-Identifier: Apache-2.0
//
// Sum of two normalised numbers, in the classic floating-point adder: the smaller is aligned to the
// larger, bits below the window collapse into one sticky bit, the sum is normalised; combinational.
//
//   x = (-1)^x_sign * x_significand / 2^(SIG_W-1) * 2^x_exponent        (y alike)
//   x + y = (-1)^sign_o * significand_o / 2^(SIG_W+3) * 2^exponent_o     the LSB of it sticky
//
// Exact when significand_o[0] is 0, else the sum lies strictly between the neighbours of that LSB.
// Rounding to SIG_W bits or fewer is right from it: with three bits below the window (guard, round,
// sticky) an alignment of 0 or 1 drops nothing, and after one of 2 or more the difference loses at
// most one leading bit, which leaves a round and a sticky bit.
//
// A significand without its top bit is zero. A zero sum of equal signs keeps the sign; otherwise it
// has sign ZERO_SIGN.
module fp_align_add #(
    parameter int   SIG_W     = 11,
    parameter int   EXP_W     = 8,    // holds every exponent here and one more
    parameter logic ZERO_SIGN = 1'b0  // 1 when rounding toward -infinity
) (
    input  logic                    x_sign_i,
    input  logic signed [EXP_W-1:0] x_exponent_i,
    input  logic [SIG_W-1:0]        x_significand_i,
    input  logic                    y_sign_i,
    input  logic signed [EXP_W-1:0] y_exponent_i,
    input  logic [SIG_W-1:0]        y_significand_i,
    output logic                    sign_o,
    output logic signed [EXP_W-1:0] exponent_o,
    output logic [SIG_W+3:0]        significand_o
);

  localparam int WINDOW_W = SIG_W + 3;     // guard, round, sticky
  localparam int SUM_W    = WINDOW_W + 1;  // carry
  localparam logic signed [EXP_W-1:0] ONE = {{(EXP_W - 1) {1'b0}}, 1'b1};  // as wide as its sum

  logic x_zero, y_zero, swap, subtract;
  logic larger_sign;
  logic signed [EXP_W-1:0] larger_exponent, smaller_exponent;
  logic [SIG_W-1:0] larger, smaller;
  logic [EXP_W-1:0] distance;
  logic [WINDOW_W-1:0] aligned;
  logic [SUM_W-1:0] larger_wide, smaller_wide, sum;
  logic [SUM_W-1:0] normalised;

  // -- larger and smaller ---------------------------------------------------------------------
  assign x_zero = ~x_significand_i[SIG_W-1];
  assign y_zero = ~y_significand_i[SIG_W-1];
  assign swap   = x_zero | (~y_zero & ((y_exponent_i > x_exponent_i)
                | ((y_exponent_i == x_exponent_i) & (y_significand_i > x_significand_i))));

  assign larger_sign       = swap ? y_sign_i : x_sign_i;
  assign larger_exponent   = swap ? y_exponent_i : x_exponent_i;
  assign larger            = swap ? y_significand_i : x_significand_i;
  assign smaller_exponent = swap ? x_exponent_i : y_exponent_i;
  assign smaller          = swap ? x_significand_i : y_significand_i;

  // -- align: the distance is not negative, except beside a zero, which no shift changes --------
  assign distance = larger_exponent - smaller_exponent;

  shift_right_jam #(
      .W(WINDOW_W), .AMOUNT_W(EXP_W)
  ) u_align (
      .value_i({smaller, 3'b000}), .amount_i(distance), .result_o(aligned)
  );

  // -- add --------------------------------------------------------------------------------------
  assign subtract   = x_sign_i ^ y_sign_i;
  assign larger_wide   = {1'b0, larger, 3'b000};
  assign smaller_wide = {1'b0, aligned};
  assign sum        = subtract ? larger_wide - smaller_wide : larger_wide + smaller_wide;

  fp_normalise #(
      .SIG_W(SUM_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(larger_exponent + ONE), .significand_i(sum),
      .exponent_o(exponent_o), .significand_o(normalised)
  );

  assign significand_o = normalised;
  assign sign_o        = (subtract & ~normalised[SUM_W-1]) ? ZERO_SIGN : larger_sign;

endmodule
