# SPDX-License-Identifier: Apache-2.0
"""Format names: the grammar, the aliases, and `get_format`.

    [u]e{E}m{M}[b{bias}][specials][_flush|_nozero]     e2m1  e2m1b3  e4m3fn  ue4m3fn  e5m10
    [u]int{W}[q{fraction bits}][s]                     int4  int4s (symmetric)  int24q2
    binary{K}p{P}{s|u}{f|e}                            IEEE P3109 (interim report 3.2.2)

``specials`` is one of f (every code finite), i (IEEE 754), fn (NaN where all magnitude bits are
one), fnuz (NaN at the sign bit alone), and fi, fni, fnuzi with one infinity above the largest
finite code. Left out, it is f up to 6 bits and i above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fpsim.base.errors import MAX_NAME, FpsimError, nearest
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.floating_fields import (
    SPECIAL_SUFFIXES,
    SUBNORMAL_SUFFIXES,
    NanCodes,
    Subnormals,
    default_bias,
    default_specials,
)

__all__ = ["NAMED_FORMATS", "get_format"]

#: Other names of formats the grammar can spell.
ALIASES: dict[str, str] = {
    "e2m1fn": "e2m1",
    "e2m3fn": "e2m3",
    "e3m2fn": "e3m2",
    "e4m3fnuz": "e4m3b8fnuz",
    "e5m2fnuz": "e5m2b16fnuz",
    "ue4m3": "ue4m3fn",
    "fp4": "e2m1",
    "fp16": "e5m10",
    "half": "e5m10",
    "bf16": "e8m7",
    "bfloat16": "e8m7",
    "tf32": "e8m10",
    "fp32": "e8m23",
    "float32": "e8m23",
    "float16": "e5m10",
    "int8mx": "int8q6",
    "float8_e8m0fnu": "e8m0",
}

#: The OCP MX scale format: 2^(code - 127), 0xFF is NaN, no zero and no sign.
E8M0 = FloatFormat(
    8, 0, 127, signed=False, nan=NanCodes.TOP, subnormals=Subnormals.NONE, alias="e8m0"
)

#: Formats that `fpsim formats` lists.
NAMED_FORMATS: tuple[str, ...] = (
    "e2m1", "e1m2", "e3m0", "e0m3", "int4", "int4s",
    "e2m3", "e3m2",
    "e4m3fn", "e4m3f", "e4m3", "e4m3fnuz", "e5m2", "e5m2fnuz", "e3m4", "e2m5",
    "e8m0", "ue4m3",
    "binary4p1sf", "binary4p2sf", "binary4p3sf", "binary4p1uf", "binary4p2se",
    "e5m10", "e8m7", "e8m10", "e8m13", "e8m23",
)  # fmt: skip

_FLOAT = re.compile(
    r"(?P<unsigned>u?)e(?P<e>\d+)m(?P<m>\d+)(?:b(?P<bias>-?\d+))?"
    r"(?P<special>fnuzi|fnuz|fni|fn|fi|f|i)?(?P<row>_flush|_nozero)?",
    re.ASCII,
)
_FIXED = re.compile(
    r"(?P<unsigned>u?)int(?P<width>\d+)(?:q(?P<q>-?\d+))?(?P<symmetric>s?)", re.ASCII
)
_P3109 = re.compile(r"binary(?P<k>\d+)p(?P<p>\d+)(?P<sign>[su])(?P<domain>[fe])", re.ASCII)


def get_format(name: str | Format, *, also: Iterable[str] = ()) -> Format:
    """Return the format called ``name`` (case does not matter); return a format unchanged.

    ``also`` are further names that the caller accepts, suggested by the error.

    Raises:
        FpsimError: not a name of the grammar, or a format that cannot exist, naming the field.
    """
    if isinstance(name, FloatFormat | FixedFormat):
        return name
    if not isinstance(name, str):
        raise FpsimError(f"format: {name!r} is not a format name")
    if len(name) > MAX_NAME:
        raise FpsimError(
            f"format: {name!r} has {len(name)} characters; names have at most {MAX_NAME}"
        )
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key == "e8m0":
        return E8M0
    for pattern, build in ((_FLOAT, _float), (_FIXED, _fixed), (_P3109, _p3109)):
        match = pattern.fullmatch(key)
        if match:
            return build(match)
    known = [*NAMED_FORMATS, *ALIASES, *also]
    raise FpsimError(
        f"format: {name!r} is not a format name (such as e2m1, e2m1b3, e4m3fn, int4)"
        f"{nearest(key, known)}"
    )


def _float(match: re.Match[str]) -> FloatFormat:
    e, m = int(match["e"]), int(match["m"])
    signed = not match["unsigned"]
    if match["special"]:
        specials = {suffix: special for special, suffix in SPECIAL_SUFFIXES.items()}
        nan, infinity = specials[match["special"]]
    else:
        nan, infinity = default_specials(e + m + int(signed))
    rows = {suffix: row for row, suffix in SUBNORMAL_SUFFIXES.items()}
    return FloatFormat(
        exponent_bits=e,
        mantissa_bits=m,
        bias=default_bias(min(e, 64)) if match["bias"] is None else int(match["bias"]),
        signed=signed,
        nan=nan,
        infinity=infinity,
        subnormals=rows[match["row"] or ""],
    )


def _fixed(match: re.Match[str]) -> FixedFormat:
    return FixedFormat(
        width=int(match["width"]),
        lsb=-int(match["q"] or 0),
        signed=not match["unsigned"],
        symmetric=bool(match["symmetric"]),
    )


def _p3109(match: re.Match[str]) -> FloatFormat:
    k, p = int(match["k"]), int(match["p"])
    signed, extended = match["sign"] == "s", match["domain"] == "e"
    exponent_bits = k - p + (0 if signed else 1)
    if not 2 <= k <= 15 or p < 1 or exponent_bits < 1:
        raise FpsimError(f"format: {match[0]!r} needs 2 <= K <= 15, P >= 1 and an exponent field")
    bias = 1 << (k - p - 1) if signed else 1 << (k - p)
    return FloatFormat(
        exponent_bits=exponent_bits,
        mantissa_bits=p - 1,
        bias=bias,
        signed=signed,
        nan=NanCodes.NEGATIVE_ZERO if signed else NanCodes.TOP,
        infinity=extended,
        alias=match[0],
    )
