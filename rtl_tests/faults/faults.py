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
    """One mistake: in ``file`` the text ``old`` reads ``new``."""

    name: str
    file: str
    old: str
    new: str


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


def _of(file: str, *rows: tuple[str, str, str]) -> tuple[Fault, ...]:
    return tuple(Fault(name, file, old, new) for name, old, new in rows)


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
        ("small results become zero", "code_o = {sign_i, finite};",
         "code_o = {sign_i, subnormal ? '0 : finite};"),
        ("the largest number overflows", "magnitude > {{", "magnitude >= {{"),
        ("overflow wraps", "else if (inf_i | overflow)", "else if (inf_i)"),
        ("overflow stops at the largest number", "ROUND_RNA: outward = 1'b1",
         "ROUND_RNA: outward = 1'b0"),
        ("infinity loses its sign", "OVERFLOW_INF: code_o = {sign_i,",
         "OVERFLOW_INF: code_o = {1'b0,"),
        ("NaN has another payload", "((ONE << MAN) >> 1)", "ONE"),
        ("NaN has a sign", "if (nan_i) code_o = {1'b0,", "if (nan_i) code_o = {sign_i,"),
        ("negative zero becomes positive", "code_o = {sign_i, finite};",
         "code_o = {sign_i & (|finite), finite};"),
    ),
    # -- operands ----------------------------------------------------------------------------------
    *_of(
        "fp_decode.sv",
        ("the sign is ignored", "assign sign_o = code_i[MAG_W]", "assign sign_o = 1'b0"),
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
        ("one scale counts twice", ".b_i(b_code)", ".b_i(a_code)"),
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
        ("infinity minus infinity is infinity", "(x_inf_i & y_inf_i & (x_sign_i ^ y_sign_i))", "1'b0"),
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
    ),
    *_of(
        "block_sum.sv",
        ("negative products are one's complement", "sign ? -{1'b0, magnitude}", "sign ? ~{1'b0, magnitude}"),
        ("a negative block sum is one's complement", "sum[TOTAL_W] ? -sum", "sum[TOTAL_W] ? ~sum"),
        ("a negative block sum is positive", ": sum[TOTAL_W];\n", ": 1'b0;\n"),
        ("the last element is left out", "(A_SIGN < 0 |", "(i < N - 1) & (A_SIGN < 0 |"),
        ("elements of b are in reverse order", "b_i[i*B_W+:B_W]", "b_i[(N-1-i)*B_W+:B_W]"),
        ("products are not shifted", "significand} << shift", "significand} << ('0 & shift)"),
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
        ("terms are aligned one place too far", "max_i - exponent_i", "max_i - exponent_i + 1'b1"),
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
        "aligned_add.sv",
        ("the addend's exponent is not compared", "& (c_exponent > max_i)", "& 1'b0"),
        ("the addend is left out", "{1'b0, c_significand}),", "{1'b0, c_significand} & '0),"),
        ("the addend's sign is ignored", ".sign_i(c_sign), .exponent_i(c_exponent)",
         ".sign_i(1'b0), .exponent_i(c_exponent)"),
        ("the addend is aligned as a product", "{1'b0, c_significand}),", "{c_significand, 1'b0}),"),
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
        "dot_aligned.sv",
        ("zero products raise the exponent", "(|product) & ~inf", "1'b1 | ~inf"),
        ("products are aligned by their top bit", "= top - ONE;", "= top;"),
        ("elements of a and b do not match", ".b_i(b[i*(B_EXP", ".b_i(b[(LANES-1-i)*(B_EXP"),
    ),
    *_of(
        "dot_block.sv",
        ("quadrants are added in another order", "A_SIDE = i / (1 + B_SPLIT)",
         "A_SIDE = (TERMS - 1 - i) / (1 + B_SPLIT)"),
        ("the block sum's exponent is off by one", "EXP_W'(TOTAL_TOP)", "EXP_W'(TOTAL_TOP - 1)"),
        ("scales of a and b are exchanged in the sum", "a_scale[A_SIDE*SA_W+:SA_W]",
         "b_scale[B_SIDE*SA_W+:SA_W]"),
        ("the second sign's scale is never used", "b_scale[B_SIDE*SB_W+:SB_W]", "b_scale[0+:SB_W]"),
        ("quadrants start from the addend", "assign from = g_add[i-1].to", "assign from = addend"),
    ),
    *_of(
        "dot_tree.sv",
        ("a node adds its first child twice", "min_of(2 * i + 1, BEFORE - 1)",
         "min_of(2 * i, BEFORE - 1)"),
        ("nodes add other neighbours", "fpsim_pkg::min_of(2 * i + 1, BEFORE - 1)", "(2 * i + 3) % BEFORE"),
        ("elements of a and b do not match", ".b_i(b[i*(B_EXP", ".b_i(b[(LANES-1-i)*(B_EXP"),
        ("nodes are truncated",
         ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n          ) u_sum",
         ".ROUNDING(2), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n          ) u_sum"),
        ("nodes saturate",
         ".ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)\n          ) u_sum",
         ".ROUNDING(ROUNDING), .OVERFLOW(0), .EXP_W(EXP_W), .SIG_W(SIG_W)\n          ) u_sum"),
        ("the root is not added", "assign {y_sign, y_exponent, y_significand, y_inf, y_nan} = t_root",
         "assign {y_sign, y_exponent, y_significand, y_inf, y_nan} = t_root & '0"),
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
        ("wrapping loses the top bit", "sum_o        = exact[W-1:0]", "sum_o        = {1'b0, exact[W-2:0]}"),
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
