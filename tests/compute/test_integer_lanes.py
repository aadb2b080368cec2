# SPDX-License-Identifier: Apache-2.0
"""Lanes of 64-bit integers: aligned windows of any settings, wide fixed-point accumulators.

Expected codes are the oracle's.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from support.helpers import DETERMINISTIC, by_default, float_format, oracle_matmul, unit_of
from support.lane_cases import operands, runs_as, spread

from fpsim import MacUnit, Overflow, RandomBits
from fpsim.formats.rounding import Rounding
from fpsim.units.stages import Addend, Aligned, Exact, Fixed, Stage

pytestmark = pytest.mark.usefixtures("one_thread")

#: Settings that windows in floats do not have.
WINDOWS: dict[str, dict[str, Any]] = {
    "late": {"addend": Addend.LATE, "container": float_format("e8m13"), "signed_zero": True},
    "limited": {"product_limit": 3, "width": 24, "width_overflow": Overflow.SATURATE},
    "signed": {"product_limit": 5, "signed_zero": True, "width": 13},
    "joined": {"addend": Addend.JOINED, "normalised": True, "join_reach": 3},
    "lanes": {"addend": Addend.JOINED, "lanes": 2, "width": 16, "join_sum_bits": 12},
    "finer": {
        "addend": Addend.JOINED,
        "lanes": 2,
        "width": 14,
        "width_overflow": Overflow.SATURATE,
        "join_sum_bits": 7,
        "join_addend_bits": 20,
        "signed_zero": True,
    },
}


def window(name: str, rounding: Rounding, **more: Any) -> Aligned:
    """Return a window in integers, all of whose roundings are of one kind."""
    settings: dict[str, Any] = {"products": 5, "format": float_format("e8m10")}
    settings |= WINDOWS[name] | more
    second = {Addend.LATE: "late_rounding", Addend.JOINED: "join_rounding"}
    if "addend" in settings:
        settings[second[settings["addend"]]] = rounding
    return Aligned(fraction_bits=10, rounding=rounding, align=rounding, **settings)


@pytest.mark.parametrize(
    ("name", "rounding"),
    by_default(product(WINDOWS, DETERMINISTIC), quick=[*zip(WINDOWS, DETERMINISTIC, strict=False)]),
)
def test_windows_equal_the_oracle(name: str, rounding: Rounding) -> None:
    for operand, binades in (("e4m3fn", 4), ("e5m2", 12)):
        unit = unit_of(window(name, rounding), operand)
        assert runs_as(unit, 17, binades).startswith("window64-5-")


@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, [Rounding.RNE, Rounding.RDN]))
@pytest.mark.parametrize("name", ["late", "signed", "finer"])
def test_one_product_with_every_accumulator(name: str, rounding: Rounding) -> None:
    more: dict[str, Any] = {"products": 1, "format": float_format("e4m3")}
    if name == "late":
        more["container"] = float_format("e4m4")
    unit = unit_of(window(name, rounding, **more))
    c = np.arange(1 << unit.result.bits)
    b = np.arange(16)
    for a in range(16):
        rows = np.full((c.size, 1), a)
        start = np.repeat(c[:, None], 16, axis=1)
        assert unit.plan(rows, b[None], c=start).kernel.startswith("window64")
        # Not one step per value: factors of the same product align differently.
        expected = unit.dot(rows[:, None], b[None, :, None], start)
        assert np.array_equal(unit.matmul(rows, b[None], start), expected)


@pytest.mark.parametrize("name", [name for name in WINDOWS if "width" in WINDOWS[name]])
def test_registers_of_windows_overflow(name: str) -> None:
    """Products of 3.0625 = 1.75 * 1.75 at one exponent: registers hold less than 4 to 64."""
    unit = unit_of(window(name, Rounding.RTZ, products=24), "e4m3fn")
    a = np.repeat(unit.a.encode([[1.75], [-1.75]]), 24, 1)
    a = np.stack([np.where(np.arange(24) < count, row, 0) for count in range(25) for row in a])
    b = unit.b.encode(np.full((24, 1), 1.75))
    for start in (0.0, 2.0, -2.0):
        c = unit.result.encode(np.full((50, 1), start))
        assert unit.plan(a, b, c=c).kernel.startswith("window64")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_windows_meet_infinities_and_nan() -> None:
    for name in WINDOWS:
        for overflow in (None, Overflow.SATURATE):
            unit = unit_of(window(name, Rounding.RNE, overflow=overflow), "e5m2")
            a, b, c = operands(unit, 17, 6)
            a[0, 3] = a[3, 1] = unit.a.encode(np.inf, "rne", "inf")
            a[1, 2], c[2, 0] = 0x7F, unit.result.encode(-np.inf, "rne", "inf")
            c[3, 1] = unit.result.nan_code
            assert unit.plan(a, b, c=c).kernel.startswith("window64")
            assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_an_infinite_product_does_not_meet_a_late_addend_as_the_largest_number() -> None:
    """Infinity saturates and is the result; 65504 less 65504 would be 0."""
    fmt = float_format("e5m10")
    stage = Aligned(1, 12, fmt, addend=Addend.LATE, overflow=Overflow.SATURATE)
    unit = unit_of(stage, "e5m2", "e2m1")
    a = unit.a.encode([[np.inf, -np.inf]], "rne", "inf")
    b = unit.b.encode([[1.0], [1.0]])
    assert unit.result.decode(unit.matmul(a, b)).item() == -65504.0
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


def test_windows_far_apart_meet_as_a_rounding() -> None:
    """All distances of two windows and c, beyond 64 binades too."""
    for rounding in DETERMINISTIC:
        unit = unit_of(window("lanes", rounding), "e8m7", "e2m1")
        a, b, c = operands(unit, 10, 40)
        assert unit.plan(a, b, c=c).kernel.startswith("window64")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, [Rounding.RNE]))
def test_second_windows_round_ties(rounding: Rounding) -> None:
    """Few bits over a few binades: many sums end halfway."""
    unit = unit_of(window("lanes", rounding, join_sum_bits=3, join_addend_bits=3), "e5m2")
    a, b = spread(unit.a, (48, 10), 1, 4), spread(unit.b, (48, 10), 2, 3).T.copy()
    c = spread(unit.result, (48, 48), 3, 8)
    assert unit.plan(a, b, c=c).kernel.startswith("window64")
    assert np.array_equal(unit.matmul(a, b, c), unit.dot(a[:, None], b.T[None], c))


def test_sums_of_more_bits_than_float64_has_round_once() -> None:
    """2^20 + 2^-4 is a tie of 24 bits; 2^-34 more or less decides, which float64 does not hold."""
    unit = unit_of(Aligned(2, 56, float_format("e8m23"), Rounding.RNE, width=60), "e5m10")
    low = 2.0**-17
    a = unit.a.encode([[1024.0, low], [1024.0, -low], [1024.0, 0.0]])
    b = unit.b.encode([[1024.0], [low]])
    c = unit.result.encode([[2.0**-4], [2.0**-4], [2.0**-4]])
    assert unit.plan(a, b, c=c).kernel.startswith("window64")
    codes = unit.matmul(a, b, c)
    assert np.array_equal(codes, oracle_matmul(unit, a, b, c))
    assert codes[0, 0] == codes[2, 0] + 1 == codes[1, 0] + 1


# -- fixed point ---------------------------------------------------------------------------------


def fixed_unit(width: int, lsb: int, overflow: str, operand: str = "e5m10", **more: Any) -> MacUnit:
    """Return a fixed-point unit."""
    return unit_of(Fixed(width, lsb, Overflow(overflow), **more), operand)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize(("width", "lsb"), [(62, -40), (62, -15), (64, -30), (63, -30), (55, 20)])
def test_products_beyond_a_register(width: int, lsb: int, overflow: str) -> None:
    """Up to 2^72 units: multiples of 2^64, halves of it, and all that is clamped."""
    unit = fixed_unit(width, lsb, overflow, rounding=Rounding.RNA)
    a, b, _ = operands(unit, 9, 14)
    a[0], b[:, 0] = unit.a.encode(32768.0), unit.b.encode(32768.0)
    a[1, ::2] = unit.a.encode(-32768.0)
    ends = [0, 1, (1 << (width - 1)) - 1, 1 << (width - 1), (1 << width) - 1]
    c = np.array([ends] * 4, dtype=np.uint64)
    assert unit.plan(a, b, c=c).kernel == ("integer64-rna-wrap" if overflow == "wrap" else "scalar")
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("width", [62, 63, 64])
@pytest.mark.parametrize("rounding", [Rounding.RUP, Rounding.RDN])
def test_products_fill_wide_registers_more_than_once(width: int, rounding: Rounding) -> None:
    """All of 2^59 to 2^69 units, from both ends of the register and next to them."""
    unit = fixed_unit(width, -30, "saturate", rounding=rounding)
    powers = np.exp2(np.arange(14, 24))[:, None] * np.array([1.0, 1.25, -1.0, -1.75])
    a = unit.a.encode(np.minimum(powers.reshape(-1, 1), 2.0**15) * np.ones((1, 2)))
    a[::3, 1] = unit.a.encode(-1.0)
    low, high = 1 << (width - 1), (1 << (width - 1)) - 1
    c = np.array([0, 1, high, high - 1, low, low + 1, (1 << width) - 1], dtype=np.uint64)
    c = np.repeat(c[None], len(a), 0)
    b = unit.b.encode(np.full((2, c.shape[1]), 2.0**15))
    scale = (127 + np.maximum(np.log2(np.abs(powers)) - 15, 0).astype(int)).reshape(-1, 1)
    assert unit.plan(a, b, c=c, a_scale=scale).kernel == "scalar"
    assert np.array_equal(unit.matmul(a, b, c, scale), oracle_matmul(unit, a, b, c, scale))


@pytest.mark.parametrize(
    ("operand", "width", "lsb", "kernel"),
    [
        ("e2m1", 8, -2, "float"),
        ("e2m1", 8, 0, "fixed64-rne-wrap"),
        ("e5m10", 50, -20, "integer64-rne-wrap"),
    ],
)
def test_sums_are_clamped_at_the_end(operand: str, width: int, lsb: int, kernel: str) -> None:
    """Far out and back: 40 products of one sign, then the same of the other."""
    unit = fixed_unit(width, lsb, "saturate", operand, overflow_at="end")
    rng, fmt = np.random.default_rng(3), float_format(operand)
    a, b = rng.integers(0, fmt.max_code + 1, (3, 80)), rng.integers(0, fmt.max_code + 1, (80, 4))
    a[:2, 40:], b[40:] = a[:2, :40] | fmt.sign_bit, b[:40]
    a[1, 3] = 1
    c = rng.integers(0, 1 << width, (3, 4)).astype(np.uint64)
    assert unit.plan(a, b, c=c).kernel.endswith(kernel)
    for start in (None, c):
        assert np.array_equal(unit.matmul(a, b, start), oracle_matmul(unit, a, b, start))


# -- random integers -----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 11, 20])
@pytest.mark.parametrize(("n", "k"), [(24, 40), (21, 40), (24, 37), (5, 3)])
def test_arrays_of_random_integers(
    bits: int, n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned around as words or one by one, all at once or some rows at a time."""
    stages: list[Stage] = [
        Fixed(40, 1, rounding=Rounding.SR, random_bits=bits),
        Exact(float_format("e4m3"), Rounding.SR, random_bits=bits),
    ]
    for stage in stages:
        unit = unit_of(stage, "e8m7" if isinstance(stage, Exact) else "e2m1")
        rng = np.random.default_rng(n)
        a, b = spread(unit.a, (19, k), 1, 9), spread(unit.b, (n, k), 2, 9).T.copy()
        random = rng.integers(0, 1 << bits, (19, n, unit.spec.roundings(k)))
        expected = unit.dot(a[:, None], b.T[None], random=random)
        for batch in (1 << 20, 1):
            monkeypatch.setattr("fpsim.compute.lanes.random.BATCH", batch)
            assert unit.plan(a, b, random=random).kernel != "scalar"
            assert np.array_equal(unit.matmul(a, b, random=random), expected)


def test_exact_sums_round_stochastically() -> None:
    unit = unit_of(Exact(float_format("e4m3"), Rounding.SR, random_bits=6), "e8m7")
    a, b, c = operands(unit, 11, 30)
    for scales in ({}, {"a_scale": np.full((4, 2), 130), "block": 6}):
        for random in (RandomBits(5), np.random.default_rng(1).integers(0, 64, (4, 5, 1))):
            assert unit.plan(a, b, random=random, **scales).slices
            codes = unit.matmul(a, b, c, random=random, **scales)
            assert np.array_equal(codes, oracle_matmul(unit, a, b, c, random=random, **scales))


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("fmt", ["e8m23", "e8m23_flush", "e6m23", "e8m22"])
def test_windows_into_as_many_bits_as_float32_has(fmt: str, rounding: Rounding) -> None:
    """Sums of few bits, which nothing rounds: half of their last place is no bit of the lane."""
    unit = unit_of(Aligned(4, 1, float_format(fmt), rounding, Rounding.RNE))
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 16, (5, 8)).astype(np.uint8), rng.integers(0, 16, (8, 16))
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))
