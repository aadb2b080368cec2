// SPDX-License-Identifier: Apache-2.0
//
// The weight of one cell of a weight-stationary array, and the next one, which comes down the column
// while the first is used.
//
// Of every BELOW + 1 weights that come from the north the first BELOW go on to the south; the last stays
// (home_o = 1) until take_i makes it the cell's weight. weight_o is already the new one in the clock of
// take_i. take_i = 1 only while home_o is.
module array_weight #(
    parameter int W     = 4,
    parameter int BELOW = 1   // rows under this one
) (
    input  logic         clk_i,
    input  logic         rst_ni,     // asynchronous, active low: no weight is here
    input  logic         n_valid_i,
    output logic         n_ready_o,
    input  logic [W-1:0] n_data_i,
    output logic         s_valid_o,
    input  logic         s_ready_i,
    output logic [W-1:0] s_data_o,
    output logic         home_o,
    input  logic         next_i,     // the beat at the cell is for the next weight
    input  logic         take_i,     // it is multiplied in this clock
    output logic [W-1:0] weight_o
);

  localparam int PASSED_W = $clog2(BELOW + 1) + 1;  // 1: a width above 0

  logic valid_q, full, leaves;
  logic [W-1:0] data_q, weight_q;
  logic [PASSED_W-1:0] passed_q;

  assign full      = passed_q == BELOW[PASSED_W-1:0];
  assign home_o    = valid_q & full;
  assign s_valid_o = valid_q & ~full;
  assign s_data_o  = data_q;
  assign leaves    = full ? take_i : s_ready_i;
  assign n_ready_o = ~valid_q | leaves;
  assign weight_o  = next_i ? data_q : weight_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      valid_q  <= 1'b0;
      passed_q <= '0;
    end else begin
      if (n_ready_o) valid_q <= n_valid_i;
      if (valid_q & leaves) passed_q <= full ? '0 : passed_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (n_ready_o & n_valid_i) data_q <= n_data_i;
    if (take_i) weight_q <= data_q;
  end

endmodule
