// SPDX-License-Identifier: Apache-2.0
//
// Rounds a number onto the grid 2^LSB; combinational.
//
//   value = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent
//   magnitude_o = |R(value / 2^LSB)| mod 2^MAG_W,   huge_o = (|R(value / 2^LSB)| >= 2^MAG_W)
//   lost_o = the value is not on the grid
//
// The significand may have leading zeros. Rounding sees the sign (RUP goes toward +infinity), ties to
// even and round to odd look at the magnitude, which is as even as the integer.
module fp_to_grid #(
    parameter int SIG_W    = 4,
    parameter int EXP_W    = 10,  // holds exponent_i - (SIG_W-1) - LSB and the shift limits
    parameter int MAG_W    = 25,
    parameter int LSB      = -2,
    parameter int ROUNDING = fpsim_pkg::ROUND_RNE
) (
    input  logic                    sign_i,
    input  logic signed [EXP_W-1:0] exponent_i,
    input  logic [SIG_W-1:0]        significand_i,
    output logic [MAG_W-1:0]        magnitude_o,
    output logic                    huge_o,
    output logic                    lost_o
);

  localparam int LEFT_W  = MAG_W + SIG_W;  // a left shift by MAG_W puts every bit above MAG_W
  localparam int RIGHT_W = SIG_W + 2;      // integer part, guard, sticky
  // EXP_W bits each: exponent_i at which the significand's LSB weighs 2^LSB, and the largest shift.
  localparam logic signed [EXP_W-1:0] ORIGIN     = EXP_W'(LSB + SIG_W - 1);
  localparam logic signed [EXP_W-1:0] LEFT_LIMIT = EXP_W'(MAG_W);

  logic signed [EXP_W-1:0] shift;
  logic [EXP_W-1:0] left, right;
  logic [LEFT_W-1:0] shifted, magnitude;
  logic [RIGHT_W-1:0] jammed;
  logic [SIG_W-1:0] whole;
  logic up;

  assign shift = exponent_i - ORIGIN;
  assign left  = (shift > LEFT_LIMIT) ? LEFT_LIMIT : shift;
  assign right = -shift;

  assign shifted = {{MAG_W{1'b0}}, significand_i} << left;

  shift_right_jam #(
      .W(RIGHT_W), .AMOUNT_W(EXP_W)
  ) u_right (
      .value_i({significand_i, 2'b00}), .amount_i(right), .result_o(jammed)
  );

  // A right shift by at least one leaves room for the carry.
  assign up    = fpsim_pkg::round_up(ROUNDING, sign_i, jammed[2], jammed[1], jammed[0]);
  assign whole = jammed[RIGHT_W-1:2] + {{(SIG_W - 1) {1'b0}}, up};

  assign magnitude   = shift[EXP_W-1] ? {{MAG_W{1'b0}}, whole} : shifted;
  assign magnitude_o = magnitude[MAG_W-1:0];
  assign huge_o      = |magnitude[LEFT_W-1:MAG_W];
  assign lost_o      = shift[EXP_W-1] & (|jammed[1:0]);

endmodule
