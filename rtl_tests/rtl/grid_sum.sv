// SPDX-License-Identifier: Apache-2.0
//
// Exact sum of N numbers as an integer on the grid of the lowest bit that one can have; combinational.
//
//   x_i   = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,   LOW <= exponent <= LOW + SPAN
//   sum_o = sum_i x_i / 2^(LOW-SIG_W+1)                           two's complement
//
// Modulo 2^SUM_W; exact with SUM_W of at least SIG_W + SPAN + 1 + clog2(N). A zero may have any exponent.
module grid_sum #(
    parameter int N     = 8,
    parameter int SIG_W = 4,
    parameter int EXP_W = 8,
    parameter int LOW   = 0,
    parameter int SPAN  = 4,
    parameter int SUM_W = 12  // at least SIG_W + SPAN + 1
) (
    input  logic [N-1:0]       sign_i,
    input  logic [N*EXP_W-1:0] exponent_i,
    input  logic [N*SIG_W-1:0] significand_i,
    output logic [SUM_W-1:0]   sum_o
);

  localparam int INT_W = SIG_W + SPAN;  // a magnitude
  localparam int ROW_W = INT_W + 1;
  localparam logic signed [EXP_W-1:0] ORIGIN = EXP_W'(LOW);

  logic [N*ROW_W-1:0] rows;

  generate
    for (genvar i = 0; i < N; i++) begin : g_row
      logic [EXP_W-1:0] shift;
      logic [INT_W-1:0] magnitude;
      assign shift     = exponent_i[i*EXP_W+:EXP_W] - ORIGIN;
      assign magnitude = {{SPAN{1'b0}}, significand_i[i*SIG_W+:SIG_W]} << shift;
      assign rows[i*ROW_W+:ROW_W] = sign_i[i] ? -{1'b0, magnitude} : {1'b0, magnitude};
    end
  endgenerate

  compressor_tree #(
      .N(N), .W(ROW_W), .SUM_W(SUM_W)
  ) u_sum (
      .rows_i(rows), .sum_o(sum_o)
  );

endmodule
