# SPDX-License-Identifier: Apache-2.0
"""Strategies for every kind of accumulation stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from fpsim.formats.floating import FloatFormat, NanCodes
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.testing.boundaries import overflows
from fpsim.testing.strategies.formats import float_formats, roundings
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

__all__ = [
    "accumulators",
    "aligned_stages",
    "all_stages",
    "block_stages",
    "chunked_stages",
    "converted_fixed",
    "fixed_stages",
    "float_stages",
    "separate_chains",
    "sums",
    "terms_adders",
    "tree_stages",
]

#: Usual formats of accumulators, the lanes' formats among them.
ACCUMULATORS = ("e8m23", "e8m23_flush", "e5m10", "e5m10_flush", "e8m7", "e8m13", "e4m3", "e4m3fn")


def deterministic() -> st.SearchStrategy[Rounding]:
    """Draw any rounding mode without random bits."""
    return st.sampled_from([r for r in Rounding if r is not Rounding.SR])


def accumulators() -> st.SearchStrategy[FloatFormat]:
    """Draw any format of an accumulator, the usual ones often."""
    return st.one_of(
        st.sampled_from(ACCUMULATORS).map(_float_format),
        float_formats(max_bits=32, accumulator=True),
    )


def _overflow(draw: st.DrawFn, fmt: FloatFormat) -> Overflow | None:
    return draw(st.sampled_from([None, None, *overflows(fmt)]))


def _float_format(name: str) -> FloatFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


@st.composite
def float_stages(
    draw: st.DrawFn, kind: type[Chain] | type[Exact], stochastic: bool = True
) -> Chain | Exact:
    """Draw a chain or exact stage with any accumulator of up to E8M23.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        kind: the class of the stage.
        stochastic: whether to draw stochastic rounding too.

    Returns:
        A strategy for stages.
    """
    fmt = draw(float_formats(max_bits=32, accumulator=True))
    overflow = draw(st.sampled_from(overflows(fmt)))
    rounding = draw(roundings(stochastic))
    # A float64 that was rounded to odd decides mantissa_bits + n + 2 <= 53 bits.
    bits = draw(st.integers(1, min(32, 51 - fmt.mantissa_bits))) if rounding is Rounding.SR else 0
    return kind(fmt, rounding, overflow, bits)


@st.composite
def fixed_stages(draw: st.DrawFn, stochastic: bool = True) -> Fixed:
    """Draw a fixed-point stage of any width."""
    rounding = draw(roundings(stochastic))
    return Fixed(
        width=draw(st.integers(4, 64)),
        lsb=draw(st.integers(-40, 40)),
        overflow=draw(st.sampled_from([Overflow.WRAP, Overflow.SATURATE])),
        rounding=rounding,
        random_bits=draw(st.integers(1, 32)) if rounding is Rounding.SR else 0,
    )


@st.composite
def aligned_stages(draw: st.DrawFn) -> Aligned:
    """Draw any valid aligned stage."""
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
    """Draw any valid tree stage."""
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
    """Draw a chain whose products are rounded first."""
    fmt = draw(accumulators())
    rounding, overflow = draw(deterministic()), _overflow(draw, fmt)
    return Chain(fmt, rounding, overflow, product=ProductRounding.ROUNDED)


@st.composite
def converted_fixed(draw: st.DrawFn) -> Fixed:
    """Draw a fixed stage that saturates at the end, converts, or both."""
    convert = draw(st.one_of(st.none(), accumulators()))
    more: dict[str, Any] = {} if convert is None else {"convert_rounding": draw(deterministic())}
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
    """Draw any stage that adds terms and contains no other stage."""
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
    """Draw any stage that adds terms; one in four is chunked."""
    plain = sums(stochastic)
    return st.one_of(plain, plain, plain, chunked_stages(st.deferred(terms_adders), few=True))


@st.composite
def block_stages(draw: st.DrawFn, stochastic: bool = True) -> Block:
    """Draw any valid block stage, with small blocks."""
    convert = draw(st.one_of(st.none(), accumulators()))
    more = {} if convert is None else {"convert_rounding": draw(deterministic())}
    into = draw(terms_adders() if stochastic else sums(False))
    return Block(draw(st.sampled_from([1, 2, 4])), into, convert,
                 nan_scale=draw(st.sampled_from(NanScale)), **more)  # fmt: skip


@st.composite
def chunked_stages(
    draw: st.DrawFn, inner: st.SearchStrategy[Stage] | None = None, few: bool = False
) -> Chunked:
    """Draw any valid chunked stage, of any depth.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        inner: strategy for stages of a chunk; absent: any.
        few: chunks of one to three terms, any number of chunks.

    Returns:
        A strategy for stages.
    """
    if inner is None:
        inner = st.one_of(sums(), sums(), block_stages(), chunked_stages())
    sizes = [1, 2, 3] if few else [4, 8]
    size = draw(st.one_of(st.none(), st.sampled_from(sizes)))
    parts = draw(st.integers(1, 4)) if size is None else None
    return Chunked(draw(inner), draw(terms_adders()), size, parts)


def all_stages() -> st.SearchStrategy[Stage]:
    """Draw any valid stage."""
    return st.one_of(sums(), block_stages(), chunked_stages())
