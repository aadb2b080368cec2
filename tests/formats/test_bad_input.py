# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong in the number system: one sentence that names it, or it just works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fpsim import BlockFormat, FixedFormat, FloatFormat, FpsimError, Quantized, get_format
from fpsim.blocks.block_format import get_block_format
from fpsim.blocks.preshift import preshift, real_bias
from fpsim.formats.real_bias import ScaledFormat

RAGGED: Any = [[1], [1, 2]]
ONE = np.array([1])
E2M1 = get_format("e2m1")
MX, NV, INT = (get_block_format(name) for name in ("mxfp4", "nvfp4", "amxint4"))
ROW = get_block_format("llmfp4-e2m1-row")


def block_format(**change: Any) -> BlockFormat:
    fields: dict[str, Any] = {"name": "x", "element": "e2m1", "block": 16}
    return BlockFormat(**(fields | change))


def absmax(**change: Any) -> BlockFormat:
    return block_format(**{"scale": "e4m3fn", "rule": "absmax", **change})


def quantized(scales: Any = 8, codes: Any = 1, axis: Any = 0, **parts: Any) -> Quantized:
    return Quantized(np.array([codes]), np.array([scales]), axis, **parts)


Mistake = tuple[Callable[[], object], str]
ELEMENTS: list[Mistake] = [
    (lambda: E2M1.encode(RAGGED), "values: rows of different lengths"),
    (lambda: E2M1.decode(RAGGED), "codes: rows of different lengths"),
    (lambda: E2M1.encode([1.0], "sr", random=RAGGED, random_bits=3), "random: rows of different"),
    (lambda: E2M1.encode([1.0], "sr", random=[True], random_bits=3), "random: dtype bool"),
    (lambda: E2M1.encode("1.0"), "values: dtype <U3"),
    (lambda: E2M1.encode([np.nan], nan="scale"), "nan: 'scale' is not one of error"),
    (lambda: E2M1.decode([True]), "codes: dtype bool"),
    (lambda: E2M1.decode([1], "float99"), "dtype: 'float99' is not a type"),
    (lambda: FloatFormat(2, 1, 1, nan="no"), "nan: 'no' is not one of none, ieee"),  # type: ignore[arg-type]
    (lambda: FloatFormat(2, 1, 1, subnormals="no"), "subnormals: 'no' is not"),  # type: ignore[arg-type]
    (lambda: FloatFormat(2, 1, 1, signed=3), "signed: 3 is not true or false"),  # type: ignore[arg-type]
    (lambda: FloatFormat(2, 1, 1, nan="ieee"), "nan: 'ieee' needs infinity"),  # type: ignore[arg-type]
    (lambda: FixedFormat(4, symmetric="yes"), "symmetric: 'yes' is not"),  # type: ignore[arg-type]
    (lambda: get_format("e99999999999m2"), "exponent_bits: 99999999999"),
    (lambda: get_format("e2m1b-2001"), "bias: -2001"),
    (lambda: get_format("e5m2b-1100"), "bias: -1100 puts the largest"),
]
BLOCKS: list[Mistake] = [
    (lambda: MX.quantize(RAGGED), "x: rows of different lengths"),
    (lambda: MX.quantize(np.ones(3, np.longdouble)), "x: dtype"),
    (lambda: MX.quantize("abc"), "x: dtype <U3"),
    (lambda: MX.quantize(1.0), "axis: -1 does not exist in an array of 0"),
    (lambda: MX.quantize([1.0], axis=True), "axis: True"),
    (lambda: MX.quantize([1.0], axis=None), "axis: None"),  # type: ignore[arg-type]
    (lambda: MX.quantize([1.0], nan=3), "nan: 3 is not one of error"),  # type: ignore[arg-type]
    (lambda: MX.with_rule(None), "rule: None is not one of"),  # type: ignore[arg-type]
    (lambda: BlockFormat.from_dict(3), "block format: 3 is not a table"),  # type: ignore[arg-type]
    (lambda: block_format(element=None), "element: format: None"),
    (lambda: block_format(block=None), "block: None is not a positive integer"),
    (lambda: block_format(name=None), "name: None is not text"),
    (lambda: block_format(name="My format"), "name: 'My format' must be lower-case"),
    (lambda: block_format(signs=None), "signs: None is not true or false"),
    (lambda: block_format(rounding=None), "rounding: None"),
    (lambda: block_format(scale="real"), "rule: 'floor' gives powers of two; scale real"),
    (lambda: absmax(target=7), "target: 7 is beyond e2m1's largest value"),
    (lambda: absmax(tensor_range=float("nan")), "tensor_range: nan is not"),
    (lambda: absmax(tensor_range=1e38), "tensor_range: .* leaves float32"),
    (lambda: absmax(choice="mse", expansions=(1, 0)), "expansions: 0.0 is not a positive"),
    (lambda: absmax(expansions=(1, 2)), "choice: 2 candidates need one of"),
    (lambda: block_format(zero="keep"), "zero: 'keep' is not possible under rule 'floor'"),
    (lambda: block_format(zero="one"), "zero: 'one' is not possible under rule 'floor'"),
    (lambda: block_format(scale_rounding="rup"), "scale_rounding: needs a scale format"),
    (lambda: absmax(variants=[{"element": "int8"}], choice="mse"), "variants: int8 of variant 0"),
]
QUANTIZED: list[Mistake] = [
    (lambda: MX.dequantize(3), "quantized: int is not a Quantized"),  # type: ignore[arg-type]
    (lambda: MX.dequantize(quantized(127, codes=16)), "codes: 16 is not a code of e2m1"),
    (lambda: MX.dequantize(quantized(256)), "scales: 256 is not a code of e8m0"),
    (lambda: MX.dequantize(quantized(1.0)), "scales: dtype float64"),
    (lambda: MX.dequantize(quantized([127, 127])), r"scales: shape \(1, 2\) is not \(1,\)"),
    (lambda: MX.dequantize(quantized(axis=3)), "axis: 3 does not exist"),
    (lambda: MX.dequantize(Quantized(ONE[0], ONE[0], 0)), "axis: 0 does not exist"),
    (lambda: ROW.dequantize(quantized(1)), "scales: dtype int64"),
    (lambda: NV.dequantize(quantized()), "tensor_scale: missing"),
    (
        lambda: NV.dequantize(quantized(tensor_scale=np.ones(2))),  # type: ignore[arg-type]
        r"tensor_scale: shape \(2,\)",
    ),
    (lambda: INT.dequantize(quantized()), "zero_points: missing"),
    (lambda: INT.dequantize(quantized(zero_points=ONE * 0.5)), "zero_points: dtype float64"),
    (lambda: INT.dequantize(quantized(zero_points=np.array([1, 2]))), r"zero_points: shape \(2,\)"),
    (
        lambda: get_block_format("amxfp4").dequantize(quantized(negative_scales=np.array([1, 2]))),
        r"negative_scales: shape \(2,\) is not \(1,\)",
    ),
]
BIASES: list[Mistake] = [
    (lambda: preshift("int4", [1.0]), "element: int4 is not a floating-point"),
    (lambda: preshift("e2m1", []), r"maxima: shape \(0,\)"),
    (lambda: preshift("e2m1", "a"), "values: dtype <U1"),
    (lambda: preshift("e2m1", [1.0, np.inf]), "clip: every value"),
    (lambda: preshift("e2m1", [1.0], rho=np.nan), "rho: nan is not"),
    (lambda: preshift("e2m1", [1.0], rho="a"), "rho: 'a' is not"),  # type: ignore[arg-type]
    (
        lambda: preshift("e2m1", [1.0, 2.0]).dequantize([1]),
        r"codes: shape \(1,\) does not end in 2",
    ),
    (lambda: preshift("e2m1", [1.0]).quantize([3]), "x: dtype int64"),
    (lambda: real_bias("e0m3", 1.0), "element: e0m3 has no exponent"),
    (lambda: ScaledFormat("int4", 1.0), "element: int4 is not a floating"),  # type: ignore[arg-type]
    (lambda: ScaledFormat("e2m1b0", "a"), "b_tilde: 'a' is not a number"),  # type: ignore[arg-type]
    (lambda: ScaledFormat.from_max("e2m1b0", "q"), "qmax: 'q' is not"),  # type: ignore[arg-type]
    (lambda: ScaledFormat.from_max("e2m1", 1.0), "element: e2m1 is not .* bias 0"),
]


