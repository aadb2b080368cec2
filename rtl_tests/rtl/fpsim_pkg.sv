// SPDX-License-Identifier: Apache-2.0
//
// Names shared by every module: rounding modes, overflow policies, layouts of codes, operations; the
// sizes that several modules derive, and the one rounding decision.
//
//   round_up = 1  iff  the truncated magnitude t must become t + 1, where
//     lsb    = t is odd (as a code),  guard = first dropped bit,  sticky = any later dropped bit
package fpsim_pkg;

  // A package names every code, and no design uses all of them.
  /* verilator lint_off UNUSEDPARAM */

  // How a value between two codes is rounded.
  localparam int ROUND_RNE = 0;  // nearest, ties to the even code
  localparam int ROUND_RNA = 1;  // nearest, ties away from zero
  localparam int ROUND_RTZ = 2;  // toward zero
  localparam int ROUND_RUP = 3;  // toward +infinity
  localparam int ROUND_RDN = 4;  // toward -infinity
  localparam int ROUND_RTO = 5;  // inexact goes to the odd code
  localparam int ROUND_SR  = 6;  // stochastic: up iff floor(fraction * 2^n) + r >= 2^n, r of n random bits

  // What a value beyond the largest finite code becomes.
  localparam int OVERFLOW_SATURATE = 0;  // largest finite code (infinities too)
  localparam int OVERFLOW_INF      = 1;  // as IEEE 754
  localparam int OVERFLOW_NAN      = 2;  // NaN (infinities too)
  localparam int OVERFLOW_WRAP     = 3;  // modulo 2^width, fixed point only

  // Which codes are not numbers.
  localparam int SPECIALS_NONE = 0;  // none
  localparam int SPECIALS_IEEE = 1;  // exponent all ones: infinity (mantissa 0) or NaN
  localparam int SPECIALS_TOP  = 2;  // magnitude all ones: NaN (as E4M3FN)
  localparam int SPECIALS_ZERO = 3;  // sign bit alone: NaN, and no -0 (as E4M3FNUZ)

  // What the codes with an exponent field of zero mean.
  localparam int SUBNORMALS_GRADUAL = 0;  // no hidden bit, the exponent of field 1
  localparam int SUBNORMALS_FLUSH   = 1;  // zero
  localparam int SUBNORMALS_NONE    = 2;  // a hidden bit as everywhere; there is no zero (as E8M0)

  // How the scale of a block follows from its largest magnitude, which is m 2^e with m in [1, 2); the
  // largest element is L = l 2^E.
  localparam int RULE_FLOOR  = 0;  // 2^(e-E)
  localparam int RULE_RCEIL  = 1;  // the same, doubled if m > l
  localparam int RULE_CEIL   = 2;  // the same, doubled if m > 1
  localparam int RULE_EVEN   = 3;  // the same, doubled if m >= 2 - 2^-(M+1), M the element's mantissa bits
  localparam int RULE_ABSMAX = 4;  // the magnitude over L, rounded to the scale's format

  // How terms are added to an accumulator.
  localparam int STAGE_CHAIN   = 0;  // one after another, one rounding each
  localparam int STAGE_FIXED   = 1;  // one after another, in fixed point
  localparam int STAGE_EXACT   = 2;  // exactly, one rounding per dot product
  localparam int STAGE_ALIGNED = 3;  // those of a beat and the accumulator on one alignment
  localparam int STAGE_TREE    = 4;  // those of a beat in a tree of adders

  // Where the accumulator joins a tree.
  localparam int JOIN_ROOT  = 0;  // added to its result
  localparam int JOIN_LEAF  = 1;  // the first leaf; of lanes, the start of the first
  localparam int JOIN_FUSED = 2;  // one more child of the root

  // What an accumulator does with a beat. The MACs without a stream know the first four.
  localparam logic [2:0] OP_IDLE  = 3'd0;  // hold
  localparam logic [2:0] OP_CLEAR = 3'd1;  // +0
  localparam logic [2:0] OP_MAC   = 3'd2;  // accumulate on itself
  localparam logic [2:0] OP_LOAD  = 3'd3;  // take c as it is
  localparam logic [2:0] OP_DOT   = 3'd4;  // accumulate on c

  // Tables of 16 codes: see code_lookup.
  localparam int TABLE_CODE  = 4;                             // bits of a storage code
  localparam int TABLE_ENTRY = 20;                            // bits in which an entry stands
  localparam int TABLE_W     = (1 << TABLE_CODE) * TABLE_ENTRY;

  // Status flags, in TestFloat's order; bit 3 (infinite, a division by zero) is never set.
  localparam logic [4:0] FLAG_INEXACT   = 5'd1;
  localparam logic [4:0] FLAG_UNDERFLOW = 5'd2;
  localparam logic [4:0] FLAG_OVERFLOW  = 5'd4;
  localparam logic [4:0] FLAG_INVALID   = 5'd16;

  /* verilator lint_on UNUSEDPARAM */

  function automatic int max_of(input int x, input int y);
    max_of = (x > y) ? x : y;
  endfunction

  function automatic int min_of(input int x, input int y);
    min_of = (x < y) ? x : y;
  endfunction

  // Bits of the narrowest two's complement number that holds low..high.
  function automatic int signed_width(input int low, input int high);
    signed_width = 1;
    for (int w = 1; w < 31; w++) begin
      if (low < -(1 << (w - 1)) || high > (1 << (w - 1)) - 1) signed_width = w + 1;
    end
  endfunction

  // Bits of an operand's code: EXP = 0 stands for an integer of MAN+1 bits.
  function automatic int code_width(input int is_signed, input int exp, input int man);
    code_width = (exp == 0) ? man + 1 : is_signed + exp + man;
  endfunction

  // Exponents of an operand's top significand bit.
  function automatic int exponent_high(input int exp, input int man, input int bias);
    exponent_high = ((exp == 0) ? man : (1 << exp) - 1) - bias;
  endfunction

  function automatic int exponent_low(input int exp, input int man, input int bias, input int subnormals);
    exponent_low = ((exp == 0) ? man : (subnormals == SUBNORMALS_NONE) ? 0 : 1) - bias;
  endfunction

  // Rows that are left of n after some levels of 3:2 compressors, and levels until two are left.
  function automatic int rows_after(input int n, input int levels);
    rows_after = n;
    for (int i = 0; i < levels; i++) rows_after = 2 * (rows_after / 3) + rows_after % 3;
  endfunction

  function automatic int compressor_levels(input int n);
    int rows;
    rows = n;
    compressor_levels = 0;
    for (int i = 1; i < 32; i++) begin
      if (rows > 2) compressor_levels = i;
      rows = 2 * (rows / 3) + rows % 3;
    end
  endfunction

  // Nodes of a tree's level above n leaves, and levels until one node is left, at least one.
  function automatic int nodes_at(input int n, input int radix, input int level);
    nodes_at = n;
    for (int i = 0; i < level; i++) nodes_at = (nodes_at + radix - 1) / radix;
  endfunction

  function automatic int tree_levels(input int n, input int radix);
    int nodes;
    nodes = (n + radix - 1) / radix;
    tree_levels = 1;
    for (int i = 2; i < 32; i++) begin
      if (nodes > 1) tree_levels = i;
      nodes = (nodes + radix - 1) / radix;
    end
  endfunction

  function automatic logic round_up(
      input int mode, input logic negative, input logic lsb, input logic guard, input logic sticky);
    case (mode)
      ROUND_RNE: round_up = guard & (sticky | lsb);
      ROUND_RNA: round_up = guard;
      ROUND_RUP: round_up = (guard | sticky) & ~negative;
      ROUND_RDN: round_up = (guard | sticky) & negative;
      ROUND_RTO: round_up = (guard | sticky) & ~lsb;
      default:   round_up = 1'b0;
    endcase
  endfunction

endpackage
