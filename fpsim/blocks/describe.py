# SPDX-License-Identifier: Apache-2.0
"""Formats as text: every code of a format, and of block formats the equations and an example."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BLOCK_FORMATS, BlockFormat, get_block_format, split_name
from fpsim.blocks.fields import Errors, Span
from fpsim.blocks.grids import Fit, Table
from fpsim.blocks.meaning import all_variants, has_row_tables, meaning
from fpsim.blocks.named import LEARNED
from fpsim.blocks.scale_rules import RANGE_RULES, Arithmetic, ScaleEncoder, ScaleRule, ZeroScale
from fpsim.blocks.widen import wide_scales
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Rounding

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

#: Rows whose tables are listed, of those that have tables of their own.
MAX_ROWS = 4

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
    ZeroScale.LEAST: "clamped to the least above 0",
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
    """Return the block format that a name or TOML file means; None for an unknown name.

    Raises:
        FpsimError: a TOML file that describes none, a suffix that is no scale rule that fits, or a
            format whose tables are learned.
    """
    base, _ = split_name(name)
    known = base in BLOCK_FORMATS or base in LEARNED or base.endswith(".toml")
    return get_block_format(name) if known else None


def block_row(fmt: BlockFormat) -> dict[str, Any]:
    """Return the one-line description of a block format for lists."""
    scale = "real" if fmt.scale is None else fmt.scale.name
    tiles = isinstance(fmt.block, tuple)
    return {
        "name": fmt.name,
        "element": fmt.element.name,
        "block": "x".join(str(n) for n in fmt.block) if tiles else fmt.block,  # type: ignore[union-attr]
        "scale": f"{scale} per sign" if fmt.signs else scale,
        "rule": fmt.rule.value,
        "bits": fmt.bits_per_element,
    }


def equations(fmt: BlockFormat) -> list[str]:
    """Return the equations of a block's scale, codes and values, one a line."""
    scale = "" if fmt.scale is None else fmt.scale.name
    cast = f"{fmt.element.name}[{fmt.ties or fmt.rounding.value}]"
    if fmt.rule is ScaleRule.ABSMAX:
        lines = _absmax(fmt)
    else:
        limit = fmt.limit
        if fmt.is_coded:
            limit = meaning(fmt).limits[0]
        steps = f"{limit:g}" if fmt.is_coded else str((1 << fmt.element.bits) - 1)
        text = _RULES[fmt.rule].format(
            e=int(np.frexp(limit)[1]) - 1,
            top=f"{limit:g}",
            scale=f"{scale}[{fmt.scale_rounding.value}]",
            steps=steps,
            kept=fmt.element.bits - 1,
        )
        lines = [text]
    if fmt.rule is ScaleRule.RAZOR:
        top = (1 << (fmt.base_bits - 1)) - 1
        lines = [f"s_t = max|x| of the tensor / {top};  i = rne(x / s_t)", *lines]
        return [*lines, f"P = {cast}(i / s)", "x^ = P * s * s_t"]
    if fmt.rule in RANGE_RULES and not fmt.is_coded:
        lowest = 1 << (fmt.element.bits - 1)
        lines.append(f"z = -round(min / s) - {lowest};  P = {cast}(x / s + z)")
        return [*lines, "x^ = (P - z) * s"]
    if fmt.macro is not None:
        macro = fmt.macro
        lines = [
            f"f = significand(max|x| of {macro.block} / {macro.target:g}), {macro.bits} bits, at "
            "least 1; x / f takes the place of x",
            *lines,
        ]
    if fmt.signs:
        lines.append("amax, s: of elements with the sign bit clear, and of those with it set")
    product = "s * s_t" if fmt.tensor_range else "s"
    if fmt.is_coded:
        return [*lines, *_coded(fmt, product)]
    divisor = f"({product})" if fmt.tensor_range else product
    if fmt.macro is not None:
        product = f"{product} * f"
    return [*lines, f"P = {cast}(x / {divisor})", f"x^ = P * {product}"]


def _coded(fmt: BlockFormat, product: str) -> list[str]:
    """Return the equations of codes of grids, levels and top elements, and their meaning."""
    what = meaning(fmt)
    lines = []
    if fmt.signed_max:
        lines.append("s has the sign of the largest magnitude, the first of several")
    by_row = has_row_tables(fmt)
    shown = MAX_ROWS if by_row else len(what.grids)
    for v, (variant, grid) in enumerate(
        zip(all_variants(fmt)[:shown], what.grids[:shown], strict=True)
    ):
        number = f" {v}" if len(what.grids) > 1 else ""
        number = f" of row {v}" if by_row else number
        values = " ".join(f"{float(x):.6g}" for x in grid.values[:18])
        more = " ..." if len(grid.values) > 18 else ""
        named = "" if isinstance(variant.element, Table) else f" ({variant.element.name})"
        scaled = "" if what.limits[v] == what.limits[0] else f"; amax maps to {what.limits[v]:g}"
        lines.append(f"grid{number}{named}: {values}{more}{scaled}")
        if isinstance(variant.element, Table) and variant.element.is_rounded:
            lines.append(f"  its values were rounded once to {variant.element.wide_format.name}")
    if by_row:
        lines.append(f"each of the {len(what.grids)} rows of a matrix has a grid of its own")
    if len(fmt.expansions) > 1:
        tried = ", ".join(f"{e:g}" for e in fmt.expansions)
        lines.append(f"scales tried: {tried} times s")
    for level in fmt.levels:
        ratios = ", ".join(f"{r:g}" for r in level.ratios)
        rule = "of least squared error"
        if level.by is Fit.MAX:
            rule = f"the smallest with max|x| / (s r) < {level.limit:g}"
        lines.append(f"r of {level.block} elements: one of {ratios}, {rule}")
    ratio = " * r" * len(fmt.levels)
    ties = fmt.ties or ("even" if fmt.rounding == "rne" else "away, special values first")
    lines.append(f"W = the value of the grid nearest to x / ({product}{ratio}); ties: {ties}")
    if fmt.choice is not None:
        where = "beside the scale" if fmt.stored == "scale" else "in metadata"
        how = f"{fmt.choice} in float32" if fmt.errors is Errors.FLOAT32 else fmt.choice
        lines.append(f"the candidate is chosen by {how}; the grid is stored {where}")
    if fmt.top is not None and fmt.top.is_stored:
        last = fmt.top.base + fmt.top.step * ((1 << (fmt.element.bits - 1)) - 1)
        lines.append(
            f"of {fmt.top.block} elements the largest, unless the code of s is 0: W = "
            f"+-({fmt.top.base:g}, {fmt.top.base + fmt.top.step:g}, ... {last:g}), its index stored"
        )
    elif fmt.top is not None:
        assert fmt.top.element is not None
        offsets = ", ".join(str(o) for o in fmt.top.offsets)
        lines.append(
            f"of {fmt.top.block} elements the largest W, the first of several, is refined to "
            f"{fmt.top.element.name}: by {offsets} codes, stored"
        )
    odd = "" if what.divisor == 1 else f", in units of 1/{what.divisor}"
    lines.append(f"a unit sees W{ratio} as {what.wide.name}{odd}, and s")
    return [*lines, f"x^ = W * {product}{ratio}"]


