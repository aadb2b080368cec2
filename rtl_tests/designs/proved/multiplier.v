// SPDX-License-Identifier: Apache-2.0
//
// Designs for the tests of `fpsim prove`. An E2M1 multiplier whose product is E4M3FN, exact, without a
// clock: exponents are added, the two-bit significands multiplied, the product normalised.
module multiplier (
    input  [3:0] a,
    input  [3:0] b,
    output [7:0] p
);

  function [4:0] normal;  // {exponent of the top bit + 1, significand 1.m}
    input [2:0] x;
    case (x)
      3'd0:    normal = 5'b000_00;
      3'd1:    normal = 5'b000_10;
      default: normal = {1'b0, x[2:1], 1'b1, x[0]};
    endcase
  endfunction

  wire [4:0] na = normal(a[2:0]);
  wire [4:0] nb = normal(b[2:0]);
  wire [3:0] product = na[1:0] * nb[1:0];
  wire zero = product == 0;
  wire carry = product[3];
  wire [2:0] mantissa = carry ? product[2:0] : {product[1:0], 1'b0};
  wire [3:0] exponent = na[4:2] + nb[4:2] + 4'd5 + carry;
  wire sign = a[3] ^ b[3];

`ifdef BUG_CARRY
  assign p = zero ? {sign, 7'd0} : {sign, na[4:2] + nb[4:2] + 4'd5, mantissa};
`else
  assign p = zero ? {sign, 7'd0} : {sign, exponent, mantissa};
`endif

endmodule
