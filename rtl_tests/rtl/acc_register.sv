// SPDX-License-Identifier: Apache-2.0
//
// The accumulator register and its four operations; every MAC ends in one.
//
//   op IDLE: acc <- acc    CLEAR: acc <- 0 (the code of +0)    MAC: acc <- sum_i    LOAD: acc <- c_i
//
// On the rising edge of clk_i; rst_ni = 0 clears at once.
module acc_register #(
    parameter int W = 16
) (
    input  logic         clk_i,
    input  logic         rst_ni,
    input  logic [1:0]   op_i,
    input  logic [W-1:0] sum_i,
    input  logic [W-1:0] c_i,
    output logic [W-1:0] acc_o
);

  logic [W-1:0] acc_d, acc_q;

  always_comb begin
    case ({1'b0, op_i})
      fpsim_pkg::OP_CLEAR: acc_d = '0;
      fpsim_pkg::OP_MAC:   acc_d = sum_i;
      fpsim_pkg::OP_LOAD:  acc_d = c_i;
      default:             acc_d = acc_q;
    endcase
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) acc_q <= '0;
    else acc_q <= acc_d;
  end

  assign acc_o = acc_q;

endmodule
