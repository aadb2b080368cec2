// SPDX-License-Identifier: Apache-2.0
//
// A design for the bench's own tests: it does not compile (line 16 names nothing that exists).
module broken (
    input  logic        clk_i,
    input  logic        rst_ni,
    input  logic [1:0]  op_i,
    input  logic [3:0]  a_i,
    input  logic [3:0]  b_i,
    input  logic [15:0] c_i,
    input  logic [8:0]  exp_i,
    output logic [15:0] acc_o
);

  always_ff @(posedge clk_i) acc_o <= {14'b0, op_i};
  assign nothing_of_that_name = missing_signal;

endmodule
