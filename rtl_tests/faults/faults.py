# SPDX-License-Identifier: Apache-2.0
"""Mistakes that a designer of such RTL makes: substitutions in the reference sources.

A `Fault` replaces one piece of text, which must stand exactly once in its file, in a copy of the
sources; nothing of it is in the sources themselves. `faults.fault_runs` simulates them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fpsim.base.errors import FpsimError

__all__ = ["FAULTS", "Fault", "inject"]


@dataclass(frozen=True)
class Fault:
    """One mistake: in ``file`` the text ``old`` reads ``new``.

    ``families`` are those whose units elaborate the text; empty: all that have the file.
    """

    name: str
    file: str
    old: str
    new: str
    families: tuple[str, ...] = ()


def inject(fault: Fault, sources: tuple[Path, ...], directory: Path) -> tuple[Path, ...]:
    """Return the sources with the faulty file, a copy in ``directory``, in place of its original.

    Raises:
        FpsimError: the file is not among them, or the text does not stand in it exactly once.
    """
    named = {path.name: path for path in sources}
    if fault.file not in named:
        raise FpsimError(f"fault {fault.name}: {fault.file} is not among the sources")
    text = named[fault.file].read_text(encoding="utf-8")
    count = text.count(fault.old)
    if count != 1 or fault.old == fault.new:
        raise FpsimError(
            f"fault {fault.name}: {fault.old!r} stands {count} times in {fault.file}, not once"
        )
    directory.mkdir(parents=True, exist_ok=True)
    copy = directory / fault.file
    copy.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    return tuple(copy if path.name == fault.file else path for path in sources)


def _of(file: str, *rows: tuple[str, str, str], families: str = "") -> tuple[Fault, ...]:
    return tuple(Fault(name, file, old, new, tuple(families.split())) for name, old, new in rows)


FAULTS: tuple[Fault, ...] = (
    # -- rounding ----------------------------------------------------------------------------------
    *_of(
        "fpsim_pkg.sv",
        ("ties round up", "guard & (sticky | lsb)", "guard"),
        ("ties round down", "guard & (sticky | lsb)", "guard & sticky"),
        ("ties look at the last bit alone", "guard & (sticky | lsb)", "guard & lsb"),
        ("truncation rounds to nearest", "default:   round_up = 1'b0", "default:   round_up = guard"),
    ),
    *_of(
        "shift_right_jam.sv",
        ("bits shifted out are forgotten", "|dropped};", "1'b0};"),
        (
            "a shift beyond the width forgets the value",
            "(requested > W[WIDE_W-1:0]) ? W[WIDE_W-1:0] : requested",
            "requested",
        ),
        ("a shift drops one bit more", "} >> amount", "} >> (amount + 1'b1)"),
    ),
    *_of(
        "fp_round_pack.sv",
        ("results are truncated", "guard     = placed[REST_W-1]", "guard     = 1'b0"),
        ("the result's sticky bit is missing", "|placed[REST_W-2:0]", "1'b0"),
        ("rounding up does not carry", "truncated + {{(FULL_W", "truncated | {{(FULL_W"),
        ("small results are not denormalised", "subnormal ? below : '0", "1'b0 ? below : '0"),
        (
            "small results are denormalised one place too far",
            "below     = EXPONENT_MIN - exponent_i",
            "below     = EXPONENT_MIN - exponent_i + 1'b1",
        ),
        ("small results become zero", "code_o = {sign, finite};",
         "code_o = {sign, subnormal ? '0 : finite};"),
        ("the largest number overflows", "magnitude > {{", "magnitude >= {{"),
        ("overflow wraps", "else if (inf_i | overflow)", "else if (inf_i)"),
        ("overflow stops at the largest number", "ROUND_SR: outward = 1'b1",
         "ROUND_SR: outward = 1'b0"),
        ("infinity loses its sign", "OVERFLOW_INF: code_o = {sign_i,",
         "OVERFLOW_INF: code_o = {1'b0,"),
        ("NaN has another payload", "((ONE << MAN) >> 1)", "ONE"),
        ("NaN has a sign", "if (nan_i) code_o = NOT_A_NUMBER",
         "if (nan_i) code_o = {sign_i, NOT_A_NUMBER[MAG_W-1:0]}"),
        ("negative zero becomes positive", "code_o = {sign, finite};",
         "code_o = {sign & (|finite), finite};"),
    ),
    *_of(
        "fp_round_pack.sv",
        ("random bits are not added", "placed[REST_W-1-:RANDOM_BITS]} + {1'b0, random_i};",
         "placed[REST_W-1-:RANDOM_BITS]} + {1'b0, random_i & '0};"),
        ("stochastic rounding sees a bit less", "{1'b0, placed[REST_W-1-:RANDOM_BITS]}",
         "({1'b0, placed[REST_W-1-:RANDOM_BITS]} & ~(RANDOM_BITS+1)'(1))"),
        ("a carry into the last bit needs a bit more", "up  = sum[RANDOM_BITS]",
         "up  = sum[RANDOM_BITS] & (|sum[RANDOM_BITS-1:0])"),
        families="composed",
    ),
    # -- operands ----------------------------------------------------------------------------------
    *_of(
        "fp_decode.sv",
        ("the sign is ignored", "(SIGNED != 0) & code_i[CODE_W-1]", "1'b0"),
        ("subnormals have a hidden bit", "HIDDEN = SUBNORMALS ==", "HIDDEN = SUBNORMALS <="),
        ("subnormals are zero", "~normal & (SUBNORMALS == fpsim_pkg::SUBNORMALS_FLUSH)", "~normal"),
        ("subnormals are one binade too low", "{1'b0}}, ~normal})", "{1'b0}}, 1'b0})"),
        ("the bias is off by one", "EXP_W'(-BIAS)", "EXP_W'(1 - BIAS)"),
        ("infinity is a number", "inf_o = &field & ~|mantissa", "inf_o = 1'b0"),
        ("NaN is a number", "nan_o = &field & |mantissa", "nan_o = 1'b0"),
        ("NaN of all ones is a number", "? &code_i[MAG_W-1:0] :", "? 1'b0 :"),
        ("integers are one's complement", "sign_o ? -code_i", "sign_o ? ~code_i"),
        ("integers lose their magnitude's top bit", "sign_o ? -code_i : code_i",
         "(sign_o ? -code_i : code_i) & ~((MAN+1)'(1) << MAN)"),
        ("integers are twice as large", "EXP_W'(MAN - BIAS)", "EXP_W'(MAN - BIAS + 1)"),
    ),
    *_of(
        "fp_multiply.sv",
        ("signs are or-ed", "a_sign_i ^ b_sign_i", "a_sign_i | b_sign_i"),
        ("a product's carry is forgotten", "+ scale_i + ONE", "+ scale_i"),
        ("a product loses its last bit", "* {{A_SIG_W{1'b0}}, b_significand_i}",
         "* {{A_SIG_W{1'b0}}, b_significand_i} & ~(A_SIG_W+B_SIG_W)'(1)"),
        ("infinity times zero is infinity", "(a_inf_i & b_zero) | (a_zero & b_inf_i)", "1'b0"),
        ("one factor's NaN is ignored", "a_nan_i | b_nan_i |", "a_nan_i |"),
        ("the other factor's NaN is ignored", "a_nan_i | b_nan_i |", "b_nan_i |"),
        ("infinite factors are ignored", "(a_inf_i | b_inf_i) & ~nan_o", "1'b0"),
    ),
    *_of(
        "fp_scale.sv",
        ("one scale counts twice", ".b_i(b_scale_i)", ".b_i(a_scale_i)"),
        ("scales are not applied", ".b_exponent_i(s_exponent)", ".b_exponent_i(-EXP_W'(1))"),
        ("a NaN scale is ignored", ".b_nan_i(s_nan)", ".b_nan_i(1'b0)"),
        ("an infinite scale is ignored", ".b_inf_i(s_inf)", ".b_inf_i(1'b0)"),
        ("the scales' sign is ignored", ".b_sign_i(s_sign)", ".b_sign_i(1'b0)"),
        ("the scales lose their last bit", ".b_significand_i(s_significand)",
         ".b_significand_i(s_significand & ~SCALE_W'(1))"),
        ("a NaN scale drops its block", "(NAN_ZERO != 0) & s_nan", "s_nan"),
    ),
    # -- sums of two -------------------------------------------------------------------------------
    *_of(
        "fp_normalise.sv",
        ("normalising leaves the exponent", "exponent_i - $signed(", "exponent_i | $signed("),
        ("normalising stops one stage early", "assign significand_o = g_stage[0].to",
         "assign significand_o = g_stage[0].from"),
    ),
    *_of(
        "fp_align_add.sv",
        ("the smaller exponent is taken for the larger", "(y_exponent_i > x_exponent_i)",
         "(y_exponent_i < x_exponent_i)"),
        ("equal exponents are not compared further", "(y_significand_i > x_significand_i)", "1'b0"),
        ("a zero's exponent counts", "swap   = x_zero | (~y_zero & (", "swap   = 1'b0 | (1'b1 & ("),
        ("x minus x keeps a sign", "? ZERO_SIGN : larger_sign", "? larger_sign : larger_sign"),
        ("x minus x is negative", "? ZERO_SIGN : larger_sign", "? 1'b1 : larger_sign"),
        ("zeros of equal sign lose it", "(subtract & ~normalised", "(~normalised"),
        ("a difference is a sum", "larger_wide - smaller_wide : larger_wide",
         "larger_wide + smaller_wide : larger_wide"),
        ("the sum's carry is forgotten", "larger_exponent + ONE", "larger_exponent"),
        ("the smaller number is not shifted", ".amount_i(distance)", ".amount_i('0 & distance)"),
        ("the smaller number has no guard bits", "{smaller, 3'b000}", "{smaller & ~SIG_W'(1), 3'b000}"),
    ),
    *_of(
        "fp_sum.sv",
        ("infinity minus infinity is infinity", "opposite = x_inf_i & y_inf_i &", "opposite = 1'b0 &"),
        ("NaN in the accumulator is ignored", "nan  = x_nan_i |", "nan  ="),
        ("NaN of a term is ignored", "x_nan_i | y_nan_i |", "x_nan_i |"),
        ("infinity in the accumulator is ignored", "inf  = x_inf_i | y_inf_i", "inf  = y_inf_i"),
        ("infinity of a term is ignored", "inf  = x_inf_i | y_inf_i", "inf  = x_inf_i"),
        ("infinity has the sign of the sum", "x_inf_i ? x_sign_i : y_inf_i ? y_sign_i : s_sign",
         "s_sign"),
    ),
    # -- sums of many ------------------------------------------------------------------------------
    *_of(
        "compressor_tree.sv",
        ("carries have the wrong weight", "carry << 1", "carry"),
        ("a compressor misses a carry", "(x & z) | (y & z)", "(x & z)"),
        ("a compressor misses a term", "x ^ y ^ z", "x ^ y"),
        ("rows are not sign-extended", "{rows_i[i*W+W-1]}", "{1'b0}"),
        families="aligned block",
    ),
    *_of(
        "grid_sum.sv",
        ("negative terms are one's complement", "? -{1'b0, magnitude}", "? ~{1'b0, magnitude}"),
        ("terms are not shifted", "} << shift", "} << ('0 & shift)"),
        ("terms are one place too high", "- ORIGIN;", "- ORIGIN + 1'b1;"),
        families="block exact composed",
    ),
    *_of(
        "block_sum.sv",
        ("a negative block sum is one's complement", "sum[TOTAL_W] ? -sum", "sum[TOTAL_W] ? ~sum"),
        ("a negative block sum is positive", ": sum[TOTAL_W];\n", ": 1'b0;\n"),
        ("the last element is left out", "(A_SIGN < 0 |", "(i < N - 1) & (A_SIGN < 0 |"),
        ("elements of b are in reverse order", "b_i[i*B_W+:B_W]", "b_i[(N-1-i)*B_W+:B_W]"),
        ("the signs of a choose the wrong scale", "(A_SIGN == 1)", "(A_SIGN == 0)"),
        ("the signs of b choose the wrong scale", "(B_SIGN == 1)", "(B_SIGN == 0)"),
        ("signs of b are not told apart", "(B_SIGN < 0 |", "(B_SIGN >= -1 |"),
    ),
    *_of(
        "max_exponent.sv",
        ("the smallest exponent is taken", "(x > y) ? x : y", "(x > y) ? y : x"),
        ("exponents are compared without sign", "(x > y)", "($unsigned(x) > $unsigned(y))"),
        ("zero products count", "counts_i[i] & (own", "(counts_i[i] | 1'b1) & (own"),
        ("half of the products are not compared", "2 * i + 1 < (N", "2 * i + 1 + N < (N"),
    ),
    *_of(
        "align_term.sv",
        ("terms are aligned one place too far", "top_i - exponent_i", "top_i - exponent_i + 1'b1"),
        ("negative terms are one's complement", "sign_i ? -{1'b0, magnitude}",
         "sign_i ? ~{1'b0, magnitude}"),
        ("the window has a bit less", "kept      = jammed[WIDE_W-1-:KEPT_W]",
         "kept      = jammed[WIDE_W-1-:KEPT_W] & ~KEPT_W'(1)"),
        ("terms are rounded to nearest", "ROUNDING, sign_i, kept[0]",
         "fpsim_pkg::ROUND_RNE, sign_i, kept[0]"),
        ("terms are floored", "ROUNDING, sign_i, kept[0]", "fpsim_pkg::ROUND_RDN, sign_i, kept[0]"),
        ("inexact terms keep a sticky bit", "ROUNDING, sign_i, kept[0]",
         "fpsim_pkg::ROUND_RTO, sign_i, kept[0]"),
    ),
    *_of(
        "aligned_window.sv",
        ("the addend is left out", ".significand_i(c_significand_i),", ".significand_i(c_significand_i & '0),"),
        ("the addend's sign is ignored", ".sign_i(c_sign_i), .exp", ".sign_i(1'b0), .exp"),
        ("the addend is one place too high", ".exponent_i(c_exponent_i), .significand_i(",
         ".exponent_i(c_exponent_i + EXP_W'(1)), .significand_i("),
    ),
    *_of(
        "aligned_join.sv",
        ("a distant addend is kept", "c_there ? c_significand_i : '0", "c_significand_i"),
        ("the second window is the first one's", "c_larger ? c_exponent_i : max", "max"),
        ("the sum and the addend have one grid", "sum_row} << (GRID - SUM_BITS)", "sum_row} << (GRID - ADDEND_BITS)"),
        ("one window's exponent is taken for both", "(first > second) ? first : second", "first"),
        ("sums are truncated in the second window", ".FRACTION_BITS(SUM_BITS), .HEAD(HEAD), .ROUNDING(JOIN_ROUNDING)",
         ".FRACTION_BITS(SUM_BITS), .HEAD(HEAD), .ROUNDING(2)"),
        families="composed",
    ),
    *_of(
        "aligned_add.sv",
        ("the addend's exponent is not compared", "& (c_exponent > max))", "& 1'b0)"),
        ("the sum's exponent is off by one", "EXP_W'(S_W - 1 - FRACTION_BITS)",
         "EXP_W'(S_W - FRACTION_BITS)"),
        ("a negative sum is one's complement", "negative ? -total", "negative ? ~total"),
        ("zero keeps a sign", "minus_zero = (SIGNED_ZERO == 0) &", "minus_zero = 1'b0 &"),
        ("NaN of a product is ignored", "(|nan_i) | c_nan |", "c_nan |"),
        ("NaN of the addend is ignored", "(|nan_i) | c_nan |", "(|nan_i) |"),
        ("infinities of both signs are infinity",
         "(inf_sign & ((|(inf_i & ~sign_i)) | (c_inf & ~c_sign)))", "1'b0"),
        ("an infinite addend is ignored", "any_inf  = (|inf_i) | c_inf", "any_inf  = |inf_i"),
        ("NaN has another code", "nan ? CODE_W'(NAN_CODE)", "nan ? CODE_W'(NAN_CODE + 1)"),
        ("the result has a mantissa bit less", ".EXP(EXP), .MAN(OUT_MAN), .BIAS(BIAS)",
         ".EXP(EXP), .MAN(OUT_MAN - 1), .BIAS(BIAS)"),
    ),
    *_of(
        "stage_exact.sv",
        ("earlier beats are forgotten", "sum       = prior + terms", "sum       = terms"),
        ("signs of earlier beats are forgotten", "seen      = seen_prior | {", "seen      = {"),
        ("NaN of a term is forgotten", "{|nan_i, plus_inf", "{1'b0, plus_inf"),
        ("infinity of a term is forgotten", "|nan_i, plus_inf, minus_inf,", "|nan_i, 2'b00,"),
        ("infinities of both signs are infinity", "seen[4] | (seen[3] & seen[2])", "seen[4]"),
        ("a zero sum is positive", ": ~seen[1];", ": 1'b0;"),
        ("a negative sum is one's complement", "? -sum : sum", "? ~sum : sum"),
        ("the sum's exponent is off by one", "EXP_W'(LOW + SPAN + 1", "EXP_W'(LOW + SPAN + 2"),
        families="exact",
    ),
    *_of(
        "stage_chain.sv",
        ("terms start from the addend", "assign from = g_add[i-1].to", "assign from = from_i"),
        families="block",
    ),
    *_of(
        "stage_chain.sv",
        ("products are truncated", ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(TERM_W)",
         ".ROUNDING(2), .OVERFLOW(OVERFLOW), .TERM_W(TERM_W)"),
        ("products lose their sign", ".sign_i(sign_i[i]), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),\n"
         "            .significand_i(significand_i[i*TERM_W+:TERM_W]), .inf_i(inf_i[i]), .nan_i(nan_i[i]),\n"
         "            .code_o(code)",
         ".sign_i(1'b0), .exponent_i(exponent_i[i*EXP_W+:EXP_W]),\n"
         "            .significand_i(significand_i[i*TERM_W+:TERM_W]), .inf_i(inf_i[i]), .nan_i(nan_i[i]),\n"
         "            .code_o(code)"),
        families="composed",
    ),
    *_of(
        "fp_convert.sv",
        ("a number is rounded before it is normalised", ".exponent_i(exponent), .significand_i(significand)",
         ".exponent_i(exponent_i), .significand_i(wide)"),
        families="composed",
    ),
    *_of(
        "tree_node.sv",
        ("a node adds its first child twice", "Y = N - 1;", "Y = 0;"),
        ("nodes are truncated",
         ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n      ) u_sum",
         ".ROUNDING(2), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n      ) u_sum"),
        ("nodes saturate",
         ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n      ) u_sum",
         ".ROUNDING(ROUNDING), .OVERFLOW(0), .EXP_W(EXP_W), .SIG_W(SIG_W)\n      ) u_sum"),
        families="tree composed",
    ),
    *_of(
        "tree_node.sv",
        ("wide nodes are truncated", ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .TERM_W(SUM_W)",
         ".ROUNDING(2), .OVERFLOW(OVERFLOW), .TERM_W(SUM_W)"),
        ("a wide node's exponent is off by one", "EXP_W'(LOW + SUM_W - SIG_W)",
         "EXP_W'(LOW + SUM_W - SIG_W + 1)"),
        ("NaN of a wide node's child is ignored", ".nan_i((|nan) | (plus_inf & minus_inf))",
         ".nan_i(plus_inf & minus_inf)"),
        ("infinities of both signs in a wide node are infinity", "(|nan) | (plus_inf & minus_inf)", "|nan"),
        ("a wide node of zeros is positive", ": &sign;", ": 1'b0;"),
        families="composed",
    ),
    *_of(
        "stage_tree.sv",
        ("nodes add other neighbours", "below[RADIX*i*NODE_W+:CHILDREN*NODE_W]",
         "below[i*NODE_W+:CHILDREN*NODE_W]"),
        families="tree composed",
    ),
    *_of(
        "stage_tree.sv",
        ("a lane takes its neighbour's terms", "{terms[i*NODE_W+:NODE_W], prior}",
         "{terms[(i^1)*NODE_W+:NODE_W], prior}"),
        ("the addend starts the last lane", "(i == 0 && JOIN", "(i == LANES - 1 && JOIN"),
        ("the addend is not the first leaf", "leaves     = {terms, from}", "leaves     = {from, terms}"),
        ("the addend is not fused", "children = {from, below}", "children = {{NODE_W{1'b0}}, below}"),
        ("products are not rounded", "if (ROUNDED != 0)", "if (ROUNDED < 0)"),
        families="composed",
    ),
    # -- beats, chunks -----------------------------------------------------------------------------
    *_of(
        "dot.sv",
        ("elements of a and b do not match", ".b_i(b[i*B_W+:B_W])", ".b_i(b[(LANES-1-i)*B_W+:B_W])"),
        families="aligned tree chunked",
    ),
    *_of(
        "dot.sv",
        ("zero terms raise the exponent", "(|significand) & ~inf & ~nan &", "1'b1 | (|significand) & ~inf & ~nan &"),
        ("terms are aligned by their top bit", "exponent - EXP_W'(DROP)", "exponent - EXP_W'(DROP - 1)"),
        families="aligned chunked",
    ),
    *_of(
        "dot.sv",
        ("the root is not added", ".code_i(code), .sign_o(sign)", ".code_i(code & '0), .sign_o(sign)"),
        families="tree",
    ),
    *_of(
        "dot.sv",
        ("quadrants are added in another order", "A_SIDE = BLOCKS ? i / (1 + B_SPLIT)",
         "A_SIDE = BLOCKS ? (TERMS - 1 - i) / (1 + B_SPLIT)"),
        ("the block sum's exponent is off by one", "EXP_W'(CORE_HIGH);", "EXP_W'(CORE_HIGH - 1);"),
        ("scales of a and b are exchanged in the sum", "a_scale[(GROUP*(1+A_SPLIT)+A_SIDE)*SA_W+:SA_W]",
         "b_scale[(GROUP*(1+B_SPLIT)+B_SIDE)*SA_W+:SA_W]"),
        ("the second sign's scale is never used", "b_scale[(GROUP*(1+B_SPLIT)+B_SIDE)*SB_W",
         "b_scale[(GROUP*(1+B_SPLIT))*SB_W"),
        families="block",
    ),
    *_of(
        "dot.sv",
        ("every block has the first one's scale", "a_scale[(GROUP*(1+A_SPLIT)+A_SIDE)*SA_W",
         "a_scale[A_SIDE*SA_W"),
        families="composed",
    ),

    *_of(
        "dot.sv",
        ("a sum goes on after it ended", "partial_q <= closes ? '0 : partial_d", "partial_q <= partial_d"),
        ("a stalled beat counts twice", "adds = t_valid & t_ready &", "adds = t_valid &"),
        families="exact chunked",
    ),
    *_of(
        "dot.sv",
        ("an exact sum is rounded at every beat", "sum  = closes ? to : addend", "sum  = to"),
        families="exact",
    ),
    *_of(
        "dot.sv",
        ("a chunk ends a beat off", "COUNTER_W'(CHUNK - 1)", "COUNTER_W'(CHUNK - 2)"),
        ("a vector's end does not end its chunk", "closes = t_last | (count_q == END)", "closes = count_q == END"),
        ("every beat is a chunk", "sum = closes ? outer : addend", "sum = outer"),
        ("chunks start from the accumulator", "assign from = partial_q", "assign from = STAGE_W'(addend)"),
        ("beats are not counted", "count_q <= closes ? '0 : count_q + 1'b1", "count_q <= '0"),
        families="chunked",
    ),
    # -- fixed point -------------------------------------------------------------------------------
    *_of(
        "fp_to_grid.sv",
        ("products are one place too high", "EXP_W'(LSB + SIG_W - 1)", "EXP_W'(LSB + SIG_W - 2)"),
        ("products are one place too low", "EXP_W'(LSB + SIG_W - 1)", "EXP_W'(LSB + SIG_W)"),
        ("a negative shift is a left shift", "shift[EXP_W-1] ?", "1'b0 ?"),
        ("right shifts are one too short", "right = -shift", "right = -shift - 1'b1"),
    ),
    *_of(
        "fixed_add.sv",
        ("a difference is a sum", "acc - addend : acc", "acc + addend : acc"),
        ("the accumulator is not sign-extended", "{acc_i[W-1]}", "{1'b0}"),
        ("overflow is seen one bit late", "exact[SUM_W-1:W-1] != {(SUM_W - W + 1) {exact[W-1]}}",
         "exact[SUM_W-1:W] != {(SUM_W - W) {exact[W]}}"),
        ("overflow saturates to the other end", "huge_i ? negative_i : exact[SUM_W-1]",
         "huge_i ? negative_i : ~exact[SUM_W-1]"),
        ("saturation is symmetric", "{low, {(W - 1) {~low}}}", "{low, {(W - 2) {~low}}, 1'b1}"),
        ("saturation gives zero", "{low, {(W - 1) {~low}}}", "'0"),
        ("saturation wraps", "out_of_range ? {low", "1'b0 ? {low"),
        ("the largest number saturates", "{low, {(W - 1) {~low}}}", "{low, {(W - 2) {~low}}, low}"),
        ("wrapping loses the top bit", "sum_o = exact[W-1:0]", "sum_o = {1'b0, exact[W-2:0]}"),
    ),
    # -- the stream --------------------------------------------------------------------------------
    *_of(
        "acc_stream.sv",
        ("a dot product starts from the accumulator", "? c_i : acc_q", "? acc_q : acc_q"),
        ("accumulating starts from c", "? c_i : acc_q", "? c_i : c_i"),
        ("clearing holds", "acc_d = '0", "acc_d = acc_q"),
        ("loading adds", "acc_d = c_i", "acc_d = sum_i"),
        ("idling adds", "acc_d = acc_q;\n    endcase", "acc_d = sum_i;\n    endcase"),
        ("every beat gives a result", "valid_i & last_i", "valid_i"),
        ("a stalled result is overwritten", "ready_o  = ~valid_q | ready_i", "ready_o  = 1'b1"),
        ("a stalled beat adds twice", "if (step) acc_q", "if (valid_i) acc_q"),
        ("a clock without a beat adds", "if (step) acc_q", "if (ready_o) acc_q"),
    ),
    *_of(
        "stream_pipe.sv",
        ("a stalled pipeline loses beats", "accept = ~valid_q | leave", "accept = 1'b1"),
        ("a stalled pipeline repeats beats", "if (accept & valid_d) data_q", "if (valid_d) data_q"),
        ("a pipeline never empties", "else if (accept) valid_q <= valid_d",
         "else if (accept & valid_d) valid_q <= valid_d"),
    ),
)  # fmt: skip
