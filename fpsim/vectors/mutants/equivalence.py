# SPDX-License-Identifier: Apache-2.0
"""Lemmas that prove mutants equivalent to the unit, so that no vector can kill them.

Each is a proof by structure: the code tests its premises, the returned sentence states its
conclusion. Sums in a window or a block are of integers; their order affects only the sign of a zero
sum (+0 unless every term is -0, and the reverse rounding down). `tests/vectors/test_equivalence.py`
tests each lemma on vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import MacSpec, exponents, significand_bits
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    NanScale,
    ProductRounding,
    Stage,
    Tree,
    stages_of,
)
from fpsim.vectors.mutants.grown_equivalence import (
    exact_blocks,
    never_underflow,
    products_are_codes,
    saturates_infinities,
)
from fpsim.vectors.mutants.mutants import Mutant
from fpsim.vectors.mutants.reach import Addends, Reach, grows, holds
from fpsim.vectors.mutants.tree_equivalence import (
    ROUNDED,
    exact_parts,
    is_mirrored,
    one_node,
    trees_agree,
)
from fpsim.vectors.sets.code_lists import all_codes
from fpsim.vectors.sets.record import Columns, Record, takes_nan

__all__ = ["equivalent"]


def equivalent(record: Record, mutant: Mutant) -> str | None:
    """Return a proof that a mutant is equivalent to the unit, or None."""
    spec, other = record.spec, mutant.spec
    if other is None:
        lemmas = (
            _same_in_any_order,
            _never_rounds,
            _ties_away,
            _no_negative_zero,
            _never_cancels_infinity,
        )
        return next((why for lemma in lemmas if (why := lemma(record, mutant))), None)
    if other.accumulate == spec.accumulate:
        return _read_alike(spec, other)
    if any(getattr(spec, n) != getattr(other, n) for n in ("a", "b", "a_scale", "b_scale")):
        return None
    stage, changed = spec.accumulate, other.accumulate
    if isinstance(stage, Tree | Exact) and isinstance(changed, Tree | Exact):
        why = _exact_before_the_addend(record, stage, changed)
        if isinstance(stage, Tree) and isinstance(changed, Tree):
            why = why or trees_agree(record, stage, changed)
        elif isinstance(stage, Tree) and isinstance(changed, Exact):
            why = why or one_node(record, stage, changed)
        if why:
            return why
    if type(stage) is not type(changed):
        return _one_product(record, stage, changed)
    low = exponents(spec.a)[0] + exponents(spec.b)[0]
    if isinstance(stage, Fixed):
        if _exact_on_grid(record, stage) and _only(stage, changed, "rounding"):
            return f"products are multiples of 2^{low}, and the grid is 2^{stage.lsb}: none rounds"
        if str(stage.overflow) == "wrap" and _only(stage, changed, "overflow_at"):
            return "wrapping at the end is wrapping at every add: both are sums modulo 2^width"
        if record.k == 1 and _only(stage, changed, "overflow_at"):
            return "one product: its add is the end"
    if isinstance(stage, Chunked) and isinstance(changed, Chunked):
        return _chunks_agree(record, stage, changed, other)
    if isinstance(stage, Block) and isinstance(changed, Block):
        of_blocks = (
            _one_block, _parts_of_blocks, _no_nan_scale, _block_sums_fit, _windows_of_blocks,
            _tree_of_blocks, _chunks_of_blocks,
        )  # fmt: skip
        return next((why for f in of_blocks if (why := f(record, stage, changed))), None)
    if isinstance(stage, Aligned) and isinstance(changed, Aligned):
        if _window_fits(record, stage) and _only(stage, changed, "rounding"):
            return f"{stage.format.name} holds every sum of a window"
        lowest = _least_exponent(record, stage)
        floors = [f for f in (stage.exponent_floor, changed.exponent_floor) if f is not None]
        below = lowest is not None and max(floors, default=lowest) <= lowest
        if below and _only(stage, changed, "exponent_floor"):
            return f"the exponent of a window with a term that is not zero is at least {lowest}"
        if _floors_keep(record, stage, floors) and _only(stage, changed, "exponent_floor"):
            return f"a window at {max(floors)} keeps every bit of its terms"
        if _only(stage, changed, "signed_zero") and _joined_zeros_are_positive(record, stage):
            return "a window joined with the addend gives +0, and no other sum rounds to zero"
        least = min(stage.products, changed.products)
        # Zeros that fill one step and not the other make the -0 of a signed sum +0.
        alike = record.k < least or (record.k == least and not stage.signed_zero)
        if alike and _only(stage, changed, "products"):
            return f"{record.k} products are one step of either, filled with zeros"
        limits = [x.product_limit for x in (stage, changed) if x.product_limit is not None]
        high = exponents(spec.a)[1] + exponents(spec.b)[1]
        if (
            not record.group
            and limits
            and high <= min(limits)
            and _only(stage, changed, "product_limit")
        ):
            return f"every product is below 2^{high}"
    if isinstance(stage, Tree) and isinstance(changed, Tree):
        whole = record.k == stage.products and changed.products is None
        if whole and _only(stage, changed, "products"):
            return f"all {record.k} products are one step"
        leaves = stage.lanes if stage.lanes > 1 else stage.products or record.k
        leaves += stage.lanes == 1 and stage.addend is Joins.LEAF
        if leaves <= min(stage.radix, changed.radix) and _only(stage, changed, "radix"):
            return f"one node adds all {leaves}"
    if isinstance(stage, Chain | Tree) and _only(stage, changed, "product"):
        return products_are_codes(record, stage)
    return None


def _exact_before_the_addend(
    record: Record, stage: Tree | Exact, changed: Tree | Exact
) -> str | None:
    """Prove that all products are summed exactly, whatever the order, and then meet the addend.

    A tree that is filled up, or has lanes, begins with a zero that is +0.
    """
    same = all(getattr(stage, n) == getattr(changed, n) for n in ROUNDED)
    reach = Reach(record, Addends.ZERO)
    if not same or stage.rounding is Rounding.RDN or record.roundings or not reach.finite:
        return None
    for each in (stage, changed):
        if isinstance(each, Tree) and (
            each.addend is Joins.LEAF or each.lanes > 1 or each.products not in (None, record.k)
        ):
            return None
    sums = reach.sums
    if not sums.fit(stage.format):
        return None
    return f"sums of {record.k} products are exact, and one rounding joins the addend to them"


def _one_product(record: Record, stage: Stage, changed: Stage) -> str | None:
    """Prove that a chain is an exact sum, or a tree, of one product."""
    if record.k != 1 or not isinstance(stage, Chain) or stage.product is ProductRounding.ROUNDED:
        return None
    same = ("format", "rounding", "overflow")
    if any(getattr(changed, n, None) != getattr(stage, n) for n in same):
        return None
    if isinstance(changed, Exact):
        return "one product is one rounding either way"
    if isinstance(changed, Tree) and changed.lanes == 1 and changed.addend is Joins.ROOT:
        return products_are_codes(record, stage)
    return None


def _one_block(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that one block is added alike one by one, exactly, and onto a register."""
    first, second = stage.into, changed.into
    if record.spec.block_terms(record.k) != 1 or not _only(stage, changed, "into"):
        return None
    if isinstance(first, Fixed) and _only(first, second, "overflow_at"):
        return "one block: its add is the end"
    if isinstance(second, Tree) and second.lanes == 1 and second.addend is Joins.ROOT:
        same = all(getattr(first, n, None) == getattr(second, n) for n in ROUNDED)
        if same and second.products is None and exact_blocks(record, stage):
            return "one block, whose sum a tree of one term passes on"
    if isinstance(first, Exact):
        first, second = second, first
    if not isinstance(first, Chain) or first.product is ProductRounding.ROUNDED:
        return None
    same = all(getattr(first, n) == getattr(second, n, None) for n in ROUNDED)
    alike = isinstance(second, Exact) and same
    return "one block is one rounding either way" if alike else None


