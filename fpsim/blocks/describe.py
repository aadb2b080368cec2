# SPDX-License-Identifier: Apache-2.0
"""Formats as text: every code of one, and of block formats the equations and a worked example."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BLOCK_FORMATS, BlockFormat, get_block_format
from fpsim.blocks.scale_rules import RANGE_RULES, Arithmetic, ScaleRule, ZeroScale
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format

__all__ = [
    "block_example",
    "block_row",
    "code_rows",
    "equations",
    "find_block_format",
    "format_table",
]

#: Widest format whose codes are listed.
MAX_TABLE_BITS = 16

#: Values of the example: both signs, a large one on one side, an exact zero.
EXAMPLE = (10.0, 3.1, -0.7, 0.2, -0.05, 0.0, 1.3, -0.4)

_RULES = {
    ScaleRule.FLOOR: "s = 2^(floor(log2 amax) - {e})",
    ScaleRule.RCEIL: "s = 2^ceil(log2(amax / {top}))",
    ScaleRule.CEIL: "s = 2^(ceil(log2 amax) - {e})",
    ScaleRule.EVEN: "s = 2^(floor(log2 r) - {e}), r = amax rounded to the element's precision",
    ScaleRule.RANGE: "s = {scale}((max - min) / {steps})",
    ScaleRule.RANGE_FLOOR: "s = 2^floor(log2((max - min) / {steps}))",
    ScaleRule.RANGE_ROUND: "s = 2^round(log2((max - min) / {steps}))",
    ScaleRule.RAZOR: "s = 2^max(bits of the OR of all |i| - {kept}, 0)",
}
_ZERO = {
    ZeroScale.ONE: "1",
    ZeroScale.SMALLEST: "clamped to 2^{lowest}",
    ZeroScale.KEEP: "0, with zero elements",
}


def code_rows(fmt: str | Format) -> list[dict[str, Any]]:
    """Return code, bits, value and next ulp of every code of a format, in the order of codes.

    ``next_ulp`` is the distance to the next larger finite value, None where there is none. NaN and
    infinities are text.

    Raises:
        FpsimError: a format of more than 16 bits.
    """
    fmt = get_format(fmt)
    if fmt.bits > MAX_TABLE_BITS:
        raise FpsimError(
            f"format: {fmt.name} has {fmt.bits} bits; tables are for up to {MAX_TABLE_BITS}"
        )
    values = fmt.decode(np.arange(1 << fmt.bits)).tolist()
    finite = sorted({v for v in values if np.isfinite(v)})
    following = {a: b - a for a, b in pairwise(finite)}
    return [
        {
            "code": code,
            "bits": f"{code:0{fmt.bits}b}",
            "value": value if np.isfinite(value) else str(value),
            "next_ulp": following.get(value),
        }
        for code, value in enumerate(values)
    ]


def format_table(fmt: str | Format) -> str:
    """Return `code_rows` as lines of text, for print.

    Raises:
        FpsimError: a format of more than 16 bits.
    """
    rows = code_rows(fmt)
    lines = [list(rows[0])]
    lines += [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def find_block_format(name: str) -> BlockFormat | None:
    """Return the block format ``name`` means, or None if it is not even close to one.

    Raises:
        FpsimError: a TOML file that describes none, or a scale rule that does not fit.
    """
    key = name.strip().lower()
    known = key in BLOCK_FORMATS or key.rpartition("-")[0] in BLOCK_FORMATS
    return get_block_format(name) if known or key.endswith(".toml") else None


def block_row(fmt: BlockFormat) -> dict[str, Any]:
    """Return what a list of block formats says of one."""
    scale = "real" if fmt.scale is None else fmt.scale.name
    return {
        "name": fmt.name,
        "element": fmt.element.name,
        "block": fmt.block,
        "scale": f"{scale} per sign" if fmt.signs else scale,
        "rule": fmt.rule.value,
        "bits": fmt.bits_per_element,
    }


def equations(fmt: BlockFormat) -> list[str]:
    """Return how a block's scale, codes and values follow from x, one line each."""
    scale = "" if fmt.scale is None else fmt.scale.name
    cast = f"{fmt.element.name}[{fmt.rounding.value}]"
    if fmt.rule is ScaleRule.ABSMAX:
        lines = _absmax(fmt)
    else:
        top_exponent = int(np.frexp(fmt.element.max_value)[1]) - 1
        steps = (1 << fmt.element.bits) - 1
        text = _RULES[fmt.rule].format(
            e=top_exponent,
            top=f"{fmt.limit:g}",
            scale=f"{scale}[{fmt.scale_rounding.value}]",
            steps=steps,
            kept=fmt.element.bits - 1,
        )
        lines = [text]
    if fmt.rule is ScaleRule.RAZOR:
        top = (1 << (fmt.base_bits - 1)) - 1
        lines = [f"s_t = max|x| of the tensor / {top};  i = rne(x / s_t)", *lines]
        return [*lines, f"P = {cast}(i / s)", "x^ = P * s * s_t"]
    if fmt.rule in RANGE_RULES:
        lowest = 1 << (fmt.element.bits - 1)
        lines.append(f"z = -round(min / s) - {lowest};  P = {cast}(x / s + z)")
        return [*lines, "x^ = (P - z) * s"]
    if fmt.signs:
        lines.append("amax, s: of elements with the sign bit clear, and of those with it set")
    product = "s * s_t" if fmt.tensor_range else "s"
    divisor = f"({product})" if fmt.tensor_range else product
    return [*lines, f"P = {cast}(x / {divisor})", f"x^ = P * {product}"]


