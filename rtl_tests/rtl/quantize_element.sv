// SPDX-License-Identifier: Apache-2.0
//
// A value over the divisor of its block, rounded once to an element's format, saturating; combinational.
//
//   DIVIDE = 1   R(fl(x / divisor))    fl: float32, nearest even
//   DIVIDE = 0   R(x / divisor)        of a divisor that is a power of two
//
// A zero keeps its sign, and so does a value that becomes zero. drop_i gives code 0.
module quantize_element #(
    parameter int X_EXP       = 8,                               // format of values
    parameter int X_MAN       = 23,
    parameter int X_BIAS      = 127,
    parameter int EL_EXP      = 2,                               // format of elements
    parameter int EL_MAN      = 1,
    parameter int EL_BIAS     = 1,
    parameter int EL_SPECIALS = fpsim_pkg::SPECIALS_NONE,
    parameter int EL_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int DIVIDE      = 0,
    parameter int DIVISOR_W   = 2,
    parameter int EXP_W       = 12
) (
    input  logic [X_EXP+X_MAN:0]    x_i,            // finite, or dropped
    input  logic signed [EXP_W-1:0] exponent_i,     // the divisor, normalised
    input  logic [DIVISOR_W-1:0]    significand_i,
    input  logic                    flush_i,
    input  logic                    drop_i,
    output logic [EL_EXP+EL_MAN:0]  code_o
);

  localparam int X_W   = fpsim_pkg::max_of(X_MAN + 1, 2);
  localparam int SIG_W = (DIVIDE != 0) ? EL_MAN + 3 : fpsim_pkg::max_of(X_W, EL_MAN + 3);

  logic sign, inf, nan, unused_specials, unused_flags;
  logic [4:0] flags;
  logic signed [EXP_W-1:0] x_exponent, exponent;
  logic [X_W-1:0] x_significand;
  logic [SIG_W-1:0] significand;
  logic [EL_EXP+EL_MAN:0] code;

  fp_unpack #(
      .EXP(X_EXP), .MAN(X_MAN), .BIAS(X_BIAS), .SPECIALS(fpsim_pkg::SPECIALS_IEEE),
      .EXP_W(EXP_W), .SIG_W(X_W)
  ) u_unpack (
      .code_i(x_i), .sign_o(sign), .exponent_o(x_exponent), .significand_o(x_significand),
      .inf_o(inf), .nan_o(nan)
  );

  assign unused_specials = &{1'b0, inf, nan};

  generate
    if (DIVIDE != 0) begin : g_divide
      fp_quotient #(
          .X_W(X_W), .Y_W(DIVISOR_W), .DIGITS(EL_MAN + 2), .EXP_W(EXP_W)
      ) u_quotient (
          .x_exponent_i(x_exponent), .x_significand_i(x_significand),
          .y_exponent_i(exponent_i), .y_significand_i(significand_i),
          .exponent_o(exponent), .significand_o(significand)
      );
    end else begin : g_shift
      logic unused_divisor;
      assign unused_divisor = &{1'b0, significand_i};
      assign exponent       = x_exponent - exponent_i;
      assign significand    = {{(SIG_W - X_W) {1'b0}}, x_significand} << (SIG_W - X_W);
    end
  endgenerate

  fp_round_pack #(
      .EXP(EL_EXP), .MAN(EL_MAN), .BIAS(EL_BIAS), .SPECIALS(EL_SPECIALS),
      .ROUNDING(EL_ROUNDING), .OVERFLOW(fpsim_pkg::OVERFLOW_SATURATE), .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_round_pack (
      .sign_i(sign), .exponent_i(exponent), .significand_i(flush_i ? '0 : significand),
      .inf_i(1'b0), .nan_i(1'b0), .random_i(1'b0), .code_o(code), .flags_o(flags)
  );

  assign unused_flags = &{1'b0, flags};
  assign code_o = drop_i ? '0 : code;

endmodule
