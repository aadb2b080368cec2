# SPDX-License-Identifier: Apache-2.0
"""Strategies for whole MAC units, and operands of matrix products on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import E8M0, get_format
from fpsim.testing.strategies.formats import (
    codes,
    finite_codes,
    fixed_formats,
    float_formats,
    operand_formats,
)
from fpsim.testing.strategies.stages import all_stages, fixed_stages, float_stages
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec, SignSplit
from fpsim.units.stages import Chain, Exact, Stage

__all__ = [
    "MatmulCase",
    "all_specs",
    "mac_specs",
    "matmul_cases",
    "narrow_operands",
    "units",
]

E8M0_NAN = 255
OPERANDS = ("e2m1", "e1m2", "e3m0", "e2m1b3", "int4", "e2m3", "e3m2", "e4m3fn", "e5m2")


@st.composite
def mac_specs(
    draw: st.DrawFn,
    stages: st.SearchStrategy[Stage] | None = None,
    operands: st.SearchStrategy[Format] | None = None,
    described: bool = False,
    any_scales: bool = False,
) -> MacSpec:
    """Draw any valid MAC unit; with ``described`` sometimes with a name and a description.

    With ``any_scales`` scale formats may differ from E8M0, and operands may be split by sign.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        stages: strategy for stages; absent: chain, exact and fixed.
        operands: strategy for formats of operands; absent: any small one.
        described: whether to draw names and descriptions.
        any_scales: whether to draw scale formats other than E8M0, and operands split by sign.

    Returns:
        A strategy for units.
    """
    if stages is None:
        stages = st.one_of(float_stages(Chain), float_stages(Exact), fixed_stages())
    formats = operand_formats() if operands is None else operands
    a = draw(formats)
    b = draw(st.one_of(st.just(a), formats))
    name = description = ""
    if described:
        name = draw(
            st.one_of(st.just(""), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True))
        )
        description = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    stage = draw(stages)
    try:
        spec = MacSpec(a, b, stage, name, description)
        return _scaled(draw, spec) if any_scales else spec
    except FpsimError:
        reject()  # the window is too narrow for its terms, or an operand split by sign has none


#: Scale formats of MX, NVFP4 and others: signed, unsigned, with and without infinities.
SCALES = ("e8m0", "e8m0", "e8m0", "e4m3fn", "ue4m3fn", "e5m2", "e3m4", "e8m7", "e8m23")


def _scaled(draw: st.DrawFn, spec: MacSpec) -> MacSpec:
    scales = [get_format(draw(st.sampled_from(SCALES))) for _ in "ab"]
    splits = [SignSplit.NONE]
    if spec.a.signed and spec.b.signed:
        splits = [*splits, SignSplit.NONE, *SignSplit]
    return replace(
        spec,
        name="",
        a_scale=scales[0],
        b_scale=scales[1],
        sign_split=draw(st.sampled_from(splits)),
    )


def narrow_operands() -> st.SearchStrategy[Format]:
    """Draw usual operand formats, or any small one."""
    named = st.sampled_from(OPERANDS).map(get_format)
    floats = float_formats(max_bits=6, max_exponent_bits=4, bias_shift=4)
    return st.one_of(named, named, floats, fixed_formats(max_width=6, max_lsb=6))


def all_specs(stages: st.SearchStrategy[Stage] | None = None) -> st.SearchStrategy[MacSpec]:
    """Draw any valid unit, with any stage and any scales."""
    kinds = all_stages() if stages is None else stages
    return mac_specs(kinds, narrow_operands(), any_scales=True)


def units(
    stages: st.SearchStrategy[Stage] | None = None,
    operands: st.SearchStrategy[Format] | None = None,
) -> st.SearchStrategy[MacUnit]:
    """Draw any MAC unit, or one with given stages and operand formats, with any scales."""
    kinds = all_stages() if stages is None else stages
    formats = narrow_operands() if operands is None else operands
    return mac_specs(kinds, formats, any_scales=True).map(MacUnit)


@dataclass(frozen=True)
class MatmulCase:
    """A unit and operands of one matrix product."""

    unit: MacUnit
    a: NDArray[Any]
    b: NDArray[Any]
    c: NDArray[Any] | None
    a_scale: NDArray[Any] | None
    b_scale: NDArray[Any] | None
    block: int
    random: NDArray[Any] | None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `MacUnit.matmul`."""
        scaled = self.a_scale is not None or self.b_scale is not None
        return {
            "a": self.a,
            "b": self.b,
            "c": self.c,
            "a_scale": self.a_scale,
            "b_scale": self.b_scale,
            "block": self.block if scaled else None,
            "random": self.random,
        }


