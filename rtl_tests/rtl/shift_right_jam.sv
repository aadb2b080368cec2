// SPDX-License-Identifier: Apache-2.0
//
// Right shift that keeps the fact that something was dropped: the result's LSB is the OR of its own
// bit and of every bit shifted out ("sticky"); combinational, any amount.
//
//   result_o = floor(value_i / 2^amount) | (value_i mod 2^amount != 0)
module shift_right_jam #(
    parameter int W        = 8,
    parameter int AMOUNT_W = 4
) (
    input  logic [W-1:0]        value_i,
    input  logic [AMOUNT_W-1:0] amount_i,
    output logic [W-1:0]        result_o
);

  localparam int SHIFT_W = $clog2(W + 1);                       // holds 0..W
  localparam int WIDE_W  = fpsim_pkg::max_of(SHIFT_W, AMOUNT_W);  // either amount fits

  logic [WIDE_W-1:0] requested, amount;
  logic [W-1:0]      kept;
  logic [W-1:0]      dropped;

  // From W on nothing is kept.
  assign requested = {{(WIDE_W - AMOUNT_W) {1'b0}}, amount_i};
  assign amount    = (requested > W[WIDE_W-1:0]) ? W[WIDE_W-1:0] : requested;

  assign {kept, dropped} = {value_i, {W{1'b0}}} >> amount;

  assign result_o = kept | {{(W - 1) {1'b0}}, |dropped};

endmodule
