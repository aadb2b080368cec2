# SPDX-License-Identifier: Apache-2.0
"""Layouts of FP4 checkpoints in safetensors files, recognised by their tensors.

gpt-oss             `X_blocks`, `X_scales`: MXFP4 experts, inputs of which stay float
compressed-tensors  `X.weight_packed`, `X.weight_scale`, `X.weight_global_scale` (divides),
                    `X.input_global_scale`; of integers plus 8 in 32-bit words no global scales
modelopt            `X.weight`, `X.weight_scale`, `X.weight_scale_2` (multiplies), `X.input_scale`,
                    `X.pre_quant_scale` (AWQ); of fused experts `X_weight_scale`, transposed
fp-quant            `X.qweight`, `X.scales`, `X.weight_global_scale` (divides),
                    `X.act_global_scale`, `X.forward_hadamard_matrix`
bitsandbytes        `X.weight`, `X.weight.absmax` (quantized again or not), `X.weight.quant_map`

A layout is a function from the file's tensors to matrices, by the parameter names of a float
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import get_block_format
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.checkpoints.coded import CodedTensor
from fpsim.bridge.checkpoints.stored import (
    Nibbles,
    StoredInputs,
    StoredMatrix,
    StoredRows,
    unswizzled,
)
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import E8M0, get_format

__all__ = ["INTEGER_SCALES", "LAYOUTS", "Coded", "as_float", "read_layout"]

_INT4 = get_format("int4")
assert isinstance(_INT4, FixedFormat)
INT4 = _INT4
_FLOATS = [get_format(name) for name in ("e2m1", "e4m3fn", "e8m23", "e5m10", "e8m7")]
E2M1, E4M3, FLOAT32, FLOAT16, BFLOAT16 = [f for f in _FLOATS if isinstance(f, FloatFormat)]


@dataclass
class Coded:
    """Matrices by parameter that a layout found in a file, and the names of the tensors read."""

    layout: str
    weights: dict[str, CodedTensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """The tensors of a file, read by role; ``used`` gets the names of tensors read."""

    tensors: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]
    nibbles: Nibbles | None
    swizzled: bool | None
    used: set[str]

    def get(self, name: str) -> torch.Tensor | None:
        if name not in self.tensors:
            return None
        self.used.add(name)
        return self.tensors[name]

    def bytes(self, name: str, *kinds: torch.dtype) -> NDArray[np.uint8]:
        """Return a tensor of bytes with one of the given dtypes.

        Raises:
            FpsimError: a tensor that is missing or has another dtype.
        """
        tensor = self.get(name)
        if tensor is None:
            raise FpsimError(f"{name}: the checkpoint has no such tensor")
        if tensor.dtype not in kinds:
            wanted = " or ".join(str(kind).removeprefix("torch.") for kind in kinds)
            raise FpsimError(
                f"{name}: dtype {str(tensor.dtype).removeprefix('torch.')}, but {wanted} is needed"
            )
        return tensor.view(torch.uint8).numpy()

    def number(self, name: str) -> np.float32 | None:
        """Return a tensor of one number as float32, or None if there is none."""
        numbers = self.numbers(name)
        if numbers is None:
            return None
        if numbers.size != 1:
            raise FpsimError(f"{name}: shape {numbers.shape}, but one number is needed")
        return np.float32(numbers.reshape(-1)[0])

    def numbers(self, name: str) -> NDArray[np.float32] | None:
        tensor = self.get(name)
        if tensor is None:
            return None
        if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
            raise FpsimError(
                f"{name}: dtype {str(tensor.dtype).removeprefix('torch.')}, but floating-point "
                "numbers of 16 bits or more are needed"
            )
        return tensor.to(torch.float32).numpy()

    def order(self, usual: Nibbles = Nibbles.LOW_FIRST) -> Nibbles:
        return self.nibbles or usual


def _matrix(name: str, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if packed.ndim != 2:
        raise FpsimError(f"{name}: shape {packed.shape}, but packed codes have two dimensions")
    return packed[:, None, :]


def _above(name: str, value: np.float32 | None, scale: FloatFormat) -> np.float32 | None:
    """Return the scale above block scales of a format; E4M3 block scales require one."""
    if value is None and scale == E4M3:
        raise FpsimError(f"{name}: the checkpoint has no such tensor, which E4M3 scales need")
    return _positive(name, value)


def _positive(name: str, value: np.float32 | None) -> np.float32 | None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise FpsimError(f"{name}: {value}, but a scale must be positive and finite")
    return value


def _nvfp4(tensor_scale: np.float32 | None) -> Cast:
    scale = None if tensor_scale is None else float(tensor_scale)
    return BlockCast(get_block_format("nvfp4"), scale)


def _rows(
    file: _File, name: str, packed: NDArray[np.uint8], scale_name: str, kinds: tuple[Any, ...],
    **more: Any,
) -> StoredRows:  # fmt: skip
    """Return E2M1 rows with E4M3 scales per 16 or E8M0 scales per 32, by the scales' dtype."""
    raw = file.bytes(scale_name, *kinds)
    tensor = file.tensors[scale_name]
    mx = tensor.dtype in (torch.uint8, torch.float8_e8m0fnu)
    block, scale = (32, E8M0) if mx else (16, E4M3)
    columns = packed.shape[1] * packed.shape[2] * 2
    shape = (packed.shape[0], -(-columns // block))
    scales = unswizzled(scale_name, raw, shape, file.swizzled)
    return StoredRows(name, packed, file.order(), E2M1, scale, scales, block, **more)


_FP8 = (torch.float8_e4m3fn,)
_MX = (torch.uint8, torch.float8_e8m0fnu)


def _gpt_oss(file: _File, out: Coded) -> None:
    for name in [name for name in file.tensors if name.endswith("_blocks")]:
        base = name.removesuffix("_blocks")
        packed = file.bytes(name, torch.uint8)
        if packed.ndim != 4 or packed.shape[3] != 16:
            raise FpsimError(
                f"{name}: shape {packed.shape}, but (experts, rows, blocks, 16) is needed"
            )
        scales = file.bytes(f"{base}_scales", *_MX)
        if scales.shape != packed.shape[:3]:
            raise FpsimError(f"{base}_scales: shape {scales.shape} is not {packed.shape[:3]}")
        order = file.order()
        matrices = tuple(
            StoredMatrix((StoredRows(name, codes, order, E2M1, E8M0, scale, 32),))
            for codes, scale in zip(packed, scales, strict=True)
        )
        out.weights[base] = CodedTensor(matrices, True, None)


def _compressed_tensors(file: _File, out: Coded) -> None:
    groups = list(file.config.get("config_groups", {}).values())
    inputs = [g.get("input_activations") for g in groups if isinstance(g, dict)]
    by_format = {"nvfp4-pack-quantized": _FP8, "mxfp4-pack-quantized": _MX}
    kind = str(file.config.get("format"))
    kinds = by_format.get(kind, (*_FP8, *_MX))
    for name in [name for name in file.tensors if name.endswith(".weight_packed")]:
        base = name.removesuffix("weight_packed")
        words = kind not in by_format and file.tensors[name].dtype == torch.int32
        if words or kind == "pack-quantized":
            part = _integers(file, base)
            _check_packed(file, base, part)
            cast = _described_inputs(base, inputs) if any(inputs) else None
            out.weights[base + "weight"] = CodedTensor((StoredMatrix((part,), StoredInputs(cast)),))
            continue
        packed = _matrix(name, file.bytes(name, torch.uint8))
        number, scale_name = file.number(base + "weight_global_scale"), base + "weight_scale"
        part = _rows(file, name, packed, scale_name, kinds, divides=True)
        above = _above(base + "weight_global_scale", number, part.scale)
        part = replace(part, above=above)
        _check_packed(file, base, part)
        given = file.number(base + "input_global_scale")
        given = _positive(base + "input_global_scale", given)
        cast = _nvfp4(np.float32(1) / given) if given is not None else None
        if cast is None and any(inputs):
            cast = _described_inputs(base, inputs)
        out.weights[base + "weight"] = CodedTensor((StoredMatrix((part,), StoredInputs(cast)),))


#: Formats of the scales of integers, by the file's dtype.
INTEGER_SCALES = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16}


def _integers(file: _File, base: str) -> StoredRows:
    """Return rows of 4-bit integers, eight in a word of 32 bits, the first in the lowest bits."""
    name, scale_name = base + "weight_packed", base + "weight_scale"
    packed = _matrix(name, file.bytes(name, torch.int32))
    rows, columns = packed.shape[0], 2 * packed.shape[2]
    raw = file.bytes(scale_name, *INTEGER_SCALES)
    scale = INTEGER_SCALES[file.tensors[scale_name].dtype]
    scales = raw.view(scale.dtype) if raw.ndim == 2 else raw
    if scales.ndim != 2 or len(scales) != rows or not scales.size or columns % scales.shape[1]:
        raise FpsimError(
            f"{scale_name}: shape {tuple(file.tensors[scale_name].shape)} is not ({rows}, groups) "
            f"with groups that divide {columns} columns"
        )
    block = columns // scales.shape[1]
    order = file.get(base + "weight_g_idx")
    if order is not None and not np.array_equal(order.numpy(), np.arange(columns) // block):
        raise FpsimError(
            f"{base}weight_g_idx: groups of columns that are not neighbours; allowed: {block} "
            "neighbours in each"
        )
    zeros = _zero_points(file, base + "weight_zero_point", scales.shape)
    return StoredRows(
        name, packed, Nibbles.LOW_FIRST, INT4, scale, scales, block, flip=8, zeros=zeros
    )


def _zero_points(file: _File, name: str, shape: tuple[int, int]) -> NDArray[np.int8] | None:
    """Return the zero points of INT4 rows, -8 to 7, or None if there are none or all are zero.

    The zero points of eight rows are in a word of 32 bits, each plus 8, the first row's in the
    lowest bits; or each zero point is a byte.
    """
    tensor = file.get(name)
    if tensor is None:
        return None
    rows, groups = shape
    wanted = (-(-rows // 8), groups) if tensor.dtype == torch.int32 else shape
    # In words zeros are stored as 8; plain zeros of any type are those of a symmetric file.
    if (tensor.dtype != torch.int32 or tensor.shape != wanted) and not tensor.count_nonzero():
        return None
    found = file.bytes(name, torch.int32, torch.int8)
    if tensor.shape != wanted:
        raise FpsimError(f"{name}: shape {tuple(tensor.shape)} is not {wanted}")
    if tensor.dtype == torch.int8:
        zeros = found.view(np.int8)
    else:
        nibbles = found.view(np.uint32)[:, None] >> np.arange(0, 32, 4, dtype=np.uint32)[:, None]
        zeros = (nibbles & 15).reshape(-1, groups)[:rows].astype(np.int8) - np.int8(8)
    if zeros.min() < -8 or zeros.max() > 7:
        raise FpsimError(f"{name}: {zeros.min()} to {zeros.max()}, but int4 has -8 to 7")
    return zeros if zeros.any() else None


def _check_packed(file: _File, base: str, part: StoredRows) -> None:
    """Refuse zero points of floats, and a shape other than that of the codes."""
    zero = file.get(base + "weight_zero_point")
    if isinstance(part.element, FloatFormat) and zero is not None and zero.count_nonzero():
        raise FpsimError(
            f"{base}weight_zero_point: it is not zero; allowed: {part.element.name} codes without "
            "zero points"
        )
    shape = file.get(base + "weight_shape")
    if shape is not None and tuple(shape.tolist()) != part.shape:
        raise FpsimError(f"{base}weight_shape: {shape.tolist()}, but the codes are {part.shape}")


def _described_inputs(name: str, inputs: list[Any]) -> Cast:
    """Return the cast of inputs that the configuration of compressed-tensors describes."""
    from fpsim.bridge.recipes.rtn import rtn_cast

    known = {(4, "float", 32): "mxfp4-even", (8, "float", 32): "mxfp8-e4m3", (4, "float", 16): ""}
    for args in inputs:
        key = (args.get("num_bits"), args.get("type"), args.get("group_size")) if args else None
        if key is None:
            continue
        wanted = known.get(key)
        if wanted:
            return BlockCast(get_block_format(wanted))
        if wanted == "" and args.get("dynamic") is True:
            return BlockCast(get_block_format("nvfp4"))
        if key[0] in (4, 8) and key[1] == "int" and args.get("strategy") == "token":
            return rtn_cast(f"int{key[0]}s", "token")
        raise FpsimError(
            f"{name}: inputs of num_bits {key[0]}, type {key[1]}, group_size {key[2]} without "
            "input_global_scale are not known; allowed: 4-bit float per 16 or 32, 8-bit per 32, "
            "integers of 4 or 8 bits per token"
        )
    raise AssertionError  # callers have checked that inputs are described


def _modelopt(file: _File, out: Coded) -> None:
    algorithm = str(file.config.get("quant_algo", ""))
    eight = algorithm.startswith("W4A8")
    kinds = _FP8 if "NVFP4" in algorithm else _MX if "MXFP4" in algorithm else (*_FP8, *_MX)
    for name in [name for name in file.tensors if name.endswith(("weight_scale", "weight_scale_"))]:
        base = name.removesuffix("weight_scale")
        fused = base.endswith("_")
        weight = base[:-1] if fused else base + "weight"
        tensor = file.tensors.get(weight)
        if tensor is not None and tensor.dtype in _FP8:
            raise FpsimError(
                f"{weight}: float8 weights under {name} are not 4-bit codes; only FP4 layers and "
                "float ones can be loaded"
            )
        packed = file.bytes(weight, torch.uint8)
        above = file.numbers(base + "weight_scale_2")
        scale = _positive(base + "input_scale", _largest(file.numbers(base + "input_scale")))
        factor = file.numbers(base + "pre_quant_scale")
        cast: Cast | None = None
        if scale is not None:
            cast = _fp8_inputs(scale) if eight else _nvfp4(scale)
        inputs = StoredInputs(cast, factor)
        if not fused:
            number = None if above is None else _one(base + "weight_scale_2", above)
            part = _rows(file, weight, _matrix(weight, packed), name, kinds)
            number = _above(base + "weight_scale_2", number, part.scale)
            part = replace(part, above=number)
            _check_width(base + "pre_quant_scale", factor, part)
            out.weights[weight] = CodedTensor((StoredMatrix((part,), inputs),))
            continue
        out.weights[weight] = _fused(file, weight, packed, name, above, inputs)


def _fused(
    file: _File,
    weight: str,
    packed: NDArray[np.uint8],
    name: str,
    above: NDArray[np.float32] | None,
    inputs: StoredInputs,
) -> CodedTensor:
    """Return ModelOpt's fused experts: codes (E, K/2, N) and scales (E, K/block, N)."""
    raw = file.bytes(name, *_FP8, *_MX)
    mx = file.tensors[name].dtype not in _FP8
    block, scale = (32, E8M0) if mx else (16, E4M3)
    if packed.ndim != 3 or raw.ndim != 3 or raw.shape[::2] != packed.shape[::2]:
        raise FpsimError(
            f"{name}: shape {raw.shape} does not fit codes {packed.shape}; (experts, K / {block}, "
            "N) and (experts, K / 2, N) are needed"
        )
    count, scale_2 = packed.shape[0], f"{name}_2"
    if above is not None and above.size not in (1, count):
        raise FpsimError(f"{scale_2}: shape {above.shape}, but one number, or {count}, is needed")
    each = [None] * count if above is None else np.broadcast_to(above.reshape(-1), (count,))
    numbers = [_above(scale_2, number, scale) for number in each]
    matrices = []
    for codes, scales, number in zip(packed, raw, numbers, strict=True):
        part = StoredRows(
            weight, codes.T[:, None, :], file.order(), E2M1, scale, scales.T, block, number
        )
        matrices.append(StoredMatrix((part,), inputs))
    return CodedTensor(tuple(matrices), True, None)


def _one(name: str, numbers: NDArray[np.float32]) -> np.float32:
    if numbers.size != 1:
        raise FpsimError(f"{name}: shape {numbers.shape}, but one number is needed")
    return np.float32(numbers.reshape(-1)[0])


def _largest(numbers: NDArray[np.float32] | None) -> np.float32 | None:
    return None if numbers is None or not numbers.size else np.float32(numbers.max())


def _check_width(name: str, factor: NDArray[np.float32] | None, part: StoredRows) -> None:
    if factor is not None and factor.shape != (part.shape[1],):
        raise FpsimError(f"{name}: shape {factor.shape} is not ({part.shape[1]},), one per input")


def _fp8_inputs(scale: np.float32) -> Cast:
    from fpsim.bridge.recipes.rtn import rtn_cast

    fmt = rtn_cast("e4m3fn", "tensor").fmt
    assert fmt.block is Span.TENSOR
    return BlockCast(fmt, float(scale))


def _fp_quant(file: _File, out: Coded) -> None:
    for name in [name for name in file.tensors if name.endswith(".qweight")]:
        base = name.removesuffix("qweight")
        packed = _matrix(name, file.bytes(name, torch.uint8))
        raw = file.bytes(base + "scales", torch.uint8, torch.float8_e8m0fnu, *_FP8)
        columns = packed.shape[2] * 2
        dtype = str(file.config.get("forward_dtype", "")).lower()
        mx = dtype == "mxfp4" or (not dtype and raw.size * 32 <= packed.shape[0] * columns)
        block, scale = (32, E8M0) if mx else (16, E4M3)
        shape = (packed.shape[0], -(-columns // block))
        scales = unswizzled(base + "scales", raw, shape, file.swizzled)
        above = _above(
            base + "weight_global_scale", file.number(base + "weight_global_scale"), scale
        )
        part = StoredRows(
            name, packed, file.order(), E2M1, scale, scales, block, above, divides=True
        )
        given = _positive(base + "act_global_scale", file.number(base + "act_global_scale"))
        cast: Cast = BlockCast(get_block_format("mxfp4-div3"))
        if not mx:
            cast = _nvfp4(None if given is None else np.float32(1) / given)
        rotation = file.numbers(base + "forward_hadamard_matrix")
        file.get(base + "backward_hadamard_matrix")
        if rotation is not None and (
            rotation.ndim != 2 or rotation.shape[0] != rotation.shape[1] or columns % len(rotation)
        ):
            raise FpsimError(
                f"{base}forward_hadamard_matrix: shape {rotation.shape} is not square, of a size "
                f"that divides {columns}"
            )
        inputs = StoredInputs(cast, None, rotation)
        out.weights[base + "weight"] = CodedTensor((StoredMatrix((part,), inputs),))


def _bitsandbytes(file: _File, out: Coded) -> None:
    for name in [name for name in file.tensors if name.endswith(".weight.quant_map")]:
        weight = name.removesuffix(".quant_map")
        state = _quant_state(file, weight)
        rows, columns = state["shape"]
        block = int(state["blocksize"])
        flat = file.bytes(weight, torch.uint8).reshape(-1)
        if columns % block or flat.size * 2 != rows * columns:
            raise FpsimError(
                f"{weight}: {flat.size} bytes of codes in blocks of {block} are no matrix of "
                f"{rows} x {columns} with blocks along its rows"
            )
        table = file.numbers(name)
        if table is None or table.shape != (16,):
            raise FpsimError(f"{name}: 16 numbers are needed")
        part = StoredRows(
            weight,
            flat.reshape(rows, 1, columns // 2),
            file.order(Nibbles.HIGH_FIRST),
            _table(name, table),
            FLOAT32,
            _absmax(file, weight, state, rows * columns // block).reshape(rows, columns // block),
            block,
        )
        out.weights[weight] = CodedTensor((StoredMatrix((part,)),))


def _table(name: str, values: NDArray[np.float32]) -> Table:
    try:
        return Table(tuple(values.tolist()), get_format("e5m10"))
    except FpsimError as error:
        raise FpsimError(f"{name}: {error}") from None


def _quant_state(file: _File, weight: str) -> dict[str, Any]:
    names = [f"{weight}.quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4")]
    name = next((name for name in names if name in file.tensors), None)
    if name is None:
        raise FpsimError(f"{weight}: neither {names[0]} nor {names[1]} is there")
    try:
        state = json.loads(bytes(file.bytes(name, torch.uint8).reshape(-1)))
        rows, columns = (int(n) for n in state["shape"])
        if rows < 1 or columns < 1 or int(state["blocksize"]) < 2:
            raise ValueError("sizes are positive")
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise FpsimError(f"{name}: it is no quant state of a matrix: {error}") from None
    return dict(state)


def _absmax(file: _File, weight: str, state: Mapping[str, Any], count: int) -> NDArray[np.uint32]:
    """Return float32 scales as codes, or scales that were quantized again as numbers."""
    name = f"{weight}.absmax"
    raw = file.get(name)
    if raw is None or raw.numel() != count:
        there = None if raw is None else tuple(raw.shape)
        raise FpsimError(f"{name}: {count} scales are needed, there are {there}")
    flat = raw.reshape(-1)
    if flat.dtype == torch.uint8:
        above = file.numbers(f"{weight}.nested_absmax")
        table = file.numbers(f"{weight}.nested_quant_map")
        size = int(state.get("nested_blocksize", 0))
        if above is None or table is None or table.shape != (256,) or size < 1:
            raise FpsimError(f"{name}: it is quantized, but nested_absmax or its table is missing")
        each = np.repeat(above.reshape(-1), size)[:count]
        if each.size != count:
            raise FpsimError(f"{weight}.nested_absmax: {above.size} scales are too few for {count}")
        numbers = table[flat.numpy()] * each + np.float32(state.get("nested_offset", 0.0))
    else:
        given = file.numbers(name)
        assert given is not None
        numbers = given.reshape(-1)
    return np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)


class _Layout(NamedTuple):
    mark: Callable[[str, Mapping[str, torch.Tensor]], bool]
    read: Callable[[_File, Coded], None]
    methods: tuple[str, ...]  #: names of the layout in configurations
    #: endings of the names of a matrix's necessary tensors, and of further ones
    needed: str
    beside: tuple[str, ...]


def _is_modelopt(name: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    if name.endswith("weight_scale_2"):
        return True
    if not name.endswith(".weight_scale"):
        return False
    weight = tensors.get(name.removesuffix("_scale"))
    return weight is not None and weight.dtype == torch.uint8


#: The layouts of safetensors files.
LAYOUTS: dict[str, _Layout] = {
    "gpt-oss": _Layout(
        lambda name, _: name.endswith("_blocks"), _gpt_oss, ("mxfp4",), "_blocks", ("_scales",)
    ),
    "compressed-tensors": _Layout(
        lambda name, _: name.endswith(".weight_packed"),
        _compressed_tensors,
        ("compressed-tensors",),
        "weight_packed",
        ("weight_scale", "weight_global_scale", "input_global_scale"),
    ),
    "modelopt": _Layout(
        _is_modelopt,
        _modelopt,
        ("modelopt",),
        "weight_scale",
        ("weight_scale_2", "input_scale", "pre_quant_scale"),
    ),
    "fp-quant": _Layout(
        lambda name, _: name.endswith(".qweight"),
        _fp_quant,
        ("fp_quant",),
        "qweight",
        ("scales", "weight_global_scale", "act_global_scale"),
    ),
    "bitsandbytes": _Layout(
        lambda name, _: name.endswith(".weight.quant_map"),
        _bitsandbytes,
        ("bitsandbytes",),
        "quant_map",
        ("absmax",),
    ),
}


def read_layout(
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    nibbles: str | None = None,
    swizzled: bool | None = None,
) -> Coded:
    """Find the layout of a checkpoint and return its matrices.

    Args:
        tensors: tensors of the file, by name.
        config: section on quantization of the model's configuration.
        nibbles: a `Nibbles` that replaces the layout's.
        swizzled: whether scales lie in tiles of 128 x 4; None: found from their shapes.

    Returns:
        The matrices by the parameter names of a float checkpoint.

    Raises:
        FpsimError: no layout, two layouts, a layout other than the configuration's, or tensors that
            do not fit the layout.
    """
    if nibbles is not None and nibbles not in list(Nibbles):
        raise not_one_of("nibbles", nibbles, Nibbles)
    found: dict[str, str] = {}
    for name in tensors:
        for layout, entry in LAYOUTS.items():
            if layout not in found and entry.mark(name, tensors):
                found[layout] = name
    if len(found) > 1:
        both = " and ".join(f"{layout} ({name})" for layout, name in found.items())
        raise FpsimError(f"layout: the checkpoint mixes {both}; one layout is allowed")
    method = str(config.get("quant_method", "")).lower()
    if not found:
        what = f" of method {method!r}" if method else ""
        raise FpsimError(f"layout: no 4-bit tensors{what} of a known layout: {', '.join(LAYOUTS)}")
    layout = next(iter(found))
    if method and method not in LAYOUTS[layout].methods:
        raise FpsimError(
            f"layout: tensors such as {found[layout]} are of {layout}, but the configuration says "
            f"{method!r}"
        )
    out = Coded(layout)
    order = None if nibbles is None else Nibbles(nibbles)
    LAYOUTS[layout].read(_File(tensors, config, order, swizzled, out.used), out)
    _check_complete(LAYOUTS[layout], tensors, out.used)
    for tensor in out.weights.values():
        for matrix in tensor.matrices:
            for part in matrix.parts:
                part.check()
    return out


def _check_complete(layout: _Layout, tensors: Mapping[str, torch.Tensor], used: set[str]) -> None:
    for name in tensors:
        for end in layout.beside:
            if name.endswith(end) and name not in used:
                wanted = name.removesuffix(end) + layout.needed
                if wanted not in tensors:
                    raise FpsimError(f"{wanted}: the checkpoint has no such tensor beside {name}")


def as_float(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of numbers, not codes, in a model's dtype.

    Args:
        name: name of the tensor, for errors.
        tensor: tensor of a file.
        dtype: dtype of the model.

    Returns:
        Floating-point numbers in ``dtype``; integers unchanged.

    Raises:
        FpsimError: float8 numbers, which need scales.
    """
    if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu):
        raise FpsimError(f"{name}: dtype {tensor.dtype} belongs to no layer that could be read")
    return tensor.to(dtype) if tensor.dtype.is_floating_point else tensor
