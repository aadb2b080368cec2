# SPDX-License-Identifier: Apache-2.0
"""Lemmas about sums that start from +0: they lie on a grid, within bounds, and are never -0.

All sums are multiples of the least bit of a product: rounding and alignment turn a multiple of 2^n
into itself or a multiple of something larger. So where a format has that bit, nothing but an exact
zero is zero, and where the bit is a normal number, nothing is subnormal. Products
up to 2^n that are rounded to nearest or toward zero no longer move a sum at 2^(n + m + 3).
"""

from __future__ import annotations

from dataclasses import replace
from math import frexp
from typing import Any, NamedTuple

from fpsim.formats.floating import FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.spec import exponents, significand_bits
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Joins,
    ProductRounding,
    Stage,
    Tree,
)
from fpsim.vectors.mutants.mutants import Mutant
from fpsim.vectors.sets.record import Record

__all__ = [
    "GrownBounds",
    "exact_blocks",
    "flushes",
    "grown_alike",
    "never_underflow",
    "products_are_codes",
    "saturates_infinities",
]

NEAREST = (Rounding.RNE, Rounding.RNA)
#: Bits that may be lost in a rounding without a difference to some mistakes.
LOSES = {
    "rounding: sticky dropped": 1,
    "rounding: sticky is one bit": 2,
    "rounding: rounded twice": 2,
}


class GrownBounds(NamedTuple):
    """Sums of a vector's products: multiples of 2^low up to 2^high.

    ``most``: the largest product; ``infinite``: a product can be infinite; ``once``: the addend is
    always +0; ``loaded``: it is any code, and only terms that are +0 are left out.
    """

    low: int
    high: int
    most: float
    infinite: bool
    once: bool
    loaded: bool = False


def grown_alike(record: Record, mutant: Mutant, bounds: GrownBounds) -> str | None:
    """Prove that a mutant gives the unit's results where sums start from +0.

    Args:
        record: the unit, and how many elements a vector has.
        mutant: the mutant.
        bounds: the sums of the products of a vector.

    Returns:
        The proof in one sentence, or None.
    """
    spec, other = record.spec, mutant.spec
    stage, changed = spec.accumulate, spec.accumulate if other is None else other.accumulate
    if bounds.loaded and not isinstance(stage, Chain | Exact | Tree):
        return None
    if other is not None and replace(other, accumulate=stage) != spec:
        return None
    if isinstance(stage, Block) and isinstance(changed, Block):
        if stage.convert is not None or replace(changed, into=stage.into) != stage:
            return None
        stage, changed = stage.into, changed.into
    chunked = isinstance(stage, Chunked)
    while isinstance(stage, Chunked) and isinstance(changed, Chunked):
        if replace(changed, outer=stage.outer) != stage:
            return None
        low, high = exponents(stage.inner.result)
        bounds = bounds._replace(low=max(low, bounds.low), high=min(high, bounds.high))
        stage, changed = stage.outer, changed.outer
    if isinstance(stage, Aligned) and not chunked:
        return _windows_agree(record, mutant, (stage, changed), bounds)
    if not isinstance(stage, Chain | Exact | Tree):
        return None
    if isinstance(changed, Chain | Exact | Tree) and changed.format != stage.format:
        return None if bounds.loaded else _none_subnormal(stage, changed, bounds.low)
    down = stage.rounding is Rounding.RDN  # then adding +0 changes no zero
    if not down and not _never_negative_zero(record, stage, bounds):
        return None
    if mutant.name in ("-0 lost", "-0 lost in the addend"):
        return None if down else "only exact zeros are zero, and a sum from +0 on is never -0"
    if mutant.name in LOSES and bounds.once:
        lost = bounds.high - 1 - stage.format.mantissa_bits - bounds.low
        found = f"at most {max(lost, 0)} bits are rounded away"
        return found if lost <= LOSES[mutant.name] and not chunked else None
    turned = mutant.name == "order reversed" and not record.group
    if not isinstance(changed, Chain | Exact | Tree) or (other is None and not turned):
        return None
    why = None if turned or bounds.loaded else _none_overflows(stage, changed, bounds)
    return why if chunked else why or _same_shape(record, stage, changed, bounds, turned)


# -- floats --------------------------------------------------------------------------------------


def _holds_bit(fmt: FloatFormat, low: int) -> bool:
    """Return whether multiples of 2^low do not become zero when they are rounded to a format."""
    least = fmt.exponent_min
    least -= fmt.mantissa_bits if fmt.subnormals is Subnormals.GRADUAL else 0
    return fmt.subnormals is not Subnormals.NONE and least <= low


