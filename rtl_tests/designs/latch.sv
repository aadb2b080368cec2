// SPDX-License-Identifier: Apache-2.0
//
// Infers a latch: sum_o keeps its value where nothing assigns it.
module latch (
    input  logic       enable_i,
    input  logic [3:0] a_i,
    output logic [3:0] sum_o
);
  always @* begin
    if (enable_i) sum_o = a_i;
  end
endmodule
