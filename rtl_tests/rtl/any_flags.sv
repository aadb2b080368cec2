// SPDX-License-Identifier: Apache-2.0
//
// The status flags that any of N operations raises; combinational.
module any_flags #(
    parameter int N = 1
) (
    input  logic [N*5-1:0] flags_i,  // of each operation, fpsim_pkg::FLAG_*
    output logic [4:0]     any_o
);

  generate
    for (genvar f = 0; f < 5; f++) begin : g_flag
      logic [N-1:0] raised;
      for (genvar i = 0; i < N; i++) begin : g_operation
        assign raised[i] = flags_i[i*5+f];
      end
      assign any_o[f] = |raised;
    end
  endgenerate

endmodule
