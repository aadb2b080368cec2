# SPDX-License-Identifier: Apache-2.0
"""Units take what `quantize` returns, tensors of torch and arrays of ml_dtypes; results as values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import FpsimError, oracle
from fpsim.blocks.quantized import Quantized
from fpsim.units.operands import DotOperands

RNG = np.random.default_rng(5)
X, W = RNG.normal(size=(4, 96)), RNG.normal(size=(96, 3))
UNITS = {
    "mxfp4": "mxfp4-block32-e8m23",
    "nvfp4": "nvfp4-block16-e8m23",
    "amxfp4": "amxfp4-block32-e8m23",
    "nf4": None,
    "qrazor-a4-g16": None,
}


def unit_for(name: str) -> fpsim.MacUnit:
    """Return a unit that adds a format's products exactly, rounding once to float32."""
    if UNITS[name]:
        return fpsim.get_unit(UNITS[name])
    fmt = fpsim.get_block_format(name)
    scale = "" if fmt.base_bits or fmt.scale.name == "e8m0" else f".{fmt.scale.name}"
    return fpsim.get_unit(f"{fmt.wide.name}{scale}-exact-e8m23")


def exactly(unit: fpsim.MacUnit, a: Any, b: Any) -> float:
    """Return the value of a dot product by the oracle, which compiles nothing."""
    args = DotOperands.check(unit.spec, a, b)
    return float(args.results(unit.result.decode(oracle.dot(unit, a, b))))


@pytest.mark.parametrize("name", UNITS)
def test_a_product_of_quantized_tensors_has_their_values(name: str) -> None:
    fmt, unit = fpsim.get_block_format(name), unit_for(name)
    a, b = fmt.quantize(X[0]), fmt.quantize(W[:, 0])
    # At most one rounding to float32 per block, and the scales' products in float32.
    assert np.isclose(exactly(unit, a, b), fmt.dequantize(a) @ fmt.dequantize(b), rtol=1e-5)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_a_matrix_product_has_the_values_of_its_tensors(name: str) -> None:
    fmt, unit = fpsim.get_block_format(name), unit_for(name)
    a, b = fmt.quantize(X, axis=1), fmt.quantize(W, axis=0)
    wanted = fmt.dequantize(a) @ fmt.dequantize(b)
    found = unit.matmul(a, b, values=True)
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_codes_are_those_of_the_parts_handed_in_one_by_one() -> None:
    fmt, unit = fpsim.get_block_format("mxfp4"), fpsim.get_unit("mxfp4-block32-e8m23")
    a, b = fmt.quantize(X, axis=1), fmt.quantize(W, axis=0)
    codes = unit.matmul(a, b)
    assert np.array_equal(codes, unit.matmul(a.codes, b.codes, a_scale=a.scales, b_scale=b.scales))
    assert np.array_equal(unit.matmul(a, b, values=True), unit.result.decode(codes))
    first = fmt.quantize(X[0]), fmt.quantize(W[:, 0])
    assert oracle.dot(unit, *first) == unit.dot(*first)
    assert unit.trace(*first).code == unit.dot(*first)
    assert unit.plan(a, b).back_end


def test_a_last_block_may_be_partial_and_blocks_may_differ() -> None:
    unit = fpsim.get_unit("e2m1-exact-e8m23")
    long = fpsim.get_block_format("mxfp4")
    half = fpsim.BlockFormat.from_dict(long.to_dict() | {"name": "half", "block": 16})
    a, b = long.quantize(X[0, :72]), half.quantize(W[:72, 0])
    wanted = long.dequantize(a) @ half.dequantize(b)
    assert np.isclose(exactly(unit, a, b), wanted, rtol=1e-6)
    # One operand quantized, the other plain codes.
    plain = unit.b.encode(W[:72, 0])
    wanted = long.dequantize(a) @ unit.b.decode(plain)
    assert np.isclose(exactly(unit, a, plain), wanted, rtol=1e-6)


