// SPDX-License-Identifier: Apache-2.0
//
// Rounds a normalised number once into a code of any ExMy format; combinational.
//
//   value = (-1)^sign * significand / 2^(SIG_W-1) * 2^exponent,   the LSB of significand sticky
//   code  = R(value) if its magnitude is at most the largest finite code, else what OVERFLOW says
//
// The magnitude of a code counts up with its value, so rounding up is adding one to the truncated
// code, across the exponent field too; it is formed with an unbounded exponent and only then compared
// with the largest finite code. Below the smallest normal number the significand first moves right.
// A significand without its top bit is zero and keeps its sign.
//
// OUTWARD = 1: a number beyond the largest finite code is what OVERFLOW says in every rounding mode,
// as tensor cores have it; IEEE 754's inward modes stop at that code.
//
// SUBNORMALS_FLUSH: what rounds below the smallest normal number becomes a zero of its sign. Where the
// sign bit alone is NaN (SPECIALS_ZERO), zeros are positive.
//
// flags_o is what this rounding raises (fpsim_pkg::FLAG_*): UNDERFLOW for inexact results that are tiny
// after rounding, as IEEE 754 has it; OVERFLOW with INEXACT; INVALID where an infinity or NaN has no code.
//
// ROUND_SR takes the top RANDOM_BITS of what is dropped, adds random_i and rounds up if that carries.
//
// inf_i and nan_i override the number. OVERFLOW_SATURATE takes infinities to the largest finite code,
// OVERFLOW_NAN takes them to NaN. NaN is positive: quiet and without payload in SPECIALS_IEEE.
module fp_round_pack #(
    parameter int EXP         = 5,                        // at least 1 bit
    parameter int MAN         = 10,
    parameter int BIAS        = 15,
    parameter int SPECIALS    = fpsim_pkg::SPECIALS_IEEE, // IEEE needs MAN > 0
    parameter int SUBNORMALS  = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING    = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW    = fpsim_pkg::OVERFLOW_INF,  // one that SPECIALS has a code for
    parameter int OUTWARD     = 0,
    parameter int RANDOM_BITS = 0,                        // with ROUND_SR, else 0
    parameter int EXP_W       = 8,                        // above EXP, holds exponent_i and 1-BIAS
    parameter int SIG_W       = 15                        // at least MAN+3, and MAN+2+RANDOM_BITS
) (
    input  logic                                         sign_i,
    input  logic signed [EXP_W-1:0]                      exponent_i,
    input  logic [SIG_W-1:0]                             significand_i,
    input  logic                                         inf_i,
    input  logic                                         nan_i,
    input  logic [fpsim_pkg::max_of(RANDOM_BITS, 1)-1:0] random_i,
    output logic [EXP+MAN:0]                             code_o,
    output logic [4:0]                                   flags_o
);

  localparam int MAG_W  = EXP + MAN;        // code without its sign
  localparam int KEPT_W = MAN + 1;          // hidden bit and mantissa
  localparam int REST_W = SIG_W - KEPT_W;   // guard and sticky bits
  localparam int FULL_W = EXP_W + MAN + 1;  // magnitude with an unbounded exponent, and the carry

  // EXP_W bits: exponent of the smallest normal number.
  localparam logic signed [EXP_W-1:0] EXPONENT_MIN = EXP_W'(1 - BIAS);

  // MAG_W bits each: whole magnitudes.
  localparam logic [MAG_W-1:0] ONE       = {{(MAG_W - 1) {1'b0}}, 1'b1};
  localparam logic [MAG_W-1:0] ALL_ONES  = {MAG_W{1'b1}};
  localparam logic [MAG_W-1:0] INFINITY  = ALL_ONES << MAN;
  localparam logic [MAG_W-1:0] LARGEST   =
      (SPECIALS == fpsim_pkg::SPECIALS_IEEE) ? INFINITY - ONE :
      (SPECIALS == fpsim_pkg::SPECIALS_TOP)  ? ALL_ONES - ONE : ALL_ONES;
  localparam logic [MAG_W:0] NOT_A_NUMBER =
      (SPECIALS == fpsim_pkg::SPECIALS_IEEE) ? {1'b0, INFINITY | ((ONE << MAN) >> 1)} :
      (SPECIALS == fpsim_pkg::SPECIALS_ZERO) ? {1'b1, {MAG_W{1'b0}}} : {1'b0, ALL_ONES};

  logic subnormal, zero, lsb, guard, sticky, up, overflow;
  logic [EXP_W-1:0] above, below, row;
  logic [SIG_W-1:0] placed;
  logic [FULL_W-1:0] truncated, magnitude;

  // -- place the significand on the format's grid -----------------------------------------------
  assign zero      = ~significand_i[SIG_W-1];
  assign subnormal = exponent_i < EXPONENT_MIN;
  assign above     = exponent_i - EXPONENT_MIN;
  assign below     = EXPONENT_MIN - exponent_i;
  assign row       = (subnormal | zero) ? '0 : above;

  shift_right_jam #(
      .W(SIG_W), .AMOUNT_W(EXP_W)
  ) u_denormalise (
      .value_i(significand_i), .amount_i(subnormal ? below : '0), .result_o(placed)
  );

  // -- round: the hidden bit of a normal number adds 1 to its row, which is one too low ----------
  assign truncated = {1'b0, row, {MAN{1'b0}}} + {{EXP_W{1'b0}}, placed[SIG_W-1-:KEPT_W]};
  assign lsb       = truncated[0];
  assign guard     = placed[REST_W-1];
  assign sticky    = |placed[REST_W-2:0];
  assign magnitude = truncated + {{(FULL_W - 1) {1'b0}}, up};
  assign overflow  = magnitude > {{(FULL_W - MAG_W) {1'b0}}, LARGEST};

  generate
    if (RANDOM_BITS > 0) begin : g_stochastic
      logic [RANDOM_BITS:0] sum;
      logic unused_rest;
      assign sum = {1'b0, placed[REST_W-1-:RANDOM_BITS]} + {1'b0, random_i};
      assign up  = sum[RANDOM_BITS];
      assign unused_rest = &{1'b0, lsb};
    end else begin : g_fixed
      logic unused_random;
      assign up = fpsim_pkg::round_up(ROUNDING, sign_i, lsb, guard, sticky);
      assign unused_random = &{1'b0, random_i};
    end
  endgenerate

  // -- pack --------------------------------------------------------------------------------------
  logic outward;  // an overflow rounds to infinity, not to the largest finite code
  always_comb begin
    case (ROUNDING)
      fpsim_pkg::ROUND_RNE, fpsim_pkg::ROUND_RNA, fpsim_pkg::ROUND_SR: outward = 1'b1;
      fpsim_pkg::ROUND_RUP:                       outward = ~sign_i | (OUTWARD != 0);
      fpsim_pkg::ROUND_RDN:                       outward = sign_i | (OUTWARD != 0);
      default:                                    outward = OUTWARD != 0;
    endcase
  end

  logic flushed, sign;
  logic [MAG_W-1:0] finite;
  assign flushed = (SUBNORMALS == fpsim_pkg::SUBNORMALS_FLUSH) & ~|magnitude[FULL_W-1:MAN];
  assign finite  = flushed ? '0 : magnitude[MAG_W-1:0];
  assign sign    = sign_i & ((SPECIALS != fpsim_pkg::SPECIALS_ZERO) | (|finite));

  always_comb begin
    code_o = {sign, finite};
    if (nan_i) code_o = NOT_A_NUMBER;
    else if (inf_i | overflow) begin
      case (OVERFLOW)
        fpsim_pkg::OVERFLOW_INF: code_o = {sign_i, (inf_i | outward) ? INFINITY : LARGEST};
        fpsim_pkg::OVERFLOW_NAN: code_o = NOT_A_NUMBER;
        default:                 code_o = {sign_i, LARGEST};
      endcase
    end
  end

  // -- flags: tiny is what stays below the smallest normal number when rounded to MAN+1 bits, wherever its
  // exponent leads; the largest of those is as odd as the code below that number, and MAN = 0 makes it even
  localparam logic HAS_NORMAL = MAG_W'(ONE << MAN) <= LARGEST;
  localparam logic ODD        = MAN > 0;

  logic full_up, reaches_normal, tiny, inexact;

  generate
    if (RANDOM_BITS > 0) begin : g_full_stochastic
      logic [RANDOM_BITS:0] full_sum;
      logic unused_low;
      assign full_sum   = {1'b0, significand_i[REST_W-1-:RANDOM_BITS]} + {1'b0, random_i};
      assign full_up    = full_sum[RANDOM_BITS];
      assign unused_low = &{1'b0, full_sum[RANDOM_BITS-1:0]};
    end else begin : g_full_fixed
      assign full_up = fpsim_pkg::round_up(
          ROUNDING, sign_i, ODD, significand_i[REST_W-1], |significand_i[REST_W-2:0]);
    end
  endgenerate

  assign reaches_normal = (below == {{(EXP_W - 1) {1'b0}}, 1'b1}) & (&significand_i[SIG_W-1-:KEPT_W]) & full_up;
  assign tiny    = HAS_NORMAL & subnormal & ~zero & ~reaches_normal;
  assign inexact = guard | sticky | (flushed & ~zero);

  always_comb begin
    flags_o = '0;
    if (nan_i) begin
      if (SPECIALS == fpsim_pkg::SPECIALS_NONE) flags_o = fpsim_pkg::FLAG_INVALID;
    end else if (inf_i) begin
      if (OVERFLOW != fpsim_pkg::OVERFLOW_INF) flags_o = fpsim_pkg::FLAG_INVALID;
    end else if (overflow) flags_o = fpsim_pkg::FLAG_OVERFLOW | fpsim_pkg::FLAG_INEXACT;
    else if (inexact) begin
      flags_o = tiny ? fpsim_pkg::FLAG_UNDERFLOW | fpsim_pkg::FLAG_INEXACT : fpsim_pkg::FLAG_INEXACT;
    end
  end

endmodule
