// SPDX-License-Identifier: Apache-2.0
//
// Designs for the tests of `fpsim prove`. acc <- R(acc + a * b): E2M1 operands, an IEEE half as the
// accumulator. Unlike the reference RTL, which aligns the smaller to the larger, this one adds on a
// grid that holds everything: two's complement of 44 bits in units of 2^-24, then one rounding to
// nearest even.
module e5m10_step (
    input  logic        clk,
    input  logic        rst,    // synchronous, active high
    input  logic        run,
    input  logic        load,
    input  logic [3:0]  a,
    input  logic [3:0]  b,
    input  logic [15:0] c,
    output logic [15:0] acc
);

  function automatic logic [3:0] halves(input logic [2:0] code);
    case (code)
      3'd1:    halves = 4'd1;
      3'd2:    halves = 4'd2;
      3'd3:    halves = 4'd3;
      3'd4:    halves = 4'd4;
      3'd5:    halves = 4'd6;
      3'd6:    halves = 4'd8;
      3'd7:    halves = 4'd12;
      default: halves = 4'd0;
    endcase
  endfunction

  localparam int W = 44;

  logic [7:0] product;
  logic negative, special, sign, up, guard, sticky;
  logic [4:0] row;
  logic signed [W-1:0] held, term, total;
  logic [W-1:0] magnitude, shifted, left;
  logic [5:0] top;
  logic [15:0] sum;

  always_comb begin
    product  = halves(a[2:0]) * halves(b[2:0]);
    negative = a[3] ^ b[3];
    special  = &acc[14:10];

    row  = acc[14:10] == 0 ? 5'd0 : acc[14:10] - 5'd1;
    held = W'({acc[14:10] != 0, acc[9:0]}) << row;
    if (acc[15]) held = -held;
    term = W'(product) << 22;
    if (negative) term = -term;
    total = held + term;

    sign = total[W-1];
    magnitude = sign ? -total : total;
    if (total == 0) sign = acc[15] & negative;

    // The place of the leading one; a subnormal has the row of the smallest normal.
    top = 6'd0;
    for (int i = 0; i < W; i++) if (magnitude[i]) top = 6'(i);
    row = top > 6'd10 ? 5'(top - 6'd10) : 5'd0;
    shifted = magnitude >> row;
    left    = magnitude & ~({W{1'b1}} << row);
    guard   = row != 0 && left[row - 5'd1];
`ifdef BUG_STICKY
    sticky  = row > 5'd1 && left[row - 5'd2];
`else
    sticky  = row > 5'd1 && (left & ~({W{1'b1}} << (row - 5'd1))) != 0;
`endif
`ifdef BUG_TIES
    up      = guard;
`else
    up      = guard & (sticky | shifted[0]);
`endif
    // Adding the significand with its hidden bit carries into the exponent by itself.
    sum = {sign, 15'({row, 10'd0} + shifted[14:0] + 15'(up))};
`ifndef SAME_WITHOUT
    if (top >= 6'd40 || &sum[14:10]) sum = {sign, 15'h7c00};
`endif
`ifdef BUG_NAN
    if (special) sum = acc;  // a NaN keeps its payload
`else
    if (special) sum = acc[9:0] == 0 ? acc : 16'h7e00;
`endif
  end

  always_ff @(posedge clk) begin
    if (rst) acc <= '0;
    else if (load) acc <= c;
    else if (run) acc <= sum;
  end

endmodule
