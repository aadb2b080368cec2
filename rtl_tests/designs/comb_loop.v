// SPDX-License-Identifier: Apache-2.0
//
// A design for the tests of `fpsim verify --dut`: its output feeds itself and never comes to rest.
module comb_loop (
    input  [7:0]  ab,
    input  [15:0] c,
    output [15:0] y
);

  assign y = (ab == 8'h00 && c == 16'd0) ? 16'd0 : ~y;

endmodule
