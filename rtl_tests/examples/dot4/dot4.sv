// SPDX-License-Identifier: Apache-2.0
//
// A design as a user might bring it: four E2M1 products per clock, added into a 24-bit register.
//
//   cmd   0 nothing   1 accumulate   2 start again from zero
//
// Lane 0 stands in the high bits of x and w. The sum is in quarters, two's complement, and comes out
// three clock edges after its command, most significant byte last, as the host bus wants it.
module dot4 #(
    parameter int LANES = 4
) (
    input  logic               clk,
    input  logic               rst_n,  // asynchronous
    input  logic [1:0]         cmd,
    input  logic [4*LANES-1:0] x,
    input  logic [4*LANES-1:0] w,
    output logic [23:0]        y
);

  // A magnitude in halves: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
  function automatic logic [3:0] halves(input logic [2:0] code);
    case (code)
`ifdef BUG_SUBNORMAL
      3'd1:    halves = 4'd0;
`else
      3'd1:    halves = 4'd1;
`endif
      3'd2:    halves = 4'd2;
      3'd3:    halves = 4'd3;
      3'd4:    halves = 4'd4;
      3'd5:    halves = 4'd6;
      3'd6:    halves = 4'd8;
      3'd7:    halves = 4'd12;
      default: halves = 4'd0;
    endcase
  endfunction

  logic [1:0] cmd_q, cmd_qq;
  logic [7:0] product;
  logic signed [23:0] sum, sum_q, acc;

`ifdef BUG_LANE
  localparam int LAST = LANES - 1;
`else
  localparam int LAST = LANES;
`endif

  always_comb begin
    sum = '0;
    for (int i = 0; i < LAST; i++) begin
      product = halves(x[4*i +: 3]) * halves(w[4*i +: 3]);
      sum = x[4*i + 3] ^ w[4*i + 3] ? sum - 24'(product) : sum + 24'(product);
    end
  end

  always_ff @(posedge clk or negedge rst_n) begin
    if (!rst_n) begin
      cmd_q  <= '0;
      cmd_qq <= '0;
      sum_q  <= '0;
      acc    <= '0;
      y      <= '0;
    end else begin
      cmd_q  <= cmd;
      sum_q  <= sum;
      cmd_qq <= cmd_q;
      if (cmd_q == 2'd1) acc <= acc + sum_q;
      else if (cmd_q == 2'd2) acc <= '0;
      y <= {acc[7:0], acc[15:8], acc[23:16]};
    end
  end

endmodule
