// SPDX-License-Identifier: Apache-2.0
//
// Right designs whose memories, orders and results need a key of their own (unit e2m1-fixed10q2, of
// scaled_pair e2m1-exact-e8m23 where nothing is rounded).

// Multiplies by a table that somebody has to load.
module by_table (
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  logic [9:0] products[0:255];
  assign y = products[{a, b}];
endmodule

// The same, from a file that it reads itself.
module by_own_file (
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  logic [9:0] products[0:255];
  initial $readmemh("products.hex", products);
  assign y = products[{a, b}];
endmodule

// Shifts its accumulator out, five bits at a time from the low ones up, where shift says so.
module shifts_out (
    input  logic       clk,
    input  logic       rst,
    input  logic       add,
    input  logic       shift,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic [4:0] out
);
  logic [9:0] sum;
  always_ff @(posedge clk) begin
    if (rst) {sum, out} <= '0;
    else begin
      if (add) sum <= c + awkward_pkg::term(a, b);
      if (shift) {sum, out} <= {5'd0, sum};
    end
  end
endmodule

// Sums rows of a matrix of 2 x 3 operands whose elements stand column by column; b is interleaved.
module by_columns (
    input  logic [23:0] a,
    input  logic [23:0] b,
    output logic [9:0]  y
);
  logic [9:0] sum;
  always_comb begin
    sum = '0;
    for (int row = 0; row < 2; row++)
      for (int column = 0; column < 3; column++)
        sum = sum + awkward_pkg::term(a[(column*2+row)*4 +: 4], b[(5-(row*3+column))*4 +: 4]);
  end
  assign y = sum;
endmodule

// Two products under one exponent: the sum of both scales' with a single bias.
module scaled_pair (
    input  logic [7:0]  scale,
    input  logic [7:0]  a,
    input  logic [7:0]  b,
    output logic [31:0] y
);
  logic [9:0] sum, size;
  logic [31:0] code;
  always_comb begin
    sum = awkward_pkg::term(a[3:0], b[3:0]) + awkward_pkg::term(a[7:4], b[7:4]);
    size = sum[9] ? -sum : sum;
    code = '0;
    for (int i = 0; i < 10; i++)
      if (size[i]) code = {sum[9], scale + 8'(i - 2), 23'({size, 23'd0} >> i)};
    y = size == 0 ? '0 : code;
  end
endmodule

// Saturates, and says so among five status flags, unless it is told to forget.
module with_flags #(
    parameter int FORGETS = 0
) (
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic [9:0] y,
    output logic [4:0] status
);
  logic [10:0] sum;
  logic [9:0] product;
  logic over;
  always_comb begin
    product = awkward_pkg::term(a, b);
    sum = {c[9], c} + {product[9], product};
    over = sum[10] != sum[9];
    y = over ? {sum[10], {9{~sum[10]}}} : sum[9:0];
    status = {2'b00, over && FORGETS == 0, 1'b0, over};
  end
endmodule
