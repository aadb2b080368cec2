# SPDX-License-Identifier: Apache-2.0
"""Blocks with a shared scale: OCP MX v1.0 in exact rationals, and ml_dtypes as a second opinion."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import as_number

from fpsim import BlockFormat, FloatFormat, FpsimError, Overflow, Rounding, get_block_format, oracle
from fpsim.blocks.block_format import BLOCK_FORMATS, Quantized, ScaleRule

pytestmark = pytest.mark.usefixtures("one_thread")

#: Floats of OCP MX, cast in float64; `test_blocks` and `test_grids` have their relatives.
MX_FORMATS = [
    name
    for name, fmt in BLOCK_FORMATS.items()
    if name.startswith("mx") and not (fmt.is_coded or fmt.macro)
    if isinstance(fmt.element, FloatFormat)
]
RULES = [ScaleRule.FLOOR, ScaleRule.RCEIL, ScaleRule.CEIL, ScaleRule.EVEN]
MX = get_block_format("mxfp4")


# -- a reference in exact rationals --------------------------------------------------------------


def floor_log2(x: Fraction) -> int:
    """Return e with 2^e <= x < 2^(e+1), from integers."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def scale_exponent(amax: Fraction, rule: str, element: FloatFormat) -> int:
    """Return the exponent of the shared scale, not clamped (OCP MX 6.3 and its variants)."""
    largest = Fraction(element.max_value)
    element_exponent = floor_log2(largest)
    if rule == "floor":
        return floor_log2(amax) - element_exponent
    if rule == "rceil":  # ceil(log2(amax / largest power)): nothing exceeds the largest element
        e = floor_log2(amax) - element_exponent - 2
        while amax > largest * Fraction(2) ** e:
            e += 1
        return e
    if rule == "ceil":
        e = floor_log2(amax) - element_exponent - 2
        while amax > Fraction(2) ** (e + element_exponent):
            e += 1
        return e
    assert rule == "even"  # amax rounded to the element's precision, ties away, before its floor
    unit = Fraction(2) ** (floor_log2(amax) - element.mantissa_bits)
    rounded = unit * ((amax / unit + Fraction(1, 2)) // 1)
    return floor_log2(rounded) - element_exponent


def reference(fmt: BlockFormat, x: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return element codes and scale codes of one row."""
    codes: list[int] = []
    scales: list[int] = []
    for start in range(0, x.size, fmt.block):
        block = [float(v) for v in x[start : start + fmt.block]]
        if not np.isfinite(block).all():
            scales.append(255)
            codes += [0] * len(block)
            continue
        amax = max(abs(Fraction(v)) for v in block)
        exponent = -127
        if amax:
            exponent = scale_exponent(amax, fmt.rule, fmt.element)
            exponent = min(max(exponent, -127), 127)
        scales.append(exponent + 127)
        for v in block:
            number = as_number(v)
            assert number.magnitude is not None
            scaled = oracle.Number(number.negative, number.magnitude / Fraction(2) ** exponent)
            codes.append(oracle.encode(scaled, fmt.element, fmt.rounding, Overflow.SATURATE))
    return codes, scales


def check(fmt: BlockFormat, x: Any) -> None:
    """Compare a row with the reference, alone and, where float32 holds it, in a large array.

    Large float32 arrays of whole blocks take another kernel.
    """
    row = np.asarray(x)
    codes, scales = reference(fmt, row)
    quantized = fmt.quantize(row)
    assert quantized.scales.tolist() == scales, f"{fmt.rule}: {row.tolist()}"
    assert quantized.codes.tolist() == codes, f"{fmt.rule}: {row.tolist()}"
    with np.errstate(over="ignore", invalid="ignore"):
        single = row.astype(np.float32)
    if row.size > fmt.block or not np.array_equal(single, row, equal_nan=True):
        return
    whole = np.zeros((64, fmt.block), dtype=np.float32)
    whole[3, : row.size] = single
    many = fmt.quantize(whole)
    assert many.scales[3].tolist() == scales, f"{fmt.rule}, many: {row.tolist()}"
    assert many.codes[3, : row.size].tolist() == codes, f"{fmt.rule}, many: {row.tolist()}"
    assert not np.delete(many.scales, 3).any()
    assert not np.delete(many.codes, 3, axis=0).any()


#: Blocks where other libraries go wrong, and the ends of everything.
EDGE_BLOCKS: dict[str, list[float]] = {
    "amax just below a power of two": [7.9999995, 0.5, 0.25],  # log2 in float32 says 3
    "amax a power of two": [8.0, 0.5, 0.25],
    "amax just above a power of two": [8.000001, 1.0, 0.5],
    "amax at the largest element": [6.0, 0.75, 0.25],
    "amax just above the largest element": [6.0000005, 5.0, 0.25],
    "amax at the even rule's tie": [7.0, 3.5, 1.75],
    "amax just below the even rule's tie": [6.9999995, 3.5, 1.75],
    "all zero": [0.0, 0.0, 0.0],
    "negative zeros": [-0.0, -0.0, 0.0],
    "negative zero beside numbers": [-0.0, 1.0, -1e-30],
    "float32 subnormals": [1e-40, 5e-41, -1e-45],
    "smallest float32 normal": [2.0**-126, 2.0**-127, 2.0**-128],
    "scale at its lower end": [2.0**-125, 2.0**-126, 2.0**-124],
    "scale below its lower end": [2.0**-130, 1.5 * 2.0**-128, 2.0**-200],
    "far below": [2.0**-200, 2.0**-300, -(2.0**-1074)],
    "largest float32": [3.4028234663852886e38, 1e38, 1.0],
    "scale at its upper end": [2.0**129, 2.0**128, 2.0**126],
    "scale above its upper end": [2.0**130, 6.0 * 2.0**127, 7.0 * 2.0**127],
    "far above": [2.0**200, -(2.0**1000), 1.0],
    "huge beside tiny": [2.0**100, 2.0**-100, -(2.0**97)],
    "every tie": [4.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, -0.25, -2.5],
    "beside the ties": [4.0, 0.25000006, 0.24999999, 1.2500001, 2.4999998, 3.5000002],
    "nan": [1.0, float("nan"), 2.0],
    "infinity": [1.0, float("inf"), 2.0],
    "negative infinity": [float("-inf"), 0.0],
    "one element": [3.0],
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("what", EDGE_BLOCKS)
@pytest.mark.parametrize("name", MX_FORMATS)
def test_edge_blocks(name: str, what: str, rule: str) -> None:
    check(get_block_format(name).with_rule(rule), EDGE_BLOCKS[what])


@pytest.mark.parametrize("rounding", [r for r in Rounding if r is not Rounding.SR])
def test_edge_blocks_in_every_rounding(rounding: Rounding) -> None:
    """Also -(2^-1074) under a scale of 2^127: what float64 cannot hold still rounds up or down."""
    for rule in RULES:
        fmt = BlockFormat("test", MX.element, 32, rule, rounding)
        for block in EDGE_BLOCKS.values():
            check(fmt, block)
        check(fmt, [2.0**200, 2.0**-1000, -(2.0**-1074)])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["mxfp4", "mxfp6-e2m3", "mxfp8-e4m3"])
def test_one_ulp_beside_every_boundary_of_the_scale(name: str, rule: str) -> None:
    """float32 values up to 8 ulp from powers of two, and from 1.5, 1.75, 1.875 and L times them."""
    fmt = get_block_format(name).with_rule(rule)
    significand = fmt.element.max_value / 2.0**fmt.element.exponent_max
    for exponent in (-126, -120, -10, -1, 0, 1, 2, 60, 120, 126):
        for factor in (1.0, 1.5, 1.75, 1.875, significand):
            start = np.float32(factor * 2.0**exponent)
            for toward in (np.float32(0), np.float32(np.inf)):
                value = start
                for _ in range(8):
                    check(fmt, np.array([value, value / 3], dtype=np.float32))
                    value = np.nextafter(value, toward)


#: The reference notes' table: amax, and the exponent under floor, rceil, ceil, even.
TABLE = [
    (4.0, (0, 0, 0, 0)),
    (5.0, (0, 0, 1, 0)),
    (6.0, (0, 0, 1, 0)),
    (6.01, (0, 1, 1, 0)),
    (6.99, (0, 1, 1, 0)),
    (7.0, (0, 1, 1, 1)),
    (8.0, (1, 1, 1, 1)),
]


@pytest.mark.parametrize(("amax", "exponents"), TABLE)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scale_rules_of_the_reference_table(
    amax: float, exponents: tuple[int, ...], dtype: Any
) -> None:
    for power in (-10, 0, 3):
        x = np.array([0.0, -amax * 2.0**power, amax * 2.0 ** (power - 2)]).astype(dtype)
        for rule, exponent in zip(("floor", "rceil", "ceil", "even"), exponents, strict=True):
            scale = MX.with_rule(rule).quantize(x).scales
            assert scale.tolist() == [127 + exponent + power], (rule, power)


def test_what_each_rule_promises() -> None:
    """amax / X in [4, 8), (3, 6], (2, 4], [3.5, 7): the ranges of the reference notes."""
    amax = np.random.default_rng(0).uniform(1, 1000, 4000)
    bounds = {"floor": (4, 8), "rceil": (3, 6), "ceil": (2, 4), "even": (3.5, 7)}
    for rule, (low, high) in bounds.items():
        scales = MX.with_rule(rule).quantize(amax[:, None]).scales[:, 0]
        ratio = amax / np.ldexp(1.0, scales.astype(int) - 127)
        assert (ratio >= low).all()
        assert (ratio <= high).all()


finite32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
moderate = st.builds(lambda m, e: float(np.ldexp(m, e - 20)), st.integers(-(1 << 22), 1 << 22), st.integers(-8, 8))  # fmt: skip


@given(
    st.sampled_from(sorted(MX_FORMATS)),
    st.sampled_from(RULES),
    st.integers(1, 5),
    st.lists(st.one_of(moderate, finite32, st.floats()), min_size=1, max_size=12),
)
def test_any_block(name: str, rule: str, block: int, values: list[float]) -> None:
    base = get_block_format(name)
    check(BlockFormat("test", base.element, block, ScaleRule(rule)), np.array(values))


# -- ml_dtypes as a second opinion ---------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), [("mxfp4", "float4_e2m1fn"), ("mxfp6-e2m3", "float6_e2m3fn"), ("mxfp6-e3m2", "float6_e3m2fn")])  # fmt: skip
def test_floor_rule_against_ml_dtypes(name: str, dtype: str) -> None:
    """Exponent bits by frexp, division by a power of two, rounding by ml_dtypes."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    fmt = get_block_format(name)
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(64, 96)) * 2.0 ** rng.integers(-30, 30, (64, 1))).astype(np.float32)
    blocks = x.reshape(64, 3, 32)
    exponent = np.frexp(np.abs(blocks).max(axis=-1))[1] - 1 - fmt.element.exponent_max
    scaled = np.ldexp(blocks, -exponent[..., None])
    theirs = scaled.astype(getattr(ml_dtypes, dtype)).view(np.uint8).reshape(64, 96)
    quantized = fmt.quantize(x)
    assert np.array_equal(quantized.scales, exponent + 127)
    assert np.array_equal(quantized.codes, theirs)


