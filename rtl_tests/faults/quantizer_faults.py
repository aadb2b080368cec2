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
        ("nvfp4", "a quotient below 1 is not doubled", "less ? {x, 1'b0}", "1'b0 ? {x, 1'b0}"),
        ("nvfp4", "a quotient below 1 keeps its exponent", "1'b0}}, less})", "1'b0}}, 1'b0})"),
        ("nvfp4", "a rest is forgotten", "sticky = ~none & ~whole", "sticky = 1'b0"),
        ("nvfp4", "a rest too small for float32 counts", "none   = rest <= limit",
         "none   = rest == '0"),
        ("nvfp4", "a rest that float32 rounds up does not", "whole  = (y - rest) <= limit",
         "whole  = 1'b0"),
        ("nvfp4", "ties of float32 stay a rest", "none   = rest <= limit", "none   = rest < limit"),
        ("nvfp4", "an even quotient has a digit less", "from >= {1'b0, y}", "from > {1'b0, y}"),
    ),
    *_of(
        "float32_product.sv",
        ("nvfp4", "the tensor's product is truncated", "fpsim_pkg::ROUND_RNE",
         "fpsim_pkg::ROUND_RTZ"),
        ("nvfp4", "the tensor's product is not normalised", ".significand_i(significand), .inf_i",
         ".significand_i(product), .inf_i"),
    ),
    *_of(
        "block_scale.sv",
        ("mxfp4-rceil", "rceil doubles the limit itself", "t_significand > L_SIGNIFICAND",
         "t_significand >= L_SIGNIFICAND"),
        ("mxfp4-rceil", "rceil is floor", "t_significand > L_SIGNIFICAND", "1'b0"),
        ("mxfp4-ceil", "ceil doubles powers of two", "|t_significand[22:0]", "1'b1"),
        ("mxfp4-even", "even looks at a bit less", "23-:EL_MAN+2]", "23-:EL_MAN+1]"),
        ("mxfp4-even", "even looks at a bit more", "23-:EL_MAN+2]", "23-:EL_MAN+3]"),
        ("mxfp4", "floor doubles", "1'b0;\n      assign code", "1'b1;\n      assign code"),
        ("mxfp4", "small scales wrap", "(~t_significand[23] | code[EXP_W-1]) ? '0 :",
         "~t_significand[23] ? '0 :"),
        ("mxfp4", "a block of zeros has the scale of its code",
         "(~t_significand[23] | code[EXP_W-1]) ? '0 :", "code[EXP_W-1] ? '0 :"),
        ("mxfp4", "the limit's exponent is one too large", "& 255) - 127", "& 255) - 126"),
        ("nvfp4", "the limit's exponent is one too small", "& 255) - 127", "& 255) - 128"),
        ("nvfp4", "the limit's significand is 1", "{1'b1, LIMIT[22:0]}", "{1'b1, 23'd0}"),
        ("nvfp4", "a scale of zero stays", "(raised == '0) ? OTHER : raised", "raised"),
        ("nvfp4", "a block of zeros is not looked at", "none = ~t_significand[23] | l_inf",
         "none = l_inf"),
        ("nvfp4", "values are divided by the scale as it was", ".code_i({1'b0, scale_o})",
         ".code_i({1'b0, raised})"),
        ("smallest", "small scales are not raised", "(rounded[S_W-1:0] < LEAST) ? LEAST",
         "1'b0 ? LEAST"),
        ("keep", "a scale of zero divides", "flush_o       = ~v_significand[VALUE_W-1]",
         "flush_o       = 1'b0"),
        ("nvfp4", "a divisor beyond float32 divides", "flush_o        = d_inf |",
         "flush_o        = 1'b0 &"),
        ("nvfp4", "a limit beyond float32 divides", "~t_significand[23] | l_inf",
         "~t_significand[23] | 1'b0"),
    ),
    *_of(
        "quantize_element.sv",
        ("nvfp4", "zeros have a quotient", "none            = flush_i | ~x_significand[X_W-1]",
         "none            = flush_i"),
        ("mxfp4", "the sign is lost", ".sign_i(sign)", ".sign_i(1'b0)"),
        ("mxfp4", "elements wrap", "fpsim_pkg::OVERFLOW_SATURATE", "fpsim_pkg::OVERFLOW_WRAP + 1"),
        ("mxfp4", "scales multiply", "x_exponent - exponent_i", "x_exponent + exponent_i"),
        ("mxfp4", "blocks with NaN keep their codes", "drop_i ? '0 : code", "code"),
    ),
    *_of(
        "quantize_block.sv",
        ("mxfp4", "negative values are the largest", "{1'b0, x_i[i*X_W+:X_W-1]}",
         "x_i[i*X_W+:X_W]"),
        ("amxfp4", "both signs have one scale", "assign counts[i] = (SIGNS == 0) |",
         "assign counts[i] = 1'b1 |"),
        ("amxfp4", "signs are told apart the wrong way", "(x_i[i*X_W+X_W-1] == (s == 1))",
         "(x_i[i*X_W+X_W-1] == (s == 0))"),
        ("amxfp4", "elements have the other sign's scale", "s_x[i*X_W+X_W-1]\n            ?",
         "~s_x[i*X_W+X_W-1]\n            ?"),
        ("mxfp4", "NaN has a scale like numbers", "(|bad) ? S_W'(S_NAN) : code", "code"),
        ("amxfp4", "NaN spoils the scale of its sign alone", "(|bad) ? S_W'(S_NAN) : code",
         "bad[s] ? S_W'(S_NAN) : code"),
        ("mxfp4", "the last value is left out", "i < BLOCK; i++) begin : g_counts\n",
         "i < BLOCK - 1; i++) begin : g_counts\n        assign counts[BLOCK-1] = 1'b0;\n"),
    ),
]  # fmt: skip
