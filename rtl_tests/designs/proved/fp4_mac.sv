// SPDX-License-Identifier: Apache-2.0
//
// Designs for the tests of `fpsim prove`. An FP4 MAC as silicon has it: four E2M1 products per clock
// into a fixed register that wraps, operands registered first, an enable that gates the register, a
// clear that wins. Products count quarters and are made by shifting, not by a multiplier.
module fp4_mac #(
    parameter int W = 20
) (
    input  logic              clk,
    input  logic              rst_n,   // asynchronous
    input  logic              en,
    input  logic              clear,
    input  logic        [15:0] a,       // element 0 low
    input  logic        [15:0] b,
    output logic signed [W-1:0] acc
);

  // A product of magnitudes in quarters: significands of two bits, shifted by both exponents.
  function automatic logic [7:0] product(input logic [2:0] x, input logic [2:0] y);
    logic [1:0] mx, my;
    logic [3:0] partial;
    logic [2:0] shift;
    mx = {|x[2:1], x[0]};
    my = {|y[2:1], y[0]};
    partial = (my[0] ? {2'b0, mx} : 4'd0) + (my[1] ? {1'b0, mx, 1'b0} : 4'd0);
    shift = {1'b0, x[2:1] - {1'b0, |x[2:1]}} + {1'b0, y[2:1] - {1'b0, |y[2:1]}};
`ifdef BUG_SHIFT
    if (shift == 3'd4) shift = 3'd3;
`endif
    product = {4'b0, partial} << shift;
  endfunction

  logic [15:0] a_q, b_q;
  logic en_q, clear_q;
`ifdef BUG_HIDDEN
  logic en_qq;  // shows two clocks after the operands that set it
`endif
  logic signed [10:0] sum;
  logic signed [W:0] next;

  always_comb begin
    sum = '0;
    for (int i = 0; i < 4; i++) begin
      logic negative;
      negative = a_q[4*i+3] ^ b_q[4*i+3];
      sum = sum + (negative ? -$signed({3'b0, product(a_q[4*i+:3], b_q[4*i+:3])})
                            : $signed({3'b0, product(a_q[4*i+:3], b_q[4*i+:3])}));
    end
    next = (W+1)'(acc) + (W+1)'(sum);
  end

  always_ff @(posedge clk or negedge rst_n) begin
    if (!rst_n) begin
      {a_q, b_q, en_q, clear_q} <= '0;
      acc <= '0;
    end else begin
      {a_q, b_q, en_q, clear_q} <= {a, b, en, clear};
      if (clear_q) acc <= '0;
`ifdef BUG_SATURATES
      else if (en_q) acc <= (next[W] == next[W-1]) ? next[W-1:0] : {next[W], {(W-1){~next[W]}}};
`elsif BUG_HIDDEN
      else if (en_q) acc <= next[W-1:0] + W'(en_qq & (a_q == 16'h1234));
`else
      else if (en_q) acc <= next[W-1:0];
`endif
`ifdef BUG_HIDDEN
      en_qq <= en_q & ~clear_q & (b_q == 16'h4321);
`endif
    end
  end

endmodule
