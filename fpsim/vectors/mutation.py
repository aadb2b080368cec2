# SPDX-License-Identifier: Apache-2.0
"""Runs mutants against a set of vectors: which vector kills which, and what random ones would do.

A vector kills a mutant when the mutant's result, from the accumulator that the set expects before
it, is not what the vector says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.errors import FpsimError
from fpsim.formats import FloatFormat, Format, Subnormals
from fpsim.rounding import Rounding
from fpsim.spec import MacSpec, exponents, significand_bits
from fpsim.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Joins, Tree
from fpsim.vectors.dots import plan_dots
from fpsim.vectors.mutants import Mutant, mutants_of
from fpsim.vectors.shape import Columns, Shape
from fpsim.vectors.stream import Op

__all__ = ["Kill", "addends", "equivalent", "kills", "random_costs"]

#: Random vectors tried on a mutant, and on one that runs through the exact model.
RANDOM, SLOW_RANDOM = 1 << 12, 32
#: Rows of a slow mutant at a time.
SLOW_ROWS = 16


@dataclass(frozen=True)
class Kill:
    """The fate of a mutant."""

    mutant: str
    vector: int | None  #: the first vector that kills it; None: it lives
    killers: int  #: how many do (for slow mutants: 1)
    random: int | None = None  #: random vectors until the first kill; None: more than were tried
    equivalent: str | None = None  #: why no vector can kill it

    @property
    def alive(self) -> bool:
        """Whether it lives without being equivalent to the unit."""
        return self.vector is None and self.equivalent is None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return dict(vars(self))


def addends(columns: Columns) -> NDArray[Any]:
    """Return the accumulator that every vector finds: ``c``, or what the one before left."""
    before = np.concatenate([columns["acc"][:1] * 0, columns["acc"][:-1]])
    stream = (columns["op"] == Op.MAC) | (columns["op"] == Op.IDLE)
    return np.where(stream, before.astype(columns["c"].dtype), columns["c"])


def kills(shape: Shape, columns: Columns, mutants: list[Mutant] | None = None) -> list[Kill]:
    """Return the fate of every mutant under a set of vectors."""
    rows = np.flatnonzero((columns["op"] == Op.DOT) | (columns["op"] == Op.MAC))
    part = {name: column[rows] for name, column in columns.items()}
    before = addends(columns)[rows]
    found = []
    for mutant in mutants_of(shape) if mutants is None else mutants:
        reason = equivalent(shape, mutant)
        skip = reason is not None and mutant.slow  # every row would be traced to see nothing
        killers = np.empty(0, np.int64) if skip else _killers(mutant, part, before)
        if reason is not None and killers.size:
            raise FpsimError(f"mutant: {mutant.name} was killed, but it was proved equal: {reason}")
        first = int(rows[killers[0]]) if killers.size else None
        found.append(Kill(mutant.name, first, int(killers.size), None, reason))
    return found


def _killers(mutant: Mutant, part: Columns, before: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows that kill a mutant; of a slow one, the first."""
    total = before.size
    step = SLOW_ROWS if mutant.slow else total
    for start in range(0, total, max(step, 1)):
        cut = slice(start, start + step)
        rows = {name: column[cut] for name, column in part.items()}
        try:
            wrong = mutant.run(rows, before[cut]) != part["acc"][cut]
        except FpsimError:  # a result without a code: some row raises, find one
            wrong = _raising(mutant, rows, before[cut])
        if wrong.any():
            return np.flatnonzero(wrong) + start
    return np.empty(0, dtype=np.int64)


def _raising(mutant: Mutant, rows: Columns, before: NDArray[Any]) -> NDArray[np.bool_]:
    wrong = np.zeros(before.size, dtype=bool)
    for i in range(before.size):
        row = {name: column[i : i + 1] for name, column in rows.items()}
        try:
            wrong[i] = bool((mutant.run(row, before[i : i + 1]) != row["acc"]).any())
        except FpsimError:
            wrong[i] = True
        if wrong.sum() > 4:
            break
    return wrong


