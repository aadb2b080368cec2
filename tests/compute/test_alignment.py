# SPDX-License-Identifier: Apache-2.0
"""Accumulator and product at every distance: where a kernel's proof that it rounds once ends."""

from __future__ import annotations

import numpy as np
import pytest
from support.helpers import DETERMINISTIC, by_default, chain, oracle_matmul
from support.kernel_cases import operands
from support.machines import MACHINES, On

from fpsim import FixedFormat, FloatFormat, MacUnit, get_unit
from fpsim.kernels.llvm.machine import Machine

pytestmark = pytest.mark.usefixtures("one_thread")

AVX512 = Machine(frozenset({"f16c", "avx512f"}))


def alignment_sweep(unit: MacUnit, distances: range, machine: Machine = MACHINES["this"]) -> None:
    """Try every distance of exponents, in which double rounding and lost sticky bits show.

    Accumulators have even, odd, smallest and largest significands around one; products all
    significands, moved by 2^distance in both directions.
    """
    fmt = unit.result
    assert isinstance(fmt, FloatFormat)
    one = int(fmt.encode([1.0])[0])
    m = fmt.mantissa_bits
    magnitudes = {one, one + 1, one + 2, one + 3, one + (1 << m) - 1, one - 1, one + (1 << m) // 2}
    c = np.array(sorted(magnitudes | {x + fmt.sign_bit for x in magnitudes}))
    if isinstance(unit.a, FixedFormat):  # products with many bits
        a, b = np.array([1, 1025, 2047, 3071]), np.array([1, 3, 1025, 2047, 2049, 4093])
        first = -20
    else:
        a, b = np.array([2, 3]), np.array([2, 3, 5, 7, 11, 15])
        first = 0
    rows = np.repeat(a, len(distances))[:, None]
    scale = np.tile(np.array(distances) + first + 127, a.size)[:, None]
    columns = np.repeat(b, c.size)[None, :]
    start = np.broadcast_to(np.tile(c, b.size), (rows.size, columns.size))
    expected = oracle_matmul(unit, rows, columns, start, scale)
    assert np.array_equal(On(unit, machine).matmul(rows, columns, start, scale), expected)
    dots = unit.dot(rows[:, None], columns.T[None], start, scale[:, None])
    assert np.array_equal(dots, expected)


NEAR = range(-30, 31)
FAR = range(-62, 63, 2)


@pytest.mark.slow
@pytest.mark.parametrize("operand", ["e2m1", "int12"])
@pytest.mark.parametrize("features", ["this", "f16c", "none"])
def test_alignment_in_half_precision(features: str, operand: str) -> None:
    """E5M10 by float16 fused multiply-add, by float32 and conversion, and by integer lanes.

    A product of two INT12 has 22 bits: float32 and then float16 would round it twice.
    """
    alignment_sweep(chain("e5m10", a=operand), range(-26, 15), MACHINES[features])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operand", "kernel", "away"),
    [
        ("e8m3", "e2m1", "magic32-rne", "lane32-rna"),  # q = P = 4
        ("e8m2", "e2m1", "magic32-rne-odd", "lane32-rna-sticky"),  # q = P + 1: perhaps a tie
        ("e8m10", "e2m1", "magic32-rne", "lane32-rna"),  # 2P = 22 <= 23
        ("e8m11", "e2m1", "magic32-rne-odd", "lane32-rna-sticky"),  # 2P = 24
        ("e8m21", "e2m1", "magic32-rne-odd", "lane32-rna-sticky"),  # P + 2 = 24
        ("e8m22", "e2m1", "lane64-rne", "lane64-rna"),  # P + 2 = 25
        ("e8m23", "e2m1", "float", "lane64-rna"),
        ("e8m10", "int12", "magic32-rne-odd", "lane32-rna-sticky"),  # q = 22 > P
        ("e8m21", "int12", "magic32-rne-odd", "lane32-rna-sticky"),  # q = P, but 2P = 44
        ("e8m22", "int12", "lane64-rne", "lane64-rna"),  # q = 22 <= P = 23
        ("e9m2", "int12", "lane64-rne-sticky", "lane64-rna-sticky"),
    ],
)
def test_alignment_at_the_boundary_of_each_lemma(
    name: str, operand: str, kernel: str, away: str
) -> None:
    for rounding, expected in (("rne", kernel), ("rna", away)):
        unit = chain(name, rounding, a=operand)
        assert On(unit, AVX512).plan(np.array([[1]]), np.array([[1]])).kernel == expected
        alignment_sweep(unit, NEAR)
    if "lane64" in kernel or kernel == "float":
        alignment_sweep(chain(name, a=operand), FAR)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("rounding", ["rtz", "rup", "rdn", "rto"])
