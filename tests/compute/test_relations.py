# SPDX-License-Identifier: Apache-2.0
"""Relations between units of different stages that must hold whatever the right answer is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import exact, float_format, unit_of

from fpsim import MacUnit, get_unit
from fpsim.formats.rounding import Rounding
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Joins, Stage, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

F32 = float_format("e8m23")
F16 = float_format("e5m10")
seeds = st.integers(0, 1 << 32)
roundings = st.sampled_from([r for r in Rounding if r is not Rounding.SR])


def codes(
    seed: int, rows: int = 6, k: int = 12, bits: int = 4
) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1 << bits, (rows, k)), rng.integers(0, 1 << bits, (rows, k))


def values(unit: MacUnit, a: Any, b: Any, c: Any = None, **scales: Any) -> NDArray[Any]:
    return unit.result.decode(unit.dot(a, b, c, **scales))


@given(seeds, roundings, st.integers(-6, 6))
@settings(max_examples=40)
def test_a_bias_shift_of_an_operand_is_a_shift_of_the_window(
    seed: int, rounding: Rounding, shift: int
) -> None:
    """E2M1 with another bias, or a scale: every sum times a power of two.

    But for a block in a window, which aligns by scales alone: there a bias moves no window.
    """
    a, b = codes(seed)
    stages: list[Stage] = [
        Aligned(4, 3, float_format("e8m4"), rounding, rounding),
        Tree(float_format("e8m3"), rounding),
        Block(4, Aligned(2, 3, float_format("e8m4"), rounding)),
        Chunked(Aligned(2, 2, float_format("e8m3")), Chain(float_format("e8m4"), rounding), size=4),
    ]
    for stage in stages:
        plain = values(unit_of(stage), a, b)
        if not isinstance(stage, Block):
            moved = values(unit_of(stage, f"e2m1b{1 + shift}", "e2m1"), a, b)
            assert np.array_equal(moved * 2.0**shift, plain)
        scale = np.full((6, 1), 127 - shift)
        assert np.array_equal(values(unit_of(stage), a, b, a_scale=scale) * 2.0**shift, plain)


@given(seeds, st.sampled_from([4, 8]))
@settings(max_examples=40)
def test_splitting_k_through_c_equals_one_run(seed: int, at: int) -> None:
    """At a step boundary, for every stage whose state is its accumulator."""
    a, b = codes(seed)
    stages: list[Stage] = [
        Aligned(4, 3, F16),
        Aligned(2, 24, float_format("e8m13"), container=F32),
        Aligned(4, 3, F16, addend="late"),  # type: ignore[arg-type]
        Aligned(4, 9, F16, addend="joined", lanes=2),  # type: ignore[arg-type]
        Tree(float_format("e4m3"), products=4),
        Tree(float_format("e4m3"), products=4, lanes=2, addend=Joins.LEAF),
        Block(2, Chain(float_format("e4m3"))),
        Block(2, Aligned(2, 5, F16)),
        Chunked(Exact(float_format("e4m3")), Chain(float_format("e4m3")), size=4),
        Fixed(9, -1),
    ]
    for stage in stages:
        unit = unit_of(stage)
        first = unit.dot(a[:, :at], b[:, :at])
        second = unit.dot(a[:, at:], b[:, at:], first)
        assert np.array_equal(second, unit.dot(a, b)), stage


@given(seeds, roundings)
@settings(max_examples=40)
def test_whatever_is_wide_enough_is_exact(seed: int, rounding: Rounding) -> None:
    """FP4 sums of 12 products have 11 bits: each of these loses nothing before its last rounding."""
    a, b = codes(seed)
    truth = values(exact("e8m23"), a, b)
    for stage in (
        Fixed(16, -2),
        Fixed(16, -2, convert=F32, convert_rounding=rounding),
        Aligned(4, 24, F32, rounding),
        Aligned(16, 12, F32, rounding, rounding),
        Tree(F32, rounding),
        Tree(F32, rounding, lanes=3, radix=3, addend=Joins.FUSED),
        Chunked(Chain(F16, rounding), Tree(F32, rounding), parts=5),
        Block(4, Chain(F32, rounding)),
        Block(3, Aligned(2, 20, F32), convert=F16, convert_rounding=rounding),
    ):
        got = values(unit_of(stage), a, b)
        assert np.array_equal(got, truth), stage


@given(seeds, roundings, st.integers(1, 10))
@settings(max_examples=30)
def test_one_step_of_an_aligned_window_has_no_order(
    seed: int, rounding: Rounding, bits: int
) -> None:
    a, b = codes(seed)
    order = np.random.default_rng(seed).permutation(12)
    unit = unit_of(Aligned(12, bits, float_format("e8m5"), rounding, rounding))
    assert np.array_equal(unit.dot(a, b), unit.dot(a[:, order], b[:, order]))


@given(seeds, roundings)
@settings(max_examples=30)
def test_stages_that_are_one_thing(seed: int, rounding: Rounding) -> None:
    """Different descriptions of the same arithmetic, bit for bit."""
    a, b = codes(seed)
    fmt = float_format("e4m3")
    pairs: list[tuple[Stage, Stage]] = [
        (Tree(fmt, rounding, products=1), Chain(fmt, rounding, product="rounded")),  # type: ignore[arg-type]
        (Tree(fmt, rounding, products=1, addend=Joins.FUSED), Chain(fmt, rounding)),
        (Tree(fmt, rounding, radix=64, addend=Joins.FUSED), Exact(fmt, rounding)),
        (Block(1, Chain(fmt, rounding)), Chain(fmt, rounding)),
        (Block(12, Chain(fmt, rounding)), Exact(fmt, rounding)),
        (
            Block(1, Chain(fmt, rounding), convert=fmt, convert_rounding=rounding),
            Chain(fmt, rounding, product="rounded"),  # type: ignore[arg-type]
        ),
        (Chunked(Chain(fmt), Chain(fmt, rounding), size=1), Chain(fmt, rounding, product="rounded"))  # type: ignore[arg-type]
        if rounding is Rounding.RNE
        else (Chain(fmt, rounding), Chain(fmt, rounding)),
        (Aligned(12, 40, fmt, rounding, signed_zero=True), Exact(fmt, rounding)),
    ]
    for first, second in pairs:
        x, y = (values(unit_of(stage), a, b) for stage in (first, second))
        finite = np.isfinite(x) & np.isfinite(y)
        assert np.array_equal(x[finite], y[finite]), (first, second)
        in_range = finite | (np.abs(values(exact("e8m23"), a, b)) > fmt.max_value)
        assert in_range.all() or not isinstance(second, Exact)


@given(seeds)
@settings(max_examples=30)
def test_lanes_of_one_window_per_parity_meet_in_the_join(seed: int) -> None:
    """With fraction bits to spare, two windows are one."""
    a, b = codes(seed)
    one = Aligned(12, 30, F16, rounding=Rounding.RNE, addend="joined", join_sum_bits=40)  # type: ignore[arg-type]
    two = replace(one, lanes=2)
    assert np.array_equal(unit_of(one).dot(a, b), unit_of(two).dot(a, b))


@given(seeds)
@settings(max_examples=30)
def test_negated_operands_negate_symmetric_units(seed: int) -> None:
    a, b = codes(seed)
    for stage in (Aligned(4, 3, F16), Tree(float_format("e4m3")), Block(4, Chain(F16))):
        assert np.array_equal(values(unit_of(stage), a ^ 8, b), -values(unit_of(stage), a, b))
    floor = unit_of(Aligned(4, 1, F16, align=Rounding.RDN))
    ceiling = unit_of(Aligned(4, 1, F16, align=Rounding.RUP))
    assert np.array_equal(values(floor, a ^ 8, b), -values(ceiling, a, b))


def test_presets_that_share_silicon_compute_the_same() -> None:
    rng = np.random.default_rng(4)
    for first, second, bits in (
        ("nvidia-a100-fp16", "nvidia-a2-fp16", 16),
        ("nvidia-h100-e4m3", "nvidia-h200-e4m3", 8),
        ("nvidia-ada-e5m2", "nvidia-l40s-e5m2", 8),
    ):
        units = [get_unit(name) for name in (first, second)]
        a, b = rng.integers(0, 1 << bits, (2, 50, 32)).astype(units[0].a.dtype)
        assert np.array_equal(units[0].dot(a, b), units[1].dot(a, b))
        assert units[0].spec == units[1].spec