def random_costs(
    shape: Shape, mutants: list[Mutant], found: list[Kill], seed: int = 1
) -> list[Kill]:
    """Return the fates with how many random dot products the first kill would have taken."""
    plan = plan_dots(shape.spec, strategy="random", count=RANDOM, seed=seed, k=shape.k,
                     group=shape.group)  # fmt: skip
    columns = plan.columns()
    dots = np.flatnonzero(columns["op"] == Op.DOT)
    priced = []
    for mutant, kill in zip(mutants, found, strict=True):
        cost = None
        if kill.vector is not None:
            rows = dots[:SLOW_RANDOM] if mutant.slow else dots
            part = {name: column[rows] for name, column in columns.items()}
            killers = _killers(mutant, part, part["c"])
            cost = int(killers[0]) + 1 if killers.size else None
        priced.append(replace(kill, random=cost))
    return priced


# -- lemmas --------------------------------------------------------------------------------------


def equivalent(shape: Shape, mutant: Mutant) -> str | None:
    """Return a proof that a mutant computes what the unit computes, or None."""
    spec, other = shape.spec, mutant.spec
    if other is None:
        lemmas = (_same_in_any_order, _never_rounds, _no_negative_zero)
        return next((why for lemma in lemmas if (why := lemma(shape, mutant))), None)
    if other.accumulate == spec.accumulate:
        return "every operand and scale code means the same" if _same_values(spec, other) else None
    if any(getattr(spec, n) != getattr(other, n) for n in ("a", "b", "a_scale", "b_scale")):
        return None
    stage, changed = spec.accumulate, other.accumulate
    if type(stage) is not type(changed):
        return None
    low = exponents(spec.a)[0] + exponents(spec.b)[0]
    if isinstance(stage, Fixed):
        if _exact_on_grid(shape, stage) and _only(stage, changed, "rounding"):
            return f"products are multiples of 2^{low}, and the grid is 2^{stage.lsb}: none rounds"
        if str(stage.overflow) == "wrap" and _only(stage, changed, "overflow_at"):
            return "wrapping at the end is wrapping at every add: both are sums modulo 2^width"
    if isinstance(stage, Chunked) and isinstance(changed, Chunked):
        return _chunks_agree(shape, stage, changed, other)
    if isinstance(stage, Block) and isinstance(changed, Block):
        return _block_sums_fit(shape, stage, changed)
    if isinstance(stage, Aligned) and isinstance(changed, Aligned):
        fits = shape.k <= min(stage.products, changed.products)
        if fits and _only(stage, changed, "products"):
            return f"{shape.k} products are one step of either, filled with zeros"
        limits = [x.product_limit for x in (stage, changed) if x.product_limit is not None]
        high = exponents(spec.a)[1] + exponents(spec.b)[1]
        if (
            not shape.group
            and limits
            and high <= min(limits)
            and _only(stage, changed, "product_limit")
        ):
            return f"every product is below 2^{high}"
    if isinstance(stage, Tree) and isinstance(changed, Tree):
        whole = shape.k == stage.products and changed.products is None
        if whole and _only(stage, changed, "products"):
            return f"all {shape.k} products are one step"
    if isinstance(stage, Chain | Tree) and _only(stage, changed, "product"):
        return _products_are_codes(shape, stage)
    return None


def _exact_on_grid(shape: Shape, stage: Fixed) -> bool:
    low = exponents(shape.spec.a)[0] + exponents(shape.spec.b)[0]
    return low >= stage.lsb and not shape.group


def _never_rounds(shape: Shape, mutant: Mutant) -> str | None:
    stage = shape.spec.accumulate
    if not mutant.name.startswith("rounding: ") or not isinstance(stage, Fixed):
        return None
    if not _exact_on_grid(shape, stage) or stage.convert is not None:
        return None
    return f"products are multiples of the grid 2^{stage.lsb}: none rounds"


