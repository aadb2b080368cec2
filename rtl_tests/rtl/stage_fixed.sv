// SPDX-License-Identifier: Apache-2.0
//
// Adds N terms to a fixed-point code of W_ACC bits (two's complement) with weight 2^LSB of its last bit,
// one after another: each is rounded onto the grid, each sum wrapped or saturated; combinational.
//
//   to = O(...O(from + R(term_0 / 2^LSB))... + R(term_N-1 / 2^LSB))        every term is a number
module stage_fixed #(
    parameter int N        = 1,
    parameter int W_ACC    = 24,
    parameter int LSB      = -2,
    parameter int ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW = fpsim_pkg::OVERFLOW_WRAP,
    parameter int TERM_W   = 4,
    parameter int EXP_W    = 10                        // see fp_to_grid
) (
    input  logic [W_ACC-1:0]    from_i,
    input  logic [N-1:0]        sign_i,
    input  logic [N*EXP_W-1:0]  exponent_i,
    input  logic [N*TERM_W-1:0] significand_i,
    output logic [W_ACC-1:0]    to_o,
    output logic [4:0]          flags_o      // terms off the grid, sums that wrap or saturate
);

  localparam int MAG_W = W_ACC + 1;  // an addend of 2^W_ACC always overflows

  logic [N-1:0] lost, over;

  generate
    for (genvar i = 0; i < N; i++) begin : g_add
      logic [W_ACC-1:0] from, to;
      logic [MAG_W-1:0] magnitude;
      logic huge;

      if (i == 0) begin : g_first
        assign from = from_i;
      end else begin : g_next
        assign from = g_add[i-1].to;
      end

      fp_to_grid #(
          .SIG_W(TERM_W), .EXP_W(EXP_W), .MAG_W(MAG_W), .LSB(LSB), .ROUNDING(ROUNDING)
      ) u_to_grid (
          .sign_i(sign_i[i]), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),
          .significand_i(significand_i[i*TERM_W+:TERM_W]), .magnitude_o(magnitude), .huge_o(huge),
          .lost_o(lost[i])
      );

      fixed_add #(
          .W(W_ACC), .OVERFLOW(OVERFLOW)
      ) u_add (
          .acc_i(from), .negative_i(sign_i[i]), .magnitude_i(magnitude), .huge_i(huge), .sum_o(to),
          .over_o(over[i])
      );
    end
  endgenerate

  assign to_o    = g_add[N-1].to;
  assign flags_o = ((|over) ? fpsim_pkg::FLAG_OVERFLOW : '0) | ((|{lost, over}) ? fpsim_pkg::FLAG_INEXACT : '0);

endmodule
