# SPDX-License-Identifier: Apache-2.0
"""Necessary width of an accumulator: exact range of sums, and a unit's losses, on given data.

There are two accounts of the dot products:

* losses of the unit, step by step (the steps of `MacUnit.accumulate`): how often it overflowed,
  lost bits, or did not move; and the distance of results from exact sums;
* needs of the data: the partial sums ``c + x_0 + ... + x_k`` of exact terms in index order
  (products, or scaled block sums), and the narrowest fixed-point and floating-point accumulators
  that hold all of them, and so lose nothing.

Losses inside a chunk or in a block's conversion are not counted as steps, but show in the errors.
A step may add several products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.notebook import html_pairs
from fpsim.base.progress import counted
from fpsim.compute.bounds import F64_BITS, product_bounds
from fpsim.compute.facts import all_finite
from fpsim.compute.lanes.pack import keep
from fpsim.compute.lanes.run import run_values
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import in_lanes, plan_matmul
from fpsim.compute.scalar.dot_products import add_up, convert_fixed, outer_terms, random_rows
from fpsim.compute.scalar.wide_terms import in_a_row, parts_of, parts_on_grid
from fpsim.compute.values import Rows
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Flag, Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.scalar import fixed_point, limbs, sizing
from fpsim.units.given_operands import OperandLike
from fpsim.units.operands import DotOperands, DotOptions
from fpsim.units.spec import MacSpec, spec_of
from fpsim.units.stages import Aligned, Chain, Chunked, Exact, Fixed, ProductRounding, Stage, Tree

__all__ = ["Sizing", "study"]

Array = NDArray[Any]
#: Products processed together.
BATCH = 1 << 22
#: Magnitudes up to 2^62 are summed in 64-bit integers, larger ones in Python integers.
MAX_INTEGER_BITS = 62
#: Least products for which a lane kernel is worth its compilation.
MIN_PRODUCTS = 1 << 20


@dataclass(frozen=True)
class Sizing:
    """Losses of a unit's accumulator on given data, and the width without losses.

    Counts are of steps, over all dot products.
    """

    unit: str
    dots: int  #: dot products
    steps: int  #: accumulator steps, all dot products together
    overflows: int  #: steps with a rounded exact sum beyond the largest value, or off the register
    saturations: int  #: overflows with a finite result (saturated, or wrapped)
    inexact: int  #: steps after which the accumulator differs from the step's exact sum
    swamped: int  #: steps with terms of nonzero sum that did not change the accumulator
    not_finite: int  #: NaN and infinite results, which have no error
    max_relative_error: float  #: |result - exact| / |exact|, over nonzero exact sums
    mean_relative_error: float
    sqnr_db: float  #: 10 log10(sum exact^2 / sum error^2); inf without errors
    largest: float  #: largest magnitude of a partial sum
    fixed_width: int  #: bits, sign included, of a lossless two's-complement register
    fixed_lsb: int  #: exponent of the register's last bit
    any_order_width: int  #: bits of a register with this last bit, lossless in every order of terms
    mantissa_bits: int  #: of the narrowest lossless floating-point accumulator
    exponent_bits: int  #: of it, with subnormals, any bias, and no infinity or NaN
    exponent_min: int  #: exponent of its smallest normal number

    def _repr_html_(self) -> str:
        return html_pairs(f"accumulator of {self.unit}", self.to_dict().items())

    @property
    def float_format(self) -> FloatFormat | None:
        """The lossless floating-point accumulator as a format, None if it is too wide."""
        try:
            return FloatFormat(self.exponent_bits, self.mantissa_bits, 1 - self.exponent_min)
        except FpsimError:
            return None

    @property
    def fixed_stage(self) -> Fixed | None:
        """The lossless fixed-point accumulator as a stage, None if it is too wide."""
        try:
            return Fixed(max(self.fixed_width, 4), self.fixed_lsb)
        except FpsimError:
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data; an infinite SQNR is None."""
        fmt, fixed = self.float_format, self.fixed_stage
        data = asdict(self) | {
            "float_format": None if fmt is None else fmt.name,
            "fixed_stage": None if fixed is None else fixed.short_name,
        }
        return {k: None if v in (math.inf, -math.inf) else v for k, v in data.items()}


