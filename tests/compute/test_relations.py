# SPDX-License-Identifier: Apache-2.0
"""Relations between units that must hold whatever the right answer is: metamorphic tests.

Matrix products of chain, fixed and exact units first, then dot products of every kind of stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import chain, exact, fixed, float_format, unit_of

from fpsim import FloatFormat, MacSpec, MacUnit, get_format, get_unit
from fpsim.formats.rounding import Rounding
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Joins, Stage, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

F32 = float_format("e8m23")
F16 = float_format("e5m10")
seeds = st.integers(0, 1 << 32)
roundings = st.sampled_from([r for r in Rounding if r is not Rounding.SR])


# -- matrix products -----------------------------------------------------------------------------


def matrices(seed: int, m: int, k: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 16, (m, k)), rng.integers(0, 16, (k, n))


@given(seeds, roundings, st.integers(-6, 6))
def test_a_bias_shift_of_the_operand_is_a_grid_shift_of_the_accumulator(
    seed: int, rounding: Rounding, shift: int
) -> None:
    """E2M1 with bias 1 + n, accumulated on a grid 2^n finer: the same codes."""
    a, b = matrices(seed, 2, 5, 3)
    moved = f"e2m1b{1 + shift}"
    for overflow in ("wrap", "saturate"):
        plain = fixed(9, -1, overflow, rounding).matmul(a, b)
        other = fixed(9, -1 - shift, overflow, rounding, a=moved, b="e2m1").matmul(a, b)
        assert np.array_equal(plain, other)


@given(seeds, roundings, st.integers(-6, 6))
def test_a_bias_shift_of_the_operand_is_one_of_the_float_accumulator(
    seed: int, rounding: Rounding, shift: int
) -> None:
    a, b = matrices(seed, 2, 5, 3)
    fmt = get_format("e4m3")
    assert isinstance(fmt, FloatFormat)
    other = f"e4m3b{fmt.bias + shift}"
    for make in (chain, exact):
        plain = make("e4m3", rounding).matmul(a, b)
        moved = make(other, rounding, a=f"e2m1b{1 + shift}", b="e2m1").matmul(a, b)
        assert np.array_equal(plain, moved)


@given(seeds, roundings, st.integers(0, 254))
def test_a_bias_shift_is_a_scale(seed: int, rounding: Rounding, scale: int) -> None:
    """One E8M0 scale over everything is a change of the format's bias."""
    a, b = matrices(seed, 2, 5, 3)
    for make in (chain, exact):
        scaled = make("e8m7", rounding).matmul(a, b, None, np.full((2, 1), scale))
        moved = make("e8m7", rounding, a=f"e2m1b{1 + 127 - scale}", b="e2m1").matmul(a, b)
        assert np.array_equal(scaled, moved)


@given(seeds, roundings, st.integers(1, 11))
def test_splitting_k_of_a_matrix_product_equals_one_run(
    seed: int, rounding: Rounding, cut: int
) -> None:
    """Stop anywhere, hand the accumulator back in, go on: what a tiled kernel does."""
    a, b = matrices(seed, 2, 12, 3)
    units = [
        chain("e5m10", rounding),
        chain("e4m3fn", rounding, "nan"),
        chain("e3m2", rounding),
        fixed(8, -1, "saturate", rounding),
        fixed(7, 1, "wrap", rounding),
    ]
    for unit in units:
        whole = unit.matmul(a, b)
        first = unit.matmul(a[:, :cut], b[:cut])
        assert np.array_equal(unit.matmul(a[:, cut:], b[cut:], first), whole)
        history = unit.accumulate(a[:, None], b.T[None])
        assert np.array_equal(history[..., cut - 1], first)
        assert np.array_equal(history[..., -1], whole)


@given(seeds, roundings)
def test_a_wide_fixed_accumulator_is_exact(seed: int, rounding: Rounding) -> None:
    a, b = matrices(seed, 2, 30, 3)
    wide = fixed(24, -2, "wrap", rounding)
    reference = exact("e8m23", rounding)
    values = wide.result.decode(wide.matmul(a, b))
    assert np.array_equal(values, reference.result.decode(reference.matmul(a, b)))
    narrow = exact("e4m3", rounding)  # one rounding of the same sum
    assert np.array_equal(
        narrow.matmul(a, b) & 0x7F, narrow.result.encode(values, rounding, "inf") & 0x7F
    )


