// SPDX-License-Identifier: Apache-2.0
//
// From a code to a normalised number, ready to be added; combinational.
//
//   value = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,   top bit 0 exactly for zero
//
// With inf_o or nan_o set, the other outputs except sign_o mean nothing.
module fp_unpack #(
    parameter int EXP        = 5,
    parameter int MAN        = 10,
    parameter int BIAS       = 15,
    parameter int SPECIALS   = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int EXP_W      = 8,                         // above EXP, holds 1-BIAS-SIG_W .. 2^EXP-1-BIAS
    parameter int SIG_W      = 11                         // at least MAN+1 and 2
) (
    input  logic [EXP+MAN:0]        code_i,
    output logic                    sign_o,
    output logic signed [EXP_W-1:0] exponent_o,
    output logic [SIG_W-1:0]        significand_o,
    output logic                    inf_o,
    output logic                    nan_o
);

  logic signed [EXP_W-1:0] exponent;
  logic [MAN:0] significand;
  logic [SIG_W-1:0] wide;

  fp_decode #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .EXP_W(EXP_W)
  ) u_decode (
      .code_i(code_i),
      .sign_o(sign_o), .exponent_o(exponent), .significand_o(significand),
      .inf_o(inf_o), .nan_o(nan_o)
  );

  assign wide = {{(SIG_W - MAN - 1) {1'b0}}, significand} << (SIG_W - MAN - 1);

  fp_normalise #(
      .SIG_W(SIG_W), .EXP_W(EXP_W)
  ) u_normalise (
      .exponent_i(exponent), .significand_i(wide),
      .exponent_o(exponent_o), .significand_o(significand_o)
  );

endmodule
