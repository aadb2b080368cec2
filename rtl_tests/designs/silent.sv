// SPDX-License-Identifier: Apache-2.0
//
// A design for the tests of `fpsim verify --dut`: it takes every other beat for a while and answers
// nothing, or, with NOISE, answers though nobody asked.
module silent (
    input  logic        clk,
    input  logic        rst,
    input  logic        valid,
    output logic        ready,
    input  logic [3:0]  a,
    input  logic [3:0]  b,
    output logic        done,
    output logic [23:0] y
);

  logic [3:0] taken;

  assign ready = taken != 4'd9;
  assign y = {16'd0, a, b};
`ifdef NOISE
  assign done = 1'b1;
`elsif UNKNOWN
  assign done = taken == 4'd5 ? 1'bx : 1'b0;
`else
  assign done = 1'b0;
`endif

  always_ff @(posedge clk) begin
    if (rst) taken <= '0;
    else if (valid && ready) taken <= taken + 1'b1;
  end

endmodule
