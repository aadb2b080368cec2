# SPDX-License-Identifier: Apache-2.0
"""Mistakes that a designer of a quantizer makes, each with the format whose vectors show it."""

from __future__ import annotations

from faults.faults import Fault

__all__ = ["QUANTIZER_FAULTS"]


def _of(file: str, *rows: tuple[str, str, str, str]) -> list[tuple[str, Fault]]:
    return [(fmt, Fault(name, file, old, new)) for fmt, name, old, new in rows]


QUANTIZER_FAULTS = [
    *_of(
        "fp_quotient.sv",
        ("nv", "a quotient below 1 is not doubled", "less ? {x, 1'b0}", "1'b0 ? {x, 1'b0}"),
        ("nv", "a quotient below 1 keeps its exponent", "1'b0}}, less})", "1'b0}}, 1'b0})"),
        ("nv", "a rest is forgotten", "sticky = ~none & ~whole", "sticky = 1'b0"),
        ("nv", "a rest too small for float32 counts", "none   = rest <= limit",
         "none   = rest == '0"),
        ("nv", "a rest that float32 rounds up does not", "whole  = (y - rest) <= limit",
         "whole  = 1'b0"),
        ("nv", "ties of float32 stay a rest", "none   = rest <= limit", "none   = rest < limit"),
    ),
    *_of(
        "float32_product.sv",
        ("nv", "the tensor's product is truncated", "fpsim_pkg::ROUND_RNE",
         "fpsim_pkg::ROUND_RTZ"),
        ("nv", "the tensor's product is not normalised", ".significand_i(significand), .inf_i",
         ".significand_i(product), .inf_i"),
    ),
    *_of(
        "block_scale.sv",
        ("rceil", "rceil doubles the limit itself", "t_significand > L_SIGNIFICAND",
         "t_significand >= L_SIGNIFICAND"),
        ("rceil", "rceil is floor", "t_significand > L_SIGNIFICAND", "1'b0"),
        ("ceil", "ceil doubles powers of two", "|t_significand[22:0]", "1'b1"),
        ("even", "even looks at a bit less", "23-:EL_MAN+2]", "23-:EL_MAN+1]"),
        ("even", "even looks at a bit more", "23-:EL_MAN+2]", "23-:EL_MAN+3]"),
        ("mx", "floor doubles", "1'b0;\n      assign code", "1'b1;\n      assign code"),
        ("mx", "small scales wrap", "(~t_significand[23] | code[EXP_W-1]) ? '0 :",
         "~t_significand[23] ? '0 :"),
        ("mx:e5m10", "a block of zeros has the scale of its code",
         "(~t_significand[23] | code[EXP_W-1]) ? '0 :", "code[EXP_W-1] ? '0 :"),
        ("mx", "the limit's exponent is one too large", "& 255) - 127", "& 255) - 126"),
        ("nv", "the limit's exponent is one too small", "& 255) - 127", "& 255) - 128"),
        ("nv", "the limit's significand is 1", "{1'b1, LIMIT[22:0]}", "{1'b1, 23'd0}"),
        ("nv", "a scale of zero stays", "(raised == '0) ? OTHER : raised", "raised"),
        ("nv", "values are divided by the scale as it was", ".code_i({1'b0, scale_o})",
         ".code_i({1'b0, raised})"),
        ("smallest", "small scales are not raised", "(rounded[S_W-1:0] < LEAST) ? LEAST",
         "1'b0 ? LEAST"),
        ("keep", "a scale of zero divides", "flush_o       = ~v_significand[VALUE_W-1]",
         "flush_o       = 1'b0"),
        ("tiny", "a divisor beyond float32 divides", "d_inf | ~", "~"),
        ("tiny", "a limit of zero divides", "over = t_significand[23] & ~l_significand[23]",
         "over = 1'b0"),
        ("nv", "a limit beyond float32 divides", "l_inf ? '0 : quotient", "quotient"),
    ),
    *_of(
        "quantize_element.sv",
        ("tiny", "a flushed block is divided", ".significand_i(flush_i ? '0 : significand)",
         ".significand_i(significand)"),
        ("mx", "the sign is lost", ".sign_i(sign)", ".sign_i(1'b0)"),
        ("mx", "elements beyond the largest are NaN", "fpsim_pkg::OVERFLOW_SATURATE",
         "fpsim_pkg::OVERFLOW_NAN"),
        ("mx", "scales multiply", "x_exponent - exponent_i", "x_exponent + exponent_i"),
        ("mx", "blocks with NaN keep their codes", "drop_i ? '0 : code", "code"),
    ),
    *_of(
        "quantize_block.sv",
        ("mx", "negative values are the largest", "{1'b0, x_i[i*X_W+:X_W-1]}",
         "x_i[i*X_W+:X_W]"),
        ("signs", "both signs have one scale", "assign counts[i] = (SIGNS == 0) |",
         "assign counts[i] = 1'b1 |"),
        ("signs", "signs are told apart the wrong way", "(x_i[i*X_W+X_W-1] == (s == 1))",
         "(x_i[i*X_W+X_W-1] == (s == 0))"),
        ("signs", "elements have the other sign's scale", "s_x[i*X_W+X_W-1]\n            ?",
         "~s_x[i*X_W+X_W-1]\n            ?"),
        ("mx", "NaN has a scale like numbers", "(|bad) ? S_W'(S_NAN) : code", "code"),
        ("signs", "NaN spoils the scale of its sign alone", "(|bad) ? S_W'(S_NAN) : code",
         "bad[s] ? S_W'(S_NAN) : code"),
        ("mx", "a negative last value is left out", "assign counts[i] = (SIGNS == 0) |",
         "assign counts[i] = (SIGNS == 0 && i < BLOCK - 1) |"),
    ),
]  # fmt: skip