def test_floor_rule_against_gfloat() -> None:
    """gfloat quantizes one block at a time; in float64 its log2 is right on this data."""
    gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
    formats = pytest.importorskip("gfloat.formats", reason="gfloat is not installed")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 32)) * 2.0 ** rng.integers(-20, 20, (40, 1))
    ours = MX.dequantize(MX.quantize(x))
    for row, values in zip(x, ours, strict=True):
        theirs = gfloat.quantize_block(
            formats.format_info_mxfp4_e2m1, row, gfloat.block.compute_scale_amax
        )
        assert np.array_equal(values, theirs)


# -- shapes, axes, special values ----------------------------------------------------------------


def test_just_below_a_power_of_two() -> None:
    """The published mistake: floor(log2(7.9999995)) in float32 is 3, one exponent too high."""
    quantized = MX.quantize(np.array([7.9999995, 0.5, 0.25], dtype=np.float32))
    assert quantized.scales.tolist() == [127]
    assert MX.dequantize(quantized).tolist() == [6.0, 0.5, 0.0]
    shifted = MX.quantize(np.array([7.9999995, 0.5, 0.75], dtype=np.float32))
    assert MX.dequantize(shifted).tolist() == [6.0, 0.5, 1.0]


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 70])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_blocks_run_along_any_axis(axis: int, length: int) -> None:
    """The last block may be partial, and holds only its own elements' maximum."""
    shape = [2, 3, 4]
    shape[axis] = length
    x = np.random.default_rng(length).normal(size=shape) * 8
    quantized = MX.quantize(x, axis=axis)
    groups = list(shape)
    groups[axis] = -(-length // 32)
    assert quantized.codes.shape == tuple(shape)
    assert quantized.scales.shape == tuple(groups)
    values = np.moveaxis(MX.dequantize(quantized), axis, -1).reshape(-1, length)
    rows = np.moveaxis(x, axis, -1).reshape(-1, length)
    for row, value in zip(rows, values, strict=True):
        alone = MX.quantize(row)
        assert np.array_equal(MX.dequantize(alone), value)
        for start in range(0, length, 32):
            part = MX.quantize(row[start : start + 32])
            assert np.array_equal(MX.dequantize(part), value[start : start + 32])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 32), (0, 0)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    quantized = MX.quantize(np.zeros(shape))
    assert quantized.codes.shape == shape
    assert MX.dequantize(quantized).shape == shape


