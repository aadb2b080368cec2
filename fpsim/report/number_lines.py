# SPDX-License-Identifier: Apache-2.0
"""Number formats as lines of marks for a page, each mark with a text for the mouse over it.

A format of at most 8 bits has a mark per value; a wider format has a mark per binade, whose height
shows how fine the step is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpsim.formats.floating import FloatFormat, Format

__all__ = ["FormatLine", "LineMark", "number_line"]

#: Most bits of a format with a mark per value.
MAX_BITS = 8


@dataclass(frozen=True)
class LineMark:
    """A mark: place and width as shares of the line, height as share of the highest, and text."""

    x: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class FormatLine:
    """A format as marks; ``left`` and ``right`` are the ends of the line."""

    role: str  #: role of the format: ``a``, ``accumulator``
    format: str
    values: bool  #: whether marks are values, not binades
    marks: tuple[LineMark, ...]
    left: str
    right: str
    note: str = ""


def number_line(role: str, fmt: Format) -> FormatLine:
    """Return the marks of an element, scale or accumulator format.

    Args:
        role: role of the format.
        fmt: any format.
    """
    return _values(role, fmt) if fmt.bits <= MAX_BITS else _binades(role, fmt)


def _values(role: str, fmt: Format) -> FormatLine:
    codes = np.arange(1 << fmt.bits, dtype=np.uint8)
    decoded = fmt.decode(codes).astype(np.float64)
    finite = np.isfinite(decoded)
    by_value: dict[float, list[int]] = {}
    for code, value in zip(codes[finite].tolist(), decoded[finite].tolist(), strict=True):
        by_value.setdefault(value + 0.0, []).append(code)
    values = sorted(by_value)
    low, high = values[0], values[-1]
    span = (high - low) or 1.0
    marks = []
    for i, value in enumerate(values):
        parts = [f"{_codes(by_value[value], fmt.bits)} is {value:g}"]
        if i:
            parts.append(f"step down {value - values[i - 1]:g}")
        if i + 1 < len(values):
            parts.append(f"step up {values[i + 1] - value:g}")
        below = "-inf" if i == 0 else f"{(values[i - 1] + value) / 2:g}"
        above = "inf" if i + 1 == len(values) else f"{(value + values[i + 1]) / 2:g}"
        parts.append(f"nearest for {below} to {above}")
        marks.append(LineMark((value - low) / span, 0.0, 1.0, "; ".join(parts)))
    others = [
        f"{_codes([code], fmt.bits)} is {'NaN' if math.isnan(value) else f'{value:g}'}"
        for code, value in zip(codes[~finite].tolist(), decoded[~finite].tolist(), strict=True)
    ]
    note = "; ".join(others[:4]) + (f"; {len(others)} specials in all" if len(others) > 4 else "")
    return FormatLine(role, fmt.name, True, tuple(marks), f"{low:g}", f"{high:g}", note)


def _codes(codes: list[int], bits: int) -> str:
    digits = -(-bits // 4)
    return " and ".join(f"0x{code:0{digits}x} ({code:0{bits}b})" for code in codes)


def _binades(role: str, fmt: Format) -> FormatLine:
    if not isinstance(fmt, FloatFormat):
        top = fmt.bits - 1 + fmt.lsb
        low = math.ldexp(fmt.min_integer, fmt.lsb)
        words = f"every multiple of 2^{fmt.lsb} from {low:g} to {fmt.max_value:g}"
        mark = LineMark(0.0, 1.0, 1.0, words)
        return FormatLine(role, fmt.name, False, (mark,), f"2^{fmt.lsb}", f"2^{top}")
    low, high = fmt.exponent_min, fmt.exponent_max
    count = high - low + 2
    bottom = low - fmt.mantissa_bits
    words = f"below 2^{low}: steps of 2^{bottom}" + (" (subnormal)" if fmt.mantissa_bits else "")
    marks = [LineMark(0.0, 1 / count, 1.0, words)]
    for i, exponent in enumerate(range(low, high + 1), 1):
        step = exponent - fmt.mantissa_bits
        height = 1 - (i - 1) / count
        words = f"2^{exponent} to 2^{exponent + 1}: steps of 2^{step}"
        marks.append(LineMark(i / count, 1 / count, height, words))
    return FormatLine(role, fmt.name, False, tuple(marks), f"2^{bottom}", f"{fmt.max_value:g}")
