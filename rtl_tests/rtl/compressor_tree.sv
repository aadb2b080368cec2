// SPDX-License-Identifier: Apache-2.0
//
// Sum of N two's complement rows: levels of 3:2 compressors until two rows are left, then one carry
// propagating add; combinational.
//
//   sum_o = sum_i rows_i[i]        modulo 2^SUM_W; exact with SUM_W of at least W + clog2(N)
module compressor_tree #(
    parameter int N     = 8,
    parameter int W     = 8,
    parameter int SUM_W = 11  // at least W
) (
    input  logic [N*W-1:0]   rows_i,  // row 0 in the low bits
    output logic [SUM_W-1:0] sum_o
);

  localparam int LEVELS = fpsim_pkg::compressor_levels(N);

  generate
    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
      localparam int ROWS = fpsim_pkg::rows_after(N, l);
      logic [ROWS*SUM_W-1:0] rows;

      if (l == 0) begin : g_extend
        for (genvar i = 0; i < N; i++) begin : g_row
          assign rows[i*SUM_W+:SUM_W] = {{(SUM_W - W) {rows_i[i*W+W-1]}}, rows_i[i*W+:W]};
        end
      end else begin : g_compress
        localparam int BEFORE = fpsim_pkg::rows_after(N, l - 1);
        localparam int THREES = BEFORE / 3;

        for (genvar i = 0; i < THREES; i++) begin : g_three
          logic [SUM_W-1:0] x, y, z, carry;
          assign x     = g_level[l-1].rows[(3*i)*SUM_W+:SUM_W];
          assign y     = g_level[l-1].rows[(3*i+1)*SUM_W+:SUM_W];
          assign z     = g_level[l-1].rows[(3*i+2)*SUM_W+:SUM_W];
          assign carry = (x & y) | (x & z) | (y & z);
          assign rows[(2*i)*SUM_W+:SUM_W]   = x ^ y ^ z;
          assign rows[(2*i+1)*SUM_W+:SUM_W] = carry << 1;
        end
        for (genvar i = 0; i < BEFORE % 3; i++) begin : g_pass
          assign rows[(2*THREES+i)*SUM_W+:SUM_W] = g_level[l-1].rows[(3*THREES+i)*SUM_W+:SUM_W];
        end
      end
    end

    if (N == 1) begin : g_one
      assign sum_o = g_level[0].rows;
    end else begin : g_add
      assign sum_o = g_level[LEVELS].rows[0+:SUM_W] + g_level[LEVELS].rows[SUM_W+:SUM_W];
    end
  endgenerate

endmodule
