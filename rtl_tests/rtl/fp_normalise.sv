// SPDX-License-Identifier: Apache-2.0
//
// Shifts leading zeros out of a significand and takes their count off its exponent; combinational.
// The value stays the same. A zero significand stays zero (its exponent then means nothing), so the
// top bit of the result is 0 exactly for zero.
//
//   significand_o = significand_i << z,   exponent_o = exponent_i - z,   z = leading zeros
module fp_normalise #(
    parameter int SIG_W = 8,  // at least 2
    parameter int EXP_W = 8   // above clog2(SIG_W), holds the result's exponent
) (
    input  logic signed [EXP_W-1:0] exponent_i,
    input  logic [SIG_W-1:0]        significand_i,
    output logic signed [EXP_W-1:0] exponent_o,
    output logic [SIG_W-1:0]        significand_o
);

  localparam int STAGES = $clog2(SIG_W);  // shifts by 2^(STAGES-1) .. 1 reach SIG_W-1 or more

  // One stage per power of two, the largest first, each in a scope of its own: no vector feeds itself.
  generate
    for (genvar i = 0; i < STAGES; i++) begin : g_stage
      localparam int SHIFT = 1 << i;  // below SIG_W
      logic [SIG_W-1:0] from, to;
      logic shifted;
      logic [STAGES-1:i] zeros;  // the count's bits known so far

      if (i == STAGES - 1) begin : g_first
        assign from  = significand_i;
        assign zeros = shifted;
      end else begin : g_next
        assign from  = g_stage[i+1].to;
        assign zeros = {g_stage[i+1].zeros, shifted};
      end

      assign shifted = ~|from[SIG_W-1-:SHIFT];
      assign to      = shifted ? from << SHIFT : from;
    end
  endgenerate

  assign significand_o = g_stage[0].to;
  assign exponent_o    = exponent_i - $signed({{(EXP_W - STAGES) {1'b0}}, g_stage[0].zeros});

endmodule
