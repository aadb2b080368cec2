// SPDX-License-Identifier: Apache-2.0
//
// Quotient of two positive normalised numbers, rounded to float32 (nearest, ties to even) and then cut to
// DIGITS bits and a sticky bit; combinational.
//
//   x, y = significand / 2^(W-1) * 2^exponent       top bits 1
//   fl(x / y) = (significand_o / 2^DIGITS) * 2^exponent_o,   its LSB sticky, in [1, 2) * 2^exponent_o
//
// A restoring division makes DIGITS bits D and a rest r: x / y = D + r / y in units of D's last bit, of
// which half of float32's last bit is 2^-SPARE. So r vanishes where r / y is at most that, and is a whole
// unit where 1 - r / y is; D and D + 1 are even there, which decides ties. D + 1 stays below 2, as a
// quotient of two significands of 24 bits does.
//
// An x of zero gives a zero significand, a y of zero nothing that means anything. Float32's subnormal
// numbers are not looked at: the result is exact down to 2^-126.
module fp_quotient #(
    parameter int X_W    = 24,
    parameter int Y_W    = 24,
    parameter int DIGITS = 3,   // 2 .. 23
    parameter int EXP_W  = 11   // holds the exponents' difference
) (
    input  logic signed [EXP_W-1:0] x_exponent_i,
    input  logic [X_W-1:0]          x_significand_i,
    input  logic signed [EXP_W-1:0] y_exponent_i,
    input  logic [Y_W-1:0]          y_significand_i,
    output logic signed [EXP_W-1:0] exponent_o,
    output logic [DIGITS:0]         significand_o
);

  localparam int W     = fpsim_pkg::max_of(X_W, Y_W);
  localparam int SPARE = 25 - DIGITS;

  logic [W-1:0] x, y;
  logic less;

  assign x    = {{(W - X_W) {1'b0}}, x_significand_i} << (W - X_W);
  assign y    = {{(W - Y_W) {1'b0}}, y_significand_i} << (W - Y_W);
  assign less = x < y;

  assign exponent_o = x_exponent_i - y_exponent_i - $signed({{(EXP_W - 1) {1'b0}}, less});

  // The first digit is 1: x, doubled where it is less than y, is in [y, 2y).
  logic [DIGITS-1:0] digits;
  logic [W-1:0] rest, limit;
  logic none, whole, sticky;

  generate
    for (genvar i = 0; i < DIGITS; i++) begin : g_digit
      logic [W:0] from;
      logic [W-1:0] to;

      if (i == 0) begin : g_first
        assign from = less ? {x, 1'b0} : {1'b0, x};
      end else begin : g_next
        assign from = {g_digit[i-1].to, 1'b0};
      end

      assign digits[DIGITS-1-i] = from >= {1'b0, y};
      assign to                 = digits[DIGITS-1-i] ? from[W-1:0] - y : from[W-1:0];
    end
  endgenerate

  assign rest   = g_digit[DIGITS-1].to;
  assign limit  = y >> SPARE;
  assign none   = rest <= limit;
  assign whole  = (y - rest) <= limit;
  assign sticky = ~none & ~whole;

  assign significand_o = {digits + {{(DIGITS - 1) {1'b0}}, whole}, sticky};

endmodule