def _never_negative_zero(record: Record, stage: Chain | Exact | Tree, bounds: GrownBounds) -> bool:
    """Return whether sums from +0 on are never -0; products may be, and zeros inside a tree."""
    fmt = stage.format
    if isinstance(stage, Tree) and stage.addend is Joins.ROOT and bounds.once:
        terms = record.spec.block_terms(record.k) if record.spec.block else record.k
        if stage.products is None or terms <= stage.products:
            return True  # +0 and a code
    codes = isinstance(stage, Tree) and stage.addend is Joins.ROOT
    codes = codes and fmt.subnormals is Subnormals.GRADUAL  # what joins the accumulator is a code
    rounded = getattr(stage, "product", None) is ProductRounding.ROUNDED
    # Numbers of a format are multiples of its least subnormal, and so are their sums.
    return (
        codes or _holds_bit(fmt, bounds.low) or (rounded and fmt.subnormals is Subnormals.GRADUAL)
    )


def flushes(first: Format, second: Format) -> bool:
    """Return whether two formats differ only in subnormals."""
    if not isinstance(first, FloatFormat) or not isinstance(second, FloatFormat):
        return False
    return replace(second, subnormals=first.subnormals, alias=first.alias) == first


def _none_subnormal(stage: Any, changed: Any, low: int) -> str | None:
    if type(stage) is not type(changed) or not flushes(stage.format, changed.format):
        return None
    same = {"format": stage.format}
    same |= {"container": stage.container} if isinstance(stage, Aligned) else {}
    if replace(changed, **same) != stage or low < stage.format.exponent_min:
        return None
    return f"sums are multiples of 2^{low}: none is subnormal"


def _none_overflows(stage: Any, changed: Any, bounds: GrownBounds) -> str | None:
    fmt = stage.result
    if type(changed) is not type(stage) or replace(changed, overflow=stage.overflow) != stage:
        return None
    modes = {stage.rounding}
    if isinstance(stage, Aligned):
        modes |= {stage.late_rounding} if stage.addend is Addend.LATE else set()
        # A sum at the bound is not cut, and products only toward zero or by little.
        deep = min(stage.join_sum_bits - 1, stage.join_addend_bits + 1) > fmt.mantissa_bits
        if stage.align is not Rounding.RTZ or (stage.addend is Addend.JOINED and not deep):
            return None
        if stage.product_limit is not None and bounds.high >= stage.product_limit:
            return None
    stops = bounds.high + fmt.mantissa_bits + 3
    if bounds.infinite or not modes <= {*NEAREST, Rounding.RTZ} or stops > fmt.exponent_max:
        return None
    return f"products up to 2^{bounds.high} no longer move a sum at 2^{stops}: none overflows"


# -- windows -------------------------------------------------------------------------------------


def _windows_agree(
    record: Record, mutant: Mutant, stages: tuple[Aligned, Stage], bounds: GrownBounds
) -> str | None:
    stage, changed = stages
    terms = record.spec.block_terms(record.k) if record.spec.block else record.k
    once = bounds.once and terms <= stage.products
    if mutant.spec is None:
        exact = once and stage.addend is Addend.LATE and mutant.name.startswith("rounding: ")
        if exact and stage.rounding not in NEAREST and stage.align not in NEAREST:
            return "the addend is always +0, and adding it late rounds nothing"
        return None
    if not isinstance(changed, Aligned):
        return None
    why = _none_subnormal(stage, changed, bounds.low) or _none_overflows(stage, changed, bounds)
    why = why or _zeros_agree(record, stage, changed, bounds.low)
    why = why or _floors_agree(stage, changed, bounds.low)
    return why or (_without_addend(stage, changed) if once else None)


def _fraction(record: Record) -> int:
    """Return the places by which the least bit of a term lies below the term's own exponent."""
    spec = record.spec
    scales = [spec.a_scale, spec.b_scale] if record.group else []
    places = sum(f.mantissa_bits for f in scales if isinstance(f, FloatFormat))
    if spec.block is not None:  # the scales' exponents alone count
        return places - sum(exponents(f)[0] for f in (spec.a, spec.b))
    for fmt in (spec.a, spec.b):
        places += fmt.mantissa_bits if isinstance(fmt, FloatFormat) else fmt.bits
    return places


