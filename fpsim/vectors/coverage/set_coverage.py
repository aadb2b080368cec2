# SPDX-License-Identifier: Apache-2.0
"""Coverage of a set: corner bins, their hits, and why empty bins are empty.

`expected_bins` lists the bins of a unit, each with the reason why no vector can hit it, or None. A
bin that is empty without a reason makes a set incomplete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.units.spec import MacSpec, exponents
from fpsim.units.stages import Aligned, Fixed, first_sum
from fpsim.vectors.coverage.bin_search import model_expectations
from fpsim.vectors.coverage.ibm_models import MODELS, type_of
from fpsim.vectors.coverage.random_rounding import random_expectations
from fpsim.vectors.coverage.traced_sums import last_stage
from fpsim.vectors.coverage.vector_bins import bins_of
from fpsim.vectors.sets.code_lists import finite_codes
from fpsim.vectors.sets.record import Columns, Op, Record, takes_nan

__all__ = ["Bin", "Coverage", "bin_table", "coverage", "expected_bins", "row_bins"]


@dataclass(frozen=True)
class Bin:
    """A corner bin: its hits, and the reason why it must be empty, or None."""

    name: str
    hits: int
    impossible: str | None
    open: bool = False  #: no operands for the bin are known, nor a proof that there are none

    @property
    def missing(self) -> bool:
        """Whether the bin is empty, can be hit, and is not open."""
        return not self.hits and self.impossible is None and not self.open

    def to_dict(self) -> dict[str, Any]:
        """Return hits and the reason for emptiness as JSON-ready data, without the name."""
        data = {"hits": self.hits, "impossible": self.impossible}
        return data | {"open": True} if self.open else data


@dataclass(frozen=True)
class Coverage:
    """Coverage of a set of vectors of a unit: its bins, with their hits."""

    unit: str
    vectors: int
    bins: tuple[Bin, ...]

    @property
    def complete(self) -> bool:
        """Whether no bin is empty without a reason."""
        return not any(b.missing for b in self.bins)

    def to_dict(self) -> dict[str, Any]:
        """Return unit, number of vectors and bins by name as JSON-ready data."""
        bins = {b.name: b.to_dict() for b in self.bins}
        return {"unit": self.unit, "vectors": self.vectors, "complete": self.complete, "bins": bins}

    def __str__(self) -> str:
        lines = [f"{self.unit}: {self.vectors} vectors"]
        lines += [f"  {model:4s} {text}: {self._summary(model)}" for model, text in MODELS.items()]
        for b in self.bins:
            why = f"  cannot occur: {b.impossible}" if b.impossible and not b.hits else ""
            why = "  open: no operands found" if b.open and not b.hits else why
            lines.append(f"  {b.hits:7d}  {b.name}{why}{'  EMPTY' if b.missing else ''}")
        return "\n".join(lines)

    def _summary(self, model: str) -> str:
        """Return a sentence on the share of one IBM model's bins that are hit."""
        bins = [b for b in self.bins if b.name.startswith(f"{model}:")]
        whole = next((b.impossible for b in bins if b.name == f"{model}:any"), None)
        if whole is not None:
            return f"cannot occur: {whole}"
        can = [b for b in bins if b.hits or b.impossible is None]
        left = [f"{sum(b.open for b in can if not b.hits)} open"] * any(b.open for b in can)
        left += [f"{len(bins) - len(can)} cannot occur"] * (len(bins) > len(can))
        return ", ".join([f"{sum(b.hits > 0 for b in can)} of {len(can)} bins hit", *left])


def coverage(
    record: Record,
    columns: Columns,
    start: str = "dot",
    progress: Callable[[int, int], None] | None = None,
) -> Coverage:
    """Return the coverage of vectors, by tracing every one exactly.

    Args:
        record: the unit and its fields.
        columns: the vectors with their results.
        start: how sums get their addends; decides which operations are expected.
        progress: takes vectors done and vectors in all.

    Returns:
        Every bin of the unit with its hits, and every other bin that was hit.

    Raises:
        FpsimError: a hit of a bin that is said to be impossible.
    """
    hits = count_bins(record, columns, progress)
    return Coverage(record.spec.name, columns["op"].size, bin_table(record, hits, start))


def bin_table(record: Record, hits: Counter[str], start: str = "dot") -> tuple[Bin, ...]:
    """Return the hits of vectors beside the expected bins.

    Args:
        record: the unit and its fields.
        hits: vectors by name of the bin.
        start: how sums get their addends, as in `coverage`.

    Returns:
        The bins of `expected_bins` in order, then other hit bins by name.

    Raises:
        FpsimError: a hit of a bin that is said to be impossible; the reason is then wrong.
    """
    expected = expected_bins(record)
    for op in {"load": ("dot",), "clear": ("dot", "load")}.get(start, ()):
        expected[f"op:{op}"] = f"sums of this set start with {start}"
    _, unknown = model_expectations(record)
    for name, reason in expected.items():
        if reason is not None and hits[name]:
            raise FpsimError(
                f"coverage: {name} was hit, but it was said to be impossible: {reason}"
            )
    names = list(expected) + sorted(set(hits) - set(expected))
    return tuple(Bin(n, hits[n], expected.get(n), n in unknown and not hits[n]) for n in names)


def count_bins(
    record: Record, columns: Columns, progress: Callable[[int, int], None] | None = None
) -> Counter[str]:
    """Count the vectors that hit each bin, by tracing every vector exactly.

    Args:
        record: the unit and its fields.
        columns: the vectors with their results.
        progress: takes vectors done and vectors in all, at every 64th vector.

    Returns:
        Vectors by name of the bin.
    """
    hits: Counter[str] = Counter()
    for index, bins in enumerate(row_bins(record, columns)):
        hits.update(bins)
        if progress is not None and index % 64 == 0:
            progress(index, columns["op"].size)
    return hits


