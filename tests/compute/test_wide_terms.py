# SPDX-License-Identifier: Apache-2.0
"""Terms of more than 53 bits: E5M2 in blocks, float32 scales on both sides, and their parts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import by_default

from fpsim import FpsimError, MacUnit, get_unit, oracle
from fpsim.cmodel import export_c
from fpsim.compute.scalar.wide_terms import terms_to_odd
from fpsim.kernels.scalar.wide_terms import block_parts, product_parts
from fpsim.studies.order import study as order_study
from fpsim.studies.sizing import study

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = [
    "e5m2-block32-into-chain-e8m23",
    "e5m2-block8-into-chain-e5m10-rdn",
    "e5m2.e8m23.split-block8-into-chain-e8m23",
    "e4m3.e8m23-chain-e8m23",
    "e5m2-block8-into-tree4-e8m7-rup",
    "int8.e8m23-aligned4f20-e8m23",
    "e5m2-block8-into-aligned4f15-e8m23-by.rne",
    "e5m2-block8-into-fixed24q3-rne",
    "e5m10.e8m23-tree-e8m7-radix3-leaf",
    "e5m10.e8m0.splitxe4m3.e8m0.split-block64-into-chain-e8m23",
]
UNITS = [
    *QUICK,
    "e5m2-block8-to-e8m7-into-chain-e8m23",
    "e5m2-block8-to-e8m23-into-chain-e8m23",
    "e5m2-block8-nanzero-into-chain-e8m23",
    "e5m2-block32-into-exact-e8m23",
    "e4m3.e8m23-exact-e5m10-rdn",
    "e4m3.e8m23-chain-e5m10-rounded",
    "e4m3.e8m23-chain-e5m10-sr8",
    "e4m3.e8m23-fixed40q10-sr6-saturate",
    "e5m10.e8m23-tree8-e8m7-lanes2-fused",
    "e5m10.e8m23-tree-e8m7-rounded",
    "e5m2-block8-into-fixed64q20",
    "e5m2-block8-into-fixed52q10-rup-saturate-end",
    "e5m2-block8-into-fixed48q6-rdn-to-e8m23",
    "e5m2.e8m23-fixed50q10-rto-saturate",
    "e5m2.ue4m3xe4m3.e5m2-block16-into-chain-e5m10-rup",
    "e5m2xe5m2.e5m2.split-block8-into-chain-e8m13",
    "e5m2-block8-into-aligned2f12-e8m13-late-in.e8m23",
    "e5m2-chunked16-of-block8-into-chain-e8m13-into-tree-e8m23",
    "e5m10-block4-into-chain-e8m23",
    "e8m7-block4-into-chain-e8m23",
]
KINDS = ("usual", "wild", "any codes", "zeros")
#: Fixed point has no code for NaN, which any codes make.
CASES = [(n, k) for n in UNITS for k in KINDS if k != "any codes" or "fixed" not in n]
QUICK_CASES = [(name, kind) for name, kind in CASES if name in QUICK]


def _values(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    values = rng.normal(size=shape)
    if kind != "usual":
        values = values * np.exp2(rng.integers(-14, 14, shape))
    if kind == "zeros":
        values = np.where(rng.random(shape) < 0.8, np.copysign(0.0, values), values)
    return values


def _operand(unit: MacUnit, name: str, kind: str, shape: tuple[int, ...], rng: Any) -> Any:
    fmt = getattr(unit, name)
    if kind != "any codes":
        return fmt.encode(_values(kind, shape, rng), "rne", "saturate")
    codes = rng.integers(0, 1 << fmt.bits, shape).astype(fmt.dtype)
    special = ~np.isfinite(fmt.decode(codes)) & (rng.random(shape) < 0.9)
    return np.where(special, 0, codes).astype(fmt.dtype)


def _operands(unit: MacUnit, kind: str, m: int, n: int, k: int, seed: int) -> dict[str, Any]:
    """Return arguments of `MacUnit.matmul`."""
    rng = np.random.default_rng(seed)
    spec = unit.spec
    a, b = _operand(unit, "a", kind, (m, k), rng), _operand(unit, "b", kind, (k, n), rng)
    block = 8 if spec.block is None else spec.block.size
    groups = -(-k // block)
    found: dict[str, Any] = {"a": a, "b": b, "block": block}
    for name, shape in (("a", (m, groups)), ("b", (groups, n))):
        scale = getattr(spec, f"{name}_scale")
        full = (*shape, 2) if spec.splits(name) else shape
        values = np.exp2(rng.integers(-6, 6, full))
        if scale.mantissa_bits:
            values = rng.normal(size=full) * values
        codes = scale.encode(values if scale.signed else np.abs(values), "rtz", "saturate")
        if kind == "any codes" and scale.nan_code is not None and spec.result.nan_code is not None:
            codes = np.where(rng.random(full) < 0.02, scale.nan_code, codes).astype(codes.dtype)
        found[f"{name}_scale"] = codes
    start = _values(kind, (m, n), rng) * 2.0 ** rng.integers(-3, 12)
    found["c"] = spec.initial.encode(start, "rtz", "saturate")
    if spec.random_bits:
        size = (m, n, spec.roundings(k))
        found["random"] = rng.integers(0, 1 << spec.random_bits, size)
    return found


def _as_dots(args: dict[str, Any]) -> dict[str, Any]:
    """Return the same as M * N dot products."""
    m, n = args["a"].shape[0], args["b"].shape[1]
    dots = dict(args)
    for name in ("a", "a_scale"):
        dots[name] = np.repeat(args[name][:, None], n, axis=1)
    for name in ("b", "b_scale"):
        dots[name] = np.repeat(np.moveaxis(args[name], 1, 0)[None], m, axis=0)
    return dots


@pytest.mark.one_in(9)
@pytest.mark.parametrize(("name", "kind"), by_default(CASES, QUICK_CASES))
def test_kernels_equal_the_oracle(name: str, kind: str) -> None:
    unit = get_unit(name)
    dots = _as_dots(_operands(unit, kind, 3, 5, 48, 1))
    expected = oracle.dot(unit, **dots)
    np.testing.assert_array_equal(unit.dot(**dots), expected)
    assert np.unique(expected).size > (3 if kind in ("usual", "wild") else 0)


@pytest.mark.one_in(9)
@pytest.mark.parametrize(("name", "kind"), by_default(CASES, QUICK_CASES))
def test_lanes_equal_scalar_code(name: str, kind: str) -> None:
    unit = get_unit(name)
    for k in (32, 72):
        args = _operands(unit, kind, 9, 21, k, 2)
        np.testing.assert_array_equal(unit.matmul(**args), unit.dot(**_as_dots(args)))


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("e5m2-block32-into-chain-e8m23", "block32 tree-2-radix3-fused"),
        ("e4m3.e8m23-chain-e8m23", "tree-1-"),
        ("e4m3.e8m23-chain-e5m10", "tree-1-radix6-wide"),
        ("e4m3.e8m23-exact-e8m23", "slice64-wide"),
        ("e5m2.e8m23.split-block8-into-chain-e5m10", "block8 tree-2-radix6-wide"),
    ],
)
def test_wide_terms_run_in_lanes(name: str, kernel: str) -> None:
    unit = get_unit(name)
    args = _operands(unit, "wild", 8, 16, 64, 3)
    plan = unit.plan(args.pop("a"), args.pop("b"), **args)
    assert plan.kernel.startswith(kernel)
    assert "bits" in plan.why


@pytest.mark.parametrize("align", ["rne", "rto", "rup"])
def test_what_lies_below_53_bits_decides_an_alignment(align: str) -> None:
    """2^24 + 2^-16 + 2^-32 - 2^24 on multiples of 2^-15: one of them, by its last bit."""
    unit = get_unit(f"e5m2-block4-into-aligned2f15-e8m23-by.{align}")
    for half in (2.0**-8, 0.0):
        a = unit.a.encode(np.array([2.0**12, half, 2.0**-16, 0.0, 2.0**12, 0.0, 0.0, 0.0]))
        b = unit.a.encode(np.array([2.0**12, half, 2.0**-16, 0.0, -(2.0**12), 0.0, 0.0, 0.0]))
        found = unit.dot(a, b)
        assert found == oracle.dot(unit, a, b)
        expected = 2.0**-15 if half or align != "rne" else 0.0
        assert unit.result.decode(found.reshape(1))[0] == expected


def test_a_term_far_below_the_window_is_rounded_up() -> None:
    unit = get_unit("e5m2-block4-into-aligned2f15-e8m23-by.rup")
    a = unit.a.encode(np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    scale = np.array([127 + 50, 127 - 50])
    found = unit.dot(a, a, a_scale=scale, block=4)
    assert unit.result.decode(found.reshape(1))[0] == 2.0**50 + 2.0 ** (50 - 15)


def test_a_leaf_of_minus_zero_stays() -> None:
    unit = get_unit("e5m10.e8m23-tree-e8m7-radix3-leaf")
    zeros, ones = np.full(2, 0x8000, np.uint16), unit.a.encode(np.ones(2))
    for c in (0, unit.result.sign_bit):
        start = np.array(c, dtype=unit.result.dtype)
        assert unit.dot(zeros, ones, start) == oracle.dot(unit, zeros, ones, start) == c


def test_a_product_of_minus_zero_has_no_error_of_plus_zero() -> None:
    unit = get_unit("e4m3.e8m23-chain-e5m10")
    a, b = np.full((2, 4), unit.a.sign_bit, np.uint8), unit.b.encode(np.ones((4, 9)))
    scales = {"a_scale": np.full((2, 1), 0x3F800001), "b_scale": np.full((1, 9), 0x3F800001)}
    for c in (0, unit.result.sign_bit):
        start = np.full((2, 9), c, dtype=np.uint16)
        assert "-wide-" in unit.plan(a, b, c=start, **scales, block=4).kernel
        assert (unit.matmul(a, b, start, **scales, block=4) == c).all()


def test_zero_scales_make_one_zero() -> None:
    """The parts of a sum differ in sign: times 0 they are zeros of both, and -0 - 0 is -0."""
    unit = get_unit("e5m2.e4m3-block8-into-chain-e8m23")
    rng = np.random.default_rng(8)
    a = rng.integers(0, 256, (6, 16)).astype(np.uint8)
    a = np.where(np.isfinite(unit.a.decode(a)), a, 0x80).astype(np.uint8)
    scale = np.zeros((6, 2), dtype=np.uint8)
    args = {"a": a, "b": a.T.copy(), "a_scale": scale, "b_scale": scale.T.copy(), "block": 8}
    args["c"] = np.full((6, 6), unit.result.sign_bit, dtype=np.uint32)
    expected = oracle.dot(unit, **_as_dots(args))
    np.testing.assert_array_equal(unit.matmul(**args), expected)
    assert np.unique(expected).size == 2


def test_elements_in_use_bound_windows() -> None:
    """Sums of 8 * 49 have 9 bits above their scales, not the 35 of all that E5M2 has."""
    unit = get_unit("e5m2-block8-into-aligned4f21-e8m23")
    rng = np.random.default_rng(9)
    a = unit.a.encode(np.where(rng.random((6, 64)) < 0.95, 7.0, -3.5))
    args = {"a": a, "b": a.T.copy(), "block": 8}
    args |= {"a_scale": rng.integers(126, 128, (6, 8)), "b_scale": rng.integers(126, 128, (8, 6))}
    assert unit.plan(**args).kernel != "scalar"
    np.testing.assert_array_equal(unit.matmul(**args), oracle.dot(unit, **_as_dots(args)))


def test_the_last_bit_of_a_wide_sum_survives_cancellation() -> None:
    """57344^2 * 4 - 57344^2 * 4 + 2^-32 is 2^-32: a float64 sum of the block has lost it."""
    unit = get_unit("e5m2-block8-into-chain-e8m23")
    top, least = int(unit.a.max_code), 1
    a = np.array([[top] * 4 + [least] + [0] * 3] * 2, dtype=np.uint8)
    start = np.array([-4.0 * 57344.0**2, 0.0])
    codes = unit.dot(a, a, unit.result.encode(start))
    assert unit.result.decode(codes).tolist() == [2.0**-32, np.float32(4 * 57344.0**2)]
    rows, columns = np.repeat(a, 4, axis=0), np.repeat(a, 4, axis=0).T.copy()
    found = unit.matmul(rows, columns, unit.result.encode(np.full((8, 8), start[0])))
    assert (unit.result.decode(found) == 2.0**-32).all()


def test_a_wide_product_is_rounded_once() -> None:
    """(1 + 2^-23)^2 * 1.0625^2 * 2^29 next to a tie of float32: the low part decides."""
    unit = get_unit("e4m3.e8m23-chain-e8m23")
    fmt = unit.a
    a = np.array([[int(fmt.encode(1.125))]] * 2, dtype=np.uint8)
    scale = unit.spec.a_scale.encode(np.array([[1.0 + 2.0**-23]] * 2))
    for c in np.linspace(-3.0, 3.0, 301).astype(np.float32):
        start = unit.result.encode(np.array([c, -c], dtype=np.float64))
        args = {"c": start, "a_scale": scale, "b_scale": scale, "block": 1}
        expected = oracle.dot(unit, a, a, **args)
        np.testing.assert_array_equal(unit.dot(a, a, **args), expected)
        full = {"c": start[:, None], "a_scale": scale, "b_scale": scale[:1].T, "block": 1}
        np.testing.assert_array_equal(unit.matmul(a, a[:1].T, **full)[:, 0], expected)


def test_parts_add_up_and_have_one_sign() -> None:
    rng = np.random.default_rng(5)
    x, y = (rng.normal(size=(4, 50)) * np.exp2(rng.integers(-90, 90, (4, 50))) for _ in "xy")
    x[0, :3], y[0, 0] = (0.0, -0.0, np.inf), -2.0
    out = np.empty((4, 50, 2))
    product_parts(x, y, out)
    assert str(out[0, 0].tolist()) == "[-0.0, -0.0]" and out[0, 2, 0] in (np.inf, -np.inf)
    for r, k in np.ndindex(4, 50):
        if not np.isfinite(out[r, k]).all():
            continue
        exact = Fraction(float(x[r, k])) * Fraction(float(y[r, k]))
        assert sum(map(Fraction, out[r, k].tolist())) == exact
        assert out[r, k, 0] * out[r, k, 1] >= 0
        assert abs(out[r, k, 0]) <= abs(exact)
        assert abs(out[r, k, 1]) <= abs(exact) * 2.0**-52


def test_parts_of_blocks() -> None:
    rng = np.random.default_rng(6)
    products = np.ldexp(rng.integers(-9, 9, (3, 22)).astype(float), rng.integers(-60, 60, (3, 22)))
    scales = rng.normal(size=(3, 6))
    products[1, :4], products[2, 4:8], scales[2, 1] = 0.0, (1.0, -1.0, 2.0**-70, 0.0), -np.inf
    scales[1, 0], products[0, 20] = -1.0, np.nan
    products[1, 4:8], scales[1, 1] = (1.0, 0.0, -3.0, 0.0), 0.0
    out = np.empty((3, 6, 4))
    block_parts(products, scales, 4, out)
    assert np.signbit(out[1, :2]).all() and not out[1, :2].any()  # 0 * -1, and -2 * 0
    assert out[2, 1].tolist() == [-np.inf, 0.0, 0.0, 0.0]  # 2^-70 is lost in no float
    assert np.isnan(out[0, 5, 0])
    for r, g in np.ndindex(3, 6):
        if np.isfinite(out[r, g]).all():
            block = products[r, 4 * g : 4 * g + 4].tolist()
            exact = sum(map(Fraction, block)) * Fraction(float(scales[r, g]))
            assert sum(map(Fraction, out[r, g].tolist())) == exact
            assert (out[r, g] >= 0).all() or (out[r, g] <= 0).all()


def test_collapsed_parts_keep_a_sticky_bit() -> None:
    parts = np.array([[[1.0, 2.0**-80], [-0.0, -0.0], [1.0, 0.0]]])
    odd = terms_to_odd(parts)
    assert odd.tolist() == [[1.0 + 2.0**-52, -0.0, 1.0]]
    assert np.signbit(odd[0, 1])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "e2m1-block32-into-aligned4f55-e8m23",
            ["fraction_bits: 55", "sums of 32", "69 bits", "62"],
        ),
        ("e5m2-block32-into-aligned4f25-e8m23", ["fraction_bits: 25", "65 bits", "at most 62"]),
        ("e2m1.e8m23-aligned4f56-e8m23", ["fraction_bits: 56", "products of e2m1", "63 bits"]),
    ],
)
def test_windows_too_narrow_for_their_terms_are_refused(name: str, words: list[str]) -> None:
    """With 55 fraction bits the sum of 4 * 1152 overflowed a 64-bit integer."""
    with pytest.raises(FpsimError) as error:
        get_unit(name)
    for word in words:
        assert word in str(error.value)


def test_the_widest_window_holds_its_terms() -> None:
    unit = get_unit("e2m1-block32-into-aligned4f48-e8m23")
    a = np.full((2, 128), 7, dtype=np.uint8)
    np.testing.assert_array_equal(unit.dot(a, a), oracle.dot(unit, a, a))
    with pytest.raises(FpsimError, match="63 bits"):
        get_unit("e2m1-block32-into-aligned4f49-e8m23")


def test_terms_lifted_above_their_window_are_refused() -> None:
    """2^-100 rounded up to 2^-24 is 2^76 times the power of its scales."""
    unit = get_unit("e2m1-block4-to-e5m10-rup-into-aligned4f5-e8m23")
    a = np.full((1, 4), 2, dtype=np.uint8)
    for exponent, fits in ((-40, True), (-100, False)):
        scale = np.array([[127 + exponent]], dtype=np.uint8)
        if fits:
            args = {"a_scale": scale, "block": 4}
            np.testing.assert_array_equal(unit.dot(a, a, **args), oracle.dot(unit, a, a, **args))
            continue
        with pytest.raises(FpsimError, match="scales: block sums rounded rup to e5m10 lie so far"):
            unit.dot(a, a, a_scale=scale, block=4)


def test_sizing_counts_all_bits() -> None:
    """One block of 4 * 57344^2 + 2^-32: a register for it has 66 bits, sign included."""
    unit = get_unit("e5m2-block8-into-chain-e8m23")
    a = np.array([[int(unit.a.max_code)] * 4 + [1] + [0] * 3], dtype=np.uint8)
    found = study(unit, a, a, dots=True)
    value = 4 * Fraction(57344) ** 2 + Fraction(2) ** -32
    bits = (value * 2**32).numerator.bit_length()
    assert (found.fixed_lsb, found.fixed_width, found.mantissa_bits) == (-32, bits + 1, bits - 1)
    assert (found.inexact, found.swamped, found.steps) == (1, 0, 1)
    fixed = get_unit("e5m2-block8-into-fixed50q0-rne")
    counted = study(fixed, a, a, dots=True)
    assert (counted.inexact, counted.overflows, counted.fixed_width) == (1, 0, bits + 1)


def test_order_of_wide_blocks() -> None:
    unit = get_unit("e5m2-block8-into-chain-e8m23")
    args = _operands(unit, "wild", 1, 1, 64, 7)
    found = order_study(unit, args["a"][0], args["b"][:, 0], random_orders=3, seed=1)
    products = oracle.dot(get_unit("e5m2-exact-e8m23"), args["a"], args["b"].T)
    assert np.float32(found.exact) == unit.result.decode(products)[0]


def test_the_c_model_says_what_is_too_wide(tmp_path: Any) -> None:
    with pytest.raises(FpsimError, match="a term has 524 bits, at most 128"):
        export_c(get_unit("e8m7-block4-into-chain-e8m23"), tmp_path / "mac.h")
    assert not list(tmp_path.iterdir())


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "name",
    [
        "e4m3.e5m2.split-block8-into-chain-e8m23",  # zero in place of the other sign's elements
        "e5m2-block8-into-chain-e8m23",
        "e4m3fn.e5m2.split-block4-into-aligned4f9-e5m10",
        "e4m3.e5m2.split-block8-into-chain-e8m23-sr8",
        "e4m3-chunked16-of-block8-into-chain-e8m13-into-tree-e8m23",
    ],
)
def test_a_few_infinities_leave_the_others_in_lanes(name: str) -> None:
    unit = get_unit(name)
    args, rng = _operands(unit, "wild", 9, 21, 72, 5), np.random.default_rng(2)
    codes = np.arange(256)
    special = codes[~np.isfinite(unit.a.decode(codes))]
    for operand in ("a", "b"):
        at = rng.random(args[operand].shape) < 0.003
        args[operand][at] = rng.choice(special, int(at.sum()))
    plan = unit.plan(**args)
    assert plan.kernel != "scalar" and (plan.redo_infinite or plan.step.chunk)
    expected = oracle.dot(unit, **_as_dots(args))
    np.testing.assert_array_equal(unit.matmul(**args), expected)
    finite = np.isfinite(unit.result.decode(expected))
    assert finite.any() and not finite.all()