def _absmax(fmt: BlockFormat) -> list[str]:
    if fmt.scale is None:
        return [f"s = amax / {fmt.limit:g}, a real number; 1 if that is 0"]
    lines = []
    product = f"{fmt.limit:g}"
    if fmt.tensor_range:
        lines.append(f"s_t = max|x| of the tensor / ({fmt.limit:g} * {fmt.tensor_range:g})")
        product = f"({fmt.limit:g} * s_t)"
    zero = _ZERO[fmt.zero].format(lowest=fmt.scale.exponent_min)
    lines.append(
        f"s = {fmt.scale.name}[{fmt.scale_rounding.value}](amax / {product}); "
        f"where that is 0: {zero}"
    )
    if fmt.alternative is not None:
        lines.append(
            f"or, if its {fmt.choice} is smaller: elements {fmt.alternative.name}, stretched by "
            f"{fmt.element.max_value:g}/{fmt.alternative.max_value:g}, the sign bit of s set"
        )
    elif fmt.choice is not None:
        lines.append(f"or {fmt.expansion:g} times amax, if the {fmt.choice} is smaller")
    if fmt.arithmetic is not Arithmetic.DIVIDE:
        lines.append(
            f"float32 operations in the order '{fmt.arithmetic}' of fpsim.blocks.scale_rules"
        )
    return lines


def block_example(fmt: BlockFormat) -> list[dict[str, Any]]:
    """Return a worked example: one block of 8 values, each with its code, scale and value."""
    x = np.array(EXAMPLE, dtype=np.float32)
    length = min(len(x), fmt.block) if isinstance(fmt.block, int) else len(x)
    x = x[:length]
    q = fmt.quantize(x)
    values = fmt.dequantize(q)
    rows = []
    for i, value in enumerate(x):
        code = int(q.codes[i])
        below = q.negative_scales is not None and bool(np.signbit(value))
        scales = q.negative_scales if below else q.scales
        assert scales is not None
        row = {"x": float(f"{value:.6g}"), "code": code, "bits": f"{code:0{fmt.element.bits}b}"}
        if fmt.scale is None:
            row["scale"] = float(scales[0])
        else:
            row |= {"scale_code": int(scales[0]), "scale": float(fmt.scale.decode(scales)[0])}
        if q.tensor_scale is not None:
            row["tensor_scale"] = float(q.tensor_scale)
        if q.zero_points is not None:
            row["zero_point"] = int(q.zero_points[0])
        rows.append(row | {"value": float(values[i])})
    return rows