def _zeros_agree(record: Record, stage: Aligned, changed: Aligned, low: int) -> str | None:
    """Prove that the sign of a zero sum shows nowhere.

    The term with the largest exponent is not cut to zero, so a sum is zero because terms cancel,
    which gives +0, or because all are zero, the addend +0 among them.
    """
    if replace(changed, signed_zero=stage.signed_zero) != stage:
        return None
    floor = stage.exponent_floor
    kept = stage.fraction_bits >= _fraction(record)
    kept = kept and (floor is None or floor - stage.fraction_bits <= low)
    # A zero block is +0 under any scale without a sign.
    kept = kept and not (
        record.group and (record.spec.a_scale.signed or record.spec.b_scale.signed)
    )
    up = Rounding.RDN not in (stage.rounding, stage.late_rounding)
    if not kept or not up or not _holds_bit(stage.format, low) or stage.addend is Addend.JOINED:
        return None
    return "sums that are zero are exact zeros, from +0 on never -0"


def _floors_agree(stage: Aligned, changed: Aligned, low: int) -> str | None:
    """Prove that a window raised to one of two floors keeps every bit of its terms."""
    if replace(changed, exponent_floor=stage.exponent_floor) != stage or stage.width is not None:
        return None
    floor = max(f for f in (stage.exponent_floor, changed.exponent_floor, low) if f is not None)
    bits = stage.fraction_bits
    if stage.addend is Addend.JOINED:
        bits = min(bits, stage.join_sum_bits, stage.join_addend_bits)
        bits = bits if stage.join_reach is None else min(bits, stage.join_reach)
    if floor - bits > low:
        return None
    return f"a window at 2^{floor} keeps every bit of sums that are multiples of 2^{low}"


def _without_addend(stage: Aligned, changed: Aligned) -> str | None:
    """Prove that a window adds an addend of +0 in whatever way.

    Nothing of a sum of F fraction bits is cut where it is joined with F or more.
    """
    joined = [s for s in (stage, changed) if s.addend is Addend.JOINED]
    names = ["join_addend_bits", "join_reach"]
    if all(s.join_sum_bits >= s.fraction_bits for s in joined):
        names.append("join_sum_bits")
        if stage.lanes == 1 and not stage.signed_zero:
            names += ["addend", "late_rounding", "join_rounding"]
    if replace(changed, **{name: getattr(stage, name) for name in names}) != stage:
        return None
    return "the addend is always +0, wherever it joins the sum"


# -- trees ---------------------------------------------------------------------------------------


def _same_shape(
    record: Record, stage: Any, changed: Any, bounds: GrownBounds, turned: bool
) -> str | None:
    """Prove that nodes that round add the same terms, zeros and exact sums of products apart."""
    if record.roundings:
        return None
    for name in ("format", "rounding", "overflow"):
        if getattr(stage, name) != getattr(changed, name):
            return None
    terms = record.spec.block_terms(record.k) if record.spec.block else record.k
    exact = _exact_terms(record, stage, bounds)
    order = range(terms)
    first = _sum(stage, order, bounds.once, exact)
    second = _sum(changed, order[::-1] if turned else order, bounds.once, exact)
    return "each node that rounds adds the same terms" if first == second else None


def _exact_terms(record: Record, stage: Chain | Exact | Tree, bounds: GrownBounds) -> int:
    """Return how many terms always have an exact sum; 0 if not even each is a code."""
    block = record.spec.accumulate
    if isinstance(block, Block):
        return int(exact_blocks(record, block))
    if products_are_codes(record, stage) is None:
        return 0
    count = 1
    while count < record.k:
        high = frexp((count + 1) * bounds.most)[1]
        if high > stage.format.exponent_max or high - bounds.low > stage.format.mantissa_bits + 1:
            break
        count += 1
    return count


#: None for zero; ("sum", products) that is exact; ("c",); ("round", products, shapes) of a node.
Shape = Any


def _node(*children: Shape, exact: int) -> Shape:
    leaves: list[int] = []
    nodes: list[Shape] = []
    for child in children:
        if child is not None and child[0] == "sum":
            leaves += child[1]
        elif child is not None:
            nodes.append(child)
    if not nodes and len(leaves) <= exact:
        return ("sum", tuple(sorted(leaves))) if leaves else None
    if not leaves and len(nodes) < 2:
        return nodes[0] if nodes else None
    return ("round", tuple(sorted(leaves)), tuple(sorted(nodes, key=repr)))


