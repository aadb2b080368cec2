// SPDX-License-Identifier: Apache-2.0
//
// Splits one code of any ExMy format into sign, exponent and significand; combinational.
//
//   value = (-1)^sign * significand / 2^MAN * 2^exponent,   exponent = max(E, 1) - BIAS
//
// The exponent is the weight of the significand's top bit, which is 0 for subnormals and zero.
// With inf_o or nan_o set, the other outputs except sign_o mean nothing.
//
// EXP = 0 is an integer of MAN+1 bits, two's complement if it is signed, whose last weighs 2^-BIAS. Its
// magnitude is the significand, its exponent the constant MAN - BIAS. SIGNED = 0: a code has no sign bit.
module fp_decode #(
    parameter int SIGNED     = 1,
    parameter int EXP        = 2,                              // exponent field; 0: an integer
    parameter int MAN        = 1,                              // mantissa field, 0 or more bits
    parameter int BIAS       = 1,
    parameter int SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int EXP_W      = 8,                              // above EXP, holds every exponent
    parameter int CODE_W     = fpsim_pkg::code_width(SIGNED, EXP, MAN)  // derived, do not change
) (
    input  logic [CODE_W-1:0]       code_i,
    output logic                    sign_o,
    output logic signed [EXP_W-1:0] exponent_o,
    output logic [MAN:0]            significand_o,
    output logic                    inf_o,
    output logic                    nan_o
);

  assign sign_o = (SIGNED != 0) & code_i[CODE_W-1];

  generate
    if (EXP == 0) begin : g_integer
      localparam logic signed [EXP_W-1:0] TOP = EXP_W'(MAN - BIAS);

      assign exponent_o    = TOP;
      assign significand_o = sign_o ? -code_i : code_i;
      assign inf_o         = 1'b0;
      assign nan_o         = 1'b0;
    end else begin : g_float
      localparam int MAG_W = EXP + MAN;  // code without its sign
      // MAN+1 bits: the mantissa below the place of the hidden bit (that place is 0).
      localparam logic [MAN:0] MANTISSA_MASK = {1'b1, {MAN{1'b0}}} - 1'b1;
      localparam logic signed [EXP_W-1:0] MINUS_BIAS = EXP_W'(-BIAS);  // EXP_W: by its contract
      localparam logic HIDDEN = SUBNORMALS == fpsim_pkg::SUBNORMALS_NONE;

      logic [EXP-1:0] field;
      logic [MAN:0]   mantissa;
      logic           normal, flushed;

      assign field    = code_i[MAG_W-1:MAN];
      assign mantissa = code_i[MAN:0] & MANTISSA_MASK;
      assign normal   = (|field) | HIDDEN;
      assign flushed  = ~normal & (SUBNORMALS == fpsim_pkg::SUBNORMALS_FLUSH);

      assign exponent_o    = $signed({{(EXP_W - EXP) {1'b0}}, field} | {{(EXP_W - 1) {1'b0}}, ~normal})
                           + MINUS_BIAS;
      assign significand_o = flushed ? '0 : mantissa | (normal ? ~MANTISSA_MASK : '0);

      if (SPECIALS == fpsim_pkg::SPECIALS_IEEE) begin : g_ieee
        assign inf_o = &field & ~|mantissa;
        assign nan_o = &field & |mantissa;
      end else begin : g_others
        assign inf_o = 1'b0;
        assign nan_o = (SPECIALS == fpsim_pkg::SPECIALS_TOP)  ? &code_i[MAG_W-1:0] :
                       (SPECIALS == fpsim_pkg::SPECIALS_ZERO) ? sign_o & ~|code_i[MAG_W-1:0] : 1'b0;
      end
    end
  endgenerate

endmodule
