// SPDX-License-Identifier: Apache-2.0
//
// Splits one code of any ExMy format into sign, exponent and significand; combinational.
//
//   value = (-1)^sign * significand / 2^MAN * 2^exponent,   exponent = max(E, 1) - BIAS
//
// The exponent is the weight of the significand's top bit, which is 0 for subnormals and zero.
// With inf_o or nan_o set, the other outputs except sign_o mean nothing.
module fp_decode #(
    parameter int EXP      = 2,                         // exponent field, at least 1 bit
    parameter int MAN      = 1,                         // mantissa field, 0 or more bits
    parameter int BIAS     = 1,
    parameter int SPECIALS = fpsim_pkg::SPECIALS_NONE,
    parameter int EXP_W    = 8                          // above EXP, holds 1-BIAS .. 2^EXP-1-BIAS
) (
    input  logic [EXP+MAN:0]          code_i,
    output logic                      sign_o,
    output logic signed [EXP_W-1:0]   exponent_o,
    output logic [MAN:0]              significand_o,
    output logic                      inf_o,
    output logic                      nan_o
);

  localparam int MAG_W = EXP + MAN;  // code without its sign
  // MAN+1 bits: the mantissa below the place of the hidden bit (that place is 0).
  localparam logic [MAN:0] MANTISSA_MASK = {1'b1, {MAN{1'b0}}} - 1'b1;
  localparam logic signed [EXP_W-1:0] MINUS_BIAS = EXP_W'(-BIAS);  // EXP_W: by its contract

  logic [EXP-1:0] field;
  logic [MAN:0]   mantissa;
  logic           normal;

  assign field    = code_i[MAG_W-1:MAN];
  assign mantissa = code_i[MAN:0] & MANTISSA_MASK;
  assign normal   = |field;

  assign sign_o        = code_i[MAG_W];
  assign exponent_o    = $signed({{(EXP_W - EXP) {1'b0}}, field} | {{(EXP_W - 1) {1'b0}}, ~normal})
                       + MINUS_BIAS;
  assign significand_o = mantissa | (normal ? ~MANTISSA_MASK : '0);

  generate
    if (SPECIALS == fpsim_pkg::SPECIALS_IEEE) begin : g_ieee
      assign inf_o = &field & ~|mantissa;
      assign nan_o = &field & |mantissa;
    end else begin : g_top_or_none
      assign inf_o = 1'b0;
      assign nan_o = (SPECIALS == fpsim_pkg::SPECIALS_TOP) & (&code_i[MAG_W-1:0]);
    end
  endgenerate

endmodule