def test_a_tensor_scale_is_in_the_values_only() -> None:
    fmt, unit = fpsim.get_block_format("nvfp4"), fpsim.get_unit("nvfp4-block16-e8m23")
    a, b = fmt.quantize(X, axis=1), fmt.quantize(W, axis=0)
    ratio = unit.matmul(a, b, values=True) / unit.result.decode(unit.matmul(a, b))
    assert np.allclose(ratio, float(a.tensor_scale) * float(b.tensor_scale), rtol=1e-6)


def test_arrays_of_ml_dtypes_are_codes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    unit = fpsim.get_unit("e4m3fn-exact-e8m23")
    a, b = X[0].astype(ml_dtypes.float8_e4m3fn), W[:, 0].astype(ml_dtypes.float8_e4m3fn)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    assert np.isclose(exactly(unit, a, b), wanted, rtol=1e-6)
    with pytest.raises(FpsimError, match="a: float8_e4m3fn are codes of e4m3fn; e2m1 is wanted"):
        fpsim.get_unit("exact").dot(a, b)


def test_tensors_of_torch_are_codes() -> None:
    torch = pytest.importorskip("torch")
    unit = fpsim.get_unit("e4m3fn-exact-e8m23")
    a = torch.tensor(X[0]).to(torch.float8_e4m3fn)
    b = torch.tensor(W[:, 0]).to(torch.float8_e4m3fn)
    assert np.isclose(exactly(unit, a, b), float(a.double() @ b.double()), rtol=1e-6)
    codes = fpsim.get_format("e2m1").encode(X[0])
    four = fpsim.get_format("e2m1")
    assert np.array_equal(four.decode(torch.tensor(codes)), four.decode(codes))
    if hasattr(torch, "float4_e2m1fn_x2"):
        packed = torch.tensor(codes[::2] | codes[1::2] << 4).view(torch.float4_e2m1fn_x2)
        assert np.array_equal(four.decode(packed), four.decode(codes))


def bad(**given: Any) -> tuple[Any, Any]:
    fmt = fpsim.get_block_format("mxfp4")
    return (
        given.get("a", fmt.quantize(X, axis=1)),
        given.get("b", fmt.quantize(W, axis=0)),
    )


@pytest.mark.parametrize(
    ("operands", "more", "message"),
    [
        (bad(b=fpsim.get_block_format("mxfp4").quantize(W, axis=1)), {},
         r"b: it is quantized along axis 1, but axis 0 is summed; use mxfp4's quantize\(x, axis=0\)"),
        (bad(a=fpsim.get_block_format("mxfp8-e4m3").quantize(X, axis=1)), {},
         "a: mxfp8-e4m3 has elements of e4m3fn, mxfp4-block32-e8m23 takes e2m1"),
        (bad(a=fpsim.get_block_format("nvfp4").quantize(X, axis=1)), {},
         "a: nvfp4 has scales in e4m3fn, which e8m0, the scales of mxfp4-block32-e8m23, does not"),
        (bad(), {"a_scale": [[127]]}, "a_scale: a is a quantized tensor, which has scales"),
        (bad(a=Quantized(np.zeros((4, 96), np.uint8), np.zeros((4, 3), np.uint8), 1)), {},
         "a: this Quantized does not say its block format"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_sentence(
    operands: tuple[Any, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(FpsimError, match=message):
        fpsim.get_unit("mxfp4-block32-e8m23").matmul(*operands, **more)


@pytest.mark.parametrize(
    "shown",
    [
        fpsim.get_unit("mxfp4-block32-e8m23"),
        fpsim.get_unit("mxfp4-block32-e8m23").spec,
        fpsim.get_format("e2m1"),
        fpsim.get_format("int4"),
        fpsim.get_block_format("nvfp4"),
    ],
)
def test_objects_print_as_one_readable_line_and_as_html(shown: Any) -> None:
    for text in (repr(shown), str(shown)):
        assert shown.name in text
        assert "\n" not in text and len(text) < 250
    if hasattr(shown, "_repr_html_"):
        page = shown._repr_html_()
        assert page.startswith("<table>") and shown.name in page
        assert "acc <-" not in page  # escaped
