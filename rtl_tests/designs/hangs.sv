// SPDX-License-Identifier: Apache-2.0
//
// A design for the bench's own tests: it never lets time go on once it is told to multiply.
module hangs (
    input  logic        clk_i,
    input  logic        rst_ni,
    input  logic [1:0]  op_i,
    input  logic [3:0]  a_i,
    input  logic [3:0]  b_i,
    input  logic [15:0] c_i,
    input  logic [8:0]  exp_i,
    output logic [15:0] acc_o
);

  // `always_ff` would rightly refuse this.
  always @(posedge clk_i) begin
    acc_o <= '0;
    if (rst_ni && op_i == fpsim_pkg::OP_MAC) begin
      forever #0 acc_o <= ~acc_o;
    end
  end

endmodule
