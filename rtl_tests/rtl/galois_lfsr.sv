// SPDX-License-Identifier: Apache-2.0
//
// Random bits: a Galois linear feedback shift register of 32 bits, STEPS steps per clock with step_i.
//
//   step: bit = s[0],  s <- (s >> 1) ^ (bit ? TAPS : 0)
//
// bits_o are the next STEPS bits, the first in the low place. rst_ni = 0 sets SEED, which is not 0. The
// default taps are those of x^32 + x^31 + x^30 + x^10 + 1, which is primitive: the period is 2^32 - 1.
module galois_lfsr #(
    parameter int STEPS = 8,
    parameter int SEED  = 1,
    parameter int TAPS  = 'h80200003
) (
    input  logic             clk_i,
    input  logic             rst_ni,
    input  logic             step_i,
    output logic [STEPS-1:0] bits_o
);

  localparam logic [31:0] MASK  = TAPS;
  localparam logic [31:0] START = SEED;

  logic [31:0] state_q;

  generate
    for (genvar i = 0; i < STEPS; i++) begin : g_step
      logic [31:0] from, to;
      if (i == 0) begin : g_first
        assign from = state_q;
      end else begin : g_next
        assign from = g_step[i-1].to;
      end
      assign bits_o[i] = from[0];
      assign to        = {1'b0, from[31:1]} ^ (MASK & {32{from[0]}});
    end
  endgenerate

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) state_q <= START;
    else if (step_i) state_q <= g_step[STEPS-1].to;
  end

endmodule