def _absmax(fmt: BlockFormat) -> list[str]:
    if fmt.scale is None:
        return [f"s = amax / {fmt.limit:g}, a real number; 1 if that is 0"]
    lines = []
    limit = meaning(fmt).limits[0] if fmt.is_coded else fmt.limit
    product = f"{limit:g}"
    if fmt.tensor_range:
        of = "row" if fmt.outer is Span.ROW else "tensor"
        lines.append(f"s_t = max|x| of the {of} / ({fmt.limit:g} * {fmt.tensor_range:g})")
        product = f"({limit:g} * s_t)"
    zero = _ZERO[fmt.zero].format(lowest=fmt.scale.exponent_min)
    rounding = fmt.scale_rounding.value
    if fmt.scale_encoder is ScaleEncoder.GGML:
        rounding = "ggml"
    lines.append(f"s = {fmt.scale.name}[{rounding}](amax / {product}); where that is 0: {zero}")
    if fmt.arithmetic is not Arithmetic.DIVIDE:
        lines.append(
            f"float32 operations in the order '{fmt.arithmetic}' of fpsim.blocks.scale_rules"
        )
    return lines


def block_example(fmt: BlockFormat) -> list[dict[str, Any]]:
    """Return a worked example: one block of 8 values, each with its code, scale and value.

    Of rows with tables of their own, it is in the first.
    """
    x = np.array(EXAMPLE, dtype=np.float32)
    length = min(len(x), fmt.block) if isinstance(fmt.block, int) else len(x)
    rows_of = all_variants(fmt) if has_row_tables(fmt) else [0]
    matrix = isinstance(fmt.block, tuple) or len(rows_of) > 1
    x = np.tile(x[:length], (len(rows_of), 1)) if matrix else x[:length]
    draws = {"random_bits": 8} if Rounding.SR in (fmt.rounding, fmt.scale_rounding) else {}
    if fmt.rounding is Rounding.SR:
        draws["random"] = np.full(x.shape, 128)  # type: ignore[assignment]
    if fmt.scale_rounding is Rounding.SR:
        draws["scale_random"] = np.array(128)  # type: ignore[assignment]
    q = fmt.quantize(x, **draws)  # type: ignore[arg-type]
    values = fmt.dequantize(q)
    plain = q.scales
    wide = None
    if fmt.is_coded:
        plain = wide_scales(fmt, q)
        held = fmt.wide.decode(fmt.widen(q).codes)
        wide = np.ravel(held / meaning(fmt).divisor)
    if matrix:
        macros = None if q.macros is None else q.macros[0]
        q = replace(q, codes=q.codes[0], scales=q.scales[0], macros=macros, axis=0)
        x, values, plain = x[0], values[0], plain[0]
    rows = []
    for i, value in enumerate(x):
        code = int(q.codes[i])
        below = q.negative_scales is not None and bool(np.signbit(value))
        scales = q.negative_scales if below else q.scales
        assert scales is not None
        row = {"x": float(f"{value:.6g}"), "code": code, "bits": f"{code:0{fmt.element.bits}b}"}
        at = i // fmt.block if isinstance(fmt.block, int) else 0
        if fmt.scale is None:
            row["scale"] = float(scales[at])
        else:
            decoded = q.negative_scales if below else plain
            assert decoded is not None
            row |= {"scale_code": int(scales[at]), "scale": float(fmt.scale.decode(decoded)[at])}
        if wide is not None:
            row["w"] = float(wide[i])
        if q.variants is not None:
            row["variant"] = int(q.variants[at])
        if q.ratios is not None:
            row["ratio"] = float(meaning(fmt).ratios[q.ratios[i // fmt.levels[-1].block]])
        if q.tops is not None and fmt.top is not None:
            row["top"] = int(q.tops[i // fmt.top.block])
        if q.macros is not None:
            row["macro"] = int(q.macros[0])
        if q.tensor_scale is not None:
            row["tensor_scale"] = float(np.ravel(q.tensor_scale)[0])
        if q.zero_points is not None:
            row["zero_point"] = int(q.zero_points[0])
        rows.append(row | {"value": float(values[i])})
    return rows