@given(seeds, roundings)
def test_a_wide_chain_is_exact(seed: int, rounding: Rounding) -> None:
    """As long as nothing rounds, a float accumulator is the exact one, in any mode."""
    a, b = matrices(seed, 2, 30, 3)
    for name in ("e8m23", "e6m15"):
        chained, summed = chain(name, rounding), exact(name, rounding)
        left = chained.result.decode(chained.matmul(a, b))
        assert np.array_equal(left, summed.result.decode(summed.matmul(a, b)))


@given(seeds, st.permutations(range(10)))
def test_exact_and_wrapping_sums_do_not_depend_on_order(seed: int, order: list[int]) -> None:
    a, b = matrices(seed, 2, 10, 3)
    for unit in (
        exact("e4m3"),
        exact("e5m10", "rto"),
        fixed(6, -1, "wrap"),
        fixed(5, 2, "wrap", "rup"),
    ):
        assert np.array_equal(unit.matmul(a[:, order], b[order]), unit.matmul(a, b))


@given(seeds)
def test_negating_one_operand_negates_the_result(seed: int) -> None:
    """In the symmetric modes; the two directed ones change places. Zeros keep their own rules."""
    a, b = matrices(seed, 2, 8, 3)
    mirrored = {"rup": "rdn", "rdn": "rup"}
    for rounding in ("rne", "rna", "rtz", "rto", "rup", "rdn"):
        unit, other = chain("e4m3fn", rounding), chain("e4m3fn", mirrored.get(rounding, rounding))
        left = unit.result.decode(unit.matmul(a, b))
        right = other.result.decode(other.matmul(a ^ 8, b))
        assert np.array_equal(left, -right)


@given(seeds, st.integers(1, 60))
def test_a_scale_may_move_from_one_operand_to_the_other(seed: int, shift: int) -> None:
    a, b = matrices(seed, 2, 6, 3)
    up, half = np.full((2, 1), 127 + 2 * shift), np.full((2, 1), 127 + shift)
    for unit in (chain("e8m7", "rtz"), exact("e8m10"), fixed(30, -2, "saturate")):
        one_side = unit.matmul(a, b, None, up)
        both = unit.matmul(a, b, None, half, np.full((1, 3), 127 + shift))
        assert np.array_equal(one_side, both)


@given(seeds, roundings)
def test_operands_may_change_places(seed: int, rounding: Rounding) -> None:
    a, b = matrices(seed, 2, 6, 3)
    for make in (chain, exact):
        unit = make("e5m2", rounding, a="e2m1", b="e3m0")
        turned = make("e5m2", rounding, a="e3m0", b="e2m1")
        assert np.array_equal(unit.matmul(a, b), turned.matmul(b.T, a.T).T)


@given(seeds)
def test_a_format_and_its_superset_compute_the_same(seed: int) -> None:
    """E2M1 inside E3M1 with the same smallest value: other codes, the same numbers."""
    a, b = matrices(seed, 2, 6, 3)
    narrow = chain("e5m10", a="e2m1")
    wide = chain("e5m10", a="e3m1b1", b="e2m1")
    fmt = get_format("e3m1b1")
    again = fmt.encode(narrow.a.decode(a))
    assert np.array_equal(narrow.matmul(a, b), wide.matmul(again, b))


@given(seeds, roundings)
def test_more_k_of_zeros_changes_nothing_but_the_sign_of_zero(
    seed: int, rounding: Rounding
) -> None:
    a, b = matrices(seed, 2, 6, 3)
    more_a = np.concatenate([a, np.zeros((2, 5), dtype=int)], axis=1)
    more_b = np.concatenate([b, np.full((5, 3), 7)], axis=0)
    for unit in (
        chain("e4m3", rounding),
        exact("e4m3", rounding),
        fixed(8, 0, "saturate", rounding),
    ):
        plain = unit.result.decode(unit.matmul(a, b))
        assert np.array_equal(unit.result.decode(unit.matmul(more_a, more_b)), plain)


def test_rounding_modes_differ_where_they_should() -> None:
    """No two modes are the same unit by mistake: each pair differs somewhere."""
    a, b = matrices(3, 40, 12, 40)
    results = {}
    for rounding in Rounding:
        if rounding is Rounding.SR:
            continue
        stage = Chain(get_format("e3m2"), rounding)  # type: ignore[arg-type]
        unit = MacUnit(MacSpec(get_format("e2m1"), get_format("e2m1"), stage))
        results[rounding] = unit.matmul(a, b).tobytes()
    assert len(set(results.values())) == len(results)


# -- dot products --------------------------------------------------------------------------------


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