def study(
    unit: Any,
    a: OperandLike,
    b: OperandLike,
    c: ArrayLike | None = None,
    a_scale: ArrayLike | None = None,
    b_scale: ArrayLike | None = None,
    *,
    dots: bool = False,
    **options: Unpack[DotOptions],
) -> Sizing:
    """Count an accumulator's losses on a matrix product or dot products, and the bits it needs.

    Args:
        unit: a MacUnit or a MacSpec.
        a, b: operand codes (M, K) and (K, N); with ``dots`` (..., K) both.
        c: initial accumulator codes (M, N), with ``dots`` (...); +0 if absent.
        a_scale, b_scale: scale codes (M, G) and (G, N), with ``dots`` (..., G) both.
        dots: whether the operands are dot products, for `fpsim.unit.MacUnit.dot`.
        options: ``block`` and ``random`` as in `fpsim.unit.MacUnit.dot`.

    Returns:
        Counts, errors and widths over all dot products together.

    Raises:
        FpsimError: operands that do not fit the unit, or a NaN or an infinity among them.
    """
    spec = spec_of(unit)
    kind = DotOperands if dots else MatmulOperands
    args = kind.check(spec, a, b, c=c, a_scale=a_scale, b_scale=b_scale, **options)
    tally = _Tally()
    if isinstance(args, MatmulOperands) and _in_lanes(spec, args):
        tally.add_chains(spec, args)
        return tally.result(spec)
    for part in counted(_batches(spec, args), _batch_count(args)):
        tally.add(spec, part)
    return tally.result(spec)


def _machine() -> Machine:
    """Return the processor to plan for: accounts are kept of float32 and float64 numbers."""
    return Machine.host().without("avx512fp16")


