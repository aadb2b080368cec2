// SPDX-License-Identifier: Apache-2.0
//
// Two's complement accumulator plus a sign-magnitude addend of one bit more; combinational.
//
//   exact = acc + (-1)^negative * magnitude          (huge_i: the magnitude is 2^(W+1) or more)
//   sum_o = exact mod 2^W                            OVERFLOW_WRAP
//   sum_o = min(max(exact, -2^(W-1)), 2^(W-1)-1)     OVERFLOW_SATURATE
//   over_o = (sum_o != exact)
//
// Only the sum overflows: a large addend may bring an accumulator of the other sign back into range,
// but none of 2^W or more can.
module fixed_add #(
    parameter int W        = 24,
    parameter int OVERFLOW = fpsim_pkg::OVERFLOW_WRAP
) (
    input  logic [W-1:0] acc_i,
    input  logic         negative_i,
    input  logic [W:0]   magnitude_i,
    input  logic         huge_i,
    output logic [W-1:0] sum_o,
    output logic         over_o
);

  localparam int SUM_W = W + 3;  // 2^(W-1) + 2^(W+1) and a sign

  logic [SUM_W-1:0] acc, addend, exact;
  logic out_of_range;

  assign acc    = {{(SUM_W - W) {acc_i[W-1]}}, acc_i};
  assign addend = {2'b00, magnitude_i};
  assign exact  = negative_i ? acc - addend : acc + addend;

  // In range when every bit above the result's sign repeats it.
  assign out_of_range = huge_i | (exact[SUM_W-1:W-1] != {(SUM_W - W + 1) {exact[W-1]}});
  assign over_o       = out_of_range;

  generate
    if (OVERFLOW == fpsim_pkg::OVERFLOW_SATURATE) begin : g_saturate
      logic low;
      assign low   = huge_i ? negative_i : exact[SUM_W-1];
      assign sum_o = out_of_range ? {low, {(W - 1) {~low}}} : exact[W-1:0];
    end else begin : g_wrap
      assign sum_o = exact[W-1:0];
    end
  endgenerate

endmodule