def _no_negative_zero(shape: Shape, mutant: Mutant) -> str | None:
    """Prove that no result, or no difference in the result, is a -0."""
    stage = shape.spec.accumulate
    if mutant.name not in ("-0 lost", "-0 lost in the addend"):
        return None
    if isinstance(stage, Aligned) and not stage.signed_zero:
        return "the window adds integers, which have one zero, and a zero result is +0"
    if isinstance(stage, Chunked) and isinstance(stage.inner, Aligned):
        outer = stage.outer
        if isinstance(outer, Chain) and outer.rounding is not Rounding.RDN:
            fits = _holds(outer.format, stage.inner.result)
            if fits and not stage.inner.signed_zero:
                return "a chunk's zero is +0, sums of codes do not underflow, and -0 + +0 = +0"
    scales = (shape.spec.a_scale, shape.spec.b_scale)
    unsigned = not any(s.signed for s in scales)
    exact = isinstance(stage, Block) and unsigned and _exact_blocks(shape, stage)
    if exact and mutant.name == "-0 lost":
        return "block sums are multiples of the least subnormal: only exact zeros are zero, +0"
    if (
        mutant.name == "-0 lost in the addend"
        and isinstance(stage, Block)
        and stage.convert is None
    ):
        into = stage.into
        if unsigned and isinstance(into, Chain | Exact) and into.rounding is not Rounding.RDN:
            return "a zero block sum is +0 and scales have no sign: -0 + +0 = +0, and -0 + p = p"
    return None


def _holds(outer: Format, inner: Format) -> bool:
    """Return whether every value of one format is a value of another, subnormals gradual."""
    if not isinstance(outer, FloatFormat) or not isinstance(inner, FloatFormat):
        return False
    gradual = outer.subnormals is inner.subnormals is Subnormals.GRADUAL
    least = outer.exponent_min - outer.mantissa_bits <= inner.exponent_min - inner.mantissa_bits
    wide = outer.mantissa_bits >= inner.mantissa_bits and outer.exponent_max >= inner.exponent_max
    return gradual and least and wide and outer.infinity >= inner.infinity


def _chunks_agree(shape: Shape, stage: Chunked, changed: Chunked, other: MacSpec) -> str | None:
    """Prove that chunks or their promotion agree."""
    if _only(stage, changed, "outer"):
        first, second = stage.outer, changed.outer
        alike = isinstance(first, Chain) and isinstance(second, Chain)
        if alike and _only(first, second, "product") and _holds(first.result, stage.inner.result):
            return f"every chunk's result is a value of {first.result.name}"
    if not _only(stage, changed, "inner") or stage.size is None:
        return None
    inner, new = stage.inner, changed.inner
    if not isinstance(inner, Aligned) or not isinstance(new, Aligned) or shape.group:
        return None
    low = exponents(shape.spec.a)[0] + exponents(shape.spec.b)[0]
    high = exponents(shape.spec.a)[1] + exponents(shape.spec.b)[1]
    ranges = ("format", "container", "overflow")
    if all(getattr(inner, n) == getattr(new, n) for n in vars(inner) if n not in ranges):
        top = high + stage.size.bit_length()
        formats = (inner.format, new.format)
        inside = all(
            f.exponent_min <= low - inner.fraction_bits and top <= f.exponent_max for f in formats
        )
        if inside and formats[0].mantissa_bits == formats[1].mantissa_bits:
            return f"a chunk's sums lie between 2^{low - inner.fraction_bits} and 2^{top}: in range"
    part = Shape(replace(shape.spec, accumulate=inner), stage.size, shape.group)
    return equivalent(part, Mutant("", _nothing, spec=replace(other, accumulate=new)))


