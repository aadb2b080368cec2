// SPDX-License-Identifier: Apache-2.0
//
// A design for the bench's own tests: it ends the simulation when it is told to multiply.
module stops (
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
    acc_o <= '0;
    if (rst_ni && op_i == fpsim_pkg::OP_MAC) $finish;
  end

endmodule
