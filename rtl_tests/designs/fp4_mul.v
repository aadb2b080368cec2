// SPDX-License-Identifier: Apache-2.0
// Product of two E2M1 codes as E4M3 (exact), without a clock.
module fp4_mul (
    input  wire [3:0] a,
    input  wire [3:0] b,
    output wire [7:0] y
);
  // Magnitudes in halves: 0 1 2 3 4 6 8 12.
  function [3:0] halves;
    input [2:0] code;
    case (code[2:1])
      2'd0: halves = {3'd0, code[0]};
      2'd1: halves = {2'd0, 1'b1, code[0]};
      2'd2: halves = {1'd0, 1'b1, code[0], 1'b0};
      default: halves = {1'b1, code[0], 2'b0};
    endcase
  endfunction

  wire [7:0] quarters = halves(a[2:0]) * halves(b[2:0]);
  reg  [2:0] top;
  integer i;
  always @* begin
    top = 3'd0;
    for (i = 1; i < 8; i = i + 1) if (quarters[i]) top = i[2:0];
  end
  wire [10:0] shifted = {quarters, 3'b000} >> top;
  wire [3:0] exponent = {1'b0, top} + 4'd5;  // bias 7, quarters are 2^-2
`ifdef SIGN_LOST
  wire sign = a[3] & b[3];
`else
  wire sign = a[3] ^ b[3];
`endif
  assign y = {sign, quarters == 0 ? 7'd0 : {exponent, shifted[2:0]}};
endmodule
