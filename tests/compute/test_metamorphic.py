# SPDX-License-Identifier: Apache-2.0
"""Relations between units that must hold whatever the right answer is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import chain, exact, fixed

from fpsim import FloatFormat, MacSpec, MacUnit, Rounding, get_format
from fpsim.units.stages import Chain

pytestmark = pytest.mark.usefixtures("one_thread")

seeds = st.integers(0, 1 << 32)
deterministic = st.sampled_from(["rne", "rna", "rtz", "rup", "rdn", "rto"])


def codes(seed: int, m: int, k: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 16, (m, k)), rng.integers(0, 16, (k, n))


@given(seeds, deterministic, st.integers(-6, 6))
def test_a_bias_shift_of_the_operand_is_a_grid_shift_of_the_accumulator(
    seed: int, rounding: str, shift: int
) -> None:
    """E2M1 with bias 1 + n, accumulated on a grid 2^n finer: the same codes."""
    a, b = codes(seed, 2, 5, 3)
    moved = f"e2m1b{1 + shift}"
    for overflow in ("wrap", "saturate"):
        plain = fixed(9, -1, overflow, rounding).matmul(a, b)
        other = fixed(9, -1 - shift, overflow, rounding, a=moved, b="e2m1").matmul(a, b)
        assert np.array_equal(plain, other)


@given(seeds, deterministic, st.integers(-6, 6))
def test_a_bias_shift_of_the_operand_is_one_of_the_float_accumulator(
    seed: int, rounding: str, shift: int
) -> None:
    a, b = codes(seed, 2, 5, 3)
    fmt = get_format("e4m3")
    assert isinstance(fmt, FloatFormat)
    other = f"e4m3b{fmt.bias + shift}"
    for make in (chain, exact):
        plain = make("e4m3", rounding).matmul(a, b)
        moved = make(other, rounding, a=f"e2m1b{1 + shift}", b="e2m1").matmul(a, b)
        assert np.array_equal(plain, moved)


@given(seeds, deterministic, st.integers(0, 254))
def test_a_bias_shift_is_a_scale(seed: int, rounding: str, scale: int) -> None:
    """One E8M0 scale over everything is a change of the format's bias."""
    a, b = codes(seed, 2, 5, 3)
    for make in (chain, exact):
        scaled = make("e8m7", rounding).matmul(a, b, None, np.full((2, 1), scale))
        moved = make("e8m7", rounding, a=f"e2m1b{1 + 127 - scale}", b="e2m1").matmul(a, b)
        assert np.array_equal(scaled, moved)


@given(seeds, deterministic, st.integers(1, 11))
def test_splitting_k_through_c_equals_one_run(seed: int, rounding: str, cut: int) -> None:
    """Stop anywhere, hand the accumulator back in, go on: what a tiled kernel does."""
    a, b = codes(seed, 2, 12, 3)
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


@given(seeds, deterministic)
def test_a_wide_fixed_accumulator_is_exact(seed: int, rounding: str) -> None:
    a, b = codes(seed, 2, 30, 3)
    wide = fixed(24, -2, "wrap", rounding)
    reference = exact("e8m23", rounding)
    values = wide.result.decode(wide.matmul(a, b))
    assert np.array_equal(values, reference.result.decode(reference.matmul(a, b)))
    narrow = exact("e4m3", rounding)  # one rounding of the same sum
    assert np.array_equal(
        narrow.matmul(a, b) & 0x7F, narrow.result.encode(values, rounding, "inf") & 0x7F
    )


@given(seeds, deterministic)
def test_a_wide_chain_is_exact(seed: int, rounding: str) -> None:
    """As long as nothing rounds, a float accumulator is the exact one, in any mode."""
    a, b = codes(seed, 2, 30, 3)
    for name in ("e8m23", "e6m15"):
        chained, summed = chain(name, rounding), exact(name, rounding)
        left = chained.result.decode(chained.matmul(a, b))
        assert np.array_equal(left, summed.result.decode(summed.matmul(a, b)))


@given(seeds, st.permutations(range(10)))
def test_exact_and_wrapping_sums_do_not_depend_on_order(seed: int, order: list[int]) -> None:
    a, b = codes(seed, 2, 10, 3)
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
    a, b = codes(seed, 2, 8, 3)
    mirrored = {"rup": "rdn", "rdn": "rup"}
    for rounding in ("rne", "rna", "rtz", "rto", "rup", "rdn"):
        unit, other = chain("e4m3fn", rounding), chain("e4m3fn", mirrored.get(rounding, rounding))
        left = unit.result.decode(unit.matmul(a, b))
        right = other.result.decode(other.matmul(a ^ 8, b))
        assert np.array_equal(left, -right)


@given(seeds, st.integers(1, 60))
def test_a_scale_may_move_from_one_operand_to_the_other(seed: int, shift: int) -> None:
    a, b = codes(seed, 2, 6, 3)
    up, half = np.full((2, 1), 127 + 2 * shift), np.full((2, 1), 127 + shift)
    for unit in (chain("e8m7", "rtz"), exact("e8m10"), fixed(30, -2, "saturate")):
        one_side = unit.matmul(a, b, None, up)
        both = unit.matmul(a, b, None, half, np.full((1, 3), 127 + shift))
        assert np.array_equal(one_side, both)


@given(seeds, deterministic)
def test_operands_may_change_places(seed: int, rounding: str) -> None:
    a, b = codes(seed, 2, 6, 3)
    for make in (chain, exact):
        unit = make("e5m2", rounding, a="e2m1", b="e3m0")
        turned = make("e5m2", rounding, a="e3m0", b="e2m1")
        assert np.array_equal(unit.matmul(a, b), turned.matmul(b.T, a.T).T)


@given(seeds)
def test_a_format_and_its_superset_compute_the_same(seed: int) -> None:
    """E2M1 inside E3M1 with the same smallest value: other codes, the same numbers."""
    a, b = codes(seed, 2, 6, 3)
    narrow = chain("e5m10", a="e2m1")
    wide = chain("e5m10", a="e3m1b1", b="e2m1")
    fmt = get_format("e3m1b1")
    again = fmt.encode(narrow.a.decode(a))
    assert np.array_equal(narrow.matmul(a, b), wide.matmul(again, b))


@given(seeds, deterministic)
def test_more_k_of_zeros_changes_nothing_but_the_sign_of_zero(seed: int, rounding: str) -> None:
    a, b = codes(seed, 2, 6, 3)
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
    a, b = codes(3, 40, 12, 40)
    results = {}
    for rounding in Rounding:
        if rounding is Rounding.SR:
            continue
        stage = Chain(get_format("e3m2"), rounding)  # type: ignore[arg-type]
        unit = MacUnit(MacSpec(get_format("e2m1"), get_format("e2m1"), stage))
        results[rounding] = unit.matmul(a, b).tobytes()
    assert len(set(results.values())) == len(results)
