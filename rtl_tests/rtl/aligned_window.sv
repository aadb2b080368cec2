// SPDX-License-Identifier: Apache-2.0
//
// One window of a tensor core: terms, and an addend if it has one, rounded to integers of FRACTION_BITS
// below the exponent E and added; combinational.
//
//   total_o = O(sum_i A(x_i 2^(F-E)) + A(c 2^(F-E)))        A: ALIGN;  O: wrapped or saturated to W_SUM bits
//   zero_o  = the sum before O is zero                       |x_i| < 2^(E+HEAD), |c| < 2^(E+1)
//
// The window's top bit weighs 2^top: see align_term.
module aligned_window #(
    parameter int N             = 8,
    parameter int SIG_W         = 4,
    parameter int C_SIG_W       = 0,                         // 0: no addend
    parameter int FRACTION_BITS = 13,
    parameter int HEAD          = 2,                         // at least 1
    parameter int ALIGN         = fpsim_pkg::ROUND_RTZ,
    parameter int W_SUM         = 0,                         // 0: as wide as needed
    parameter int SUM_OVERFLOW  = fpsim_pkg::OVERFLOW_WRAP,
    parameter int EXP_W         = 12,
    // derived, do not change
    parameter int ROWS          = (C_SIG_W > 0) ? N + 1 : N,
    parameter int TERM_W        = FRACTION_BITS + HEAD + 2,
    parameter int S_W           = TERM_W + $clog2(ROWS)      // total_o, two's complement
) (
    input  logic [N-1:0]                              sign_i,
    input  logic [N*EXP_W-1:0]                        exponent_i,
    input  logic [N*SIG_W-1:0]                        significand_i,
    input  logic                                      c_sign_i,
    input  logic signed [EXP_W-1:0]                   c_exponent_i,
    input  logic [fpsim_pkg::max_of(C_SIG_W, 1)-1:0]  c_significand_i,
    input  logic signed [EXP_W-1:0]                   top_i,
    output logic [S_W-1:0]                            total_o,
    output logic                                      zero_o,
    output logic                                      lost_o,  // an integer is not its term
    output logic                                      over_o   // O changes the sum
);

  logic [ROWS*TERM_W-1:0] rows;
  logic [ROWS-1:0] lost;
  logic [S_W-1:0] exact;

  generate
    for (genvar i = 0; i < N; i++) begin : g_term
      align_term #(
          .SIG_W(SIG_W), .EXP_W(EXP_W), .FRACTION_BITS(FRACTION_BITS), .HEAD(HEAD), .ROUNDING(ALIGN)
      ) u_align (
          .sign_i(sign_i[i]), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),
          .significand_i(significand_i[i*SIG_W+:SIG_W]), .top_i(top_i),
          .term_o(rows[i*TERM_W+:TERM_W]), .lost_o(lost[i])
      );
    end

    if (C_SIG_W > 0) begin : g_addend
      align_term #(
          .SIG_W(C_SIG_W), .EXP_W(EXP_W), .FRACTION_BITS(FRACTION_BITS), .HEAD(HEAD), .ROUNDING(ALIGN)
      ) u_align (
          .sign_i(c_sign_i), .exponent_i(c_exponent_i), .significand_i(c_significand_i),
          .top_i(top_i), .term_o(rows[N*TERM_W+:TERM_W]), .lost_o(lost[N])
      );
    end else begin : g_none
      logic unused_addend;
      assign unused_addend = &{1'b0, c_sign_i, c_exponent_i, c_significand_i};
    end
  endgenerate

  compressor_tree #(
      .N(ROWS), .W(TERM_W), .SUM_W(S_W)
  ) u_sum (
      .rows_i(rows), .sum_o(exact)
  );

  assign zero_o = ~|exact;
  assign lost_o = |lost;

  generate
    if (W_SUM == 0 || W_SUM >= S_W) begin : g_exact
      assign total_o = exact;
      assign over_o  = 1'b0;
    end else begin : g_limited
      logic over;
      logic [W_SUM-1:0] limited;
      assign over    = exact[S_W-1:W_SUM-1] != {(S_W - W_SUM + 1) {exact[W_SUM-1]}};
      assign limited = (over & (SUM_OVERFLOW == fpsim_pkg::OVERFLOW_SATURATE))
                     ? {exact[S_W-1], {(W_SUM - 1) {~exact[S_W-1]}}} : exact[W_SUM-1:0];
      assign total_o = {{(S_W - W_SUM) {limited[W_SUM-1]}}, limited};
      assign over_o  = over;
    end
  endgenerate

endmodule