def _in_lanes(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether lanes can compute the steps, and float64 the exact sums."""
    stage = spec.accumulate
    if not isinstance(stage, Chain) or stage.product is not ProductRounding.FUSED:
        return False
    if not in_lanes(spec):
        return False
    plain = args.c is None and stage.rounding is not Rounding.SR and all_finite(args)
    if not plain or args.shape[0] * args.shape[1] * args.length < MIN_PRODUCTS:
        return False
    bounds = product_bounds(args)
    plan = plan_matmul(spec, args.rows(slice(0, 1)), _machine())
    one = plan.step is not None and plan.step.terms == 1 and not plan.step.chunk
    return one and not plan.source.block and bounds.span.times(args.length).bits <= F64_BITS


def _batches(spec: MacSpec, args: DotOperands | MatmulOperands) -> Iterator[DotOperands]:
    """Yield dot products, a part at a time."""
    if isinstance(args, DotOperands):
        yield args
        return
    batch = _rows_of_batch(args)
    for row in range(0, args.shape[0], batch):
        yield args.rows(slice(row, row + batch)).as_dots(spec)


def _rows_of_batch(args: MatmulOperands) -> int:
    return max(1, BATCH // (args.length * args.shape[1]))


def _batch_count(args: DotOperands | MatmulOperands) -> int:
    return 1 if isinstance(args, DotOperands) else -(-args.shape[0] // _rows_of_batch(args))


@dataclass
class _Tally:
    """Counts and bounds of the dot products so far."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("dots", "steps", "overflows", "saturations", "inexact", "swamped", "not_finite"), 0
        )
    )
    low: Fraction = Fraction(0)  #: smallest and largest partial sum
    high: Fraction = Fraction(0)
    sizes: Fraction = Fraction(0)  #: largest sum of magnitudes
    lsb: int | None = None  #: all partial sums are multiples of 2^lsb
    significant: int = 0  #: most significant bits of a partial sum
    relative: float = 0.0
    relative_sum: float = 0.0
    nonzero: int = 0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, spec: MacSpec, args: DotOperands) -> None:
        """Count a part of the dot products."""
        rows = Rows.of(spec, args)
        start = np.ascontiguousarray(args.c.reshape(-1))
        stage, terms, exponents, random = outer_terms(spec, rows, random_rows(args))
        terms = np.ascontiguousarray(terms)
        ideal = np.ascontiguousarray(_exact_terms(spec, rows, terms))
        first = spec.initial.decode(start).astype(np.float64)
        if not np.isfinite(ideal).all() or not np.isfinite(first).all():
            raise FpsimError("operands: a NaN or an infinity has no partial sums")
        self._partial_sums(ideal, first)
        codes = self._steps(stage, terms, exponents, start, random)
        self._errors(spec.result.decode(codes).astype(np.float64), ideal, first)

    def add_chains(self, spec: MacSpec, args: MatmulOperands) -> None:
        """Count a matrix product whose steps lanes compute, row by row."""
        machine, stage, low = _machine(), spec.accumulate, product_bounds(args).span.low
        assert isinstance(stage, Chain)
        keep(args.b)
        a, b = args.a.values(), np.ascontiguousarray(args.b.values().T)
        unit, done = Fraction(2) ** low, []
        for row in counted(range(args.shape[0]), args.shape[0]):
            part = args.rows(slice(row, row + 1))
            after = run_values(spec, part, plan_matmul(spec, part, machine), machine)
            found = sizing.Account.of(args.shape[1])
            largest = stage.format.max_value
            sizing.chain_account(after, a[row], b, 2.0**-low, largest, found)
            if found.beyond.any():  # rounding decides whether these overflow
                self.add(spec, part.as_dots(spec))
                continue
            self.counts["steps"] += after.size
            self.counts["inexact"] += int(found.inexact.sum())
            self.counts["swamped"] += int(found.swamped.sum())
            sums = found.low.min(), found.high.max(), found.most.max(), found.sizes.max()
            self._widen(low, unit, int(np.bitwise_or.reduce(found.seen)), *map(int, sums))
            totals = np.ldexp(found.total.astype(np.float64), low)
            done.append((totals, totals - after[-1].astype(np.float64)))
        if done:
            totals, errors = (np.concatenate(parts) for parts in zip(*done, strict=True))
            self._compare(totals, errors)
            self.counts["dots"] += totals.size

    def _steps(
        self, stage: Stage, terms: Array, exponents: Array | None, start: Array, random: Array
    ) -> Array:
        """Count overflows, losses and swamped steps; return the final codes (R,)."""
        wanted = stage
        if isinstance(stage, Fixed):
            wanted = replace(stage, convert=None, convert_rounding=Rounding.RNE)
        codes = add_up(wanted, terms, exponents, start, random, terms.shape[1])
        group = _step_terms(stage, terms.shape[1])
        if isinstance(stage, Fixed):
            self._fixed_steps(stage, codes, terms, group, start, random)
            return codes[:, -1] if stage.convert is None else convert_fixed(stage, codes[:, -1])
        fmt = stage.result
        after = fmt.decode(codes).astype(np.float64)
        before = np.concatenate([fmt.decode(start)[:, None], after[:, :-1]], axis=1)
        sums = _step_sums(terms, group, before)
        known = np.isfinite(sums)
        beyond = (known & ~np.isfinite(after)) | _overflows(stage, np.where(known, sums, 0.0))
        moved = _moving(terms, group, after.shape[1])
        self.counts["steps"] += after.size
        self.counts["overflows"] += int(beyond.sum())
        self.counts["saturations"] += int((beyond & np.isfinite(after)).sum())
        self.counts["inexact"] += int((known & (after != sums)).sum())
        self.counts["swamped"] += int((known & (after == before) & moved).sum())
        return codes[:, -1]

    def _fixed_steps(
        self, stage: Fixed, codes: Array, terms: Array, group: int, start: Array, random: Array
    ) -> None:
        fmt = stage.initial
        rounded = _on_grid(stage, terms, random)
        bits = _highest(rounded) - stage.lsb + (group * parts_of(rounded)).bit_length()
        integers = np.ldexp(rounded, -stage.lsb)
        if max(stage.width, bits) > MAX_INTEGER_BITS:
            added = np.vectorize(int, otypes=[object])(integers)
        else:
            added = integers.astype(np.int64)
        if added.ndim == 3:
            added = added.sum(axis=2)
        edges = np.arange(0, terms.shape[1], group)
        added = np.add.reduceat(added, edges, axis=1)
        after = fmt.integers(codes).astype(added.dtype)
        first = fmt.integers(start).astype(added.dtype)[:, None]
        before = np.concatenate([first, after[:, :-1]], axis=1)
        beyond = (added > fmt.max_integer - before) | (added < fmt.min_integer - before)
        lost = np.logical_or.reduceat(_differ(rounded, terms), edges, axis=1)
        moved = _moving(terms, group, edges.size)
        self.counts["steps"] += after.size
        self.counts["overflows"] += int(beyond.sum())
        self.counts["saturations"] += int(beyond.sum())
        self.counts["inexact"] += int((lost | beyond).sum())
        self.counts["swamped"] += int(((after == before) & moved).sum())

    def _partial_sums(self, terms: Array, first: Array) -> None:
        spans = np.empty((terms.shape[0], 2), dtype=np.int64)
        sizing.bounds(np.concatenate([in_a_row(terms), first[:, None]], axis=1), spans)
        low, high = int(spans[:, 0].min()), int(spans[:, 1].max())
        if low > high:
            return  # only zeros
        bits = high - low + terms.shape[1].bit_length()
        if bits <= MAX_INTEGER_BITS and parts_of(terms) == 1:
            out = np.empty((terms.shape[0], 5), dtype=np.int64)
            sizing.partial_sums(terms, first, 2.0**-low, out)
            lows, highs, most, sizes = (
                int(f(out[:, i])) for f, i in ((np.min, 0), (np.max, 1), (np.max, 3), (np.max, 4))
            )
            seen = int(np.bitwise_or.reduce(out[:, 2]))
        else:
            lows, highs, seen, most, sizes = _wide_partial_sums(terms, first, low)
        self._widen(low, Fraction(2) ** low, seen, lows, highs, most, sizes)

    def _widen(
        self, low: int, unit: Fraction, seen: int, lows: int, highs: int, most: int, sizes: int
    ) -> None:
        """Extend the bounds by sums in units of 2^low."""
        self.low, self.high = min(self.low, lows * unit), max(self.high, highs * unit)
        self.sizes = max(self.sizes, sizes * unit)
        self.significant = max(self.significant, most)
        if seen:
            lsb = low + (seen & -seen).bit_length() - 1
            self.lsb = lsb if self.lsb is None else min(self.lsb, lsb)

    def _errors(self, results: Array, terms: Array, first: Array) -> None:
        finite = np.isfinite(results)
        self.counts["dots"] += results.size
        self.counts["not_finite"] += int((~finite).sum())
        terms, first, results = in_a_row(terms[finite]), first[finite], results[finite]
        totals, errors = np.empty(results.size), np.empty(results.size)
        ones = np.ones(terms.shape)
        limbs.exact_dots(terms, ones, first, False, totals)
        both = np.concatenate([terms, first[:, None]], axis=1)
        limbs.exact_dots(both, np.ones(both.shape), -results, False, errors)
        self._compare(totals, errors)

    def _compare(self, totals: Array, errors: Array) -> None:
        """Count the errors of results whose exact sums are ``totals``."""
        used = totals != 0
        relative = np.abs(errors[used] / totals[used])
        self.nonzero += relative.size
        self.relative = max(self.relative, float(relative.max(initial=0.0)))
        self.relative_sum += float(relative.sum())
        self.signal += float(np.square(totals).sum())
        self.noise += float(np.square(errors).sum())

    def result(self, spec: MacSpec) -> Sizing:
        """Return the `Sizing` of all dot products counted."""
        lsb = 0 if self.lsb is None else self.lsb
        unit = Fraction(2) ** lsb
        largest = max(self.high, -self.low)
        mantissa = max(self.significant - 1, 0)
        exponent_min = lsb + mantissa
        top = _floor_log2(largest) if largest else exponent_min
        return Sizing(
            unit=spec.name,
            **self.counts,
            max_relative_error=self.relative,
            mean_relative_error=self.relative_sum / self.nonzero if self.nonzero else 0.0,
            sqnr_db=_decibels(self.signal, self.noise),
            largest=float(largest),
            fixed_width=_signed_bits(int(self.low / unit), int(self.high / unit)),
            fixed_lsb=lsb,
            any_order_width=_signed_bits(-int(self.sizes // unit), int(self.sizes // unit)),
            mantissa_bits=mantissa,
            exponent_bits=max(top - exponent_min + 1, 1).bit_length(),
            exponent_min=exponent_min,
        )


def _wide_partial_sums(terms: Array, first: Array, low: int) -> tuple[int, int, int, int, int]:
    """Return (lowest, highest, OR of magnitudes, most significant bits, sum of magnitudes).

    They are of partial sums in units of 2^low, over all rows, in Python integers: the outputs of
    the kernel `sizing.partial_sums` for sums beyond 64 bits.
    """
    lows = highs = seen = most = sizes = 0
    unit = Fraction(2) ** low
    parts = terms.reshape(*terms.shape[:2], -1)
    for row, start in zip(parts.tolist(), first.tolist(), strict=True):
        integers = [int(sum(map(Fraction, term)) / unit) for term in ([start], *row)]
        sizes = max(sizes, sum(abs(i) for i in integers))
        for total in accumulate(integers):
            lows, highs = min(lows, total), max(highs, total)
            size = abs(total)
            seen |= size
            if size:
                most = max(most, (size // (size & -size)).bit_length())
    return lows, highs, seen, most, sizes


def _exact_terms(spec: MacSpec, rows: Rows, terms: Array) -> Array:
    """Return terms before rounding in chunks or blocks; ``terms`` are the unit's."""
    block = spec.block
    rounded = block is not None and (block.convert is not None or isinstance(block.into, Chunked))
    if rounded or isinstance(spec.accumulate, Chunked):
        return rows.products() if block is None else rows.block_terms(block)[0]
    return terms


def _step_sums(terms: Array, group: int, before: Array) -> Array:
    """Return ``before`` (R, S) plus the exact sum of each step's terms, rounded to odd."""
    sums = np.empty(before.shape)
    sizing.step_sums(in_a_row(terms), group * parts_of(terms), before, sums)
    return sums


def _on_grid(stage: Fixed, terms: Array, random: Array) -> Array:
    """Return terms rounded to multiples of 2^lsb, perhaps in one more part."""
    if parts_of(terms) > 1:
        return parts_on_grid(stage, terms, random)
    rounded = np.empty(terms.shape)
    grid = stage.initial.grid(stage.overflow)
    mode = mode_constants(stage.rounding)
    fixed_point.round_to_grid(terms, grid, mode, random, stage.random_bits, rounded)
    return rounded


def _differ(rounded: Array, terms: Array) -> Array:
    """Return the mask (R, T) of terms that rounding changed."""
    if terms.ndim == 2:
        return np.asarray(rounded != terms)
    return np.asarray((rounded[..., :-1] != terms).any(axis=2))


def _step_terms(stage: Stage, terms: int) -> int:
    """Return the number of terms per step of a stage."""
    if isinstance(stage, Exact) or (isinstance(stage, Fixed) and stage.sums_first):
        return terms
    if isinstance(stage, Aligned | Tree):
        return min(stage.products or terms, terms)
    return 1


def _overflows(stage: Any, sums: Array) -> Array:
    """Return the mask of sums that, rounded by the stage, exceed its largest value."""
    narrow: FloatFormat = stage.format
    if np.abs(sums).max(initial=0.0) <= narrow.max_value:
        return np.zeros(sums.shape, dtype=np.bool_)
    mode = Rounding.RTZ if stage.rounding is Rounding.SR else stage.rounding
    _, flags = narrow.encode(sums, str(mode), str(Overflow.SATURATE), flags=True)
    return np.asarray((flags & Flag.OVERFLOW) != 0)


def _moving(terms: Array, group: int, steps: int) -> Array:
    """Return the mask (R, S) of steps whose terms have a nonzero sum."""
    if group * parts_of(terms) == 1:
        return np.asarray(terms != 0)
    return np.asarray(_step_sums(terms, group, np.zeros((terms.shape[0], steps))) != 0)


def _highest(values: Array) -> int:
    """Return the least e with |value| < 2^e for every value."""
    return int(np.frexp(np.abs(values).max(initial=0.0))[1])


def _signed_bits(low: int, high: int) -> int:
    """Return the bits of the narrowest two's-complement register from ``low`` to ``high``."""
    return 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)


def _floor_log2(value: Fraction) -> int:
    estimate = value.numerator.bit_length() - value.denominator.bit_length()
    return estimate if Fraction(2) ** estimate <= value else estimate - 1


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