def _windows_of_blocks(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that windows of scaled block sums agree."""
    first, second, spec = stage.into, changed.into, record.spec
    if not isinstance(first, Aligned) or not isinstance(second, Aligned):
        return None
    if not _only(stage, changed, "into"):
        return None
    terms, least = spec.block_terms(record.k), min(first.products, second.products)
    alike = terms < least or (terms == least and not first.signed_zero)
    if alike and _only(first, second, "products"):
        return f"{terms} blocks are one step of either, filled with zeros"
    formats = (spec.a, spec.b, spec.a_scale, spec.b_scale)
    high = sum(exponents(f)[1] for f in formats) + (stage.size - 1).bit_length()
    limits = [x.product_limit for x in (first, second) if x.product_limit is not None]
    if limits and high <= min(limits) and _only(first, second, "product_limit"):
        return f"every scaled block sum is below 2^{high}"
    return None


def _tree_of_blocks(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that all blocks are one step of a tree."""
    first, second, terms = stage.into, changed.into, record.spec.block_terms(record.k)
    if not isinstance(first, Tree) or not isinstance(second, Tree):
        return None
    if not _only(stage, changed, "into") or not _only(first, second, "products"):
        return None
    whole = first.products == terms and second.products is None
    return f"all {terms} blocks are one step" if whole else None


def _chunks_of_blocks(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that the results of chunks of blocks are numbers of the sum that adds them."""
    first, second = stage.into, changed.into
    if not isinstance(first, Chunked) or not isinstance(second, Chunked):
        return None
    if not _only(stage, changed, "into") or not _only(first, second, "outer"):
        return None
    return _chunk_results_are_codes(first, second)


def _parts_of_blocks(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that an exact sum takes its blocks whole or in parts."""
    spec = record.spec
    exact = isinstance(stage.into, Exact) and stage.convert is None
    positive = _is_positive(spec.a_scale) and _is_positive(spec.b_scale)
    if not exact or not positive or not _only(stage, changed, "size"):
        return None
    return "scaled sums of the parts of a block add up to its own, exactly"


def _no_nan_scale(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that the effect of a NaN scale does not matter to a unit that refuses NaN scales."""
    if not _refuses_nan(record.spec) or not _only(stage, changed, "nan_scale"):
        return None
    return "the unit has no code for NaN, and refuses scales that are NaN"


def _refuses_nan(spec: MacSpec) -> bool:
    block = spec.block
    return not takes_nan(spec) and (block is None or block.nan_scale is NanScale.NAN)


def _exact_on_grid(record: Record, stage: Fixed) -> bool:
    low = exponents(record.spec.a)[0] + exponents(record.spec.b)[0]
    return low >= stage.lsb and not record.group


def _least_exponent(record: Record, stage: Aligned) -> int | None:
    """Return the least exponent of a term that is not zero: a product's, or the addend's."""
    operands = [f for f in (record.spec.a, record.spec.b) if _is_float(f)]
    if record.group or len(operands) < 2 or stage.normalised:
        return None
    return min(sum(f.exponent_min for f in operands), stage.format.exponent_min)


def _floors_keep(record: Record, stage: Aligned, floors: list[int]) -> bool:
    """Return whether a window raised to one of some floors cuts no bit of its terms."""
    if record.group or not floors or stage.width is not None or stage.addend is Addend.JOINED:
        return False
    low = sum(exponents(f)[0] for f in (record.spec.a, record.spec.b))
    if stage.addend is Addend.EARLY:
        low = min(low, exponents(stage.result)[0])
    return max(floors) - stage.fraction_bits <= low


def _joined_zeros_are_positive(record: Record, stage: Aligned) -> bool:
    """Return whether a joined window's sums are zeros, which are +0, or too large to become zero.

    Sums of products and the addend are multiples of the last bit of the second window; alone, the
    addend is a multiple of that bit or stays what it is.
    """
    operands = [f for f in (record.spec.a, record.spec.b) if _is_float(f)]
    if record.group or len(operands) < 2 or stage.normalised or stage.addend is not Addend.JOINED:
        return False
    fmt = stage.format
    last = sum(f.exponent_min for f in operands) - max(stage.join_sum_bits, stage.join_addend_bits)
    return fmt.subnormals is Subnormals.GRADUAL and last >= fmt.exponent_min - fmt.mantissa_bits


def _window_fits(record: Record, stage: Aligned) -> bool:
    """Return whether every finite sum of a window is a code, or beyond the format's range."""
    fmt, least = stage.format, _least_exponent(record, stage)
    if least is None or stage.signed_zero or stage.addend is Addend.JOINED:
        return False
    if fmt.subnormals is not Subnormals.GRADUAL:
        return False
    deep = fmt.exponent_min - fmt.mantissa_bits <= least - stage.fraction_bits
    return deep and stage.window_bits <= fmt.mantissa_bits + 1


def _never_rounds(record: Record, mutant: Mutant) -> str | None:
    stage = record.spec.accumulate
    if not mutant.name.startswith("rounding: "):
        return None
    if isinstance(stage, Aligned) and stage.addend is Addend.EARLY:
        nearest = stage.align in (Rounding.RNE, Rounding.RNA)
        return None if nearest or not _window_fits(record, stage) else "no sum of a window rounds"
    if not isinstance(stage, Fixed) or not _exact_on_grid(record, stage):
        return None
    if stage.convert is not None:
        return None
    return f"products are multiples of the grid 2^{stage.lsb}: none rounds"


def _ties_away(record: Record, mutant: Mutant) -> str | None:
    """Prove that what is beyond half a unit does not matter where ties go away from zero."""
    if mutant.name not in ("rounding: sticky dropped", "rounding: sticky is one bit",
                           "rounding: ties up"):  # fmt: skip
        return None
    for stage in stages_of(record.spec.accumulate):
        names = ("rounding", "align", "late_rounding", "join_rounding", "convert_rounding")
        if Rounding.RNE in [getattr(stage, name, None) for name in names]:
            return None
    return "to nearest, ties away from zero: half a unit or more is rounded up"


def _no_negative_zero(record: Record, mutant: Mutant) -> str | None:
    """Prove that no result, or no difference in the result, is a -0."""
    stage = record.spec.accumulate
    if mutant.name not in ("-0 lost", "-0 lost in the addend"):
        return None
    if isinstance(stage, Fixed) and mutant.name == "-0 lost" and _is_float(fmt := stage.result):
        gradual = fmt.subnormals is Subnormals.GRADUAL and exponents(fmt)[0] <= stage.lsb
        return "integers have one zero, and no other rounds to zero: it is +0" if gradual else None
    window = stage.into if isinstance(stage, Block) else stage
    if isinstance(window, Aligned) and not window.signed_zero:
        return "the window adds integers, which have one zero, and a zero result is +0"
    if isinstance(stage, Tree) and stage.lanes > 1 and _zeros_are_exact(record, stage):
        return "lanes start from +0, and sums do not underflow: -0 + +0 = +0"
    if isinstance(stage, Chunked) and isinstance(stage.outer, Chain):
        outer, inner = stage.outer, stage.inner
        fits = outer.rounding is not Rounding.RDN and _holds(outer.format, inner.result)
        if fits and _zeros_are_positive(record, inner):
            return "a chunk's zero is +0, sums of codes do not underflow, and -0 + +0 = +0"
    positive = _is_positive(record.spec.a_scale) and _is_positive(record.spec.b_scale)
    multiples = isinstance(stage, Block) and positive and never_underflow(record, stage)
    if multiples and mutant.name == "-0 lost":
        return "block sums are multiples of the least subnormal: only exact zeros are zero, +0"
    if (
        mutant.name == "-0 lost in the addend"
        and isinstance(stage, Block)
        and stage.convert is None
    ):
        into = stage.into
        if positive and isinstance(into, Chain | Exact) and into.rounding is not Rounding.RDN:
            return "a zero block sum is +0 under scales above 0: -0 + +0 = +0, and -0 + p = p"
    return None


def _zeros_are_positive(record: Record, stage: Stage) -> bool:
    """Return whether every zero that a stage sums from +0 is +0."""
    if isinstance(stage, Aligned):
        return not stage.signed_zero
    if isinstance(stage, Fixed):
        return stage.convert is None
    return isinstance(stage, Chain | Exact | Tree) and _zeros_are_exact(record, stage)


def _zeros_are_exact(record: Record, stage: Chain | Exact | Tree) -> bool:
    """Return whether no sum of a stage is rounded to zero, and zeros of both signs add to +0."""
    fmt, low = stage.format, Reach(record, Addends.ZERO).sums.low
    gradual = fmt.subnormals is Subnormals.GRADUAL and stage.rounding is not Rounding.RDN
    return gradual and low >= fmt.exponent_min - fmt.mantissa_bits


def _is_positive(scale: Format) -> bool:
    """Return whether scales are above 0: under one of 0 a negative sum is -0."""
    return not scale.signed and bool(scale.decode([0])[0])


def _is_float(fmt: Format) -> TypeGuard[FloatFormat]:
    return isinstance(fmt, FloatFormat)


def _holds(outer: Format, inner: Format) -> bool:
    """Return whether every value of one format is a value of another, subnormals gradual."""
    if not isinstance(outer, FloatFormat):
        return False
    if not isinstance(inner, FloatFormat):
        (low, high), bits = exponents(inner), significand_bits(inner)
        inside = outer.exponent_min - outer.mantissa_bits <= low and high <= outer.exponent_max
        gradual = outer.subnormals is Subnormals.GRADUAL
        return gradual and inside and bits <= outer.mantissa_bits + 1
    gradual = outer.subnormals is inner.subnormals is Subnormals.GRADUAL
    least = outer.exponent_min - outer.mantissa_bits <= inner.exponent_min - inner.mantissa_bits
    wide = outer.mantissa_bits >= inner.mantissa_bits and outer.exponent_max >= inner.exponent_max
    return gradual and least and wide and outer.infinity >= inner.infinity


def _chunks_agree(record: Record, stage: Chunked, changed: Chunked, other: MacSpec) -> str | None:
    """Prove that chunks or their promotion agree."""
    if _only(stage, changed, "outer"):
        why = _chunk_results_are_codes(stage, changed)
        if why:
            return why
    sizes = stage.chunk(record.k), changed.chunk(record.k)
    if min(sizes) >= record.k and _only(stage, changed, "size"):
        return f"all {record.k} products are one chunk"
    if not _only(stage, changed, "inner") or stage.size is None:
        return None
    inner, new = stage.inner, changed.inner
    why = _same_chunk_values(record, stage, new)
    if why:
        return why
    if not isinstance(inner, Aligned) or not isinstance(new, Aligned) or record.group:
        return _every_chunk_agrees(record, stage, replace(other, accumulate=new))
    low = exponents(record.spec.a)[0] + exponents(record.spec.b)[0]
    high = exponents(record.spec.a)[1] + exponents(record.spec.b)[1]
    nearest = Rounding.RDN not in (inner.rounding, inner.late_rounding)
    fmt = inner.format
    deep = fmt.exponent_min - fmt.mantissa_bits <= low - inner.fraction_bits
    gradual = deep and fmt.subnormals is Subnormals.GRADUAL  # no sum is rounded to zero
    if _only(inner, new, "signed_zero") and nearest and gradual:
        return "a chunk starts from +0, and zero products of any sign leave it +0"
    floors = [f for f in (inner.exponent_floor, new.exponent_floor) if f is not None]
    keeps = floors and inner.width is None and max(floors) - inner.fraction_bits <= low
    if _only(inner, new, "exponent_floor") and keeps:
        return f"a window at the floor keeps every bit of products, multiples of 2^{low}"
    ranges = ("format", "container", "overflow")
    if all(getattr(inner, n) == getattr(new, n) for n in vars(inner) if n not in ranges):
        top = high + stage.size.bit_length()
        steady = 2 * stage.size <= 1 << min(inner.fraction_bits, fmt.mantissa_bits)
        formats = (inner.format, new.format)
        inside = all(
            f.exponent_min <= low - inner.fraction_bits and top <= f.exponent_max for f in formats
        )
        finite = not any(f.infinity for f in (record.spec.a, record.spec.b) if _is_float(f))
        if steady and inside and finite and formats[0].mantissa_bits == formats[1].mantissa_bits:
            return f"a chunk's sums lie between 2^{low - inner.fraction_bits} and 2^{top}: in range"
    return _every_chunk_agrees(record, stage, replace(other, accumulate=new))


def _chunk_results_are_codes(stage: Chunked, changed: Chunked) -> str | None:
    """Prove that rounding the results of chunks before they are added changes nothing."""
    first, result = stage.outer, stage.inner.result
    if not isinstance(first, Chain) or not _only(first, changed.outer, "product"):
        return None
    if not _holds(first.result, result) or saturates_infinities(first.overflow, result):
        return None
    return f"every chunk's result is a value of {first.result.name}"


def _never_cancels_infinity(record: Record, mutant: Mutant) -> str | None:
    """Prove that no finite sum reaches the power of two that an infinity was taken for."""
    result, stages = record.spec.result, stages_of(record.spec.accumulate)
    if mutant.name != "infinite addend as a power of two" or not _is_float(result):
        return None
    growth = sum(grows(stage, record.k) for stage in stages)
    for fmt in (getattr(stage, "format", result) for stage in stages):
        if fmt.max_value * record.k * 2.0**growth < 2.0 ** (result.exponent_max - 1):
            return f"finite sums of results in {fmt.name} do not reach 2^{result.exponent_max}"
    return None


def _same_chunk_values(record: Record, stage: Chunked, new: Stage) -> str | None:
    """Prove that another inner stage gives chunks the same values, perhaps in another format.

    Windows apart, an outer stage looks at values alone.
    """
    inner, size = stage.inner, min(stage.chunk(record.k), record.k)
    part = Reach(Record(replace(record.spec, accumulate=inner), size), Addends.ZERO)
    if record.group or isinstance(stage.outer, Aligned | Chunked) or part.infinite:
        return None
    sums = part.sums
    if part.finite and holds(inner, sums) and holds(new, sums):
        return f"sums of {size} products are exact in either"
    if type(new) is not type(inner) or not isinstance(inner, Chain | Exact | Tree):
        return None
    assert isinstance(new, Chain | Exact | Tree)
    first, second = inner.format, new.format
    alike = replace(new, format=first, overflow=inner.overflow) == inner
    shape = ("mantissa_bits", "nan", "infinity", "has_negative_zero")
    alike = alike and all(getattr(first, n) == getattr(second, n) for n in shape)
    high = sums.high + grows(inner, size)
    inside = all(sums.low >= f.exponent_min and high <= f.exponent_max for f in (first, second))
    if not alike or not inside:
        return None
    return f"a chunk's sums lie between 2^{sums.low} and 2^{high}: in range of either format"


def _every_chunk_agrees(record: Record, stage: Chunked, other: MacSpec) -> str | None:
    """Prove that the inner stage and another one agree on chunks of every length there is."""
    size = min(stage.chunk(record.k), record.k)
    inner, lengths = replace(record.spec, accumulate=stage.inner), {size, record.k % size} - {0}
    parts = [Record(inner, length, record.group) for length in sorted(lengths)]
    mutant = Mutant("", _nothing, spec=other)
    proofs = [
        equivalent(part, mutant) or Reach(part, Addends.ZERO).equivalent(mutant) for part in parts
    ]
    return proofs[0] if all(proofs) else None


def _nothing(columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
    return c


def _block_sums_fit(record: Record, stage: Block, changed: Block) -> str | None:
    """Prove that rounding block sums to the accumulator's format first changes nothing."""
    same = _only(stage, changed, "convert") and changed.convert == stage.into.result
    if isinstance(changed.into, Chain) and isinstance(stage.into, Chain):
        alike = _only(stage, changed, "into") and _only(stage.into, changed.into, "product")
        same = same or alike
    if not same or not exact_blocks(record, stage):
        return None
    return f"every scaled block sum is a value of {stage.into.result.name}"


def _same_in_any_order(record: Record, mutant: Mutant) -> str | None:
    """Prove that reversing the elements changes nothing: exact sums commute."""
    if mutant.name != "order reversed":
        return None
    stage, terms = record.spec.accumulate, record.k
    if isinstance(stage, Block):
        if record.k <= stage.size:  # its sums per sign, too, stay where they are
            return "one block: its sum is exact"
        terms = record.spec.block_terms(record.k)
        stage = stage.into
    if isinstance(stage, Exact):
        return "the sum is exact, rounded once"
    if isinstance(stage, Tree):
        if is_mirrored(stage, terms):
            return "a full tree is its own mirror image, and the sum in a node commutes"
        return None if isinstance(record.spec.accumulate, Block) else exact_parts(record, stage)
    if isinstance(stage, Fixed) and str(stage.overflow) == "wrap" and not stage.random_bits:
        return "products are rounded one by one and added modulo 2^width"
    if isinstance(stage, Aligned) and terms <= stage.products:
        return "all terms share one window, in which they are added as integers"
    return None


def _read_alike(first: MacSpec, second: MacSpec) -> str | None:
    """Prove that all operand and scale codes of a unit have equal values under both specs."""
    refused = _refuses_nan(first)
    for name in ("a", "b", "a_scale", "b_scale"):
        x, y = getattr(first, name), getattr(second, name)
        if x.bits != y.bits or x.bits > 19:
            return None
        codes = all_codes(x)
        codes = codes[~np.isnan(x.decode(codes))] if refused else codes
        u, v = x.decode(codes), y.decode(codes)
        if not np.array_equal(u, v, equal_nan=True) or (np.signbit(u) != np.signbit(v)).any():
            return None
    return f"every operand and scale code{' that is not NaN' * refused} means the same"


def _only(first: Any, second: Any, field: str) -> bool:
    """Return whether two stages are of one kind and differ only in one field."""
    same_kind = type(first) is type(second)
    return same_kind and all(
        getattr(first, n) == getattr(second, n) for n in vars(first) if n != field
    )