@pytest.mark.parametrize(("mistake", "message"), ELEMENTS + BLOCKS + QUANTIZED + BIASES)
def test_mistakes_get_one_sentence(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(FpsimError, match=f"^{message}") as error:
        mistake()
    assert "\n" not in str(error.value)


# -- what looks like a mistake and is not --------------------------------------------------------


def test_scalars_and_empty_arrays() -> None:
    assert E2M1.encode(2.5).shape == E2M1.decode(3).shape == ()
    codes, flags = E2M1.encode(2.5, flags=True)
    assert (codes, flags) == (4, 1)
    assert E2M1.encode(2.5, "sr", random=3, random_bits=np.int64(2)) == 5
    assert E2M1.decode([]).shape == E2M1.encode([]).shape == (0,)
    codes, flags = E2M1.encode(
        np.zeros((0, 3)), "sr", random=np.zeros((0, 3), np.uint8), random_bits=3, flags=True
    )
    assert codes.shape == flags.shape == (0, 3)
    assert ScaledFormat("e2m1b0", 1.0).encode(1.0).shape == ()  # type: ignore[arg-type]


def test_names_and_texts_stand_for_what_they_name() -> None:
    assert FloatFormat(5, 10, 15, nan="ieee", infinity=True) == get_format("e5m10")  # type: ignore[arg-type]
    by_name = absmax(element="e2m1", tensor_range=448, zero="one", name="nvfp4")
    assert by_name == NV
    assert block_format(block="row").block == "row"
    assert block_format(block=np.int64(32), name="mxfp4") == MX
    assert preshift("e2m1", [3.0]).element == E2M1


@pytest.mark.parametrize("fmt", [MX, NV, ROW], ids=lambda fmt: fmt.name)
def test_other_array_types_quantize_as_their_values(fmt: BlockFormat) -> None:
    x = np.linspace(-7, 9, 40).astype(ml_dtypes.bfloat16)
    expected = fmt.quantize(x.astype(np.float32))
    tensor = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    for given in (x, tensor, tensor.to(torch.bfloat16), x.astype(np.float32).tolist()):
        codes = fmt.quantize(given).codes  # type: ignore[arg-type]
        np.testing.assert_array_equal(codes, expected.codes)


def test_a_block_far_longer_than_the_row() -> None:
    """One partial block, with neither padding nor repetition to its full length."""
    x = np.linspace(-7, 9, 40).astype(np.float32)
    for rule in ({}, {"scale": "e4m3fn", "rule": "absmax"}):
        long, row = (block_format(block=block, **rule) for block in (1 << 60, "row"))
        np.testing.assert_array_equal(
            long.dequantize(long.quantize(x)), row.dequantize(row.quantize(x))
        )


def test_values_are_encoded_while_torch_is_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's import leaves a module without names for a while."""
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert get_format("e2m1").encode(ONE).tolist() == [2]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("place", [0, 1, 98, 99])
def test_a_wide_code_is_found_wherever_it_stands(place: int, dtype: Any) -> None:
    codes = np.full((10, 10), 3, dtype)
    codes.flat[place] = 16
    for given in (codes, codes.T):
        with pytest.raises(FpsimError, match="codes: 16 is not a code of e2m1"):
            get_format("e2m1").decode(given)
