# SPDX-License-Identifier: Apache-2.0
"""Proofs that a mutant is equivalent to the unit in all states that a design can reach.

A design that takes no addend, or only some operand codes, does not meet all states of a unit; a
mistake that shows only in other states is no mistake of the design. Each lemma gives a reason, and
`tests/vectors/test_reach.py` tests each on all possible sums, if they can be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import ceil, frexp, log2
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle.numbers import round_up
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Stage,
    Tree,
    stages_of,
)
from fpsim.vectors.mutants.grown_equivalence import (
    GrownBounds,
    flushes,
    grown_alike,
    products_are_codes,
)
from fpsim.vectors.mutants.mutants import FRACTIONS, Mutant, rounded_after
from fpsim.vectors.plans.exhaustive import every_case
from fpsim.vectors.sets.code_lists import all_codes
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Record, takes_nan

__all__ = ["OF_ADDENDS", "Addends", "Reach", "grows", "holds"]

#: Mistakes that show where an addend other than +0 is given.
OF_ADDENDS = frozenset({"addend ignored", "-0 lost in the addend",
                        "overflow over an infinite addend",
                        "infinite addend as a power of two"})  # fmt: skip

#: Most cases tried one by one, and through the exact model.
MOST_CASES, MOST_SLOW_CASES = 1 << 16, 1 << 10
#: Most bits of accumulators whose reachable codes are counted, and sums in one step of the count.
COUNTED_BITS, STEP = 16, 1 << 11


class Addends(StrEnum):
    """Addends that a design can be given for the products of a vector."""

    ANY = "any"  #: the design takes any addend, or loads it
    GROWN = "grown"  #: sums of products from +0 on
    ZERO = "zero"  #: always +0


@dataclass(frozen=True)
class Reach:
    """Addends, and codes of operands and scales, that a design can meet.

    ``codes`` are the codes that the design takes, by field; all codes of a field that is not in it.
    """

    record: Record
    addends: Addends
    codes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def equivalent(self, mutant: Mutant) -> str | None:
        """Return a proof that a mutant gives the unit's results for this design, or None."""
        lemmas = (self._reads_alike, self._no_addend, self._small_sums, self._from_zero,
                  self._every_case, self._fractions, self._grown)  # fmt: skip
        return next((why for lemma in lemmas if (why := lemma(mutant))), None)

    # -- codes and addends -------------------------------------------------------------------------

    def _reads_alike(self, mutant: Mutant) -> str | None:
        spec, other = self.record.spec, mutant.spec
        if other is None or other.accumulate != spec.accumulate or not self.codes:
            return None
        for name in ("a", "b", "a_scale", "b_scale"):
            x, y = getattr(spec, name), getattr(other, name)
            if x == y:
                continue
            codes = self.codes.get(name)
            if codes is None or x.bits != y.bits:
                return None
            u, v = x.decode(codes.astype(x.dtype)), y.decode(codes.astype(x.dtype))
            if not np.array_equal(u, v, equal_nan=True) or (np.signbit(u) != np.signbit(v)).any():
                return None
        return "no code that the design can be told is read in another way"

    def _no_addend(self, mutant: Mutant) -> str | None:
        if self.addends is Addends.ZERO and mutant.name in OF_ADDENDS:
            return "the addend is always +0"
        return None

    # -- sums that are exact -----------------------------------------------------------------------

    def _told(self, name: str) -> NDArray[np.float64]:
        """Return the values of an operand's or scale's codes that the design takes."""
        fmt: Format = getattr(self.record.spec, name)
        return fmt.decode(self._told_codes(name))

    def _told_codes(self, name: str) -> NDArray[Any]:
        codes = self.codes.get(name)
        return all_codes(getattr(self.record.spec, name)) if codes is None else codes

    @cached_property
    def finite(self) -> bool:
        """Whether all operands and scales that the design takes are finite numbers."""
        names = ("a", "b", *(("a_scale", "b_scale") if self.record.group else ()))
        refused = not takes_nan(self.record.spec)
        numbers = [self._told(name) for name in names[:2]]
        return all(bool((np.isfinite(x) | (refused & np.isnan(x))).all()) for x in numbers) and all(
            not np.isinf(self._told(name)).any() for name in names[2:]
        )

    @cached_property
    def infinite(self) -> bool:
        """Whether an operand or scale that the design takes can be infinite."""
        names = ("a", "b", *(("a_scale", "b_scale") if self.record.group else ()))
        return any(bool(np.isinf(self._told(name)).any()) for name in names)

    @cached_property
    def _alone(self) -> bool:
        """Whether all products of a vector have one scale per operand."""
        return self.record.groups == 1 and str(self.record.spec.sign_split) == "none"

    @cached_property
    def sums(self) -> ExactSums:
        """The sums of products of operands and scales that the design takes.

        With one scale per operand and vector, all products of a vector share it: sums have the
        scales' bits plus those of the products' sums, and a window's exponent is the scales' plus
        that of a product or of the products' sum.
        """
        low, most, bits, top, fraction = 0, float(self.record.k), 0, 0, 0
        own = (0, 0, 0)
        spans: list[int] = []
        for name in ("a", "b", *(("a_scale", "b_scale") if self.record.group else ())):
            values = np.abs(self._told(name))
            values = values[np.isfinite(values) & (values > 0)]
            significands, powers = np.frexp(values)
            integers = (significands * 2.0**53).astype(np.int64)
            zeros = np.frexp((integers & -integers).astype(np.float64))[1] - 1
            low += int((powers - 53 + zeros).min(initial=0 if not values.size else 1 << 20))
            most *= float(values.max(initial=0.0)) or 1.0
            fmt = getattr(self.record.spec, name)
            top += _top(fmt, float(values.max(initial=0.0)))
            if name.endswith("scale"):
                fraction += fmt.mantissa_bits
                spans.append(int((53 - zeros).max(initial=1)))
                continue
            bits = _ceiling(most) - low
            own = (low, _ceiling(most), top)
        high = _ceiling(most)
        depth = max(high, top) - low
        if self.record.group:
            bits = bits + sum(spans) if self._alone else high - low
        if self.record.group and self._alone:  # significands of scales are below 2
            depth = max(own[1] + len(spans) - 1, own[2], 0) + fraction - own[0]
        scaled = bool(self.record.group)
        return ExactSums(low, high, bits, depth, self.record.k, most, None if scaled else top)

    def _small_sums(self, mutant: Mutant) -> str | None:
        """Prove that no sum onto +0 is rounded or leaves the range."""
        spec, other = self.record.spec, mutant.spec
        if self.addends is not Addends.ZERO:
            return None
        if self.record.group and spec.block is not None and not self._one_block(mutant):
            return None
        if self._differs_in_overflow(mutant) and not self.infinite and not self._overflows:
            return f"the {self.record.k} largest products do not overflow, and none are larger"
        if self.infinite or not _exact(spec.accumulate, self.sums):
            return None
        low, high = self.sums.low, self.sums.high
        why = f"sums of {self.record.k} products are multiples of 2^{low} up to 2^{high}: exact"
        if other is None:
            same = mutant.name.startswith("rounding: ") or mutant.name in (
                "order reversed",
                "-0 lost",
            )
            lost = mutant.name == "-0 lost" and _rounds_down(spec.accumulate)
            return why if same and not lost else None
        if any(getattr(spec, n) != getattr(other, n) for n in ("a", "b", "a_scale", "b_scale")):
            return None
        alike = other.result == spec.result or flushes(spec.result, other.result)
        alike = alike and _rounds_down(other.accumulate) is _rounds_down(spec.accumulate)
        nan = self.finite or _nan_code(other.accumulate) == _nan_code(spec.accumulate)
        return why if alike and nan and _exact(other.accumulate, self.sums) else None

    def _differs_in_overflow(self, mutant: Mutant) -> bool:
        stage, other = self.record.spec.accumulate, mutant.spec
        if not isinstance(stage, Chain | Exact | Tree) or other is None:
            return False
        changed = other.accumulate
        if type(changed) is not type(stage) or replace(other, accumulate=stage) != self.record.spec:
            return False
        return replace(changed, overflow=stage.overflow) == stage

    @cached_property
    def _overflows(self) -> bool:
        """Whether a sum onto +0 can leave the range of its format.

        Adding and rounding keep their order, so if any sum does, that of the largest products does,
        or that of the most negative ones.
        """
        spec, record = self.record.spec, self.record
        stage = spec.accumulate
        if not isinstance(stage, Chain | Exact | Tree) or record.roundings:
            return True
        fmt = stage.format
        if fmt.nan_code is None:
            return True
        over = Overflow.INF if fmt.infinity else Overflow.NAN
        changed = replace(spec, accumulate=replace(stage, overflow=over))
        names = ("a", "b", *(("a_scale", "b_scale") if record.group else ()))
        ends = [self._ends(name) for name in names]
        rows = list(product(*ends))
        columns = {}
        for name, codes in zip(names, np.array(rows).T, strict=True):
            part = np.repeat(codes[:, None], record.lanes_of(name), axis=1)
            columns[name] = part.astype(record.format_of(name).dtype)
        c = np.zeros(len(rows), dtype=spec.initial.dtype)
        sums = Record(changed, record.k, record.group).dot(columns, c)
        return not bool(np.isfinite(fmt.decode(sums)).all())

    def _ends(self, name: str) -> list[int]:
        """Return the told codes of the least and the largest number of an operand or scale."""
        codes = self._told_codes(name).astype(np.int64)
        values = self._told(name)
        codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
        return [int(codes[values.argmin()]), int(codes[values.argmax()])]

    def _one_block(self, mutant: Mutant) -> bool:
        """Return whether a vector is one block, and a mutant changes only how its sum is added.

        Scales without a sign leave a zero sum +0; a NaN scale has one code in every stage.
        """
        spec, other = self.record.spec, mutant.spec
        stage = spec.accumulate
        if not self._alone or spec.a_scale.signed or spec.b_scale.signed:
            return False
        if other is None:
            return isinstance(stage, Block)
        changed = other.accumulate
        if not isinstance(stage, Block) or not isinstance(changed, Block):
            return False
        free = ("into", "size", "convert", "convert_rounding")
        same = all(getattr(stage, n) == getattr(changed, n) for n in vars(stage) if n not in free)
        return same and _nan_code(stage) == _nan_code(changed)

    def _every_case(self, mutant: Mutant) -> str | None:
        """Prove by trying every case, if they are few."""
        if self.addends is not Addends.ZERO or self.record.roundings:
            return None
        most = MOST_SLOW_CASES if mutant.slow else MOST_CASES
        cases = every_case(self.record, most, addends=False, most=most)
        if cases is None or mutant.name == "previous products":
            return None
        whole = cases.make(0)
        count = whole["c"].size
        for start in range(0, count, STEP):
            columns = {name: column[start : start + STEP] for name, column in whole.items()}
            try:
                changed = mutant.run(columns, columns["c"])
            except FpsimError:
                return None
            if (changed != self.record.dot(columns, columns["c"])).any():
                return None
        return f"all {count} cases of the design give the same"

    def _from_zero(self, mutant: Mutant) -> str | None:
        stage, sums = self.record.spec.accumulate, self.sums
        if self.addends is Addends.ANY and not _rounds_down(stage):
            return None
        high = sums.high + sum(grows(each, self.record.k) for each in stages_of(stage))
        once = self.addends is Addends.ZERO
        most, loaded = sums.most / sums.products, self.addends is Addends.ANY
        bounds = GrownBounds(sums.low, high, most, self.infinite, once, loaded)
        return grown_alike(self.record, mutant, bounds)

    # -- sums that grow ----------------------------------------------------------------------------

    @cached_property
    def _single(self) -> Record:
        return Record(self.record.spec, 1, 0)

    @cached_property
    def _products(self) -> Columns:
        told = {n: self._told_codes(n).astype(np.int64) for n in "ab"}
        a, b, _ = Palette(self._single, told).products
        spec = self.record.spec
        return {"a": a.astype(spec.a.dtype)[:, None], "b": b.astype(spec.b.dtype)[:, None]}

    @cached_property
    def _codes(self) -> NDArray[Any] | None:
        """Accumulator codes that products meet, one by one from +0 on; None: not counted."""
        spec, once = self.record.spec, self.addends is Addends.ZERO
        few = all(self._told_codes(n).size <= 1 << 8 for n in "ab")
        if spec.result.bits > COUNTED_BITS or not few or not self.finite:
            return None
        known = np.zeros(1 << spec.result.bits, dtype=bool)
        known[0] = True
        edge = np.zeros(1, dtype=np.int64)
        adds = 1
        while edge.size and not (once and adds == self.record.k):
            adds += 1
            found = np.unique(self._step(self._single.dot, edge))
            edge = found[~known[found]].astype(np.int64)
            known[edge] = True
        return np.flatnonzero(known)

    def _step(self, run: Any, states: NDArray[np.int64]) -> NDArray[Any]:
        """Return the accumulators after one product: each of ``states`` with every product."""
        products = self._products
        count = products["a"].shape[0]
        out = []
        for part in np.array_split(states, -(-states.size * count // STEP)):
            c = np.repeat(part, count).astype(self.record.spec.initial.dtype)
            columns = {n: np.tile(codes, (part.size, 1)) for n, codes in products.items()}
            out.append(run(columns, c))
        return np.concatenate(out)

    def _fractions(self, mutant: Mutant) -> str | None:
        """Prove a wrong rounding decision right for all parts of a unit that are ever rounded."""
        stage, record = self.record.spec.accumulate, self.record
        edit = FRACTIONS.get(mutant.name.removeprefix("rounding: "))
        single = isinstance(stage, Chain) and not record.roundings and not record.group
        if edit is None or not single or self.addends is Addends.ANY or mutant.spec is not None:
            return None
        assert isinstance(stage, Chain)
        codes = None if products_are_codes(record, stage) is None else self._codes
        if codes is None:
            return None
        seen = _rounded_parts(stage.format, codes, self._product_values)
        if seen is None:
            return None
        for part, odd, negative in seen:
            case = (Fraction(part), odd, negative, stage.rounding)
            if rounded_after(edit, *case, 0, 0) != round_up(*case, 0, 0):
                return None
        return f"{len(seen)} parts of a unit in the last place are rounded, all as they should be"

    @cached_property
    def _product_values(self) -> NDArray[np.float64]:
        spec = self.record.spec
        a, b = (getattr(spec, n).decode(self._products[n][:, 0]) for n in "ab")
        return np.asarray(a * b)

    def _grown(self, mutant: Mutant) -> str | None:
        stage = self.record.spec.accumulate
        one_by_one = isinstance(stage, Chain) or (isinstance(stage, Fixed) and not stage.sums_first)
        if self.addends is not Addends.GROWN or self.record.group or not one_by_one:
            return None
        if isinstance(stage, Fixed) and stage.convert is not None:
            return None
        codes = self._codes
        if codes is None:
            return None
        why = f"{codes.size} accumulators can be reached; each gives the same with every product"
        if mutant.spec is None:
            result = self.record.spec.result
            if mutant.name in ("-0 lost", "-0 lost in the addend"):
                return why if result.sign_bit not in codes else None  # type: ignore[union-attr]
            return None
        if replace(mutant.spec, accumulate=stage) != self.record.spec:
            return None  # equal products of other factors are read in another way
        other = mutant.spec.accumulate
        adds = type(other) is type(stage) and getattr(other, "convert", None) is None
        adds = adds and not getattr(other, "sums_first", False)
        if not adds and self.record.k > 1:
            return None
        try:
            changed = Record(mutant.spec, 1, 0).dot
            same = np.array_equal(self._step(changed, codes), self._step(self._single.dot, codes))
        except FpsimError:
            return None
        return why if same else None


def _rounded_parts(
    fmt: FloatFormat, codes: NDArray[Any], products: NDArray[np.float64]
) -> set[tuple[float, bool, bool]] | None:
    """Return the roundings that happen when products are added to accumulators.

    Args:
        fmt: the accumulator's format.
        codes: accumulators.
        products: the products, each of which is added to each accumulator.

    Returns:
        Each part of a unit in the last place that is cut or rounded up, with whether the number
        below it is odd, and the sign; None where float64 does not hold every sum.
    """
    seen: set[tuple[float, bool, bool]] = set()
    values = fmt.decode(codes.astype(fmt.dtype))
    values = values[np.isfinite(values)]
    for part in np.array_split(values, -(-values.size * products.size // (1 << 20))):
        acc, p = part[:, None], products[None, :]
        total = acc + p
        if ((total - acc != p) | (total - p != acc)).any():
            return None
        powers = np.maximum(np.frexp(total)[1] - 1, fmt.exponent_min) - fmt.mantissa_bits
        units, below = np.modf(np.ldexp(np.abs(total), -powers))[::-1]
        facts = np.stack([below, units % 2, total < 0], axis=-1).reshape(-1, 3)
        seen |= {(x, bool(y), bool(z)) for x, y, z in np.unique(facts, axis=0).tolist()}
    return seen


def _top(fmt: Format, most: float) -> int:
    """Return the largest exponent, as a window compares exponents, of numbers up to ``most``."""
    if isinstance(fmt, FixedFormat):
        return max(fmt.max_integer, -fmt.min_integer).bit_length() - 1 + fmt.lsb
    return max(frexp(most)[1] - 1, fmt.exponent_min)


def _ceiling(value: float) -> int:
    """Return the least n with value <= 2^n."""
    fraction, exponent = frexp(value)
    return exponent - (fraction == 0.5)


class ExactSums(NamedTuple):
    """Sums of products: multiples of 2^low, up to 2^high.

    They have ``bits`` significant bits, or are a power of two more; none has a bit more than
    ``depth`` below the exponent that a window has.
    """

    low: int
    high: int
    bits: int
    depth: int
    products: int
    most: float  #: the largest sum
    top: int | None  #: the largest exponent of a product; None: of scaled ones

    def depth_in(self, stage: Aligned) -> int:
        """Return ``depth`` in a stage's windows, whose addends have not all products yet."""
        if self.top is None:
            return self.depth
        earlier = (self.products - 1) // stage.products * stage.products
        addend = self.most / self.products * earlier
        return max(self.top, frexp(addend)[1] - 1 if addend else self.top) - self.low

    def fit(self, fmt: FloatFormat) -> bool:
        """Return whether every sum is a value of a format."""
        least = fmt.exponent_min
        least -= fmt.mantissa_bits if fmt.subnormals is Subnormals.GRADUAL else 0
        fits = self.bits <= fmt.mantissa_bits + 1 and self.high <= fmt.exponent_max
        return self.low >= least and fits


def _rounds_down(stage: Stage) -> bool:
    """Return whether a zero sum is -0 unless every term of it is +0, in whatever order."""
    return isinstance(stage, Chain | Exact | Tree) and stage.rounding is Rounding.RDN


def _exact(stage: Stage, sums: ExactSums) -> bool:
    """Return whether a stage computes sums without error; rounding down, but for a zero's sign."""
    if isinstance(stage, Chain | Exact | Tree) and _rounds_down(stage):
        stage = replace(stage, rounding=Rounding.RTZ)
    return holds(stage, sums)


def _nan_code(stage: Stage) -> int | None:
    """Return the code of NaN that a stage's results can be."""
    into = stage.into if isinstance(stage, Block) else stage
    if isinstance(into, Aligned):
        return into.nan
    fmt = into.result
    return fmt.nan_code if isinstance(fmt, FloatFormat) else None


def grows(stage: Stage, products: int) -> int:
    """Return how many binades must lie above a bound on exact sums for rounded sums to fit.

    Each rounding makes a sum grow by a unit in its last place at most, half a unit to nearest; the
    largest number is nearly a binade above the largest power of two.
    """
    if not isinstance(stage, Chain | Tree) or stage.rounding is Rounding.RTZ:
        return 0
    unit = 2.0**-stage.format.mantissa_bits
    nearest = stage.rounding in (Rounding.RNE, Rounding.RNA)
    balanced = isinstance(stage, Tree) and stage.lanes == 1
    roundings = (products.bit_length() if balanced else products) + 2
    growth = roundings * log2(1 + (unit / 2 if nearest else unit))
    return max(ceil(growth - log2(2 - unit)), 0)


def holds(stage: Stage, sums: ExactSums) -> bool:
    """Return whether a stage computes the sums without error.

    Sums start from +0, so zero sums are +0.
    """
    low, high = sums.low, sums.high
    if isinstance(stage, Block):
        kept = stage.convert is None or sums.fit(stage.convert)
        return kept and holds(stage.into, sums)
    if isinstance(stage, Chunked):  # a chunk's zero joins another zero, which is +0
        return _exact(stage.inner, sums) and holds(stage.outer, sums)
    if isinstance(stage, Aligned):
        floor, depth = stage.exponent_floor, sums.depth_in(stage)
        deep = depth <= stage.fraction_bits and (
            floor is None or floor - stage.fraction_bits <= low
        )
        if stage.addend is Addend.JOINED:
            deep = deep and depth <= stage.join_sum_bits
        limited = stage.product_limit is not None and high >= stage.product_limit
        plain = stage.width is None and not limited
        up = not stage.signed_zero or Rounding.RDN not in (stage.rounding, stage.late_rounding)
        return plain and deep and up and sums.fit(stage.format) and sums.fit(stage.result)
    if isinstance(stage, Fixed):
        if stage.convert is not None or stage.lsb > low:
            return False
        fixed = stage.result
        return isinstance(fixed, FixedFormat) and 2.0 ** (high - stage.lsb) <= fixed.max_integer
    if not isinstance(stage, Chain | Exact | Tree) or stage.rounding is Rounding.RDN:
        return False
    return sums.fit(stage.format)
