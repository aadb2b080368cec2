// SPDX-License-Identifier: Apache-2.0
//
// A 14-bit MAC whose first product clears (unit e2m1-fixed14q2), right unless LOW_END is set: then it
// saturates where it should wrap below zero.
module one_end #(
    parameter int LOW_END = 0
) (
    input  logic        clk,
    input  logic        first,
    input  logic [3:0]  a,
    input  logic [3:0]  b,
    output logic [13:0] acc
);

  function automatic logic [13:0] halves(input logic [2:0] code);
    case (code)
      3'd1:    halves = 14'd1;
      3'd2:    halves = 14'd2;
      3'd3:    halves = 14'd3;
      3'd4:    halves = 14'd4;
      3'd5:    halves = 14'd6;
      3'd6:    halves = 14'd8;
      3'd7:    halves = 14'd12;
      default: halves = 14'd0;
    endcase
  endfunction

  wire [13:0] size = halves(a[2:0]) * halves(b[2:0]);
  wire [13:0] product = a[3] ^ b[3] ? -size : size;
  wire [13:0] held = first ? 14'd0 : acc;
  wire [13:0] sum = held + product;
  wire low = LOW_END != 0 && held[13] && product[13] && !sum[13];

  always_ff @(posedge clk) acc <= low ? 14'h2000 : sum;

endmodule