def test_a_scale_is_not_infected_by_its_neighbour() -> None:
    x = np.ones((2, 96))
    x[0, 40], x[1, 95] = np.nan, -np.inf
    quantized = MX.quantize(x)
    assert quantized.scales.tolist() == [[125, 255, 125], [125, 125, 255]]
    assert (quantized.codes[0, 32:64] == 0).all()
    values = MX.dequantize(quantized)
    assert np.isnan(values[0, 32:64]).all()
    assert (values[0, :32] == 1).all()
    assert np.isnan(values[1, 64:]).all()
    with pytest.raises(FpsimError, match="row 0"):
        MX.quantize(x, nan="error")
    with pytest.raises(FpsimError, match="row 1"):
        MX.quantize(np.vstack([np.ones(96), x[1]]), nan="error")


def test_negative_zero_and_zero_blocks() -> None:
    x = np.zeros(64)
    x[:2] = -0.0, 0.0
    x[32:34] = -0.0, 3.0
    quantized = MX.quantize(x)
    assert quantized.scales.tolist() == [0, 126]
    assert quantized.codes[:3].tolist() == [8, 0, 0]
    assert quantized.codes[32:35].tolist() == [8, 7, 0]
    assert np.signbit(MX.dequantize(quantized)[[0, 32]]).all()


