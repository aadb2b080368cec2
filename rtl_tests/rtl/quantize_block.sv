// SPDX-License-Identifier: Apache-2.0
//
// Quantizer of blocks: float values in, element codes and scale codes out. MXFP4, NVFP4, AMXFP4 and any
// block format of ExMy elements with one scale, or one per sign, from the largest magnitude.
//
//   top    = max |x_i|               with SIGNS one of values without sign bit, one of those with it
//   scale, divisor                   of top: see block_scale
//   code_i = R(x_i / divisor)        see quantize_element
//
// A block with NaN or infinity has invalid_o = 1, element codes 0 and S_NAN for its scales.
//
// A block moves in on an edge with valid_i and ready_o, and out, in order, with valid_o and ready_i. There
// are PIPELINE registers: the first after the largest magnitude, the second after the scale, the third after
// the elements, and so on; with 0 the quantizer is combinational.
module quantize_block #(
    parameter int BLOCK       = 32,                              // values
    parameter int X_EXP       = 8,                               // their format, IEEE 754's specials
    parameter int X_MAN       = 23,
    parameter int X_BIAS      = 127,
    parameter int EL_EXP      = 2,                               // elements
    parameter int EL_MAN      = 1,
    parameter int EL_BIAS     = 1,
    parameter int EL_SPECIALS = fpsim_pkg::SPECIALS_NONE,
    parameter int EL_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int RULE        = fpsim_pkg::RULE_FLOOR,
    parameter int LIMIT       = 'h40C00000,                      // what the largest magnitude maps to, float32
    parameter int S_SIGNED    = 0,                               // scales: default E8M0
    parameter int S_EXP       = 8,
    parameter int S_MAN       = 0,
    parameter int S_BIAS      = 127,
    parameter int S_SPECIALS  = fpsim_pkg::SPECIALS_TOP,
    parameter int S_ROUNDING  = fpsim_pkg::ROUND_RNE,
    parameter int S_LEAST     = 0,                               // smallest code
    parameter int S_ZERO      = 0,                               // what code 0 becomes
    parameter int S_NAN       = 255,                             // of a block with NaN or infinity
    parameter int SIGNS       = 0,                               // 1: a scale per sign
    parameter int TENSOR      = 0,                               // 1: scales are of a tensor's scale
    parameter int PIPELINE    = 1
) (
    input  logic                                       clk_i,
    input  logic                                       rst_ni,          // asynchronous, active low
    input  logic                                       valid_i,
    output logic                                       ready_o,
    input  logic [BLOCK*(X_EXP+X_MAN+1)-1:0]           x_i,             // value 0 in the low bits
    input  logic [31:0]                                tensor_scale_i,  // float32: positive, finite
    output logic                                       valid_o,
    input  logic                                       ready_i,
    output logic [BLOCK*(EL_EXP+EL_MAN+1)-1:0]         codes_o,
    output logic [(1+SIGNS)*(S_SIGNED+S_EXP+S_MAN)-1:0] scales_o,       // of values without sign bit in the low bits
    output logic                                       invalid_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int X_W   = X_EXP + X_MAN + 1;
  localparam int EL_W  = EL_EXP + EL_MAN + 1;
  localparam int S_W   = S_SIGNED + S_EXP + S_MAN;
  localparam int SIDES = 1 + SIGNS;
  localparam int DIVIDES   = (RULE == fpsim_pkg::RULE_ABSMAX) ? 1 : 0;
  localparam int DIVISOR_W = (DIVIDES == 0) ? 2 : (TENSOR != 0) ? 24 : S_MAN + 1;

  // Exponents: of values, scales and float32, of their products and quotients, and what normalising takes off.
  localparam int X_LOW  = 1 - X_BIAS - X_MAN;
  localparam int X_HIGH = (1 << X_EXP) - X_BIAS;
  localparam int S_LOW  = fpsim_pkg::min_of(1 - S_BIAS - S_MAN, -149);
  localparam int S_HIGH = fpsim_pkg::max_of((1 << S_EXP) - S_BIAS, 128);
  localparam int LOW    = fpsim_pkg::min_of(fpsim_pkg::min_of(X_LOW - S_HIGH, 2 * S_LOW - 48), -EL_BIAS);
  localparam int HIGH   = fpsim_pkg::max_of(fpsim_pkg::max_of(X_HIGH - S_LOW, 2 * S_HIGH),
                                            fpsim_pkg::max_of(S_BIAS, 1 - EL_BIAS)) + 256;
  localparam int EXP_W  = fpsim_pkg::max_of(fpsim_pkg::signed_width(LOW, HIGH),
      2 + fpsim_pkg::max_of(fpsim_pkg::max_of(X_EXP, EL_EXP), S_EXP));

  localparam int SIDE_W   = S_W + EXP_W + DIVISOR_W + 1;
  localparam int TOPS_W   = SIDES * (X_W - 1) + 32 + BLOCK * X_W;
  localparam int SCALED_W = SIDES * SIDE_W + 1 + BLOCK * X_W;
  localparam int OUT_W    = BLOCK * EL_W + SIDES * S_W + 1;

  // -- largest magnitudes -----------------------------------------------------------------------------
  logic [BLOCK*X_W-1:0] magnitudes;
  logic [SIDES*(X_W-1)-1:0] tops;

  generate
    for (genvar i = 0; i < BLOCK; i++) begin : g_magnitude
      assign magnitudes[i*X_W+:X_W] = {1'b0, x_i[i*X_W+:X_W-1]};
    end

    for (genvar s = 0; s < SIDES; s++) begin : g_top
      logic [BLOCK-1:0] counts;
      logic signed [X_W-1:0] top;
      logic unused_top;

      for (genvar i = 0; i < BLOCK; i++) begin : g_counts
        assign counts[i] = (SIGNS == 0) | (x_i[i*X_W+X_W-1] == (s == 1));
      end

      // Codes of magnitudes are in the order of their values.
      max_exponent #(
          .N(BLOCK), .EXP_W(X_W), .FLOOR(0)
      ) u_max (
          .exponents_i(magnitudes), .counts_i(counts), .max_o(top)
      );
      assign unused_top                = &{1'b0, top[X_W-1]};
      assign tops[s*(X_W-1)+:X_W-1] = top[X_W-2:0];
    end
  endgenerate

  logic t_valid, t_ready;
  logic [SIDES*(X_W-1)-1:0] t_tops;
  logic [31:0] t_tensor_scale;
  logic [BLOCK*X_W-1:0] t_x;

  stream_pipe #(
      .W(TOPS_W), .DEPTH((PIPELINE + 2) / 3)
  ) u_tops (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({tops, tensor_scale_i, x_i}),
      .valid_o(t_valid), .ready_i(t_ready), .data_o({t_tops, t_tensor_scale, t_x})
  );

  // -- scales -----------------------------------------------------------------------------------------
  logic [SIDES*SIDE_W-1:0] sides;
  logic [SIDES-1:0] bad;

  generate
    for (genvar s = 0; s < SIDES; s++) begin : g_scale
      logic [S_EXP+S_MAN-1:0] scale;
      logic [S_W-1:0] code;
      logic signed [EXP_W-1:0] exponent;
      logic [DIVISOR_W-1:0] significand;
      logic flush;

      assign bad[s] = &t_tops[s*(X_W-1)+X_MAN+:X_EXP];

      block_scale #(
          .X_EXP(X_EXP), .X_MAN(X_MAN), .X_BIAS(X_BIAS), .LIMIT(LIMIT), .RULE(RULE), .EL_MAN(EL_MAN),
          .S_EXP(S_EXP), .S_MAN(S_MAN), .S_BIAS(S_BIAS), .S_SPECIALS(S_SPECIALS),
          .S_ROUNDING(S_ROUNDING), .S_LEAST(S_LEAST), .S_ZERO(S_ZERO), .TENSOR(TENSOR), .EXP_W(EXP_W)
      ) u_scale (
          .top_i(t_tops[s*(X_W-1)+:X_W-1]), .tensor_scale_i(t_tensor_scale),
          .scale_o(scale), .exponent_o(exponent), .significand_o(significand), .flush_o(flush)
      );

      if (S_SIGNED != 0) begin : g_signed
        assign code = {1'b0, scale};
      end else begin : g_unsigned
        assign code = scale;
      end
      assign sides[s*SIDE_W+:SIDE_W] = {(|bad) ? S_W'(S_NAN) : code, exponent, significand, flush};
    end
  endgenerate

  logic s_valid, s_ready, s_bad;
  logic [SIDES*SIDE_W-1:0] s_sides;
  logic [BLOCK*X_W-1:0] s_x;

  stream_pipe #(
      .W(SCALED_W), .DEPTH((PIPELINE + 1) / 3)
  ) u_scaled (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .data_i({sides, |bad, t_x}),
      .valid_o(s_valid), .ready_i(s_ready), .data_o({s_sides, s_bad, s_x})
  );

  // -- elements ---------------------------------------------------------------------------------------
  logic [BLOCK*EL_W-1:0] codes;
  logic [SIDES*S_W-1:0] scales;

  generate
    for (genvar s = 0; s < SIDES; s++) begin : g_side
      logic [S_W-1:0] code;
      logic signed [EXP_W-1:0] exponent;
      logic [DIVISOR_W-1:0] significand;
      logic flush;
      assign {code, exponent, significand, flush} = s_sides[s*SIDE_W+:SIDE_W];
      assign scales[s*S_W+:S_W] = code;
    end

    for (genvar i = 0; i < BLOCK; i++) begin : g_element
      logic signed [EXP_W-1:0] exponent;
      logic [DIVISOR_W-1:0] significand;
      logic flush;

      if (SIGNS != 0) begin : g_by_sign
        assign {exponent, significand, flush} = s_x[i*X_W+X_W-1]
            ? {g_side[SIGNS].exponent, g_side[SIGNS].significand, g_side[SIGNS].flush}
            : {g_side[0].exponent, g_side[0].significand, g_side[0].flush};
      end else begin : g_same
        assign {exponent, significand, flush} =
            {g_side[0].exponent, g_side[0].significand, g_side[0].flush};
      end

      quantize_element #(
          .X_EXP(X_EXP), .X_MAN(X_MAN), .X_BIAS(X_BIAS),
          .EL_EXP(EL_EXP), .EL_MAN(EL_MAN), .EL_BIAS(EL_BIAS), .EL_SPECIALS(EL_SPECIALS),
          .EL_ROUNDING(EL_ROUNDING), .DIVIDE(DIVIDES), .DIVISOR_W(DIVISOR_W), .EXP_W(EXP_W)
      ) u_element (
          .x_i(s_x[i*X_W+:X_W]), .exponent_i(exponent), .significand_i(significand),
          .flush_i(flush), .drop_i(s_bad), .code_o(codes[i*EL_W+:EL_W])
      );
    end
  endgenerate

  stream_pipe #(
      .W(OUT_W), .DEPTH(PIPELINE / 3)
  ) u_codes (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(s_valid), .ready_o(s_ready),
      .data_i({codes, scales, s_bad}),
      .valid_o(valid_o), .ready_i(ready_i), .data_o({codes_o, scales_o, invalid_o})
  );

endmodule
