// SPDX-License-Identifier: Apache-2.0
//
// Scale of a block from its largest magnitude, and the number that divides its values; combinational.
//
//   powers of two   scale = 2^(e - E), doubled as RULE says (fpsim_pkg::RULE_*), clamped to the codes that
//                   are numbers; code 0 for a block of zeros;  divisor = scale
//   RULE_ABSMAX     scale = Q(fl(top / fl(L s_t)));  divisor = fl(scale s_t)        s_t: the tensor's scale
//                   without TENSOR s_t is 1 and nothing is multiplied
//
// Q rounds to the scale's format and saturates; then codes below S_LEAST become it, and code 0 becomes
// S_ZERO. flush_o: the divisor is zero or infinite, and every value of the block becomes zero.
module block_scale #(
    parameter int X_EXP      = 8,                              // format of values, IEEE 754's specials
    parameter int X_MAN      = 23,
    parameter int X_BIAS     = 127,
    parameter int LIMIT      = 'h40C00000,                     // L, a float32 code
    parameter int RULE       = fpsim_pkg::RULE_FLOOR,
    parameter int EL_MAN     = 1,                              // of the element, for RULE_EVEN
    parameter int S_EXP      = 8,                              // format of scales
    parameter int S_MAN      = 0,
    parameter int S_BIAS     = 127,
    parameter int S_SPECIALS = fpsim_pkg::SPECIALS_TOP,
    parameter int S_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int S_LEAST    = 0,
    parameter int S_ZERO     = 0,
    parameter int TENSOR     = 0,
    parameter int EXP_W      = 12,
    // derived, do not change
    parameter int DIVISOR_W  = (RULE != fpsim_pkg::RULE_ABSMAX) ? 2 : (TENSOR != 0) ? 24 : S_MAN + 1
) (
    input  logic [X_EXP+X_MAN-1:0]  top_i,          // a magnitude: finite
    input  logic [31:0]             tensor_scale_i, // a float32 code: positive, finite
    output logic [S_EXP+S_MAN-1:0]  scale_o,
    output logic signed [EXP_W-1:0] exponent_o,     // the divisor, normalised
    output logic [DIVISOR_W-1:0]    significand_o,
    output logic                    flush_o
);

  localparam int S_W = S_EXP + S_MAN;
  localparam logic [23:0] L_SIGNIFICAND = {1'b1, LIMIT[22:0]};
  localparam logic signed [EXP_W-1:0] L_EXPONENT = EXP_W'(((LIMIT >> 23) & 255) - 127);

  logic t_sign, t_inf, t_nan, unused_top;
  logic signed [EXP_W-1:0] t_exponent;
  logic [23:0] t_significand;

  fp_unpack #(
      .EXP(X_EXP), .MAN(X_MAN), .BIAS(X_BIAS), .SPECIALS(fpsim_pkg::SPECIALS_IEEE),
      .EXP_W(EXP_W), .SIG_W(24)
  ) u_top (
      .code_i({1'b0, top_i}), .sign_o(t_sign), .exponent_o(t_exponent),
      .significand_o(t_significand), .inf_o(t_inf), .nan_o(t_nan)
  );

  assign unused_top = &{1'b0, t_sign, t_inf, t_nan};

  generate
    if (RULE != fpsim_pkg::RULE_ABSMAX) begin : g_power
      localparam logic signed [EXP_W-1:0] BIAS = EXP_W'(S_BIAS);
      localparam logic signed [EXP_W-1:0] LAST =
          EXP_W'((1 << S_EXP) - ((S_SPECIALS == fpsim_pkg::SPECIALS_NONE) ? 1 : 2));
      logic doubled, unused_scale;
      logic signed [EXP_W-1:0] code, clamped;

      assign unused_scale = &{1'b0, tensor_scale_i};
      assign doubled = (RULE == fpsim_pkg::RULE_RCEIL) ? t_significand > L_SIGNIFICAND :
                       (RULE == fpsim_pkg::RULE_CEIL)  ? |t_significand[22:0] :
                       (RULE == fpsim_pkg::RULE_EVEN)  ? &t_significand[23-:EL_MAN+2] : 1'b0;
      assign code    = t_exponent - L_EXPONENT + BIAS + $signed({{(EXP_W - 1) {1'b0}}, doubled});
      assign clamped = (~t_significand[23] | code[EXP_W-1]) ? '0 : (code > LAST) ? LAST : code;

      assign scale_o       = clamped[S_W-1:0];
      assign exponent_o    = clamped - BIAS;
      assign significand_o = 2'b10;
      assign flush_o       = 1'b0;
    end else begin : g_absmax
      localparam logic [S_W-1:0] OTHER = S_W'(S_ZERO);
      logic signed [EXP_W-1:0] l_exponent, q_exponent;
      logic [23:0] l_significand;
      logic l_inf, over;
      logic [S_MAN+2:0] quotient;
      logic [S_W:0] rounded;
      logic [4:0] flags;
      logic [S_W-1:0] raised;

      // -- top / fl(L s_t) ----------------------------------------------------------------------------
      if (TENSOR != 0) begin : g_limit
        logic [31:0] product;
        logic l_sign, l_nan, unused_limit;

        float32_product #(
            .SIG_W(24), .EXP_W(EXP_W)
        ) u_product (
            .code_i(tensor_scale_i), .exponent_i(L_EXPONENT), .significand_i(L_SIGNIFICAND),
            .code_o(product)
        );

        fp_unpack #(
            .EXP(8), .MAN(23), .BIAS(127), .SPECIALS(fpsim_pkg::SPECIALS_IEEE),
            .EXP_W(EXP_W), .SIG_W(24)
        ) u_unpack (
            .code_i(product), .sign_o(l_sign), .exponent_o(l_exponent),
            .significand_o(l_significand), .inf_o(l_inf), .nan_o(l_nan)
        );
        assign unused_limit = &{1'b0, l_sign, l_nan};
      end else begin : g_constant
        assign l_exponent    = L_EXPONENT;
        assign l_significand = L_SIGNIFICAND;
        assign l_inf         = 1'b0;
      end

      fp_quotient #(
          .X_W(24), .Y_W(24), .DIGITS(S_MAN + 2), .EXP_W(EXP_W)
      ) u_quotient (
          .x_exponent_i(t_exponent), .x_significand_i(t_significand),
          .y_exponent_i(l_exponent), .y_significand_i(l_significand),
          .exponent_o(q_exponent), .significand_o(quotient)
      );

      assign over = t_significand[23] & ~l_significand[23];

      fp_round_pack #(
          .EXP(S_EXP), .MAN(S_MAN), .BIAS(S_BIAS), .SPECIALS(S_SPECIALS),
          .ROUNDING(S_ROUNDING), .OVERFLOW(fpsim_pkg::OVERFLOW_SATURATE),
          .EXP_W(EXP_W), .SIG_W(S_MAN + 3)
      ) u_round_pack (
          .sign_i(1'b0), .exponent_i(q_exponent), .significand_i(l_inf ? '0 : quotient),
          .inf_i(over), .nan_i(1'b0), .random_i(1'b0), .code_o(rounded), .flags_o(flags)
      );

      if (S_LEAST != 0) begin : g_least
        localparam logic [S_W-1:0] LEAST = S_W'(S_LEAST);
        assign raised = (rounded[S_W-1:0] < LEAST) ? LEAST : rounded[S_W-1:0];
      end else begin : g_any
        assign raised = rounded[S_W-1:0];
      end
      assign scale_o = (raised == '0) ? OTHER : raised;

      // -- the divisor --------------------------------------------------------------------------------
      localparam int VALUE_W = S_MAN + 1;  // at least 2
      logic v_sign, v_inf, v_nan, unused_value;
      logic signed [EXP_W-1:0] v_exponent;
      logic [VALUE_W-1:0] v_significand;

      fp_unpack #(
          .EXP(S_EXP), .MAN(S_MAN), .BIAS(S_BIAS), .SPECIALS(S_SPECIALS),
          .EXP_W(EXP_W), .SIG_W(VALUE_W)
      ) u_value (
          .code_i({1'b0, scale_o}), .sign_o(v_sign), .exponent_o(v_exponent),
          .significand_o(v_significand), .inf_o(v_inf), .nan_o(v_nan)
      );
      assign unused_value = &{1'b0, v_sign, v_inf, v_nan, rounded[S_W], flags};

      if (TENSOR != 0) begin : g_divisor
        logic [31:0] product;
        logic d_sign, d_inf, d_nan, unused_divisor;

        float32_product #(
            .SIG_W(VALUE_W), .EXP_W(EXP_W)
        ) u_product (
            .code_i(tensor_scale_i), .exponent_i(v_exponent), .significand_i(v_significand),
            .code_o(product)
        );

        fp_unpack #(
            .EXP(8), .MAN(23), .BIAS(127), .SPECIALS(fpsim_pkg::SPECIALS_IEEE),
            .EXP_W(EXP_W), .SIG_W(24)
        ) u_unpack (
            .code_i(product), .sign_o(d_sign), .exponent_o(exponent_o),
            .significand_o(significand_o), .inf_o(d_inf), .nan_o(d_nan)
        );
        assign unused_divisor = &{1'b0, d_sign, d_nan};
        assign flush_o        = d_inf | ~significand_o[DIVISOR_W-1];
      end else begin : g_value
        logic unused_scale;
        assign unused_scale  = &{1'b0, tensor_scale_i};
        assign exponent_o    = v_exponent;
        assign significand_o = v_significand;
        assign flush_o       = ~v_significand[VALUE_W-1];
      end
    end
  endgenerate

endmodule