def _sum(stage: Any, order: Any, once: bool, exact: int) -> Shape:
    acc: Shape = None if once else ("c",)
    leaves: list[Shape] = [("sum", (i,)) for i in order]
    if getattr(stage, "product", None) is ProductRounding.ROUNDED:
        leaves = [_node(leaf, exact=exact) for leaf in leaves]
    if isinstance(stage, Exact):
        return _node(acc, *leaves, exact=exact)
    if isinstance(stage, Chain):
        for leaf in leaves:
            acc = _node(acc, leaf, exact=exact)
        return acc
    size = stage.products or len(leaves)
    for start in range(0, len(leaves), size):
        acc = _step(stage, leaves[start : start + size], size, acc, exact)
    return acc


def _step(stage: Tree, leaves: list[Shape], size: int, acc: Shape, exact: int) -> Shape:
    leaves = leaves + [None] * (size - len(leaves))
    nodes = [acc, *leaves] if stage.addend is Joins.LEAF else leaves
    if stage.lanes > 1:
        nodes = [None] * stage.lanes
        nodes[0] = acc if stage.addend is Joins.LEAF else None
        for i, leaf in enumerate(leaves):
            nodes[i % stage.lanes] = _node(nodes[i % stage.lanes], leaf, exact=exact)
    first = True
    while first or len(nodes) > 1:
        groups = [nodes[i : i + stage.radix] for i in range(0, len(nodes), stage.radix)]
        if len(groups) == 1 and stage.addend is Joins.FUSED:
            groups[0] = [*groups[0], acc]
        first, nodes = False, [_node(*group, exact=exact) for group in groups]
    return _node(acc, nodes[0], exact=exact) if stage.addend is Joins.ROOT else nodes[0]


def products_are_codes(record: Record, stage: Chain | Exact | Tree) -> str | None:
    """Prove that every product is a value of the accumulator's format."""
    spec, fmt = record.spec, stage.format
    low = exponents(spec.a)[0] + exponents(spec.b)[0]
    high = exponents(spec.a)[1] + exponents(spec.b)[1]
    bits = significand_bits(spec.a) + significand_bits(spec.b)
    inside = low >= fmt.exponent_min - fmt.mantissa_bits and high <= fmt.exponent_max
    if record.group or not inside or bits > fmt.mantissa_bits + 1 or not fmt.has_negative_zero:
        return None
    if saturates_infinities(stage.overflow, spec.a, spec.b):
        return None
    if fmt.subnormals is not Subnormals.GRADUAL and low < fmt.exponent_min:
        return None
    return f"products have {bits} bits between 2^{low} and 2^{high}: {fmt.name} holds them all"


def never_underflow(record: Record, stage: Block) -> bool:
    """Return whether every scaled block sum is a multiple of the least number of a sum's format.

    Sums and results are then multiples of it too, so nonzero ones never become zero.
    """
    spec, into = record.spec, stage.into
    if not isinstance(into, Chain | Exact) or stage.convert is not None:
        return False
    if into.rounding is Rounding.RDN:
        return False
    fmt = into.format
    plain = fmt.subnormals is Subnormals.GRADUAL and fmt.has_negative_zero
    low = sum(exponents(f)[0] for f in (spec.a, spec.b, spec.a_scale, spec.b_scale))
    return plain and fmt.exponent_min - fmt.mantissa_bits <= low


def exact_blocks(record: Record, stage: Block) -> bool:
    """Return whether every finite scaled block sum is a number of a sum's format."""
    spec, into = record.spec, stage.into
    if not isinstance(into, Chain | Exact | Aligned) or stage.convert is not None:
        return False
    fmt, scales = into.result, (spec.a_scale, spec.b_scale)
    if isinstance(into, Aligned):
        gradual = fmt.subnormals is Subnormals.GRADUAL and not into.signed_zero
        low = sum(exponents(f)[0] for f in (spec.a, spec.b, *scales))
        if not gradual or low < exponents(fmt)[0]:
            return False
    elif not never_underflow(record, stage):
        return False
    infinite = any(f.infinity for f in (spec.a, spec.b, *scales) if isinstance(f, FloatFormat))
    if infinite and (not fmt.infinity or into.overflow is Overflow.SATURATE):
        return False
    carry = (stage.size - 1).bit_length()
    high = sum(exponents(f)[1] for f in (spec.a, spec.b, *scales)) + carry
    bits = sum(exponents(f)[1] - exponents(f)[0] for f in (spec.a, spec.b)) + carry
    bits += sum(significand_bits(s) for s in scales)
    return high <= fmt.exponent_max and bits <= fmt.mantissa_bits + 1


def saturates_infinities(overflow: Overflow | None, *formats: Format) -> bool:
    """Return whether an infinite term may become the largest number, before an add or after it."""
    infinite = any(isinstance(f, FloatFormat) and f.infinity for f in formats)
    return overflow is Overflow.SATURATE and infinite
