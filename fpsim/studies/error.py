# SPDX-License-Identifier: Apache-2.0
"""Quantization error of element and block formats on any data, with the least possible error.

For values x and their cast x_hat, sums and means over all values of a data set:

    SQNR            10 log10(sum x^2 / sum (x - x_hat)^2)   dB
    mse             mean (x - x_hat)^2
    max_error       max |x - x_hat|
    relative_error  mean |x - x_hat| / |x| over x != 0

The least possible error is the Lloyd-Max quantizer's (S. P. Lloyd, "Least squares quantization in
PCM", 1957/1982; J. Max, "Quantizing for minimum distortion", 1960): it has as many free levels as
the element has codes, placed to minimise the mean squared error of the given values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError, nearest
from fpsim.base.progress import counted
from fpsim.blocks.block_format import BLOCK_FORMATS, BlockFormat, get_block_format
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.studies.clipping import ClipScan, best_clip, finite_values, largest_value
from fpsim.studies.sqnr import quantize, sqnr_db

__all__ = [
    "BEST",
    "BiasCurve",
    "ErrorRow",
    "Quantizer",
    "bias_curve",
    "either_format",
    "lloyd_max",
    "measure_error",
    "quantizers",
]

#: Name of the clip ratio with the highest SQNR.
BEST = "best"
#: Most iterations of `lloyd_max`, and the relative gain below which it stops.
_ROUNDS, _GAIN = 1000, 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quantizer:
    """One way to cast an array: a format, with granularity, rule and clip ratio of its scales.

    Attributes:
        name: name for figures.
        format: name of the element or block format.
        bits: storage bits per element, scales of blocks included.
        levels: number of codes of an element; the Lloyd-Max optimum has as many levels.
        cast: function from values to cast values of equal shape.
        block: elements per scale; None: one scale per tensor.
        rule: scale rule of a block format.
        clip: share of the largest magnitude that the largest value represents, or ``best``; None
            for block formats, which have a rule.
    """

    name: str
    format: str
    bits: float
    levels: int
    cast: Callable[[Floats], Floats]
    block: int | None = None
    rule: str | None = None
    clip: float | str | None = None


@dataclass(frozen=True)
class ErrorRow:
    """The error of one quantizer on one data set; see the module for the definitions.

    ``optimum_db`` is the SQNR of a Lloyd-Max quantizer that has as many levels as the element has
    codes, and no scales.
    """

    data: str
    samples: int
    quantizer: str
    format: str
    block: int | None
    rule: str | None
    clip: float | str | None
    bits: float
    sqnr_db: float
    mse: float
    max_error: float
    relative_error: float
    optimum_db: float


def either_format(name: str | Path | Format | BlockFormat) -> Format | BlockFormat:
    """Return the element or block format given as a name, a TOML path or an object.

    Raises:
        FpsimError: an unknown format; the message suggests the nearest name.
    """
    if isinstance(name, BlockFormat):
        return name
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
        return get_block_format(name)
    try:
        return get_format(name)
    except FpsimError:
        try:
            return get_block_format(str(name))
        except FpsimError:
            known = list(BLOCK_FORMATS)
            raise FpsimError(
                f"formats: {name!r} is neither an element format such as e2m1 or int4s nor a block "
                f"format such as mxfp4{nearest(str(name), known)}; see `fpsim formats`"
            ) from None


def quantizers(
    formats: Iterable[str | Path | Format | BlockFormat],
    blocks: Sequence[int] = (),
    rules: Sequence[str] = (),
    clips: Sequence[float | str] = (),
) -> tuple[Quantizer, ...]:
    """Return the quantizers for all formats and the choices that apply to them.

    Args:
        formats: names, TOML paths or formats. An element format is cast with one real scale per
            tensor, or, if there are ``blocks``, in MX blocks with E8M0 scales.
        blocks: block lengths in elements; empty: the formats' own.
        rules: scale rules such as ``floor`` or ``rceil``; empty: the formats' own.
        clips: clip ratios in (0, 1], or ``best``, for scales per tensor; empty: 1.

    Returns:
        Quantizers in the order of formats, then blocks, rules or clips.

    Raises:
        FpsimError: no formats, an unknown format, or a choice that a format refuses.
    """
    found: list[Quantizer] = []
    for given in formats:
        fmt = either_format(given)
        if isinstance(fmt, BlockFormat):
            found += _block_quantizers(fmt, blocks, rules)
        elif blocks or rules:
            element = _mx_element(fmt)
            made = BlockFormat(f"mx-{fmt.name}", element, 32)
            found += _block_quantizers(made, blocks or (32,), rules)
        else:
            found += [_tensor_quantizer(fmt, clip) for clip in clips or (1.0,)]
    if not found:
        raise FpsimError("formats: none given")
    return tuple(found)


def _block_quantizers(
    fmt: BlockFormat, blocks: Sequence[int], rules: Sequence[str]
) -> Iterable[Quantizer]:
    for block in blocks or (None,):
        sized = fmt if block is None else replace(fmt, block=block)
        for rule in rules or (None,):
            chosen = sized if rule is None else sized.with_rule(rule)
            parts = [fmt.name, *([f"{block}"] if block else []), *([rule] if rule else [])]
            size = chosen.block if isinstance(chosen.block, int) else None
            yield Quantizer(
                " ".join(parts),
                fmt.name,
                chosen.bits_per_element,
                1 << chosen.element.bits,
                lambda x, chosen=chosen: chosen.dequantize(chosen.quantize(x)),  # type: ignore[misc]
                size,
                chosen.rule.value,
            )


def _tensor_quantizer(fmt: Format, clip: float | str) -> Quantizer:
    if clip != BEST and not (isinstance(clip, float | int) and 0 < clip < math.inf):
        raise FpsimError(f"clip: {clip!r} is neither a number above zero nor {BEST!r}")

    def cast(x: Floats) -> Floats:
        ratio = best_clip(x, fmt) if clip == BEST else float(clip)
        return quantize(x, fmt, ratio)

    name = fmt.name if clip == 1.0 else f"{fmt.name} clip {clip}"
    return Quantizer(name, fmt.name, fmt.bits, 1 << fmt.bits, cast, clip=clip)


def _mx_element(fmt: Format) -> FloatFormat | Format:
    if isinstance(fmt, FloatFormat) or not fmt.symmetric:
        return fmt
    magnitude = fmt.width - 1
    return FloatFormat(0, magnitude, bias=1 - magnitude - fmt.lsb)


def measure_error(
    data: Mapping[str, ArrayLike], casts: Sequence[Quantizer]
) -> tuple[ErrorRow, ...]:
    """Return the error of every quantizer on every data set, data set by data set.

    Args:
        data: arrays by name; blocks run along the last axis.
        casts: quantizers, as `quantizers` returns them.

    Raises:
        FpsimError: an array that is empty, all zero, or not of finite numbers; the message names
            it.
    """
    rows = []
    several = len(data) > 1
    for name, value in counted(data.items()) if several else data.items():
        try:
            x = _checked(value)
            optima: dict[int, float] = {}
            for cast in casts if several else counted(casts):
                if cast.levels <= 256 and cast.levels not in optima:
                    optima[cast.levels] = _optimum_db(x, cast.levels)
                rows.append(_row(name, x, cast, optima.get(cast.levels, math.nan)))
        except FpsimError as error:
            raise FpsimError(f"data {name!r}: {error}") from None
    return tuple(rows)


def _checked(value: ArrayLike) -> Floats:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" and array.dtype.name not in ("bfloat16",):
        raise FpsimError(f"x: an array of {array.dtype} holds no numbers")
    x = finite_values(array)
    if not x.size:
        raise FpsimError("x: it is empty, so there is nothing to quantize")
    if not x.any():
        raise FpsimError("x: no value differs from zero, so there is nothing to quantize")
    return x.reshape(1, -1) if x.ndim == 0 else x


def _row(name: str, x: Floats, cast: Quantizer, optimum: float) -> ErrorRow:
    x_hat = np.asarray(cast.cast(x), dtype=np.float64)
    error = np.abs(x - x_hat)
    nonzero = x != 0
    return ErrorRow(
        name,
        x.size,
        cast.name,
        cast.format,
        cast.block,
        cast.rule,
        cast.clip,
        float(cast.bits),
        sqnr_db(x, x_hat),
        float(np.mean(error**2)),
        float(error.max()),
        float(np.mean(error[nonzero] / np.abs(x[nonzero]))),
        optimum,
    )


def _optimum_db(x: Floats, count: int) -> float:
    levels = lloyd_max(x, count)
    edges = (levels[1:] + levels[:-1]) / 2
    return sqnr_db(x, levels[np.searchsorted(edges, x)])


def lloyd_max(x: ArrayLike, count: int) -> Floats:
    """Return the levels of a scalar quantizer that minimise the mean squared error of ``x``.

    Lloyd's first method: each level becomes the mean of the values nearest to it, until the error
    stops falling; an iteration takes a few look-ups in running sums of the sorted values. It starts
    from the companded levels of Panter and Dite (1951), spaced by the cube root of the density.

    Args:
        x: values of any shape, finite.
        count: number of levels, at least 1.

    Returns:
        At most ``count`` ascending levels; fewer if ``x`` has fewer distinct values.

    Raises:
        FpsimError: no values, values that are not finite, or a count below 1.
    """
    values = np.sort(finite_values(x).reshape(-1))
    if not values.size or count < 1:
        raise FpsimError(f"levels: {count} levels of {values.size} values cannot be placed")
    distinct = np.unique(values)
    if distinct.size <= count:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(values)])
    squares = float(np.square(values).sum())
    levels = _companded(values, count)
    best = math.inf
    for _ in range(_ROUNDS):
        middles = (levels[1:] + levels[:-1]) / 2
        ends = np.concatenate([[0], np.searchsorted(values, middles), [values.size]])
        counts = np.diff(ends)
        totals = np.diff(sums[ends])
        levels = np.where(counts > 0, totals / np.maximum(counts, 1), levels)
        error = squares - float(np.sum(totals**2 / np.maximum(counts, 1)))
        if error >= best * (1 - _GAIN):
            break
        best = error
    return np.sort(levels)


def _companded(values: Floats, count: int) -> Floats:
    # Quantiles of the cube root of the density, from a histogram with equally many values per bin.
    bins = min(values.size - 1, 64 * count)
    knots = values[np.linspace(0, values.size - 1, bins + 1).astype(np.int64)]
    widths = np.diff(knots)
    weight = np.concatenate([[0.0], np.cumsum(np.cbrt(widths**2))])
    places = (np.arange(count) + 0.5) / count * weight[-1]
    return np.asarray(np.interp(places, weight, knots))


# -- exponent bias -------------------------------------------------------------------------------


@dataclass(frozen=True)
class BiasCurve:
    """SQNR of a floating-point format against its real-valued exponent bias, on one data set.

    Attributes:
        format: name of the format.
        data: name of the data set.
        biases: real biases, ascending (n,).
        sqnr_db: SQNR at each bias (n,).
        absmax: the bias at which the largest value equals the largest magnitude.
        best: the bias with the highest SQNR.
    """

    format: str
    data: str
    biases: Floats
    sqnr_db: Floats
    absmax: float
    best: float


def bias_curve(
    x: ArrayLike, fmt: str | FloatFormat, data: str = "x", octaves: float = 8.0, points: int = 512
) -> BiasCurve:
    """Return the SQNR of a format at real-valued exponent biases: the curve LLM-FP4 searches.

    A code that means v at the format's own bias b0 means v 2^(b0 - b) at bias b (LLM-FP4, arXiv
    2310.16836, equations 3 to 5): a larger bias has finer steps and a smaller largest value.

    Args:
        x: values of any shape, finite, not all zero.
        fmt: a floating-point format of at most 8 bits.
        data: name of the data set.
        octaves: octaves of biases above the absmax bias; one octave lies below it.
        points: number of biases.

    Returns:
        The curve, with the biases evenly spaced.

    Raises:
        FpsimError: an integer format, one of more than 8 bits, or data that is empty, all zero or
            not finite.
    """
    target = get_format(fmt)
    if not isinstance(target, FloatFormat):
        raise FpsimError(f"formats: {target.name} has no exponent, so no bias")
    if points < 2 or not 0 < octaves < math.inf:
        raise FpsimError(f"points: {points} biases over {octaves} octaves make no curve")
    values = _checked(x)
    largest = float(np.abs(values).max())
    absmax = target.bias + math.log2(largest_value(target) / largest)
    shift = np.linspace(-1.0, octaves, points)
    sqnr = ClipScan(values).curve(target, np.exp2(-shift))
    best = absmax + float(shift[int(np.argmax(sqnr))])
    return BiasCurve(target.name, data, absmax + shift, sqnr, absmax, best)
