# SPDX-License-Identifier: Apache-2.0
"""Coverage of stochastic rounding: random integers below, at and above their thresholds.

A value a fraction f of the way from one code to the next goes there when floor(f 2^n) + r >= 2^n,
so the threshold of r is T = 2^n - floor(f 2^n); see `fpsim.vectors.corners.random_word_corners`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from fpsim.formats.floating import FloatFormat
from fpsim.oracle import Node, Number
from fpsim.units.spec import exponents
from fpsim.units.stages import Block, Chain, Chunked, Exact, Fixed, Stage
from fpsim.vectors.coverage.additions import BEFORE, log2
from fpsim.vectors.coverage.traced_sums import sums_of
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["random_bins", "random_expectations"]

EXACT, BELOW = "SR:exact, all ones", "SR:fraction below the random bits, all ones"
_WORDS = ("zeros", "just below the threshold", "at the threshold", "all ones")


def random_bins(record: Record, row: Columns, nodes: list[Node]) -> Iterator[str]:
    """Yield the bins that the random integers of a traced dot product hit.

    Args:
        record: the unit and its fields.
        row: codes of the vector by field; ``random`` (roundings,) has its integers.
        nodes: nodes of the dot product's trace.

    Yields:
        Names of bins, such as ``SR:+ at the threshold``; none for a unit without random bits.
    """
    if not record.roundings:
        return
    rounded = _fractions(record, nodes)
    for (bits, negative, fraction), r in zip(rounded, row["random"], strict=False):
        steps = 1 << bits
        own, threshold = int(r) % steps, steps - int(fraction * steps)
        if threshold == steps:
            if own == steps - 1:
                yield BELOW if fraction else EXACT
            continue
        words = (0, threshold - 1, threshold, steps - 1)
        for name, word in zip(_WORDS, words, strict=True):
            if own == word:
                yield f"SR:{'-' if negative else '+'} {name}"


def _fractions(record: Record, nodes: list[Node]) -> Iterator[tuple[int, bool, Fraction]]:
    """Yield the random bits, the sign and the dropped fraction of every rounding, in order."""
    for stage, terms, own, _ in sums_of(record.spec, nodes):
        bits, fmt = getattr(stage, "random_bits", 0), getattr(stage, "format", None)
        if not bits:
            continue
        values = [term.value for term in terms]
        if fmt is not None:
            found = (node.value for node in own if node.name == f"acc{BEFORE}")
            values = [value for value in found if isinstance(value, Number)]
        for value in values:
            if not value.magnitude:
                yield bits, False, Fraction(0)
                continue
            unit = Fraction(2) ** stage.lsb if fmt is None else _unit(value.magnitude, fmt)
            scaled = value.magnitude / unit
            yield bits, value.negative, scaled - int(scaled)


def _unit(magnitude: Fraction, fmt: FloatFormat) -> Fraction:
    """Return the weight of the last bit when a positive number is rounded to a format."""
    return Fraction(2) ** (max(log2(magnitude), fmt.exponent_min) - fmt.mantissa_bits)


def random_expectations(record: Record) -> dict[str, str | None]:
    """Return the bins of random integers, each with the reason why it is impossible or None."""
    if not record.roundings:
        return {}
    spec = record.spec
    formats = [spec.a, spec.b, *([spec.a_scale, spec.b_scale] if record.group else [])]
    low = sum(exponents(fmt)[0] for fmt in formats)
    places = list(_places(spec.accumulate, low))
    never = None
    if all(count <= 0 for _, count in places):
        never = f"every sum is a multiple of 2^{low}: none rounds"
    most = max(count for _, count in places)
    short = f"fractions have at most {most} bits, as many as the random integers or fewer"
    bins: dict[str, str | None] = {EXACT: None}
    bins[BELOW] = never or (short if all(count <= bits for bits, count in places) else None)
    return bins | {f"SR:{sign} {word}": never for sign in "+-" for word in _WORDS}


def _places(stage: Stage, low: int) -> Iterator[tuple[int, int]]:
    """Yield the random bits of every stage that has some, and the most fraction bits that one of
    its roundings meets; terms are multiples of 2^low."""
    if isinstance(stage, Chunked):
        yield from _places(stage.inner, low)
        yield from _places(stage.outer, exponents(stage.inner.result)[0])
    elif isinstance(stage, Block):
        converted = stage.convert
        yield from _places(stage.into, low if converted is None else exponents(converted)[0])
    elif isinstance(stage, Fixed) and stage.random_bits:
        yield stage.random_bits, stage.lsb - low
    elif isinstance(stage, Chain | Exact) and stage.random_bits:
        fmt = stage.format
        least = min(low, fmt.exponent_min - fmt.mantissa_bits)
        yield stage.random_bits, fmt.exponent_max - fmt.mantissa_bits - least
