# SPDX-License-Identifier: Apache-2.0
"""Mistakes of real quantizers, each with the results that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, NanCodes, Subnormals
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.testing.neighbours import Neighbours

__all__ = ["rounding_mistakes"]

Floats = NDArray[np.float64]
Candidates = Iterator[tuple[str, Floats]]

#: Most bits of a format to which a mistaken table search converts.
TABLE_BITS = 6
_MODES = {
    Rounding.RNE: "values were rounded to nearest, ties to even",
    Rounding.RTZ: "values were truncated toward zero",
    Rounding.RUP: "values were rounded up, toward +infinity",
    Rounding.RDN: "values were rounded down, toward -infinity",
    Rounding.RTO: "values were rounded to odd",
}
_SUFFIXES = {
    (NanCodes.IEEE, True): "the codes of the top exponent were infinity and NaN (as in IEEE 754)",
    (NanCodes.NONE, False): "every code were a finite number",
    (NanCodes.TOP, False): "the largest code were NaN (as in fn formats)",
    (NanCodes.NEGATIVE_ZERO, False): "NaN were the only special code (as in fnuz formats)",
}


def rounding_mistakes(
    near: Neighbours, expected: Floats, rounding: Rounding, overflow: Overflow
) -> Candidates:
    """Yield every mistake that the format can have, with its values.

    Args:
        near: the inputs and their neighbours.
        expected: the right values.
        rounding: the right mode.
        overflow: the right policy.

    Returns:
        Pairs: a name that continues "as if", and the values of a converter with the mistake.
    """
    yield from _ties(near, rounding, overflow)
    yield from _specials(near, expected)
    yield from _tables(near, rounding)
    yield from _overflows(near, expected, rounding)
    for mode, name in _MODES.items():
        if mode is not rounding:
            yield name, near.rounded(near.upward(mode), overflow)
    yield "values were rounded away from zero", near.rounded(~near.exact, overflow)
    yield from _doubled(near, rounding, overflow)
    if isinstance(near.fmt, FloatFormat):
        yield from _formats(near, near.fmt, expected, rounding, overflow)
    else:
        yield from _integers(near, near.fmt, rounding, overflow)


def _ties(near: Neighbours, rounding: Rounding, overflow: Overflow) -> Candidates:
    up, tie = near.upward(rounding), near.tie
    even = near.low % 2 == 0
    for name, decision in (
        ("ties went away from zero", True),
        ("ties went toward zero", False),
        ("ties went up, toward +infinity", ~near.negative),
        ("ties went down, toward -infinity", near.negative),
        ("ties went to the odd code", even),
        ("ties went to the even code", ~even),
    ):
        yield name, near.rounded(np.where(tie, decision, up), overflow)


def _specials(near: Neighbours, expected: Floats) -> Candidates:
    zero = expected == 0
    negative = near.negative & ~np.isnan(near.x)
    yield "the sign of zero results were lost", np.where(zero, 0.0, expected)
    yield (
        "-0 became +0, though negative numbers that round to zero keep their sign",
        np.where(near.x == 0, 0.0, expected),
    )
    yield (
        "negative numbers that round to zero lost their sign, though -0 keeps it",
        np.where(zero & (near.x != 0), 0.0, expected),
    )
    yield "zero results were negative", np.where(zero, -0.0, expected)
    yield "signs were lost", np.abs(expected)
    yield "signs were swapped", np.where(np.isnan(expected), expected, -expected)
    nan, infinite = np.isnan(near.x), np.isinf(near.x)
    top = near.value(near.limit())
    for text, value in (("the largest value", top), ("+0", 0.0), ("-0", -0.0), ("1.5", 1.5)):
        yield f"NaN became {text}", np.where(nan, value, expected)
        turned = np.where(near.negative, -value, value)
        yield f"NaN became {text}, and -NaN its negative", np.where(nan, turned, expected)
    yield "NaN became an infinity", np.where(nan, np.inf, expected)
    sign = np.where(negative, -1.0, 1.0)
    for text, value in (
        ("became NaN", np.nan), ("became the largest value", top), ("became zero", 0.0),
        ("stayed infinite", np.inf),
    ):  # fmt: skip
        yield f"infinities {text}", np.where(infinite, sign * value, expected)


def _tables(near: Neighbours, rounding: Rounding) -> Candidates:
    """Yield results of searches for the nearest entry of a table; the first of equal ones wins."""
    fmt = near.fmt
    if fmt.bits > TABLE_BITS or rounding not in (Rounding.RNE, Rounding.RNA):
        return
    codes = np.arange(1 << fmt.bits, dtype=fmt.dtype)
    values = fmt.decode(codes)
    values = values[np.isfinite(values)].astype(np.float32)
    positive = np.unique(np.abs(values))
    how = "the nearest entry of a table were looked for by float32 distances"
    with np.errstate(invalid="ignore", over="ignore"):
        single = near.x.astype(np.float32)
        for order, table in (
            ("in the order of codes", values),
            ("in rising order", np.unique(values + np.float32(0))),
            ("in falling order", np.unique(values + np.float32(0))[::-1]),
        ):
            nearest = _nearest(single, table)
            yield f"{how}, {order}, the first of equals taken", nearest
        for order, table in (("smallest", positive), ("largest", positive[::-1])):
            magnitude = _nearest(np.abs(single), table)
            sign = np.where(near.negative, -1.0, 1.0)
            yield f"{how}, of magnitudes, the {order} of equals taken", sign * magnitude


def _nearest(x: NDArray[np.float32], table: NDArray[Any]) -> Floats:
    found = np.empty(x.shape, dtype=np.float64)
    for start in range(0, x.size, 1 << 16):
        part = x[start : start + (1 << 16)]
        found[start : start + part.size] = table[np.abs(part[:, None] - table).argmin(axis=1)]
    return found


def _overflows(near: Neighbours, expected: Floats, rounding: Rounding) -> Candidates:
    up = near.upward(rounding)
    steps = near.low + up
    over = near.finite & (steps > near.limits)
    sign = np.where(near.negative, -1.0, 1.0)
    top = near.value(near.limit())
    for text, value in (
        ("the largest value", top), ("an infinity", np.inf), ("NaN", np.nan), ("zero", 0.0),
    ):  # fmt: skip
        yield f"what overflows became {text}", np.where(over, sign * value, expected)
    grid = sign * np.where(up, near.above, near.below)
    yield (
        "the format had no largest value (nothing saturates)",
        np.where(over, grid, np.where(np.isinf(near.x), near.x, expected)),
    )
    yield (
        "the format had no largest value (nothing saturates), and infinity were NaN",
        np.where(over, grid, np.where(np.isinf(near.x), np.nan, expected)),
    )
    beyond = near.finite & (np.abs(near.x) > top)
    for text, value in (("an infinity", np.inf), ("NaN", np.nan), ("zero", 0.0)):
        yield (
            f"every input above the largest value became {text}",
            np.where(beyond, sign * value, expected),
        )
    fmt = near.fmt
    if isinstance(fmt, FloatFormat) and fmt.bits <= 16:
        mask = (1 << fmt.bits) - 1
        carried = (steps & mask) | np.where(near.negative, fmt.sign_bit, 0)
        wrapped = fmt.decode(carried.astype(fmt.dtype))
        yield (
            "the carry out of the largest value went into the next code",
            np.where(near.finite & (steps == near.limits + 1), wrapped, expected),
        )
        yield "codes wrapped", np.where(over, wrapped, expected)


def _doubled(near: Neighbours, rounding: Rounding, overflow: Overflow) -> Candidates:
    """Yield values rounded to another format first, or moved before truncation."""
    fmt = near.fmt
    if rounding in (Rounding.RNE, Rounding.RNA):
        # Adding half a step rounds in float32 and so carries numbers just below a tie.
        half = (near.above - near.below).astype(np.float32) * np.float32(0.5)
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.abs(near.x).astype(np.float32) + half
        up = (moved >= near.above) & ~near.exact
        yield (
            "half a step were added in float32 and the sum truncated",
            near.rounded(up, overflow),
        )
        odd = near.low % 2 == 1
        yield (
            "half a step were added in float32 and the sum truncated, ties to even",
            near.rounded(up & ~(near.tie & ~odd), overflow),
        )
    firsts: list[tuple[str, FloatFormat]] = []
    for name in ("bfloat16", "float16", "float32"):
        first = get_format(name)
        assert isinstance(first, FloatFormat)
        firsts.append((name, first))
    if isinstance(fmt, FloatFormat):
        for more in (1, 2, 3):
            plural = "s" * (more > 1)
            with suppress(FpsimError):
                wider = replace(
                    fmt, mantissa_bits=fmt.mantissa_bits + more, nan=NanCodes.NONE, infinity=False,
                    alias="", exponent_bits=fmt.exponent_bits + 2,
                )  # fmt: skip
                firsts.append((f"{more} more mantissa bit{plural}", wider))
    for name, first in firsts:
        once = Neighbours.of(first, near.x)
        policy = Overflow.INF if first.infinity else Overflow.SATURATE
        again = Neighbours.of(fmt, once.rounded(once.upward(Rounding.RNE), policy))
        yield (
            f"values were rounded twice, to {name} first",
            again.rounded(again.upward(rounding), overflow),
        )
    tiny = near.finite & (np.abs(near.x) < 2.0**-126)
    flushed = Neighbours.of(fmt, np.where(tiny, np.copysign(0.0, near.x), near.x))
    yield (
        "subnormal float32 inputs were zero",
        flushed.rounded(flushed.upward(rounding), overflow),
    )


def _formats(
    near: Neighbours, fmt: FloatFormat, expected: Floats, rounding: Rounding, overflow: Overflow
) -> Candidates:
    """Yield values of a similar format: other special codes, another bias, no subnormals."""
    first = 2.0**fmt.exponent_min
    sign = np.where(near.negative, -1.0, 1.0)
    if fmt.subnormals is Subnormals.GRADUAL and fmt.mantissa_bits:
        small = (expected != 0) & (np.abs(expected) < first)
        yield "subnormal results were flushed to zero", np.where(small, sign * 0.0, expected)
        below = near.finite & (np.abs(near.x) < first)
        yield (
            "everything below the smallest normal value became zero",
            np.where(below, sign * 0.0, expected),
        )
        yield (
            "there were no subnormals: below the smallest normal value only it and zero",
            np.where(
                below, np.where(np.abs(near.x) > first / 2, sign * first, sign * 0.0), expected
            ),
        )
    for step in (-1, 1):
        other = replace(fmt, alias="", bias=fmt.bias + step)
        again = Neighbours.of(other, near.x)
        values = again.rounded(again.upward(rounding), overflow)
        yield f"codes were those of bias {other.bias}", np.ldexp(values, step)
    grid = np.where(near.upward(rounding), near.above, near.below)
    end = np.ldexp(1.0, fmt.exponent_max)
    in_top_row = near.finite & (grid >= end) & (grid < 2 * end)
    past = np.abs(near.x) >= 2 * end
    yield (
        "the codes of the top exponent became zero, and what lies beyond them an infinity",
        np.where(in_top_row, sign * 0.0, np.where(past, sign * np.inf, expected)),
    )
    changed: list[tuple[str, dict[str, Any]]] = [
        (f"the bias were {fmt.bias + step}", {"bias": fmt.bias + step}) for step in (-1, 1)
    ]
    changed += [
        (name, {"nan": nan, "infinity": infinity}) for (nan, infinity), name in _SUFFIXES.items()
    ]
    for name, fields in changed:
        try:
            other = replace(fmt, alias="", **fields)
        except FpsimError:
            continue
        again = Neighbours.of(other, near.x)
        policies = [(Overflow.SATURATE, "saturating"), (overflow, "")]
        if other.infinity:
            policies.insert(0, (Overflow.INF, "overflow to infinity"))
        for policy, how in dict.fromkeys(policies):
            text = f"{name}, {how}" if how else name
            yield text, again.rounded(again.upward(rounding), policy)
            if other.nan is NanCodes.NEGATIVE_ZERO and not fmt.infinity:
                continue  # a format that differs only in specials has the same ties
            up = np.where(again.tie, True, again.upward(rounding))
            yield f"{text}, ties away from zero", again.rounded(up, policy)


def _integers(
    near: Neighbours, fmt: FixedFormat, rounding: Rounding, overflow: Overflow
) -> Candidates:
    """Yield values of a similar integer format: other ends, another binary point."""
    changed = [
        ("the binary point were one place higher", {"lsb": fmt.lsb + 1}),
        ("the binary point were one place lower", {"lsb": fmt.lsb - 1}),
    ]
    if fmt.signed:
        what = "were" if fmt.symmetric else "were not"
        changed.append(
            (f"the most negative code {what} produced", {"symmetric": not fmt.symmetric})
        )
    for name, fields in changed:
        other = replace(fmt, **fields)  # type: ignore[arg-type]
        again = Neighbours.of(other, near.x)
        yield name, again.rounded(again.upward(rounding), overflow)
    for policy in (Overflow.SATURATE, Overflow.WRAP):
        if policy is not overflow:
            verb = "saturated" if policy is Overflow.SATURATE else "wrapped"
            yield f"overflow {verb}", near.rounded(near.upward(rounding), policy)
