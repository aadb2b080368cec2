// SPDX-License-Identifier: Apache-2.0
//
// Dot product: one top for every stage. A beat brings LANES elements of each operand, their terms are added
// as STAGE says, and the beat that ends a vector brings a result.
//
//   term = a * b                                   or a * b * a_scale * b_scale with SCALED
//        = (sum of BLOCK a * b) * a_scale * b_scale  with BLOCK > 0: MXFP4, NVFP4, AMXFP4
//   x    = acc under MAC, c_i under DOT
//
//   STAGE_CHAIN    acc <- R(...R(x + term_0)... + term_n)                                    stage_chain
//   STAGE_FIXED    the same on the grid 2^LSB, W_ACC bits of two's complement                stage_fixed
//   STAGE_EXACT    acc <- R(x + all terms of the vector), rounded once                       stage_exact
//   STAGE_ALIGNED  acc <- x and the terms of a beat on one alignment, as tensor cores add    aligned_add
//   STAGE_TREE     acc <- x and the terms of a beat in a tree of adders                      stage_tree
//
// Beats: clk_i rises with valid_i and ready_o. op_i: see acc_stream; the beats after a vector's first say
// MAC. Element 0 stands in the low bits. Scales are those of the beat, one per block; where they differ by
// sign (A_SPLIT, B_SPLIT) that of codes without sign bit is the lower, and a block has a term per
// combination of signs in the order ++, +-, -+, --. NAN_ZERO: a NaN scale drops its block.
//
// CHUNK > 0: that many beats, or fewer at a vector's end, are summed from +0, and the results added to acc
// in a chain of its own (S_...): chunked accumulation.
//
// T_CONVERT rounds each term to a format (T_...) before it is added. R_CONVERT rounds the fixed-point
// result to a format (R_...); acc stays what it is.
//
// FLAGS: flags_o is what the operations on the way to acc_o raise, all of the vector's: fpsim_pkg::FLAG_*.
// OVERFLOW and INEXACT are raised by roundings, fixed-point sums and terms beyond LIMIT; INEXACT by cut terms;
// INVALID by infinity - infinity, 0 * infinity, and where infinity or NaN becomes a number. NaN is quiet.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between terms and sum, the
// others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes one
// clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot #(
    /* verilator lint_off UNUSEDPARAM */                          // a unit uses those of its own stage
    parameter int LANES         = 1,                              // elements per beat
    parameter int BLOCK         = 0,                              // elements per block
    parameter int A_SIGNED      = 1,
    parameter int A_EXP         = 2,                              // operands: see fp_decode
    parameter int A_MAN         = 1,
    parameter int A_BIAS        = 1,
    parameter int A_SPECIALS    = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_SIGNED      = 1,
    parameter int B_EXP         = 2,
    parameter int B_MAN         = 1,
    parameter int B_BIAS        = 1,
    parameter int B_SPECIALS    = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter logic [fpsim_pkg::TABLE_W-1:0] A_TABLE = '0,   // of storage codes, see code_lookup; 0: none
    parameter logic [fpsim_pkg::TABLE_W-1:0] B_TABLE = '0,
    parameter int SCALED        = 0,                              // with scales; blocks always have them
    parameter int SA_SIGNED     = 0,                              // scales: default E8M0
    parameter int SA_EXP        = 8,
    parameter int SA_MAN        = 0,
    parameter int SA_BIAS       = 127,
    parameter int SA_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int SA_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int SB_SIGNED     = 0,
    parameter int SB_EXP        = 8,
    parameter int SB_MAN        = 0,
    parameter int SB_BIAS       = 127,
    parameter int SB_SPECIALS   = fpsim_pkg::SPECIALS_TOP,
    parameter int SB_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE,
    parameter int A_SPLIT       = 0,
    parameter int B_SPLIT       = 0,
    parameter int NAN_ZERO      = 0,                              // for scales without infinity
    parameter int T_CONVERT     = 0,                              // terms rounded first
    parameter int T_EXP         = 8,
    parameter int T_MAN         = 7,
    parameter int T_BIAS        = 127,
    parameter int T_SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int T_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int T_ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int T_OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int STAGE         = fpsim_pkg::STAGE_CHAIN,
    parameter int ACC_EXP       = 8,                              // what a stage in floating point adds to
    parameter int ACC_MAN       = 23,
    parameter int ACC_BIAS      = 127,
    parameter int ACC_SPECIALS  = fpsim_pkg::SPECIALS_IEEE,
    parameter int ACC_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING      = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW      = fpsim_pkg::OVERFLOW_INF,
    parameter int RANDOM_BITS   = 0,                              // of a rounding under ROUND_SR
    parameter int LFSR          = 0,                              // they come from a galois_lfsr, not random_i
    parameter int LFSR_SEED     = 1,
    parameter int ROUNDED       = 0,                              // chain, tree: terms rounded to that format first
    parameter int W_ACC         = 24,                             // fixed: 4 .. 64
    parameter int LSB           = -2,
    parameter int COUNT_W       = 16,                             // exact: up to 2^COUNT_W terms per sum
    parameter int RADIX         = 2,                              // tree: see stage_tree
    parameter int TREE_LANES    = 1,
    parameter int JOIN          = fpsim_pkg::JOIN_ROOT,
    parameter int FRACTION_BITS = 13,                             // aligned: see aligned_add
    parameter int ALIGN         = fpsim_pkg::ROUND_RTZ,
    parameter int LATE          = 0,
    parameter int LATE_ROUNDING = fpsim_pkg::ROUND_RNE,
    parameter int JOINED        = 0,
    parameter int WINDOWS       = 1,
    parameter int JOIN_SUM_BITS = 31,
    parameter int JOIN_C_BITS   = 24,
    parameter int JOIN_ROUNDING = fpsim_pkg::ROUND_RDN,
    parameter int JOIN_REACH    = -1,
    parameter int FLOOR_ON      = 0,                              // FLOOR is compared with the exponents
    parameter int FLOOR         = 0,
    parameter int NORMALISED    = 0,                              // exponents are those of the terms' values
    parameter int LIMIT_ON      = 0,                              // terms of 2^LIMIT and more are infinite
    parameter int LIMIT         = 0,
    parameter int W_SUM         = 0,
    parameter int SUM_OVERFLOW  = fpsim_pkg::OVERFLOW_WRAP,
    parameter int SIGNED_ZERO   = 0,
    parameter int NAN_CODE      = 'h7FC00000,
    parameter int OUT_MAN       = 13,                             // mantissa bits that survive rounding
    parameter int CHUNK         = 0,                              // beats per chunk
    parameter int S_EXP         = 8,                              // and the chain that adds chunks
    parameter int S_MAN         = 23,
    parameter int S_BIAS        = 127,
    parameter int S_SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int S_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int S_ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int S_OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int R_CONVERT     = 0,                              // fixed-point results rounded
    parameter int R_EXP         = 8,
    parameter int R_MAN         = 7,
    parameter int R_BIAS        = 127,
    parameter int R_SPECIALS    = fpsim_pkg::SPECIALS_IEEE,
    parameter int R_SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int R_ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int R_OVERFLOW    = fpsim_pkg::OVERFLOW_INF,
    parameter int FLAGS         = 0,                              // with status flags
    parameter int PIPELINE      = 1,                              // registers before the accumulator
    /* verilator lint_on UNUSEDPARAM */
    // derived, do not change
    parameter int SCALES        = (BLOCK > 0) ? LANES / BLOCK : 1,  // of each operand and sign in a beat
    parameter int TERMS         = (BLOCK > 0) ? SCALES * (1 + A_SPLIT) * (1 + B_SPLIT) : LANES,
    parameter int A_W           = fpsim_pkg::code_width(A_SIGNED, A_EXP, A_MAN),
    parameter int B_W           = fpsim_pkg::code_width(B_SIGNED, B_EXP, B_MAN),
    parameter int A_IN_W        = (A_TABLE != '0) ? fpsim_pkg::TABLE_CODE : A_W,
    parameter int B_IN_W        = (B_TABLE != '0) ? fpsim_pkg::TABLE_CODE : B_W,
    parameter int SA_W          = SA_SIGNED + SA_EXP + SA_MAN,
    parameter int SB_W          = SB_SIGNED + SB_EXP + SB_MAN,
    parameter int RANDOM_W      = fpsim_pkg::max_of((STAGE == fpsim_pkg::STAGE_CHAIN) ? TERMS * RANDOM_BITS : RANDOM_BITS, 1),
    parameter int STAGE_W       = (STAGE == fpsim_pkg::STAGE_FIXED) ? W_ACC : 1 + ACC_EXP + ACC_MAN,
    parameter int ACC_W         = (CHUNK > 0) ? 1 + S_EXP + S_MAN : STAGE_W,
    parameter int OUT_W         = (R_CONVERT != 0) ? 1 + R_EXP + R_MAN : ACC_W
) (
    input  logic                               clk_i,
    input  logic                               rst_ni,     // asynchronous, active low: acc <- +0, no beat inside
    input  logic                               valid_i,
    output logic                               ready_o,
    input  logic [2:0]                         op_i,       // fpsim_pkg::OP_*
    input  logic                               last_i,     // a result is due after this beat
    input  logic [LANES*A_IN_W-1:0]            a_i,
    input  logic [LANES*B_IN_W-1:0]            b_i,
    input  logic [SCALES*(1+A_SPLIT)*SA_W-1:0] a_scale_i,  // tie unused inputs to 0
    input  logic [SCALES*(1+B_SPLIT)*SB_W-1:0] b_scale_i,
    input  logic [RANDOM_W-1:0]                random_i,   // of the roundings, the first in the low bits
    input  logic [ACC_W-1:0]                   c_i,
    output logic                               valid_o,
    input  logic                               ready_i,    // results in order; each stays until it is taken
    output logic [OUT_W-1:0]                   acc_o,
    output logic [4:0]                         flags_o     // of the vector that acc_o ends
);

  localparam logic BLOCKS = BLOCK > 0;
  localparam logic CHAINS = STAGE == fpsim_pkg::STAGE_CHAIN;
  localparam logic FIXES  = STAGE == fpsim_pkg::STAGE_FIXED;
  localparam logic EXACT  = STAGE == fpsim_pkg::STAGE_EXACT;
  localparam logic ALIGNS = STAGE == fpsim_pkg::STAGE_ALIGNED;
  localparam logic TREES  = STAGE == fpsim_pkg::STAGE_TREE;
  localparam logic ROOT   = TREES && JOIN == fpsim_pkg::JOIN_ROOT;  // the tree stands before the registers
  localparam logic SCALES_ON = BLOCKS || SCALED != 0;

  // -- widths and exponents of a term's top bit, from its product or block sum on ----------------------
  localparam int PRODUCT_W    = A_MAN + B_MAN + 2;
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int CARRY_W      = BLOCKS ? $clog2(fpsim_pkg::max_of(BLOCK, 1)) : 0;
  localparam int CORE_W       = BLOCKS ? PRODUCT_W + PRODUCT_HIGH - PRODUCT_LOW + CARRY_W : PRODUCT_W;
  localparam int CORE_HIGH    = PRODUCT_HIGH + CARRY_W;
  localparam int CORE_LOW     = BLOCKS ? CORE_HIGH : PRODUCT_LOW;
  localparam int SCALE_HIGH   = fpsim_pkg::exponent_high(SA_EXP, SA_MAN, SA_BIAS)
                              + fpsim_pkg::exponent_high(SB_EXP, SB_MAN, SB_BIAS) + 1;
  localparam int SCALE_LOW    = fpsim_pkg::exponent_low(SA_EXP, SA_MAN, SA_BIAS, SA_SUBNORMALS)
                              + fpsim_pkg::exponent_low(SB_EXP, SB_MAN, SB_BIAS, SB_SUBNORMALS) + 1;
  localparam int TERM_W       = CORE_W + (SCALES_ON ? SA_MAN + SB_MAN + 2 : 0);
  localparam int TERM_HIGH    = CORE_HIGH + (SCALES_ON ? SCALE_HIGH + 1 : 0);
  localparam int TERM_LOW     = CORE_LOW + (SCALES_ON ? SCALE_LOW + 1 : 0);
  // Of what is added: terms, converted terms, or the root of a tree.
  localparam int ADDED_W      = ROOT ? ACC_MAN + 1 : (T_CONVERT != 0) ? T_MAN + 1 : TERM_W;
  localparam int ADDED        = ROOT ? 1 : TERMS;
  localparam int LEAF_W       = (T_CONVERT != 0) ? T_MAN + 1 : TERM_W;
  localparam int LEAF_HIGH    = (T_CONVERT != 0) ? (1 << T_EXP) - 1 - T_BIAS : TERM_HIGH;
  localparam int LEAF_LOW     = (T_CONVERT != 0) ? 1 - T_BIAS : TERM_LOW;

  // An aligned term counts with an exponent DROP below its top bit's; its value is below 2^HEAD of that.
  localparam int DROP = BLOCKS ? CORE_HIGH + 2 : SCALES_ON ? 3 : 1;
  localparam int HEAD = (NORMALISED != 0) ? 2 : fpsim_pkg::max_of(DROP + 1 + ((T_CONVERT != 0) ? 1 : 0), 2);

  // -- exponents: of everything above, of accumulators, and what is taken off or put on by normalising --
  localparam int SUM_W = fpsim_pkg::max_of(fpsim_pkg::max_of(TERM_W, LEAF_W), ACC_MAN + 1 + RANDOM_BITS)
                       + (EXACT ? LEAF_HIGH - LEAF_LOW + COUNT_W : 0)
                       + (ALIGNS ? FRACTION_BITS + HEAD + $clog2(TERMS + 1) : 0)
                       + ((JOINED != 0) ? fpsim_pkg::max_of(JOIN_SUM_BITS, JOIN_C_BITS) + 8 : 0)
                       + ((TREES && (RADIX > 2 || JOIN == fpsim_pkg::JOIN_FUSED)) ?
                          fpsim_pkg::max_of(LEAF_HIGH, (1 << ACC_EXP) - ACC_BIAS)
                          - fpsim_pkg::min_of(LEAF_LOW - LEAF_W, 1 - ACC_BIAS - ACC_MAN) + $clog2(RADIX + 2) : 0)
                       + ((R_CONVERT != 0 || FIXES) ? W_ACC : 0) + ((CHUNK > 0) ? S_MAN : 0) + 5;
  localparam int ORIGIN = LSB + ADDED_W - 1;                       // fixed: exponent that needs no shift
  localparam int FIXED_LOW  = FIXES ? fpsim_pkg::min_of(fpsim_pkg::min_of(ORIGIN, LSB), LEAF_LOW - ORIGIN) : 0;
  localparam int FIXED_HIGH = FIXES ? fpsim_pkg::max_of(fpsim_pkg::max_of(ORIGIN, LSB + W_ACC),
                                                        fpsim_pkg::max_of(LEAF_HIGH - ORIGIN, W_ACC + 1)) : 0;
  localparam int LOWEST  = fpsim_pkg::min_of(fpsim_pkg::min_of(fpsim_pkg::min_of(CORE_LOW, TERM_LOW),
                               fpsim_pkg::min_of(LEAF_LOW, SCALES_ON ? SCALE_LOW : 0)),
                           fpsim_pkg::min_of(fpsim_pkg::min_of(FIXES ? 0 : 1 - ACC_BIAS, (CHUNK > 0) ? 1 - S_BIAS : 0),
                               fpsim_pkg::min_of(fpsim_pkg::min_of((R_CONVERT != 0) ? 1 - R_BIAS : 0, FIXED_LOW),
                                                 (ALIGNS && FLOOR_ON != 0) ? FLOOR : 0))) - SUM_W;
  localparam int HIGHEST = fpsim_pkg::max_of(fpsim_pkg::max_of(fpsim_pkg::max_of(CORE_HIGH, TERM_HIGH),
                               fpsim_pkg::max_of(LEAF_HIGH, SCALES_ON ? SCALE_HIGH : 0)),
                           fpsim_pkg::max_of(fpsim_pkg::max_of(FIXES ? 0 : (1 << ACC_EXP) - ACC_BIAS,
                                                               (CHUNK > 0) ? (1 << S_EXP) - S_BIAS : 0),
                               fpsim_pkg::max_of(fpsim_pkg::max_of((R_CONVERT != 0) ? (1 << R_EXP) - R_BIAS : 0, FIXED_HIGH),
                                                 (ALIGNS && FLOOR_ON != 0) ? FLOOR : 0)))
                         + ((ALIGNS || EXACT || TREES) ? HEAD + $clog2(TERMS + 1) + (EXACT ? COUNT_W : 0) + 6 : 1);
  localparam int FIELD_W = 1 + fpsim_pkg::max_of(                  // and every field with a sign
      fpsim_pkg::max_of(fpsim_pkg::max_of(A_EXP, B_EXP), SCALES_ON ? fpsim_pkg::max_of(SA_EXP, SB_EXP) : 0),
      fpsim_pkg::max_of(fpsim_pkg::max_of(FIXES ? 0 : ACC_EXP, (CHUNK > 0) ? S_EXP : 0),
                        fpsim_pkg::max_of((T_CONVERT != 0) ? T_EXP : 0, (R_CONVERT != 0) ? R_EXP : 0)));
  localparam int EXP_W   = fpsim_pkg::max_of(fpsim_pkg::signed_width(LOWEST, HIGHEST), FIELD_W);

  localparam int BEAT_W  = 3 + 1 + LANES * (A_IN_W + B_IN_W) + SCALES * ((1 + A_SPLIT) * SA_W + (1 + B_SPLIT) * SB_W)
                         + RANDOM_W + ACC_W;
  localparam int FLAGS_W = (FLAGS != 0) ? 5 : 1;
  localparam int TERMS_W = 3 + 1 + ADDED * (1 + EXP_W + ADDED_W + 2) + WINDOWS * EXP_W + RANDOM_W + ACC_W + FLAGS_W;

  // -- beats in -----------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [LANES*A_IN_W-1:0] a_codes;
  logic [LANES*B_IN_W-1:0] b_codes;
  logic [LANES*A_W-1:0] a;
  logic [LANES*B_W-1:0] b;
  logic [SCALES*(1+A_SPLIT)*SA_W-1:0] a_scale;
  logic [SCALES*(1+B_SPLIT)*SB_W-1:0] b_scale;
  logic [RANDOM_W-1:0] random;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, a_scale_i, b_scale_i, random_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a_codes, b_codes, a_scale, b_scale, random, c})
  );

  code_lookup #(
      .N(LANES), .W(A_W), .TABLE(A_TABLE)
  ) u_a_codes (
      .code_i(a_codes), .code_o(a)
  );

  code_lookup #(
      .N(LANES), .W(B_W), .TABLE(B_TABLE)
  ) u_b_codes (
      .code_i(b_codes), .code_o(b)
  );

  // -- terms --------------------------------------------------------------------------------------------
  logic [TERMS-1:0] leaf_sign, leaf_inf, leaf_nan;
  logic [TERMS*EXP_W-1:0] leaf_exponent, aligned_exponent;
  logic [TERMS*LEAF_W-1:0] leaf_significand;
  logic [TERMS-1:0] counts, too_large;  // too_large: beyond LIMIT
  logic [TERMS*5-1:0] leaf_flags;

  generate
    for (genvar i = 0; i < TERMS; i++) begin : g_term
      /* verilator lint_off UNUSEDPARAM */  // without scales and blocks
      localparam int GROUP  = BLOCKS ? i / ((1 + A_SPLIT) * (1 + B_SPLIT)) : 0;
      localparam int A_SIDE = BLOCKS ? i / (1 + B_SPLIT) % (1 + A_SPLIT) : 0;  // which sign's scale
      localparam int B_SIDE = BLOCKS ? i % (1 + B_SPLIT) : 0;
      /* verilator lint_on UNUSEDPARAM */

      logic core_sign, core_inf, core_nan, core_invalid, sign, inf, nan, invalid, scales_count;
      logic [4:0] convert_flags;
      logic signed [EXP_W-1:0] core_exponent, exponent;
      logic [CORE_W-1:0] core;
      logic [TERM_W-1:0] significand;

      if (BLOCKS) begin : g_block
        block_sum #(
            .N(BLOCK),
            .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
            .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
            .A_SIGN((A_SPLIT != 0) ? A_SIDE : -1), .B_SIGN((B_SPLIT != 0) ? B_SIDE : -1)
        ) u_sum (
            .a_i(a[GROUP*BLOCK*A_W+:BLOCK*A_W]), .b_i(b[GROUP*BLOCK*B_W+:BLOCK*B_W]),
            .sign_o(core_sign), .total_o(core), .inf_o(core_inf), .nan_o(core_nan),
            .invalid_o(core_invalid)
        );
        assign core_exponent = EXP_W'(CORE_HIGH);
      end else begin : g_product
        fp_product #(
            .A_SIGNED(A_SIGNED), .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
            .B_SIGNED(B_SIGNED), .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
            .SCALE_W(0), .EXP_W(EXP_W)
        ) u_product (
            .a_i(a[i*A_W+:A_W]), .b_i(b[i*B_W+:B_W]), .exp_i(1'b0),
            .sign_o(core_sign), .exponent_o(core_exponent), .significand_o(core),
            .inf_o(core_inf), .nan_o(core_nan), .invalid_o(core_invalid)
        );
      end

      if (SCALES_ON) begin : g_scaled
        fp_scale #(
            .TERM_W(CORE_W),
            .A_SIGNED(SA_SIGNED), .A_EXP(SA_EXP), .A_MAN(SA_MAN), .A_BIAS(SA_BIAS),
            .A_SPECIALS(SA_SPECIALS), .A_SUBNORMALS(SA_SUBNORMALS),
            .B_SIGNED(SB_SIGNED), .B_EXP(SB_EXP), .B_MAN(SB_MAN), .B_BIAS(SB_BIAS),
            .B_SPECIALS(SB_SPECIALS), .B_SUBNORMALS(SB_SUBNORMALS),
            .NAN_ZERO(NAN_ZERO), .EXP_W(EXP_W)
        ) u_scale (
            .sign_i(core_sign), .exponent_i(core_exponent), .significand_i(core),
            .inf_i(core_inf), .nan_i(core_nan),
            .a_scale_i(a_scale[(GROUP*(1+A_SPLIT)+A_SIDE)*SA_W+:SA_W]),
            .b_scale_i(b_scale[(GROUP*(1+B_SPLIT)+B_SIDE)*SB_W+:SB_W]),
            .sign_o(sign), .exponent_o(exponent), .significand_o(significand),
            .inf_o(inf), .nan_o(nan), .invalid_o(invalid), .counts_o(scales_count)
        );
      end else begin : g_unscaled
        assign {sign, exponent, significand} = {core_sign, core_exponent, core};
        assign {inf, nan, scales_count}      = {core_inf, core_nan, 1'b1};
        assign invalid                       = 1'b0;
      end

      if (T_CONVERT != 0) begin : g_converted
        logic [T_EXP+T_MAN:0] code;
        logic signed [EXP_W-1:0] own_exponent;

        fp_convert #(
            .EXP(T_EXP), .MAN(T_MAN), .BIAS(T_BIAS), .SPECIALS(T_SPECIALS), .SUBNORMALS(T_SUBNORMALS),
            .ROUNDING(T_ROUNDING), .OVERFLOW(T_OVERFLOW), .TERM_W(TERM_W), .EXP_W(EXP_W)
        ) u_convert (
            .sign_i(sign), .exponent_i(exponent), .significand_i(significand), .inf_i(inf), .nan_i(nan),
            .code_o(code), .flags_o(convert_flags)
        );
        fp_decode #(
            .EXP(T_EXP), .MAN(T_MAN), .BIAS(T_BIAS), .SPECIALS(T_SPECIALS), .SUBNORMALS(T_SUBNORMALS),
            .EXP_W(EXP_W)
        ) u_decode (
            .code_i(code),
            .sign_o(leaf_sign[i]), .exponent_o(own_exponent),
            .significand_o(leaf_significand[i*LEAF_W+:LEAF_W]), .inf_o(leaf_inf[i]), .nan_o(leaf_nan[i])
        );
        assign leaf_exponent[i*EXP_W+:EXP_W] = own_exponent;
      end else begin : g_exact
        assign leaf_sign[i] = sign;
        assign leaf_inf[i]  = inf;
        assign leaf_nan[i]  = nan;
        assign convert_flags = '0;
        assign leaf_exponent[i*EXP_W+:EXP_W]      = exponent;
        assign leaf_significand[i*LEAF_W+:LEAF_W] = significand;
      end

      // The exponent that an aligned stage compares.
      assign aligned_exponent[i*EXP_W+:EXP_W] = exponent - EXP_W'(DROP);
      assign leaf_flags[i*5+:5] = convert_flags | ((core_invalid | invalid) ? fpsim_pkg::FLAG_INVALID : '0)
                                | (too_large[i] ? fpsim_pkg::FLAG_OVERFLOW | fpsim_pkg::FLAG_INEXACT : '0);
      assign counts[i] = BLOCKS ? scales_count : (|significand) & ~inf & ~nan & scales_count;
    end
  endgenerate

  // -- what of them stands before the registers: the largest exponent, or a tree -------------------------
  logic [ADDED-1:0] sign, inf, nan;
  logic [ADDED*EXP_W-1:0] exponent;
  logic [ADDED*ADDED_W-1:0] significand;
  logic [WINDOWS*EXP_W-1:0] max;
  logic [4:0] root_flags, terms_flags;

  generate
    if (ROOT) begin : g_root
      logic [STAGE_W-1:0] code;
      logic signed [EXP_W-1:0] own_exponent;
      logic unused_exponents;

      stage_tree #(
          .N(TERMS), .RADIX(RADIX), .LANES(TREE_LANES), .JOIN(JOIN), .ROUNDED(ROUNDED),
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW),
          .TERM_W(LEAF_W), .LOW(LEAF_LOW), .HIGH(LEAF_HIGH), .EXP_W(EXP_W)
      ) u_tree (
          .from_i({STAGE_W{1'b0}}),
          .sign_i(leaf_sign), .exponent_i(leaf_exponent), .significand_i(leaf_significand),
          .inf_i(leaf_inf), .nan_i(leaf_nan), .to_o(code), .flags_o(root_flags)
      );
      fp_decode #(
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .EXP_W(EXP_W)
      ) u_decode (
          .code_i(code), .sign_o(sign), .exponent_o(own_exponent), .significand_o(significand),
          .inf_o(inf), .nan_o(nan)
      );
      assign exponent = own_exponent;
      assign max       = '0;
      assign too_large = '0;
      assign unused_exponents = &{1'b0, aligned_exponent, counts};
    end else begin : g_terms
      assign sign       = leaf_sign;
      assign nan        = leaf_nan;
      assign root_flags = '0;

      if (ALIGNS) begin : g_max
        logic [TERMS*EXP_W-1:0] compared;
        logic [TERMS-1:0] huge;

        for (genvar i = 0; i < TERMS; i++) begin : g_compared
          if (NORMALISED != 0 || LIMIT_ON != 0) begin : g_value
            localparam int WIDE_W = fpsim_pkg::max_of(LEAF_W, 2);
            logic signed [EXP_W-1:0] own_exponent;
            logic [WIDE_W-1:0] own;

            fp_normalise #(
                .SIG_W(WIDE_W), .EXP_W(EXP_W)
            ) u_normalise (
                .exponent_i(leaf_exponent[i*EXP_W+:EXP_W]),
                .significand_i({{(WIDE_W - LEAF_W) {1'b0}}, leaf_significand[i*LEAF_W+:LEAF_W]} << (WIDE_W - LEAF_W)),
                .exponent_o(own_exponent), .significand_o(own)
            );
            assign huge[i] = (LIMIT_ON != 0) & own[WIDE_W-1] & (own_exponent >= EXP_W'(LIMIT));
            assign compared[i*EXP_W+:EXP_W] = ((NORMALISED != 0) & own[WIDE_W-1])
                                            ? own_exponent : aligned_exponent[i*EXP_W+:EXP_W];
            // A window whose exponent is that of a value starts below the leading zeros of others.
            if (NORMALISED != 0) begin : g_normalised
              assign exponent[i*EXP_W+:EXP_W]      = own_exponent;
              assign significand[i*LEAF_W+:LEAF_W] = own[WIDE_W-1-:LEAF_W];
            end
          end else begin : g_code
            assign huge[i] = 1'b0;
            assign compared[i*EXP_W+:EXP_W] = aligned_exponent[i*EXP_W+:EXP_W];
          end
        end

        assign too_large = huge & ~leaf_nan & ~leaf_inf;
        assign inf = leaf_inf | too_large;
        if (NORMALISED == 0) begin : g_as_they_are
          assign exponent    = leaf_exponent;
          assign significand = leaf_significand;
        end

        for (genvar w = 0; w < WINDOWS; w++) begin : g_window  // term i is in window i % WINDOWS
          logic [TERMS-1:0] own;
          for (genvar i = 0; i < TERMS; i++) begin : g_own
            assign own[i] = counts[i] & (i % WINDOWS == w);
          end
          max_exponent #(
              .N(TERMS), .EXP_W(EXP_W), .FLOOR((FLOOR_ON != 0) ? FLOOR : LOWEST)
          ) u_max (
              .exponents_i(compared), .counts_i(own), .max_o(max[w*EXP_W+:EXP_W])
          );
        end
      end else begin : g_none
        logic unused_exponents;
        assign unused_exponents = &{1'b0, aligned_exponent, counts};
        assign inf = leaf_inf;
        assign max = '0;
        assign too_large = '0;
        assign exponent    = leaf_exponent;
        assign significand = leaf_significand;
      end
    end
  endgenerate

  any_flags #(
      .N(TERMS + 1)
  ) u_flags (
      .flags_i({root_flags, leaf_flags}), .any_o(terms_flags)
  );

  logic [FLAGS_W-1:0] carried_flags, t_flags;  // without FLAGS a constant
  logic unused_flags;
  assign carried_flags = (FLAGS != 0) ? terms_flags[FLAGS_W-1:0] : '0;
  assign unused_flags  = &{1'b0, terms_flags};

  logic t_valid, t_ready, t_last;
  logic [2:0] t_op;
  logic [ADDED-1:0] t_sign, t_inf, t_nan;
  logic [ADDED*EXP_W-1:0] t_exponent;
  logic [ADDED*ADDED_W-1:0] t_significand;
  logic [WINDOWS*EXP_W-1:0] t_max;
  logic [RANDOM_W-1:0] t_random;
  logic [ACC_W-1:0] t_c;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, sign, exponent, significand, inf, nan, max, random, c, carried_flags}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_sign, t_exponent, t_significand, t_inf, t_nan, t_max, t_random, t_c, t_flags})
  );

  // -- random bits ------------------------------------------------------------------------------------------
  logic adds;                   // this beat's terms are added now
  logic closes;                 // the chunk, or the exact sum, ends with this beat
  logic [RANDOM_W-1:0] random_bits;

  assign adds = t_valid & t_ready & ((t_op == fpsim_pkg::OP_MAC) | (t_op == fpsim_pkg::OP_DOT));

  generate
    if (LFSR != 0) begin : g_lfsr
      logic unused_port;
      assign unused_port = &{1'b0, t_random};
      galois_lfsr #(
          .STEPS(RANDOM_W), .SEED(LFSR_SEED)
      ) u_lfsr (
          .clk_i(clk_i), .rst_ni(rst_ni), .step_i(adds & (closes | !EXACT)), .bits_o(random_bits)
      );
    end else begin : g_port
      assign random_bits = t_random;
    end
  endgenerate

  // -- the stage: from its accumulator and the terms to the next ------------------------------------------
  localparam int PARTIAL_W = EXACT ? LEAF_W + LEAF_HIGH - LEAF_LOW + 1 + COUNT_W + 5 : STAGE_W;

  logic [ACC_W-1:0] acc, addend, sum;
  logic [STAGE_W-1:0] from, to;
  logic [4:0] stage_flags, outer_flags, beat_flags, vector_flags;
  logic added;
  logic [PARTIAL_W-1:0] partial_q, partial_d;  // of a chunk, and of an exact sum

  generate
    if (CHAINS || ROOT) begin : g_chain
      stage_chain #(
          .N(ADDED), .ROUNDED(CHAINS ? ROUNDED : 0),
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS), .TERM_W(ADDED_W), .EXP_W(EXP_W)
      ) u_stage (
          .from_i(from),
          .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
          .inf_i(t_inf), .nan_i(t_nan), .random_i(random_bits), .to_o(to),
          .flags_o(stage_flags)
      );
    end else if (FIXES) begin : g_fixed
      stage_fixed #(
          .N(ADDED), .W_ACC(W_ACC), .LSB(LSB), .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW),
          .TERM_W(ADDED_W), .EXP_W(EXP_W)
      ) u_stage (
          .from_i(from),
          .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand), .to_o(to),
          .flags_o(stage_flags)
      );
      logic unused_specials;  // every term is a number
      assign unused_specials = &{1'b0, t_inf, t_nan};
    end else if (EXACT) begin : g_exact
      stage_exact #(
          .N(ADDED), .COUNT_W(COUNT_W),
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS),
          .TERM_W(ADDED_W), .LOW(LEAF_LOW), .SPAN(LEAF_HIGH - LEAF_LOW), .EXP_W(EXP_W)
      ) u_stage (
          .partial_i(partial_q), .from_i(from),
          .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
          .inf_i(t_inf), .nan_i(t_nan), .random_i(random_bits), .partial_o(partial_d), .to_o(to),
          .flags_o(stage_flags)
      );
    end else if (ALIGNS) begin : g_aligned
      aligned_add #(
          .N(ADDED), .SIG_W(ADDED_W), .FRACTION_BITS(FRACTION_BITS), .HEAD(HEAD), .ALIGN(ALIGN),
          .LATE(LATE), .LATE_ROUNDING(LATE_ROUNDING), .JOINED(JOINED), .WINDOWS(WINDOWS),
          .JOIN_SUM_BITS(JOIN_SUM_BITS), .JOIN_C_BITS(JOIN_C_BITS), .JOIN_ROUNDING(JOIN_ROUNDING),
          .JOIN_REACH(JOIN_REACH), .W_SUM(W_SUM), .SUM_OVERFLOW(SUM_OVERFLOW),
          .SIGNED_ZERO(SIGNED_ZERO), .NAN_CODE(NAN_CODE),
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .OUT_MAN(OUT_MAN), .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W)
      ) u_stage (
          .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
          .inf_i(t_inf), .nan_i(t_nan), .max_i(t_max), .c_i(from), .sum_o(to),
          .flags_o(stage_flags)
      );
    end else begin : g_tree
      stage_tree #(
          .N(ADDED), .RADIX(RADIX), .LANES(TREE_LANES), .JOIN(JOIN), .ROUNDED(ROUNDED),
          .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .SUBNORMALS(ACC_SUBNORMALS),
          .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW),
          .TERM_W(ADDED_W), .LOW(LEAF_LOW), .HIGH(LEAF_HIGH), .EXP_W(EXP_W)
      ) u_stage (
          .from_i(from),
          .sign_i(t_sign), .exponent_i(t_exponent), .significand_i(t_significand),
          .inf_i(t_inf), .nan_i(t_nan), .to_o(to), .flags_o(stage_flags)
      );
    end

    if (!ALIGNS) begin : g_no_max
      logic unused_max;
      assign unused_max = &{1'b0, t_max};
    end
    if (!CHAINS && !EXACT) begin : g_no_random
      logic unused_random;
      assign unused_random = &{1'b0, random_bits};
    end
    if (!SCALES_ON) begin : g_no_scales
      logic unused_scales;
      assign unused_scales = &{1'b0, a_scale, b_scale};
    end
  endgenerate

  // -- sums that end within a vector ------------------------------------------------------------------------
  generate
    if (CHUNK > 0 || EXACT) begin : g_partial
      always_ff @(posedge clk_i or negedge rst_ni) begin
        if (!rst_ni) partial_q <= '0;
        else if (adds) partial_q <= closes ? '0 : partial_d;
      end
      if (!EXACT) begin : g_code
        assign partial_d = to;
      end

      if (CHUNK > 1) begin : g_count
        localparam int COUNTER_W = $clog2(CHUNK);
        localparam logic [COUNTER_W-1:0] END = COUNTER_W'(CHUNK - 1);
        logic [COUNTER_W-1:0] count_q;

        assign closes = t_last | (count_q == END);
        always_ff @(posedge clk_i or negedge rst_ni) begin
          if (!rst_ni) count_q <= '0;
          else if (adds) count_q <= closes ? '0 : count_q + 1'b1;
        end
      end else begin : g_no_count
        assign closes = (CHUNK == 1) | t_last;
      end
    end else begin : g_whole
      assign partial_q = '0;
      assign partial_d = '0;
      assign closes    = 1'b1;
      logic unused_partial;
      assign unused_partial = &{1'b0, partial_q, partial_d, adds};
    end

    if (CHUNK > 0) begin : g_chunked
      // A result of the stage is a number, fixed-point or not.
      localparam int FROM_EXP = FIXES ? 0 : ACC_EXP;
      localparam int FROM_MAN = FIXES ? W_ACC - 1 : ACC_MAN;
      logic s_sign, s_inf, s_nan;
      logic signed [EXP_W-1:0] s_exponent;
      logic [FROM_MAN:0] s_significand;
      logic [ACC_W-1:0] outer;

      if (EXACT) begin : g_from_zero
        assign from = '0;
      end else begin : g_from_partial
        assign from = partial_q;
      end

      fp_decode #(
          .EXP(FROM_EXP), .MAN(FROM_MAN), .BIAS(FIXES ? -LSB : ACC_BIAS),
          .SPECIALS(FIXES ? fpsim_pkg::SPECIALS_NONE : ACC_SPECIALS),
          .SUBNORMALS(FIXES ? fpsim_pkg::SUBNORMALS_GRADUAL : ACC_SUBNORMALS), .EXP_W(EXP_W)
      ) u_decode (
          .code_i(to),
          .sign_o(s_sign), .exponent_o(s_exponent), .significand_o(s_significand), .inf_o(s_inf), .nan_o(s_nan)
      );

      stage_chain #(
          .N(1), .EXP(S_EXP), .MAN(S_MAN), .BIAS(S_BIAS), .SPECIALS(S_SPECIALS), .SUBNORMALS(S_SUBNORMALS),
          .ROUNDING(S_ROUNDING), .OVERFLOW(S_OVERFLOW), .TERM_W(FROM_MAN + 1), .EXP_W(EXP_W)
      ) u_outer (
          .from_i(addend),
          .sign_i(s_sign), .exponent_i(s_exponent), .significand_i(s_significand),
          .inf_i(s_inf), .nan_i(s_nan), .random_i(1'b0), .to_o(outer),
          .flags_o(outer_flags)
      );
      assign sum = closes ? outer : addend;
    end else begin : g_single
      assign from = addend;
      assign sum  = closes ? to : addend;
      assign outer_flags = '0;
    end
  endgenerate

  // An exact sum is rounded, and a chunk added, where it ends.
  assign beat_flags = {{(5 - FLAGS_W) {1'b0}}, t_flags} | ((closes | !EXACT) ? stage_flags : '0)
                    | (closes ? outer_flags : '0);

  acc_stream #(
      .W(ACC_W), .FLAGS(FLAGS)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc),
      .flags_i(beat_flags), .flags_o(vector_flags), .added_o(added)
  );

  generate
    if (R_CONVERT != 0) begin : g_result
      logic [4:0] result_flags;
      fp_convert #(
          .EXP(R_EXP), .MAN(R_MAN), .BIAS(R_BIAS), .SPECIALS(R_SPECIALS), .SUBNORMALS(R_SUBNORMALS),
          .ROUNDING(R_ROUNDING), .OVERFLOW(R_OVERFLOW), .TERM_W(W_ACC), .EXP_W(EXP_W)
      ) u_convert (
          .sign_i(acc[ACC_W-1]), .exponent_i(EXP_W'(LSB + W_ACC - 1)),
          .significand_i(acc[ACC_W-1] ? -acc : acc), .inf_i(1'b0), .nan_i(1'b0), .code_o(acc_o),
          .flags_o(result_flags)
      );
      assign flags_o = vector_flags | (added ? result_flags : '0);
    end else begin : g_code
      logic unused_added;
      assign unused_added = &{1'b0, added};
      assign acc_o   = acc;
      assign flags_o = vector_flags;
    end
  endgenerate

endmodule
