# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for every kind of stage, and for whole units made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from fpsim import FloatFormat, MacSpec, Overflow, Rounding, get_format
from fpsim.formats.floating import Format, NanCodes
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
    OverflowAt,
    ProductRounding,
    Stage,
    Tree,
)
from support.helpers import float_format, overflows
from support.strategies import fixed_formats, fixed_stages, float_formats, float_stages, mac_specs

#: What accumulators are made of, the lanes' own formats among them.
ACCUMULATORS = ("e8m23", "e8m23_flush", "e5m10", "e5m10_flush", "e8m7", "e8m13", "e4m3", "e4m3fn")
OPERANDS = ("e2m1", "e1m2", "e3m0", "e2m1b3", "int4", "e2m3", "e3m2", "e4m3fn", "e5m2")


def deterministic() -> st.SearchStrategy[Rounding]:
    """Any rounding without random bits."""
    return st.sampled_from([r for r in Rounding if r is not Rounding.SR])


def accumulators() -> st.SearchStrategy[FloatFormat]:
    """Any format of an accumulator, the usual ones often."""
    return st.one_of(
        st.sampled_from(ACCUMULATORS).map(float_format),
        float_formats(max_bits=32, accumulator=True),
    )


def _overflow(draw: st.DrawFn, fmt: FloatFormat) -> Overflow | None:
    return draw(st.sampled_from([None, None, *overflows(fmt)]))


@st.composite
def aligned_stages(draw: st.DrawFn) -> Aligned:
    """Any valid aligned stage."""
    fmt = draw(accumulators())
    settings: dict[str, Any] = {"addend": draw(st.sampled_from(Addend))}
    extra = draw(st.integers(0, min(4, 32 - fmt.bits, 23 - fmt.mantissa_bits)))
    if fmt.nan is NanCodes.IEEE:
        settings["container"] = replace(fmt, mantissa_bits=fmt.mantissa_bits + extra)
    bits = draw(st.integers(1, 40))
    if settings["addend"] is Addend.LATE:
        settings["late_rounding"] = draw(deterministic())
    if settings["addend"] is Addend.JOINED:
        settings |= {
            "join_sum_bits": draw(st.integers(1, 40)),
            "join_addend_bits": draw(st.integers(1, 40)),
            "join_rounding": draw(deterministic()),
            "join_reach": draw(st.sampled_from([None, 0, 3, 25])),
            "lanes": draw(st.integers(1, 2)),
        }
    if draw(st.integers(0, 3)) == 0:
        settings["width"] = draw(st.integers(bits + 3, 62))
        settings["width_overflow"] = draw(st.sampled_from(["wrap", "saturate"]))
    near = st.one_of(st.none(), st.none(), st.integers(-20, 20), st.integers(-150, 140))
    return Aligned(
        draw(st.integers(1, 9)),
        bits,
        fmt,
        draw(deterministic()),
        draw(deterministic()),
        overflow=_overflow(draw, fmt),
        exponent_floor=draw(near),
        normalised=draw(st.booleans()),
        signed_zero=draw(st.booleans()),
        product_limit=draw(near),
        **settings,
    )


@st.composite
def tree_stages(draw: st.DrawFn) -> Tree:
    """Any valid tree stage."""
    fmt = draw(accumulators())
    products = draw(st.one_of(st.none(), st.integers(1, 9)))
    return Tree(
        fmt,
        draw(deterministic()),
        _overflow(draw, fmt),
        products,
        radix=draw(st.sampled_from([2, 2, 3, 4])),
        lanes=draw(st.integers(1, min(3, products or 3))),
        addend=draw(st.sampled_from(Joins)),
        product=draw(st.sampled_from(ProductRounding)),
    )


@st.composite
def separate_chains(draw: st.DrawFn) -> Chain:
    """A chain whose products are rounded first."""
    fmt = draw(accumulators())
    rounding, overflow = draw(deterministic()), _overflow(draw, fmt)
    return Chain(fmt, rounding, overflow, product=ProductRounding.ROUNDED)


@st.composite
def converted_fixed(draw: st.DrawFn) -> Fixed:
    """A fixed stage that saturates at the end, converts, or both."""
    convert = draw(st.one_of(st.none(), accumulators()))
    more = {} if convert is None else {"convert_rounding": draw(deterministic())}
    return Fixed(
        draw(st.integers(4, 52)),
        draw(st.integers(-12, 6)),
        draw(st.sampled_from([Overflow.WRAP, Overflow.SATURATE])),
        draw(deterministic()),
        overflow_at=draw(st.sampled_from(OverflowAt)),
        convert=convert,
        **more,
    )


def sums(stochastic: bool = True) -> st.SearchStrategy[Stage]:
    """Any stage that adds terms itself."""
    return st.one_of(
        aligned_stages(),
        tree_stages(),
        aligned_stages(),
        float_stages(Chain, stochastic),
        separate_chains(),
        float_stages(Exact, stochastic),
        fixed_stages(stochastic),
        converted_fixed(),
    )


def terms_adders(stochastic: bool = True) -> st.SearchStrategy[Stage]:
    """Any stage that adds terms which others make; one in four is chunked itself."""
    plain = sums(stochastic)
    return st.one_of(plain, plain, plain, chunked_stages(st.deferred(terms_adders), few=True))


@st.composite
def block_stages(draw: st.DrawFn, stochastic: bool = True) -> Block:
    """Any valid block stage, of small blocks."""
    convert = draw(st.one_of(st.none(), accumulators()))
    more = {} if convert is None else {"convert_rounding": draw(deterministic())}
    into = draw(terms_adders() if stochastic else sums(False))
    return Block(draw(st.sampled_from([1, 2, 4])), into, convert,
                 nan_scale=draw(st.sampled_from(NanScale)), **more)  # fmt: skip


@st.composite
def chunked_stages(
    draw: st.DrawFn, inner: st.SearchStrategy[Stage] | None = None, few: bool = False
) -> Chunked:
    """Any valid chunked stage, to any depth; ``few``: of few terms, of any number."""
    if inner is None:
        inner = st.one_of(sums(), sums(), block_stages(), chunked_stages())
    sizes = [1, 2, 3] if few else [4, 8]
    size = draw(st.one_of(st.none(), st.sampled_from(sizes)))
    parts = draw(st.integers(1, 4)) if size is None else None
    return Chunked(draw(inner), draw(terms_adders()), size, parts)


def all_stages() -> st.SearchStrategy[Stage]:
    """Any valid stage."""
    return st.one_of(sums(), block_stages(), chunked_stages())


def narrow_operands() -> st.SearchStrategy[Format]:
    """Operands of the formats in use, or any small one."""
    named = st.sampled_from(OPERANDS).map(get_format)
    floats = float_formats(max_bits=6, max_exponent_bits=4, bias_shift=4)
    return st.one_of(named, named, floats, fixed_formats(max_width=6, max_lsb=6))


def all_specs(stages: st.SearchStrategy[Stage] | None = None) -> st.SearchStrategy[MacSpec]:
    """Any valid unit of any stages, with any scales."""
    kinds = all_stages() if stages is None else stages
    return mac_specs(kinds, narrow_operands(), any_scales=True)