def _nothing(columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
    return c


def _exact_blocks(shape: Shape, stage: Block) -> bool:
    """Return whether every finite scaled block sum is a number of a chain's format."""
    spec, into = shape.spec, stage.into
    if not isinstance(into, Chain) or into.rounding is Rounding.RDN or stage.convert is not None:
        return False
    fmt, scales = into.format, (spec.a_scale, spec.b_scale)
    if any(s.infinity for s in scales if isinstance(s, FloatFormat)) and not fmt.infinity:
        return False
    carry = (stage.size - 1).bit_length()
    low = sum(exponents(f)[0] for f in (spec.a, spec.b, *scales))
    high = sum(exponents(f)[1] for f in (spec.a, spec.b, *scales)) + carry
    bits = sum(exponents(f)[1] - exponents(f)[0] for f in (spec.a, spec.b)) + carry
    bits += sum(significand_bits(s) for s in scales)
    plain = fmt.subnormals is Subnormals.GRADUAL and fmt.has_negative_zero
    inside = fmt.exponent_min - fmt.mantissa_bits <= low and high <= fmt.exponent_max
    return plain and inside and bits <= fmt.mantissa_bits + 1


def _block_sums_fit(shape: Shape, stage: Block, changed: Block) -> str | None:
    """Prove that rounding block sums to the accumulator's format first changes nothing."""
    same = _only(stage, changed, "convert") and changed.convert == stage.into.result
    if isinstance(changed.into, Chain) and isinstance(stage.into, Chain):
        alike = _only(stage, changed, "into") and _only(stage.into, changed.into, "product")
        same = same or alike
    if not same or not _exact_blocks(shape, stage):
        return None
    return f"every scaled block sum is a value of {stage.into.result.name}"


def _products_are_codes(shape: Shape, stage: Chain | Tree) -> str | None:
    """Prove that every product is a value of the accumulator's format."""
    spec, fmt = shape.spec, stage.format
    low = exponents(spec.a)[0] + exponents(spec.b)[0]
    high = exponents(spec.a)[1] + exponents(spec.b)[1]
    bits = significand_bits(spec.a) + significand_bits(spec.b)
    inside = low >= fmt.exponent_min - fmt.mantissa_bits and high <= fmt.exponent_max
    if shape.group or not inside or bits > fmt.mantissa_bits + 1 or not fmt.has_negative_zero:
        return None
    if fmt.subnormals is not Subnormals.GRADUAL and low < fmt.exponent_min:
        return None
    return f"products have {bits} bits between 2^{low} and 2^{high}: {fmt.name} holds them all"


def _same_in_any_order(shape: Shape, mutant: Mutant) -> str | None:
    """Prove that reversing the elements changes nothing: exact sums commute."""
    if mutant.name != "order reversed":
        return None
    stage, terms = shape.spec.accumulate, shape.k
    if isinstance(stage, Block):
        terms = shape.spec.block_terms(shape.k)
        stage = stage.into
        if terms == 1:
            return "one block: its sum is exact"
    if isinstance(stage, Exact):
        return "the sum is exact, rounded once"
    if isinstance(stage, Tree) and stage.lanes == 1 and stage.addend is not Joins.LEAF:
        full = 1
        while full < terms:
            full *= stage.radix
        if full == terms == (stage.products or terms):
            return "a full tree is its own mirror image, and the sum in a node commutes"
    if isinstance(stage, Fixed) and str(stage.overflow) == "wrap":
        return "products are rounded one by one and added modulo 2^width"
    if isinstance(stage, Aligned) and terms <= stage.products:
        return "all terms share one window, in which they are added as integers"
    return None


def _same_values(first: MacSpec, second: MacSpec) -> bool:
    for name in ("a", "b", "a_scale", "b_scale"):
        x, y = getattr(first, name), getattr(second, name)
        if x.bits != y.bits or x.bits > 19:
            return False
        codes = np.arange(1 << x.bits)
        u, v = x.decode(codes), y.decode(codes)
        if not np.array_equal(u, v, equal_nan=True) or (np.signbit(u) != np.signbit(v)).any():
            return False
    return True


def _only(first: Any, second: Any, field: str) -> bool:
    """Return whether two stages differ in nothing but one field."""
    return all(getattr(first, n) == getattr(second, n) for n in vars(first) if n != field)
