// SPDX-License-Identifier: Apache-2.0
//
// Rounds one term of a window to an integer of FRACTION_BITS below the window's exponent E; combinational.
//
//   value  = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent
//   term_o = R(value / 2^(E - FRACTION_BITS))                        two's complement
//
// The window's top bit, which weighs 2^top, lies HEAD - 1 places above E. exponent_i is at most top_i
// unless the significand is zero. Rounding sees sign and magnitude: RTZ cuts
// the magnitude, RDN is the floor of the signed value, RTO keeps a sticky bit.
module align_term #(
    parameter int SIG_W         = 4,
    parameter int EXP_W         = 8,
    parameter int FRACTION_BITS = 13,
    parameter int HEAD          = 2,
    parameter int ROUNDING      = fpsim_pkg::ROUND_RTZ
) (
    input  logic                          sign_i,
    input  logic signed [EXP_W-1:0]       exponent_i,
    input  logic [SIG_W-1:0]              significand_i,
    input  logic signed [EXP_W-1:0]       top_i,
    output logic [FRACTION_BITS+HEAD+1:0] term_o,
    output logic                          lost_o  // the value is not such an integer
);

  localparam int KEPT_W = FRACTION_BITS + HEAD;
  localparam int WIDE_W = fpsim_pkg::max_of(SIG_W, KEPT_W) + 2;       // guard and sticky bits below

  logic [EXP_W-1:0] distance;
  logic [WIDE_W-1:0] wide, jammed;
  logic [KEPT_W-1:0] kept;
  logic [KEPT_W:0] magnitude;
  logic up;

  assign distance = top_i - exponent_i;
  assign wide     = {{(WIDE_W - SIG_W) {1'b0}}, significand_i} << (WIDE_W - SIG_W);

  shift_right_jam #(
      .W(WIDE_W), .AMOUNT_W(EXP_W)
  ) u_shift (
      .value_i(wide), .amount_i(distance), .result_o(jammed)
  );

  assign kept      = jammed[WIDE_W-1-:KEPT_W];
  assign up        = fpsim_pkg::round_up(
      ROUNDING, sign_i, kept[0], jammed[WIDE_W-KEPT_W-1], |jammed[WIDE_W-KEPT_W-2:0]);
  assign magnitude = {1'b0, kept} + {{KEPT_W{1'b0}}, up};
  assign lost_o    = |jammed[WIDE_W-KEPT_W-1:0];
  assign term_o    = sign_i ? -{1'b0, magnitude} : {1'b0, magnitude};

endmodule