@pytest.mark.parametrize("name", by_default(["e8m2", "e8m10", "e8m21", "e8m22", "e8m23"], ["e8m2"]))
def test_alignment_in_directed_modes(name: str, rounding: str) -> None:
    """The last bit of the exact sum decides, however far below it lies."""
    unit = chain(name, rounding)
    width = "lane64" if name in ("e8m22", "e8m23") else "lane32"
    wide = unit.result.exponent_max > 125  # type: ignore[union-attr]
    kernel = f"{'lane64' if wide else width}-{rounding}-sticky"
    if name == "e8m23" and rounding != "rto":
        kernel = f"float-{rounding}"
    if width == "lane32" and rounding == "rtz":
        kernel = "magic32-rtz"
    assert On(unit, AVX512).plan([[1]], [[1]]).kernel == kernel
    alignment_sweep(unit, NEAR)
    alignment_sweep(chain(name.replace("e8", "e7"), rounding), NEAR)


@pytest.mark.parametrize(
    ("name", "rounding"), [("e7m21", "rtz"), ("e7m22", "rup"), ("e7m22", "sr")]
)
def test_magic_numbers_need_two_spare_bits(name: str, rounding: str) -> None:
    unit = chain(name, rounding, random_bits=int(rounding == "sr"))
    arguments = operands(unit, range(-6, 3), (8, 4, 40))
    kernel = On(unit, AVX512).plan(**arguments).kernel
    assert kernel.startswith("shifted32") == (name == "e7m21")
    assert np.array_equal(unit.matmul(**arguments), oracle_matmul(unit, **arguments))


def test_a_tie_beside_a_tiny_accumulator() -> None:
    """2.25 is a tie for three significant bits; an accumulator of 2^-100 must break it.

    The float32 sum cannot hold both, so rounding it to nearest would leave the tie.
    """
    unit = chain("e8m2")
    fmt = unit.result
    tiny = fmt.encode([2.0**-100, -(2.0**-100), 0.0])
    codes = unit.matmul([[3]], [[3, 3, 3]], tiny[None, :])
    assert fmt.decode(codes).tolist() == [[2.5, 2.0, 2.0]]
    down = unit.matmul([[11]], [[3, 3, 3]], tiny[None, :])
    assert fmt.decode(down).tolist() == [[-2.0, -2.5, -2.0]]


def test_sums_at_the_end_of_float32() -> None:
    """Accumulators that reach 2^128 and products that reach 2^127, every rounding and policy."""
    for name in ("e8m7", "e8m10", "e8m23"):
        for rounding in DETERMINISTIC:
            for overflow in ("inf", "saturate", "nan"):
                unit = chain(name, rounding, overflow)
                top = unit.result.max_code  # type: ignore[union-attr]
                magnitudes = np.array([0, top - 1, top, top - (1 << 7), top + 1])
                c = np.concatenate([magnitudes, magnitudes + unit.result.sign_bit])  # type: ignore[union-attr]
                rows = np.array([[7], [7], [15], [1], [7]])
                scale = np.array([[127 + s] for s in (121, 122, 121, 100, 124)])
                columns = np.full((1, c.size), 7)
                start = np.broadcast_to(c, (5, c.size))
                expected = oracle_matmul(unit, rows, columns, start, scale)
                assert np.array_equal(unit.matmul(rows, columns, start, scale), expected), unit.name


def test_sums_at_the_bottom_of_float32() -> None:
    """Subnormal accumulators of E8M23 and products around 2^-149, where lanes could flush."""
    for rounding in DETERMINISTIC:
        unit = chain("e8m23", rounding)
        c = np.array([0, 1, 2, 3, 0x7FFFFF, 0x800000, 0x800001])
        c = np.concatenate([c, c + (1 << 31)])
        rows = np.array([[1], [7], [11], [2], [1], [3]])
        scale = np.array([[s] for s in (0, 1, 2, 3, 8, 0)])
        columns = np.full((1, c.size), 1)
        for b_scale in (127, 110, 100):
            scales = (scale, np.full((1, c.size), b_scale))
            start = np.broadcast_to(c, (6, c.size))
            expected = oracle_matmul(unit, rows, columns, start, *scales)
            assert np.array_equal(unit.matmul(rows, columns, start, *scales), expected)


@pytest.mark.parametrize("groups", [1, 6, 7])
def test_blocks_that_only_fill_a_window_up_have_no_exponent(groups: int) -> None:
    """Small scales: an exponent of 0 in the padding would shift every term out of the window."""
    unit, rng = get_unit("e2m1-block32-into-aligned4f10-e8m13"), np.random.default_rng(0)
    a, b = rng.integers(0, 16, (3, 32 * groups)), rng.integers(0, 16, (32 * groups, 5))
    x, y = rng.integers(80, 95, (3, groups)), rng.integers(80, 95, (groups, 5))
    plan = unit.plan(a, b, a_scale=x, b_scale=y)
    assert plan.step is not None and plan.step.powers
    found = unit.matmul(a, b, a_scale=x, b_scale=y)
    assert np.array_equal(found, oracle_matmul(unit, a, b, a_scale=x, b_scale=y))
    # Without any scale of a, the scales of b alone say how large a term is.
    found = unit.matmul(a, b, b_scale=y)
    assert np.array_equal(found, oracle_matmul(unit, a, b, b_scale=y))
