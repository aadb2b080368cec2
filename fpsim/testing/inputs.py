# SPDX-License-Identifier: Apache-2.0
"""Inputs to try a converter on: all values of a small type, or the boundaries of a large one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.testing.boundaries import sampled_codes

__all__ = ["EXHAUSTIVE_BITS", "Inputs", "inputs_for"]

#: Most bits of a type whose values are all tried.
EXHAUSTIVE_BITS = 24
#: Most magnitude codes whose midpoints are all tried.
EVERY_MIDPOINT = 1 << 17


class Inputs(NamedTuple):
    """Values to try, with a description."""

    values: NDArray[Any]  #: (n,) float16, float32 or float64
    search: str
    every: bool  #: whether they are all values of their type


def inputs_for(fmt: Format, inputs: str, nan: bool) -> Inputs:
    """Return the values to try on a converter to ``fmt``.

    Args:
        fmt: the converter's format.
        inputs: ``float32`` or ``float64`` (boundaries), or the name of a format of at most 24 bits,
            such as ``float16``, ``bfloat16`` or ``e4m3fn`` (every value, as float16 if that holds
            them, else float32 or float64).
        nan: whether NaN is among the values.

    Returns:
        The values, with a description.

    Raises:
        FpsimError: an unknown name, or a format that is too wide.
    """
    if inputs in ("float32", "float64"):
        made = _boundaries(fmt, np.dtype(inputs))
    else:
        made = _every(inputs)
    return made if nan else made._replace(values=made.values[~np.isnan(made.values)])


def _every(name: str) -> Inputs:
    source = get_format(name, also=["float32", "float64"])
    if source.bits > EXHAUSTIVE_BITS:
        raise FpsimError(
            f"inputs: {name} has {source.bits} bits; every value is tried of at most "
            f"{EXHAUSTIVE_BITS}, boundaries of float32 and float64"
        )
    values = source.decode(np.arange(1 << source.bits, dtype=source.dtype))
    for dtype in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        if np.array_equal(narrow.astype(np.float64), values, equal_nan=True):
            wanted = np.float32 if name in ("bfloat16", "bf16", "e8m7") else dtype
            values = narrow.astype(wanted)
            break
    return Inputs(
        values, f"exhaustive: all {values.size} values of {name}, given as {values.dtype}", True
    )


def _boundaries(fmt: Format, dtype: np.dtype[Any]) -> Inputs:
    """Return every midpoint, every value, numbers beside them, and numbers of every exponent."""
    exact, which = _steps(fmt)
    middle = (exact[1:] + exact[:-1]) / 2
    last = exact[-1]
    step = exact[-1] - exact[-2]
    beyond = last + step * np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    points = np.concatenate([exact, middle, beyond, last * 2.0 ** np.arange(1, 6)])
    with np.errstate(over="ignore"):
        near = points.astype(dtype)
    sides = [near]
    for toward in (np.inf, 0.0):
        once = np.nextafter(near, dtype.type(toward))
        sides += [once, np.nextafter(once, dtype.type(toward))]
    coarse = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    every = coarse.view(np.float32).astype(dtype)  # signs, exponents and seven bits below
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(dtype)
    positive = np.concatenate(sides)
    positive = positive[np.isfinite(positive)]
    parts = [positive, -positive, every, halves]
    if dtype == np.float64:
        parts.append(np.concatenate([positive, -positive]).astype(np.float32).astype(np.float64))
    values = np.concatenate(parts)
    bits = values.view(np.dtype(f"uint{8 * dtype.itemsize}"))
    values = np.unique(bits).view(dtype)
    text = (
        f"boundaries of {dtype}: {which} of {fmt.name} and the two {dtype} numbers on either side "
        "of each, what overflows first, and all values of bfloat16 and float16"
    )
    return Inputs(values, text, False)


def _steps(fmt: Format) -> tuple[NDArray[np.float64], str]:
    """Return magnitudes of a format, ascending, with a description."""
    if isinstance(fmt, FixedFormat):
        top = max(fmt.max_integer, -fmt.min_integer)
        count = min(top + 1, EVERY_MIDPOINT)
        integers = np.unique(np.linspace(0, top, count).astype(np.int64))
        low = np.unique(np.concatenate([integers, np.arange(min(top, 256)), [top - 1, top]]))
        all_of_them = low.size > top
        values = np.ldexp(low.astype(np.float64), fmt.lsb)
    else:
        assert isinstance(fmt, FloatFormat)
        all_of_them = fmt.max_code < EVERY_MIDPOINT
        codes = np.arange(fmt.max_code + 1) if all_of_them else _sampled(fmt)
        values = fmt.decode(codes)
    values = np.unique(np.concatenate([[0.0], values]))
    return values, f"{'every' if all_of_them else 'a sample of'} value and midpoint"


def _sampled(fmt: FloatFormat) -> NDArray[np.int64]:
    """Return sampled codes, each with the next code, so that midpoints lie between neighbours."""
    codes = sampled_codes(fmt)
    both = np.concatenate([codes, codes + 1])
    return np.unique(both[both <= fmt.max_code])
