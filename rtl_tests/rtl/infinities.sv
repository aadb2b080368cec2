// SPDX-License-Identifier: Apache-2.0
//
// The signs of the infinities among N numbers that come before any NaN; combinational. Where both are
// there, adding the numbers one after another is an invalid operation; after a NaN nothing is.
module infinities #(
    parameter int N = 2
) (
    input  logic         nan_before_i,  // a NaN has come already
    input  logic [N-1:0] sign_i,
    input  logic [N-1:0] inf_i,
    input  logic [N-1:0] nan_i,
    output logic         plus_o,
    output logic         minus_o
);

  logic [N-1:0] late, counts;
  assign late    = {N{nan_before_i}} | nan_i | -nan_i;  // from the first NaN on
  assign counts  = inf_i & ~late;
  assign plus_o  = |(counts & ~sign_i);
  assign minus_o = |(counts & sign_i);

endmodule
