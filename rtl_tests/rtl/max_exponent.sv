// SPDX-License-Identifier: Apache-2.0
//
// Largest of those of N exponents that count, and of a floor; combinational. A balanced tree.
//
//   max_o = max(FLOOR, exponents_i[i] of every i with counts_i[i])
module max_exponent #(
    parameter int N     = 8,
    parameter int EXP_W = 8,
    parameter int FLOOR = -128  // -2^(EXP_W-1): no floor
) (
    input  logic [N*EXP_W-1:0]      exponents_i,
    input  logic [N-1:0]            counts_i,
    output logic signed [EXP_W-1:0] max_o
);

  localparam int LEVELS = $clog2(N);
  localparam logic signed [EXP_W-1:0] LOWEST = EXP_W'(FLOOR);

  generate
    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
      localparam int COUNT = (N + (1 << l) - 1) >> l;
      logic [COUNT*EXP_W-1:0] largest;

      for (genvar i = 0; i < COUNT; i++) begin : g_node
        if (l == 0) begin : g_leaf
          logic signed [EXP_W-1:0] own;
          assign own = $signed(exponents_i[i*EXP_W+:EXP_W]);
          assign largest[i*EXP_W+:EXP_W] = (counts_i[i] & (own > LOWEST)) ? own : LOWEST;
        end else if (2 * i + 1 < (N + (1 << (l - 1)) - 1) >> (l - 1)) begin : g_pair
          logic signed [EXP_W-1:0] x, y;
          assign x = $signed(g_level[l-1].largest[(2*i)*EXP_W+:EXP_W]);
          assign y = $signed(g_level[l-1].largest[(2*i+1)*EXP_W+:EXP_W]);
          assign largest[i*EXP_W+:EXP_W] = (x > y) ? x : y;
        end else begin : g_odd
          assign largest[i*EXP_W+:EXP_W] = g_level[l-1].largest[(2*i)*EXP_W+:EXP_W];
        end
      end
    end
  endgenerate

  assign max_o = $signed(g_level[LEVELS].largest);

endmodule
