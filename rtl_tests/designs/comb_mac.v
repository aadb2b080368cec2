// SPDX-License-Identifier: Apache-2.0
//
// A design for the tests of `fpsim verify --dut`: y = c + a * b without a clock, in Verilog 2001.
// a and b are E2M1; c and y count quarters in 16 bits, and y leaves in offset binary.
module comb_mac (
    input  [7:0]  ab,  // a in the low half
    input  [15:0] c,
    output [15:0] y
);

  function [3:0] halves;
    input [2:0] code;
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

  wire [7:0] product = halves(ab[2:0]) * halves(ab[6:4]);
`ifdef BUG_SIGN
  wire negative = ab[7];
`else
  wire negative = ab[3] ^ ab[7];
`endif
  wire [15:0] sum = negative ? c - {8'd0, product} : c + {8'd0, product};

  assign y = sum ^ 16'h8000;

endmodule
