// SPDX-License-Identifier: Apache-2.0
//
// The second window of AMD's CDNA3 (arXiv 2511.10909): sums of WINDOWS first ones and the addend, aligned
// once more; combinational.
//
//   sum     = sum_l J(S_l 2^(E_l-F) / 2^(E-F)) 2^(E-F)               E = max E_l; one window: S_0 as it is
//   total_o = J(sum 2^(SUM_BITS-E')) + J(c 2^(ADDEND_BITS-E'))       E' = max(E, e(c)), both on one grid
//
// J is JOIN_ROUNDING. c is left out if it is zero, or e(c) < E' - REACH with REACH of at least 0.
//   total = total_o * 2^(exponent_o - TOTAL_W + 1)
module aligned_join #(
    parameter int WINDOWS       = 1,
    parameter int S_W           = 24,                        // a first window's sum, two's complement
    parameter int FRACTION_BITS = 13,
    parameter int C_SIG_W       = 24,
    parameter int SUM_BITS      = 31,
    parameter int ADDEND_BITS   = 24,
    parameter int JOIN_ROUNDING = fpsim_pkg::ROUND_RDN,
    parameter int REACH         = -1,
    parameter int EXP_W         = 12,
    // derived, do not change
    parameter int HEAD          = S_W - FRACTION_BITS + 1,   // sums are below 2^(E+HEAD)
    parameter int GRID          = fpsim_pkg::max_of(SUM_BITS, ADDEND_BITS),
    parameter int TOTAL_W       = GRID + HEAD + 4
) (
    input  logic [WINDOWS*S_W-1:0]   totals_i,
    input  logic [WINDOWS*EXP_W-1:0] max_i,
    input  logic                     c_sign_i,
    input  logic signed [EXP_W-1:0]  c_exponent_i,
    input  logic [C_SIG_W-1:0]       c_significand_i,
    output logic [TOTAL_W-1:0]       total_o,
    output logic signed [EXP_W-1:0]  exponent_o,
    output logic                     lost_o       // a J is inexact
);

  localparam int SUM_W = S_W + 1;
  localparam logic signed [EXP_W-1:0] ABOVE = EXP_W'(S_W - FRACTION_BITS);  // of SUM_W's first bit, above E

  // -- one sum of the first windows -----------------------------------------------------------------
  logic signed [EXP_W-1:0] max;
  logic [SUM_W-1:0] sum;
  logic [WINDOWS-1:0] lost;
  logic sum_lost, c_lost;

  generate
    if (WINDOWS == 1) begin : g_one
      assign max  = max_i;
      assign lost = '0;
      assign sum = {totals_i[S_W-1], totals_i};
    end else begin : g_two
      localparam int ROW_W = FRACTION_BITS + HEAD + 2;
      logic signed [EXP_W-1:0] first, second;
      logic [WINDOWS*ROW_W-1:0] rows;
      logic [ROW_W:0] joined;
      logic unused_top;

      assign first  = max_i[0+:EXP_W];
      assign second = max_i[EXP_W+:EXP_W];
      assign max    = (first > second) ? first : second;

      for (genvar i = 0; i < WINDOWS; i++) begin : g_window
        logic [S_W-1:0] total;
        assign total = totals_i[i*S_W+:S_W];
        align_term #(
            .SIG_W(SUM_W), .EXP_W(EXP_W), .FRACTION_BITS(FRACTION_BITS), .HEAD(HEAD), .ROUNDING(JOIN_ROUNDING)
        ) u_align (
            .sign_i(total[S_W-1]), .exponent_i(max_i[i*EXP_W+:EXP_W] + ABOVE),
            .significand_i({1'b0, total[S_W-1] ? -total : total}), .top_i(max + ABOVE),
            .term_o(rows[i*ROW_W+:ROW_W]), .lost_o(lost[i])
        );
      end

      compressor_tree #(
          .N(WINDOWS), .W(ROW_W), .SUM_W(ROW_W + 1)
      ) u_sum (
          .rows_i(rows), .sum_o(joined)
      );
      assign sum = joined[SUM_W-1:0];
      assign unused_top = &{1'b0, joined[ROW_W:SUM_W]};
    end
  endgenerate

  // -- the second window ----------------------------------------------------------------------------
  localparam logic signed [EXP_W-1:0] LIMIT = EXP_W'(REACH);

  logic c_there, c_larger;
  logic signed [EXP_W-1:0] second_max;
  logic [SUM_BITS+HEAD+1:0] sum_row;
  logic [ADDEND_BITS+HEAD+1:0] c_row;
  logic [TOTAL_W-1:0] wide_sum, wide_c;

  assign c_larger   = (|c_significand_i) & (c_exponent_i > max);
  assign second_max = c_larger ? c_exponent_i : max;
  assign c_there    = (REACH < 0) | (second_max - c_exponent_i <= LIMIT);

  align_term #(
      .SIG_W(SUM_W), .EXP_W(EXP_W), .FRACTION_BITS(SUM_BITS), .HEAD(HEAD), .ROUNDING(JOIN_ROUNDING)
  ) u_align_sum (
      .sign_i(sum[SUM_W-1]), .exponent_i(max + ABOVE),
      .significand_i(sum[SUM_W-1] ? -sum : sum), .top_i(second_max + ABOVE), .term_o(sum_row),
      .lost_o(sum_lost)
  );

  align_term #(
      .SIG_W(C_SIG_W), .EXP_W(EXP_W), .FRACTION_BITS(ADDEND_BITS), .HEAD(HEAD), .ROUNDING(JOIN_ROUNDING)
  ) u_align_addend (
      .sign_i(c_sign_i), .exponent_i(c_exponent_i),
      .significand_i(c_there ? c_significand_i : '0), .top_i(second_max + ABOVE), .term_o(c_row),
      .lost_o(c_lost)
  );

  assign wide_sum = {{(TOTAL_W - SUM_BITS - HEAD - 2) {sum_row[SUM_BITS+HEAD+1]}}, sum_row} << (GRID - SUM_BITS);
  assign wide_c   = {{(TOTAL_W - ADDEND_BITS - HEAD - 2) {c_row[ADDEND_BITS+HEAD+1]}}, c_row} << (GRID - ADDEND_BITS);

  assign total_o    = wide_sum + wide_c;
  assign lost_o     = (|lost) | sum_lost | c_lost;
  assign exponent_o = second_max + EXP_W'(TOTAL_W - 1 - GRID);

endmodule