def row_bins(record: Record, columns: Columns) -> Iterator[set[str]]:
    """Yield the names of the bins that each vector hits, as a set per vector, in order."""
    before = 0
    for index in range(columns["op"].size):
        row = {name: column[index] for name, column in columns.items()}
        addend = int(row["c"]) if int(row["op"]) in (Op.DOT, Op.LOAD) else before
        yield bins_of(record, row, addend)
        before = int(row["acc"])


# -- bins that can be hit ----------------------------------------------------------------------


def expected_bins(record: Record) -> dict[str, str | None]:
    """Return every bin of a unit with the reason why it is impossible, or None."""
    spec = record.spec
    bins: dict[str, str | None] = {}
    streams = None if record.feeds_back else "results are no addends"
    for op in Op:
        bins[f"op:{op.name.lower()}"] = None if op is Op.DOT else streams
    for operand in "ab":
        bins |= _types(operand, getattr(spec, operand), takes_nan(spec))
        if record.group:
            name = f"{operand}_scale"
            bins |= _types(name, getattr(spec, name), takes_nan(spec))
    bins |= _types("addend", spec.initial, takes_nan(spec))
    bins |= _rounding(record) | model_expectations(record)[0] | random_expectations(record)
    first, stage = first_sum(spec.accumulate), spec.accumulate
    if isinstance(first, Aligned):
        bins |= _window(record, first)
    if isinstance(stage, Fixed):
        bins |= {f"range:{stage.overflow} {way}": None for way in ("up", "down")}
    return bins


def _types(field: str, fmt: Format, nan: bool) -> dict[str, str | None]:
    """Return one bin per type of code that a format has."""
    if fmt.bits <= 10:
        codes = range(1 << fmt.bits)
    elif isinstance(fmt, FixedFormat):
        half = 1 << (fmt.bits - 1)
        codes = (0, 1, half - 1, half, half + 1)  # type: ignore[assignment]
    else:
        row, top = 1 << fmt.mantissa_bits, fmt.max_code
        magnitudes = [0, 1, row, top, top + 1, (1 << fmt.magnitude_bits) - 1]
        codes = [c + s for c in magnitudes for s in {0, fmt.sign_bit}]  # type: ignore[assignment]
    bins: dict[str, str | None] = {}
    for code in codes:
        name = type_of(code, fmt)
        special = name == "nan" or name.endswith("inf")
        why = "a NaN could arise, which the accumulator has no code for"
        bins[f"{field}:{name}"] = why if special and not nan else None
    if fmt.bits <= 10 and finite_codes(fmt).size == 1 << fmt.bits:
        bins[f"{field}:nan"] = f"{fmt.name} has no NaN"
    return bins


def _rounding(record: Record) -> dict[str, str | None]:
    """Return the bins of sign, last bit, guard and sticky of the final rounding."""
    spec = record.spec
    stage = last_stage(spec.accumulate)
    if not hasattr(stage, "format"):
        return {}
    fmt: FloatFormat = stage.format
    bins: dict[str, str | None] = {}
    for sign in "+-":
        for tail in range(8):
            lsb, guard, sticky = tail >> 2, tail >> 1 & 1, tail & 1
            name = f"B3:{sign}{lsb}{guard}{sticky}"
            bins[name] = _no_tail(spec, fmt) if guard or sticky else None
    return bins


def _no_tail(spec: MacSpec, fmt: FloatFormat) -> str | None:
    """Return why no sum has bits below the last place of a result, or None."""
    low = min(exponents(spec.a)[0] + exponents(spec.b)[0], fmt.exponent_min - fmt.mantissa_bits)
    top = fmt.exponent_max - fmt.mantissa_bits
    return f"every sum is a multiple of 2^{low}, which every code is too" if low >= top else None


def _window(record: Record, stage: Aligned) -> dict[str, str | None]:
    """Return the bins of a term's distance from the window."""
    spec = record.spec
    bits = stage.fraction_bits
    low, high = _term_exponents(record)
    fmt = stage.result
    reach = max(high, fmt.exponent_max)  # an addend may be as large as the format allows
    bins: dict[str, str | None] = {"window:a product is the largest": None}
    for offset in (-1, 0, 1, 2):
        near = reach - low >= bits + offset
        why = f"products reach from 2^{low} and nothing is above 2^{reach}"
        for sign in "+-":
            bins[f"window:F{offset:+d} {sign}"] = None if near else why
    product_low = exponents(spec.a)[0] + exponents(spec.b)[0]
    cuts = product_low < reach - bits
    for sign in "+-":
        bins[f"window:bits cut {sign}"] = None if cuts else "no product has bits below the window"
    bins["window:whole term cut"] = None if cuts else "no product has bits below the window"
    return bins


def _term_exponents(record: Record) -> tuple[int, int]:
    """Return the least and largest alignment exponent of a product (or scaled block)."""
    spec = record.spec

    def span(fmt: Format) -> tuple[int, int]:
        if isinstance(fmt, FixedFormat):
            top = max(fmt.max_integer, -fmt.min_integer).bit_length() - 1 + fmt.lsb
            return top, top
        return fmt.exponent_min, fmt.exponent_max

    parts = [span(spec.a), span(spec.b)] if spec.block is None else []
    if record.group:
        parts += [span(spec.a_scale), span(spec.b_scale)]
    return sum(p[0] for p in parts), sum(p[1] for p in parts)
