// SPDX-License-Identifier: Apache-2.0
//
// What the awkward designs compute: products of E2M1 codes in quarters, ten bits of two's complement.
package awkward_pkg;

  typedef enum logic [1:0] { ODD, PLAIN, OTHER } mode_t;

  function automatic logic [9:0] halves(input logic [2:0] code);
    case (code)
      3'd1:    halves = 10'd1;
      3'd2:    halves = 10'd2;
      3'd3:    halves = 10'd3;
      3'd4:    halves = 10'd4;
      3'd5:    halves = 10'd6;
      3'd6:    halves = 10'd8;
      3'd7:    halves = 10'd12;
      default: halves = 10'd0;
    endcase
  endfunction

  function automatic logic [9:0] term(input logic [3:0] a, input logic [3:0] b);
    logic [9:0] magnitude;
    begin
      magnitude = halves(a[2:0]) * halves(b[2:0]);
      term = a[3] ^ b[3] ? -magnitude : magnitude;
    end
  endfunction

endpackage
