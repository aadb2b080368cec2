// SPDX-License-Identifier: Apache-2.0
//
// A design for the bench's own tests: an accumulator whose low half is unknown after CLEAR.
module unknown_output (
    input  logic        clk_i,
    input  logic        rst_ni,
    input  logic [1:0]  op_i,
    input  logic [3:0]  a_i,
    input  logic [3:0]  b_i,
    input  logic [15:0] c_i,
    input  logic [8:0]  exp_i,
    output logic [15:0] acc_o
);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) acc_o <= '0;
    else if (op_i == fpsim_pkg::OP_CLEAR) acc_o <= 16'h00xx;
  end

endmodule