def test_dequantize_is_exact_to_the_ends_of_the_scale() -> None:
    codes = np.arange(16, dtype=np.uint8)
    for scale in (0, 1, 127, 253, 254):
        values = MX.dequantize(Quantized(codes, np.array([scale], dtype=np.uint8), 0))
        expected = MX.element.decode(codes) * 2.0 ** (scale - 127)
        assert np.array_equal(values, expected)
        assert np.array_equal(np.signbit(values), np.signbit(expected))
    nan = MX.dequantize(Quantized(codes, np.array([255], dtype=np.uint8), 0))
    assert np.isnan(nan).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX_FORMATS)
def test_quantizing_again_changes_nothing(name: str, rule: str) -> None:
    """Values of a block format are fixed points of its rule, whatever scale they came from."""
    fmt = get_block_format(name).with_rule(rule)
    x = np.random.default_rng(3).normal(size=(50, 64)) * 2.0 ** np.arange(-25, 25)[:, None]
    once = fmt.dequantize(fmt.quantize(x))
    assert np.array_equal(fmt.dequantize(fmt.quantize(once)), once)


def test_a_power_of_two_moves_only_the_scale() -> None:
    x = np.random.default_rng(4).normal(size=(20, 64))
    for rule in RULES:
        fmt = MX.with_rule(rule)
        plain = fmt.quantize(x)
        for shift in (-40, -1, 1, 40):
            moved = fmt.quantize(np.ldexp(x, shift))
            assert np.array_equal(moved.codes, plain.codes)
            assert np.array_equal(moved.scales.astype(int), plain.scales.astype(int) + shift)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
def test_input_types(dtype: str) -> None:
    x = np.array([0.5, 6.0, -1.25, 3.0]).astype(dtype)
    quantized = MX.quantize(x)
    assert MX.dequantize(quantized).tolist() == [0.5, 6.0, -1.0, 3.0]
    assert quantized.codes.dtype == np.uint8
    assert quantized.scales.dtype == np.uint8


def test_strided_input() -> None:
    x = np.random.default_rng(5).normal(size=(64, 8))
    expected = MX.quantize(x.T.copy())
    for view in (x.T, x[:, ::1].T, np.asfortranarray(x.T)):
        assert np.array_equal(MX.quantize(view).codes, expected.codes)


@pytest.mark.sweep
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a processor of x86")
def test_blocks_of_a_wider_register_than_the_processor_has() -> None:
    """Sixteen floats are one register of AVX-512, whose instructions AVX2 must not be given."""
    program = (
        "import sys, numpy as np; from fpsim import BlockFormat\n"
        "x = np.random.default_rng(3).standard_normal((4, 512), dtype=np.float32)\n"
        "for scale, rule in (('e8m0', 'floor'), ('e5m2', 'absmax')):\n"
        "    fields = dict(name='mine', element='e2m1', block=16, scale=scale, rule=rule)\n"
        "    cast = BlockFormat.from_dict(fields).quantize(x)\n"
        "    sys.stdout.write(cast.codes.tobytes().hex() + cast.scales.tobytes().hex())"
    )
    command = [sys.executable, "-c", program]
    narrow = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3"}
    codes = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        for environment in (os.environ, narrow)
    ]
    assert codes[0] == codes[1]
    assert len(codes[0]) == 2 * 2 * 4 * (512 + 32)