@st.composite
def matmul_cases(
    draw: st.DrawFn,
    specs: st.SearchStrategy[MacSpec],
    max_k: int = 5,
    special: bool = True,
    scaled: bool = True,
) -> MatmulCase:
    """Draw a unit with small matrices of codes, scales and random bits.

    Without ``special`` no operand or scale is NaN or infinite, as fixed-point stages require.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        specs: strategy for units.
        max_k: most products of a dot product.
        special: whether to draw NaN and infinities too.
        scaled: whether to draw scales of blocks too.

    Returns:
        A strategy for cases.
    """
    spec = draw(specs)
    m, n, k = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, max_k))
    pick = codes if special else finite_codes

    def matrix(source: st.SearchStrategy[int], rows: int, columns: int, dtype: Any) -> NDArray[Any]:
        size = rows * columns
        flat = draw(st.lists(source, min_size=size, max_size=size))
        return np.array(flat, dtype=dtype).reshape(rows, columns)

    a = matrix(pick(spec.a), m, k, spec.a.dtype)
    b = matrix(pick(spec.b), k, n, spec.b.dtype)
    c = None
    if draw(st.booleans()):
        c = matrix(codes(spec.initial), m, n, spec.initial.dtype)
    size = 1 if spec.block is None else spec.block.size
    block = size * draw(st.integers(1, -(-k // size)))
    groups = -(-k // block)
    scales: list[NDArray[Any] | None] = [None, None]
    for side, shape in enumerate(((m, groups), (groups, n))):
        if scaled and draw(st.booleans()):
            name = "ab"[side]
            fmt, signs = getattr(spec, f"{name}_scale"), 1 + spec.splits(name)
            source = _scales(draw, special) if fmt == E8M0 else _significant(fmt, special)
            drawn = matrix(source, shape[0], shape[1] * signs, fmt.dtype)
            scales[side] = drawn.reshape(*shape, 2) if signs == 2 else drawn
    random = None
    steps = spec.roundings(k)
    if steps:
        top = (1 << spec.random_bits) - 1
        words = draw(st.lists(st.integers(0, top), min_size=m * n * steps, max_size=m * n * steps))
        random = np.array(words, dtype=np.uint32).reshape(m, n, steps)
    return MatmulCase(MacUnit(spec), a, b, c, scales[0], scales[1], block, random)


def _significant(fmt: Format, special: bool) -> st.SearchStrategy[int]:
    """Draw scale codes of a format with a significand, mostly near one."""
    assert isinstance(fmt, FloatFormat)
    one = int(fmt.encode([1.0])[0])
    step = 1 << fmt.mantissa_bits
    near = st.integers(max(1, one - 4 * step), min(fmt.max_code, one + 4 * step))
    return st.one_of(near, near, codes(fmt) if special else finite_codes(fmt))


def _scales(draw: st.DrawFn, special: bool) -> st.SearchStrategy[int]:
    """Draw scale codes near one, of the whole range, or with ``special`` sometimes NaN."""
    centre = draw(st.sampled_from([127, 127, 127, 8, 246]))
    near = st.integers(max(0, centre - 30), min(254, centre + 30))
    anywhere = st.one_of(near, st.integers(0, 254))
    return st.one_of(anywhere, anywhere, st.just(E8M0_NAN)) if special else anywhere
