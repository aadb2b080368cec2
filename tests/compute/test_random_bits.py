# SPDX-License-Identifier: Apache-2.0
"""Random bits from a seed, and stochastic rounding in vector lanes.

Expected codes are the oracle's, or the scalar kernels' where a space is exhausted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.helpers import HOST, chain, float_format, oracle_matmul, unit_of
from support.lane_cases import AVX512, operands

from fpsim import FpsimError, RandomBits, get_format
from fpsim.formats.random_bits import _mixed, part_of
from fpsim.formats.rounding import Rounding
from fpsim.units.stages import Block, Exact, Fixed, Stage

pytestmark = pytest.mark.usefixtures("one_thread")


def _sr(result: str, bits: int, policy: str | None = None) -> Stage:
    return chain(result, "sr", policy, random_bits=bits).spec.accumulate


def test_the_random_integers_are_these() -> None:
    """As the definition says, computed once by hand with unbounded integers."""

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    bits = RandomBits(0xDEADBEEF, first=3)
    for count in (1, 3, 8, 10, 13, 16, 17, 32):
        each = 32 // count
        expected = [
            [
                mix((mix(mix(r) ^ 0xDEADBEEF) + k // each * 0x9E3779B9) % 2**32) >> k % each * count
                & 2**count - 1
                for k in range(35)
            ]
            for r in (3, 4)
        ]
        assert bits.integers(2, 35, count).tolist() == expected
    assert RandomBits(0xDEADBEEF).after(3) == bits


@pytest.mark.parametrize("bits", [1, 3, 5, 8, 11, 17, 32])
def test_the_integers_of_later_roundings(bits: int) -> None:
    """Those past the first 7 or 40, in the middle of a word or not; and the low bits of them."""
    whole = RandomBits(5, first=2).integers(3, 90, bits)
    for start in (0, 7, 40):
        past = replace(RandomBits(5, first=2), width=bits).past(3).past(start)
        assert np.array_equal(past.integers(3, 20, bits), whole[:, start + 3 : start + 23])
        assert np.array_equal(past.integers(3, 20, 1), whole[:, start + 3 : start + 23] & 1)
        assert past.begun == (start + 3) % (32 // bits)
        assert np.array_equal(part_of(whole, start + 3, 20, 1), past.integers(3, 20, 1))
    words = replace(RandomBits(5), width=bits).past(2 * (32 // bits))
    assert words.begun == 0
    assert np.array_equal(
        words.integers(9, 1, bits)[:, 0], _mixed(words.streams(9)) & np.uint32((1 << bits) - 1)
    )


def test_a_matrix_product_may_begin_at_a_later_rounding() -> None:
    unit = chain("e4m3", "sr", random_bits=5)
    a, b, c = operands(unit, 12)
    for start in (4, 6):
        seed = RandomBits(3, start=start)
        expected = unit.dot(a[:, None], b.T[None], c, random=seed)
        assert np.array_equal(unit.matmul(a, b, c, random=seed), expected)
        assert not np.array_equal(unit.matmul(a, b, c, random=RandomBits(3)), expected)


@pytest.mark.parametrize("bits", [1, 4, 8, 10])
def test_random_integers_look_random(bits: int) -> None:
    """Every value as often, in every field of a word; neighbours of both kinds uncorrelated."""
    drawn = RandomBits(1).integers(256, 240, bits).astype(np.int64)
    values, fields = 1 << min(bits, 4), 32 // bits
    for field in range(fields):
        counts = np.bincount(drawn[:, field::fields].reshape(-1) % values, minlength=values)
        mean = counts.sum() / values
        assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)
    centred = drawn - ((1 << bits) - 1) / 2
    variance = ((1 << 2 * bits) - 1) / 12
    for lag in (1, 2, fields):
        for shifted in (centred[lag:] * centred[:-lag], centred[:, lag:] * centred[:, :-lag]):
            assert abs(shifted.mean()) < 5 * variance / np.sqrt(shifted.size)


@pytest.mark.parametrize(("result", "bits"), [("e5m10", 8), ("e4m3fn", 8), ("e5m10", 10)])
def test_stochastic_sums_are_right_on_average(result: str, bits: int) -> None:
    """300 products that a nearest sum would mostly lose: the mean of many sums is the exact one.

    Random bits are cut off, not rounded, which makes a sum smaller by up to 2^-bits of its last
    place per step.
    """
    unit = chain(result, "sr", random_bits=bits)
    k, count, m = 300, 4096, float_format(result).mantissa_bits
    a = unit.a.encode(np.full((1, k), 0.5))
    b = unit.b.encode(np.tile([[0.5], [1.0], [1.5]], (k // 3, count)))
    scale = np.full((1, k), 127 - m, np.uint8)
    c = unit.result.encode(np.full((1, count), 16.0))
    sums = unit.result.decode(unit.matmul(a, b, c, a_scale=scale, random=RandomBits(3)))
    error = sums.mean() - (16 + k * 0.5 * 2.0**-m)
    deviation = 5 * sums.std() / np.sqrt(count)
    assert -k * 2.0 ** (5 - m - bits) - deviation < error < deviation
    # A term of f last places rounds up with probability f; above 32 places are twice as large.
    shares = np.tile([0.25, 0.5, 0.75], k // 3) / 16
    expected = np.sqrt(np.sum(shares * (1 - shares))) * 2.0 ** (4 - m)
    assert 0.95 < sums.std() / expected < (1.5 if m == 3 else 1.05)


@pytest.mark.parametrize("seed", [-1, 1 << 32, 1.5, True, "x"])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(FpsimError, match="seed"):
        RandomBits(seed)


@pytest.mark.parametrize(
    ("stage", "kernel"),
    [
        (_sr("e4m3fn", 5), "masked32-sr-normal-saturate-seeded"),
        (_sr("e5m10", 13, "saturate"), "masked32-sr-normal-inside-seeded"),
        (_sr("e5m10", 8), "masked32-sr-normal-inside-seeded-bytes"),
        (_sr("e5m10", 14), "masked64-sr-normal-inside-seeded"),
        (_sr("e5m10", 31), "masked64-sr-normal-inside-seeded"),
        (_sr("e4m3fn_flush", 3), "masked32-sr-flush-saturate-seeded"),
        (Fixed(12, 1, rounding=Rounding.SR, random_bits=4), "fixed64-sr-wrap-seeded"),
        (Fixed(12, 1, rounding=Rounding.SR, random_bits=32), "fixed64-sr-wrap-seeded"),
        (Block(4, _sr("e5m10", 10)), "bytes block4 masked32-sr-normal-inside-seeded"),
        (Block(4, _sr("e5m10", 8)), "bytes block4 masked32-sr-normal-inside-seeded-bytes"),
        (Exact(float_format("e4m3fn"), Rounding.SR, random_bits=6), "bytes block64 float"),
    ],
)
def test_a_seed_stands_for_its_integers(stage: Stage, kernel: str) -> None:
    unit = unit_of(stage)
    spec, k = unit.spec, 44
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 16, shape).astype(np.uint8) for shape in ((3, k), (k, 35)))
    c = np.arange(105).reshape(3, 35).astype(spec.initial.dtype)
    bits = RandomBits(77)
    integers = bits.integers(105, spec.roundings(k), spec.random_bits).reshape(3, 35, -1)
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)
    assert np.array_equal(unit.matmul(a, b, c, random=bits), expected)
    assert np.array_equal(unit.dot(a[:, None], b.T[None], c, random=bits), expected)
    if {"avx512f", "avx512vnni"} <= HOST:
        assert unit.plan(a, b, c=c, random=bits).kernel == kernel
    part = unit.matmul(a[1:], b, c[1:], random=bits.after(35))
    assert np.array_equal(part, expected[1:])


@AVX512
def test_stochastic_sums_small_enough_for_each_step() -> None:
    """Both sides of the bounds: sums below the smallest normal number, and the largest sum."""

    def kernel(result: str, shift: int, k: int, start: float, bits: int = 7) -> str:
        unit = chain(result, "sr", random_bits=bits)
        a = unit.a.encode(np.array([[6.0] * k, [-6.0] * k, [0.5] * k]))
        b = unit.b.encode(np.repeat([[6.0, 0.5]], k, 0))
        scale = np.full((3, 1), 127 + shift, np.uint8)
        more: dict[str, Any] = {} if shift == 0 else {"a_scale": scale}
        c = unit.result.encode(np.full((3, 2), start))
        random = np.full((3, 2, k), (1 << bits) - 1)  # away from zero where it can
        got = unit.matmul(a, b, c, random=random, **more)
        assert np.array_equal(got, oracle_matmul(unit, a, b, c, random=random, **more))
        return unit.plan(a, b, c=c, random=random, **more).kernel

    assert kernel("e5m10", -22, 5, 2.0**-24) == "masked32-sr-normal-inside"
    assert kernel("e5m10", -23, 5, 2.0**-24) == "masked32-sr"
    assert kernel("e4m3fn", -7, 5, 2.0**-9) == "masked32-sr-normal-inside"
    assert kernel("e4m3fn", -8, 5, 2.0**-9) == "masked32-sr-saturate"
    # 36 (u + 1) ((1 + u)^K - 1) / u with u = 2^-10 is 65432 at K = 1045, 65532 at 1046.
    assert kernel("e5m10", 0, 1045, 0.0) == "masked32-sr-normal-inside"
    assert kernel("e5m10", 0, 1046, 0.0) == "masked32-sr-normal"
    assert kernel("e5m10", 0, 1, 65376.0) == "masked32-sr-normal-inside"
    assert kernel("e5m10", 0, 1, 65408.0) == "masked32-sr-normal"
    assert kernel("e5m10", 0, 1, 65472.0) == "masked32-sr-normal"  # becomes infinite


@AVX512
@pytest.mark.parametrize(
    ("result", "bits", "kernel"),
    [
        ("e5m10", 16, "masked32-sr-normal-inside"),  # sums of 19 bits: nothing below float32's
        ("e5m10", 32, "masked32-sr-normal-inside"),
        ("e6m9", 16, "masked64-sr-normal-inside"),  # of 36 bits
        ("e8m7", 8, "masked32-sr-normal-inside"),  # bfloat16 overflows where float32 does
        ("e8m7", 16, "masked32-sr-normal-inside"),
        ("e8m7", 17, "masked64-sr-normal-inside"),
    ],
)
def test_many_random_bits(result: str, bits: int, kernel: str) -> None:
    """More than a float32 has below the last place, where it holds every sum exactly."""
    unit = chain(result, "sr", random_bits=bits)
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 16, (3, 40)), rng.integers(0, 16, (40, 5))
    c = unit.result.encode(rng.integers(-900, 900, (3, 5)) / 4.0)
    integers = RandomBits(2).integers(15, 40, bits).reshape(3, 5, 40)
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert unit.plan(a, b, c=c, random=RandomBits(2)).kernel == f"{kernel}-seeded"
    assert np.array_equal(unit.matmul(a, b, c, random=RandomBits(2)), expected)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)
    c[1, 1] = unit.result.encode([unit.result.max_value])[0]  # type: ignore[union-attr]
    c[2, 2] = unit.result.encode([2.0**-14])[0]
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)


@pytest.mark.skipif("avx512vnni" not in HOST, reason="needs AVX512-VNNI")
@pytest.mark.parametrize(("result", "bits", "adds"), [("e5m9", 8, True), ("e5m8", 8, False),
                                                      ("e5m9", 9, False), ("e5m15", 8, True)])  # fmt: skip
def test_random_bytes_that_a_dot_instruction_adds(result: str, bits: int, adds: bool) -> None:
    """Its factors are signed bytes: 2^6 at most."""
    unit = chain(result, "sr", random_bits=bits)
    a, b, c = operands(unit, 23)
    seed = RandomBits(5)
    kernel = unit.plan(a, b, c=c, random=seed).kernel
    assert kernel.endswith("-bytes") == adds
    expected = unit.dot(a[:, None], b.T[None], c, random=seed)
    assert np.array_equal(unit.matmul(a, b, c, random=seed), expected)


@AVX512
@pytest.mark.parametrize("policy", ["saturate", None])
def test_stochastic_rounding_in_float32_lanes_is_exhausted(policy: str | None) -> None:
    """Every accumulator, a product of each magnitude, every random integer of three bits."""
    unit = chain("e4m3fn", "sr", policy, random_bits=3)
    a = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 8, 0)
    c = np.repeat(a, 16, 1)
    random = np.tile(np.arange(8, dtype=np.uint8), 256)[:, None, None]
    random = np.broadcast_to(random, (2048, 16, 1))
    b = np.arange(16, dtype=np.uint8)[None]
    for code in (1, 7):
        a = np.full((2048, 1), code, np.uint8)
        for shift in (0, -6, -10):
            scale = np.full((2048, 1), 127 + shift, np.uint8)
            got = unit.matmul(a, b, c, a_scale=scale, random=random)
            dots = unit.dot(a[:, None], b.T[None], c, a_scale=scale[:, None], random=random)
            assert np.array_equal(got, dots)
    assert unit.plan(a, b, c=c, random=random).kernel.startswith("masked32-sr-normal")
    kernel = unit.plan(a, b, c=c, a_scale=scale, random=random).kernel
    assert kernel.startswith("masked32-sr") and "normal" not in kernel
    assert get_format("e4m3fn").bits == 8
