# SPDX-License-Identifier: Apache-2.0
"""Write the codes and scales of a converted model as a file that serving engines read.

Weights go out as the codes and scales that the unit multiplied, inputs as the static scale that
they are cast with. A layout that has no place for something refuses the model and names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from fpsim.base.atomic_files import new_folder
from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.fields import Span
from fpsim.bridge.cast import BlockCast
from fpsim.bridge.checkpoints.coded import CodedTensor
from fpsim.bridge.checkpoints.layouts import E2M1, E4M3, FLOAT32, INTEGER_SCALES
from fpsim.bridge.convert import conversion_of
from fpsim.bridge.linear import SimulatedLinear, simulated_layers
from fpsim.bridge.saved_conversion import CONFIG_KEY
from fpsim.bridge.systems.forms import LayerForm
from fpsim.bridge.systems.layer import FormLinear
from fpsim.formats.floating import FixedFormat, Format
from fpsim.formats.names import E8M0
from fpsim.units.operands import Operand, Scales

__all__ = [
    "FileTensors",
    "SavedLayer",
    "in_file_names",
    "own_tensors",
    "save_checkpoint",
    "saved_layers",
]


@dataclass(frozen=True, eq=False)
class SavedLayer:
    """Codes of a matrix (N, K), its scales (N, G) and the scales above them, one or (N,).

    ``inputs`` is the block format of the inputs, None if they stay float; ``input_scale`` their
    static tensor scale; ``input_factor`` (K,) multiplies them first.
    """

    name: str
    element: Format
    codes: NDArray[np.uint8]
    scale: Format
    scales: NDArray[Any]
    above: NDArray[np.float32] | None
    inputs: BlockFormat | None = None
    input_scale: np.float32 | None = None
    input_factor: NDArray[np.float32] | None = None

    @property
    def is_mx(self) -> bool:
        """Whether scales are powers of two per 32, else E4M3 per 16."""
        return self.scale == E8M0

    @property
    def is_integer(self) -> bool:
        """Whether the codes are INT4."""
        return isinstance(self.element, FixedFormat)

    @property
    def block(self) -> int:
        """Elements under one scale."""
        return int(self.codes.shape[1] // self.scales.shape[1])

    @property
    def kind(self) -> tuple[Any, ...]:
        """The formats that a file names once for all of its layers."""
        per = "row" if self.is_integer and self.scales.shape[1] == 1 else self.block
        return self.element, self.scale, per, self.inputs, self.input_scale is None

    def rows(self, name: str, rows: NDArray[np.int64]) -> SavedLayer:
        """Return some rows under another name."""
        above = self.above
        if above is not None and above.size > 1:
            above = np.unique(above[rows]) if (above[rows] == above[rows[0]]).all() else above[rows]
        return replace(
            self, name=name, codes=self.codes[rows], scales=self.scales[rows], above=above
        )

    def tensor_scale(self, layout: str) -> np.float32 | None:
        """Return the one scale above those of blocks; None if there is none.

        Args:
            layout: for messages.

        Raises:
            FpsimError: rows with scales of their own.
        """
        if self.above is not None and self.above.size > 1:
            raise FpsimError(
                f"layout {layout}: layer {self.name} has a scale per row above its blocks; "
                "allowed: one"
            )
        return None if self.above is None else np.float32(self.above[0])

    @property
    def packed(self) -> NDArray[np.uint8]:
        """Two codes in a byte (N, K / 2), the first in the low half."""
        return (self.codes[:, ::2] | (self.codes[:, 1::2] << 4)).astype(np.uint8)


class FileTensors(NamedTuple):
    """A model's tensors by the names that a file has for them.

    ``layers`` have codes, ``experts`` the codes of several matrices in one tensor (experts, ...),
    and ``left`` names linear layers without codes.
    """

    layers: dict[str, SavedLayer]
    experts: dict[str, list[SavedLayer]]
    others: dict[str, torch.Tensor]
    left: list[str]


def save_checkpoint(
    model: nn.Module, folder: str | os.PathLike[str], layout: str = "compressed-tensors"
) -> Path:
    """Write a converted model as a 4-bit checkpoint: its codes, scales and static input scales.

    ``compressed-tensors`` (nvfp4-pack-quantized, mxfp4-pack-quantized, and pack-quantized for INT4
    with a scale per output or group) and ``modelopt`` (NVFP4) are folders for vLLM and others,
    ``gguf`` a folder with ``model.gguf`` for llama.cpp. Float tensors are written unchanged.
    `load_checkpoint` reads all of them back to the same codes and scales. compressed-tensors
    divides by the scale of a tensor: the reciprocal, rounded to float32, is written. Of a
    calibrated system's layers those can be written that are one product, such as GPTQ's.

    Args:
        model: a model of transformers, converted by `fpsim.bridge.convert` or `load_checkpoint`.
        folder: a new one; it appears whole or not at all.
        layout: ``compressed-tensors``, ``modelopt`` or ``gguf``.

    Returns:
        The folder.

    Raises:
        FpsimError: a model that is not converted, an unknown layout, a folder that exists, or
            something that the layout cannot say: other elements, scales or blocks, zero points,
            transforms of layers, inputs whose scale is found at run time, cast attention.
    """
    from fpsim.bridge.checkpoints.save_gguf import write_gguf

    writers = {
        "compressed-tensors": _compressed_tensors, "modelopt": _modelopt, "gguf": write_gguf,
    }  # fmt: skip
    if layout not in writers:
        raise not_one_of("layout", layout, writers)
    if not isinstance(model, PreTrainedModel):
        raise FpsimError(f"model: {type(model).__name__} is not a model of transformers")
    record = conversion_of(model)
    if record.attention or record.embeddings:
        what = [*record.attention, *record.embeddings][0]
        raise FpsimError(f"layout {layout}: {what} is cast, which the layout has no place for")
    layers = saved_layers(model, layout)
    target = Path(folder).expanduser()
    with new_folder(target) as fresh:
        writers[layout](model, layers, fresh)
    return target


def saved_layers(model: nn.Module, layout: str) -> dict[str, SavedLayer]:
    """Return the codes and scales of every simulated layer, by its name.

    Args:
        model: a converted model.
        layout: for messages.

    Returns:
        Codes and scales of every simulated layer.

    Raises:
        FpsimError: elements or scales that the layout has no place for, or inputs that are cast in
            a way that no layout can say.
    """
    found = simulated_layers(model)
    if not found:
        raise FpsimError("model: no layer of it is simulated, so there are no codes to save")
    return {name: _saved(layer, layout) for name, layer in found.items()}


def _saved(layer: SimulatedLinear, layout: str) -> SavedLayer:
    where = f"layout {layout}: layer {layer.name}"
    if layer.transforms:
        raise FpsimError(f"{where} has transforms, which the layout has no place for")
    given = layer.weight.given if layer.recipe.takes_given else None
    if isinstance(layer, FormLinear):
        operand = _alone(layer.form, where)
    else:
        operand = given.operand() if given is not None else _codes(layer, where)
    if layout == "compressed-tensors" and isinstance(operand.format, FixedFormat):
        scales, above = _integer_scales(operand, where), None
    else:
        scales, above = _block_scales(operand, where)
    if operand.length % scales.block:
        raise FpsimError(
            f"{where} has {operand.length} inputs, which blocks of {scales.block} do not divide"
        )
    inputs, static = _inputs(layer, where)
    factor = None
    if given is not None:
        factor = given.inputs.factor
        if given.inputs.rotation is not None:
            raise FpsimError(f"{where} rotates its inputs, which the layout has no place for")
    return SavedLayer(
        layer.name, operand.format, operand.codes, scales.format, scales.given, above, inputs,
        static, factor,
    )  # fmt: skip


def _block_scales(operand: Operand, where: str) -> tuple[Scales, NDArray[np.float32] | None]:
    """Return the block scales of MXFP4 or NVFP4, and the scales above them."""
    scales = operand.scales
    per = ("no scale", 0) if scales is None else (scales.format.name, scales.block)
    known = per in {(E4M3.name, 16), (E8M0.name, 32)}
    if operand.format != E2M1 or scales is None or scales.split or not known:
        raise FpsimError(
            f"{where} has {operand.format.name} elements under {per[0]} per {per[1]}; allowed: "
            "e2m1 under e4m3fn per 16 or e8m0 per 32; compressed-tensors also takes int4"
        )
    above = None if operand.factor is None else operand.factor.reshape(-1)
    if above is not None and scales.format == E8M0:
        raise FpsimError(f"{where} has the factor {above[0]} above MXFP4 scales; allowed: none")
    return scales, above


def _integer_scales(operand: Operand, where: str) -> Scales:
    """Return the scales of INT4 weights, one per row or group."""
    scales = operand.scales
    what = operand.format.name
    if what not in ("int4", "int4s"):
        raise FpsimError(f"{where} has {what} elements; allowed: int4, int4s, e2m1")
    if operand.zeros is not None or operand.offsets is not None:
        raise FpsimError(f"{where} has zero points; allowed: {what} elements without them")
    if scales is None:
        factor = np.float32(1) if operand.factor is None else operand.factor
        rows = np.broadcast_to(factor, (len(operand.codes), 1)).astype(np.float32)
        return Scales.of_rows(rows.view(np.uint32), FLOAT32, operand.length)
    known = [scale.name for scale in INTEGER_SCALES.values()]
    if operand.factor is not None or scales.split or scales.format.name not in known:
        raise FpsimError(
            f"{where} has {scales.format.name} scales per {scales.block}; allowed for {what}: one "
            f"of {', '.join(known)} per group or row, without factors above"
        )
    return scales


def _codes(layer: SimulatedLinear, where: str) -> Operand:
    if layer.weight_cast is None:
        raise FpsimError(f"{where} has a float weight; skip it when converting")
    if layer.input_cast is not None:
        return layer.operand()
    matrix = layer.weight.matrix.detach().to("cpu", torch.float32).contiguous().numpy()
    return layer.weight_cast.quantize(matrix)


def _alone(form: LayerForm, where: str) -> Operand:
    """Return the weight of a system's layer, if its product on the unit is all that it computes."""
    several = len(form.segments) > 1 or form.segments[0].columns is not None
    for what, found in {
        "scales or turns its inputs": bool(form.maps),
        "computes products beside the unit": bool(form.sides),
        "computes several products": several,
        "turns its outputs": form.back is not None,
        "adds a bias of its own": form.bias is not None,
    }.items():
        if found:
            raise FpsimError(f"{where} {what}, which the layout has no place for")
    return form.segments[0].weight


def _inputs(layer: SimulatedLinear, where: str) -> tuple[BlockFormat | None, np.float32 | None]:
    cast = layer.input_cast
    if cast is None:
        return None, None
    fmt, static = (cast.fmt, cast.tensor_scale) if isinstance(cast, BlockCast) else (None, None)
    if fmt is not None and fmt.element == E2M1 and not fmt.is_coded and not fmt.signs:
        if fmt.scale == E4M3 and fmt.block == 16:
            if static is None:
                raise FpsimError(
                    f"{where} finds the tensor scale of its inputs at run time; allowed: a static "
                    "one (recipe nvfp4-static), or float inputs"
                )
            return fmt, np.float32(static)
        if fmt.scale == E8M0 and fmt.block == 32:
            return fmt, None
    if fmt is not None and (fmt.name == "mxfp8-e4m3" or _is_per_token(fmt)):
        return fmt, None
    name = fmt.name if fmt is not None else type(cast).__name__
    raise FpsimError(
        f"{where} casts its inputs to {name}; allowed: nvfp4 with a static scale, mxfp4, "
        "mxfp8-e4m3, integers with a scale per token, or float inputs"
    )


def _is_per_token(fmt: BlockFormat) -> bool:
    """Whether a format is that of 4- or 8-bit integers with one real scale per row."""
    return fmt.block is Span.ROW and fmt.scale is None and fmt.element.name in ("int4s", "int8s")


def own_tensors(model: PreTrainedModel, layers: Mapping[str, SavedLayer]) -> FileTensors:
    """Return layers and other tensors by the model's own names.

    Raises:
        FpsimError: codes of a layer that is not simulated.
    """
    out = FileTensors({}, {}, {}, [])
    for name, tensor in _tensors(model):
        path, _, leaf = name.rpartition(".")
        single = layers.get(path) if leaf == "weight" else None
        if single is not None:
            out.layers[name] = single
        elif group := _experts(layers, name):
            out.experts[name] = group
        elif isinstance(tensor, CodedTensor):
            raise FpsimError(f"{name}: it holds codes but is not simulated, so nothing is decided")
        else:
            out.others[name] = tensor.detach()
            if leaf == "weight" and isinstance(_at(model, path), nn.Linear):
                out.left.append(path)
    return out


def in_file_names(model: PreTrainedModel, layers: Mapping[str, SavedLayer]) -> FileTensors:
    """Return layers and other tensors by the names that a checkpoint of the architecture has.

    transformers renames and splits the parameters; numbered rows show it where codes go.

    Raises:
        FpsimError: codes of a layer that is not simulated, or rows that are mixed.
    """
    own = own_tensors(model, layers)
    groups = {name: [layer] for name, layer in own.layers.items()} | own.experts
    sources = [layer for group in groups.values() for layer in group]
    firsts = np.cumsum([0, *(layer.codes.shape[0] for layer in sources)])
    state, first = dict(own.others), 0
    for name, group in groups.items():
        numbers = torch.arange(int(firsts[first]), int(firsts[first + len(group)]))[:, None]
        state[name] = numbers.reshape(len(group), -1, 1) if name in own.experts else numbers
        first += len(group)
    numbered = {id(state[name]) for name in state if state[name].dtype == torch.int64}
    out = FileTensors({}, {}, {}, own.left)
    for name, tensor in revert_weight_conversion(model, state).items():
        if not numbered or tensor.dtype != torch.int64 or tensor.shape[-1] != 1:
            out.others[name] = tensor.contiguous()
            continue
        parts = [
            _numbered(name, ids, firsts, sources)
            for ids in tensor.reshape(-1, tensor.shape[-2]).numpy()
        ]
        if tensor.dim() == 2:
            out.layers[name] = parts[0]
        else:
            out.experts[name] = parts
    return out


def _numbered(
    name: str, ids: NDArray[np.int64], firsts: NDArray[np.int64], sources: list[SavedLayer]
) -> SavedLayer:
    which = np.searchsorted(firsts, ids, side="right") - 1
    source = sources[int(which[0])]
    if (which != which[0]).any():
        raise FpsimError(f"{name}: a file joins the rows of several layers there")
    return source.rows(name, ids - firsts[which[0]])


def _at(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path)


def _tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return parameters, each once, and the buffers that a state dict has."""
    buffers = [
        (f"{path}.{name}" if path else name, buffer)
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]
    return [*model.named_parameters(), *buffers]


def _experts(layers: Mapping[str, SavedLayer], name: str) -> list[SavedLayer]:
    found: list[SavedLayer] = []
    while (layer := layers.get(f"{name}.{len(found)}")) is not None:
        found.append(layer)
    return found


# -- folders of safetensors ----------------------------------------------------------------------


def _bytes(array: NDArray[np.uint8], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).view(dtype)


#: Dtypes of scales, by their formats' names.
_DTYPES = {
    "e8m0": torch.uint8, "e4m3fn": torch.float8_e4m3fn,
    **{scale.name: dtype for dtype, scale in INTEGER_SCALES.items()},
}  # fmt: skip


def _scale_tensor(layer: SavedLayer) -> torch.Tensor:
    return _bytes(layer.scales.view(np.uint8), _DTYPES[layer.scale.name])


def _words(layer: SavedLayer, layout: str) -> torch.Tensor:
    """Return INT4 codes plus 8, eight in a word of 32 bits."""
    if layer.codes.shape[1] % 8:
        raise FpsimError(
            f"layout {layout}: layer {layer.name} has {layer.codes.shape[1]} inputs; allowed: "
            "multiples of 8, the codes in a word"
        )
    return _bytes(layer.packed ^ np.uint8(0x88), torch.int32)


def _number(value: np.float32) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float32)


def _reciprocal(value: np.float32) -> np.float32:
    """Return the float32 whose reciprocal is ``value``, or the one nearest to its reciprocal."""
    first = np.float32(1) / value
    for other in (
        first,
        np.nextafter(first, np.float32(0)),
        np.nextafter(first, np.float32(np.inf)),
    ):
        if np.float32(1) / other == value:
            return np.float32(other)
    return first


def _alike(layers: Mapping[str, SavedLayer], layout: str) -> SavedLayer:
    """Return the first layer, if the format of all is its format."""
    first = next(iter(layers.values()))
    for name, layer in layers.items():
        if layer.kind != first.kind:
            raise FpsimError(
                f"layout {layout}: layer {name} is cast otherwise than {first.name}; allowed: one "
                "format of weights and one of inputs"
            )
    return first


def _no_experts(layout: str, found: FileTensors) -> None:
    if found.experts:
        name = next(iter(found.experts))
        raise FpsimError(
            f"layout {layout}: {name} has the matrices of all experts in one tensor, which the "
            "layout has no place for"
        )


def _compressed_tensors(model: PreTrainedModel, layers: dict[str, SavedLayer], out: Path) -> None:
    layout = "compressed-tensors"
    first, found = _alike(layers, layout), in_file_names(model, layers)
    _no_experts(layout, found)
    tensors = dict(found.others)
    for name, layer in found.layers.items():
        if layer.input_factor is not None:
            raise FpsimError(
                f"layout {layout}: layer {layer.name} multiplies its inputs by factors first, "
                "which the layout has no place for"
            )
        tensors[f"{name}_scale"] = _scale_tensor(layer)
        if layer.is_integer:
            tensors[f"{name}_packed"] = _words(layer, layout)
            tensors[f"{name}_shape"] = torch.tensor(layer.codes.shape)
        else:
            tensors[f"{name}_packed"] = _bytes(layer.packed)
        if layer.scale == E4M3:
            above = layer.tensor_scale(layout)
            above = np.float32(1) if above is None else above
            tensors[f"{name}_global_scale"] = _number(_reciprocal(above))
        if layer.input_scale is not None:
            base = name.removesuffix("weight")
            tensors[f"{base}input_global_scale"] = _number(_reciprocal(layer.input_scale))
    kind = "mxfp4-pack-quantized" if first.is_mx else "nvfp4-pack-quantized"
    weights = _args(first.is_mx, 4)
    if first.is_integer:
        kind = "pack-quantized"
        weights = _integer_args(4, "channel")
        if first.block < first.codes.shape[1]:
            weights |= {"strategy": "group", "group_size": first.block}
    group: dict[str, Any] = {
        "targets": ["Linear"], "weights": weights | {"dynamic": False}, "format": kind,
        "input_activations": _input_args(first, layout), "output_activations": None,
    }  # fmt: skip
    about = {
        "quant_method": layout, "format": kind, "quantization_status": "compressed",
        "config_groups": {"group_0": group}, "ignore": found.left, "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }  # fmt: skip
    _write(model, tensors, about, out)


def _args(mx: bool, bits: int) -> dict[str, Any]:
    """Return compressed-tensors' description of a float format in blocks."""
    return {
        "num_bits": bits, "type": "float", "symmetric": True, "group_size": 32 if mx else 16,
        "strategy": "group" if mx else "tensor_group",
        "scale_dtype": "torch.uint8" if mx else "torch.float8_e4m3fn",
    }  # fmt: skip


def _input_args(layer: SavedLayer, layout: str) -> dict[str, Any] | None:
    """Return compressed-tensors' description of a layer's inputs; None if they stay float."""
    fmt = layer.inputs
    if fmt is None:
        return None
    integers = _is_per_token(fmt)
    if integers != layer.is_integer:
        raise FpsimError(
            f"layout {layout}: layer {layer.name} has {layer.element.name} weights and "
            f"{fmt.element.name} inputs; allowed: integers beside integers, floats beside floats"
        )
    if integers:
        return _integer_args(fmt.element.bits, "token") | {"dynamic": True}
    mx = fmt.scale == E8M0
    return _args(mx, fmt.element.bits) | {"dynamic": True if mx else "local"}


def _integer_args(bits: int, strategy: str) -> dict[str, Any]:
    """Return compressed-tensors' description of integers without zero points."""
    return {
        "num_bits": bits, "type": "int", "symmetric": True, "group_size": None,
        "strategy": strategy,
    }  # fmt: skip


def _modelopt(model: PreTrainedModel, layers: dict[str, SavedLayer], out: Path) -> None:
    first, found = _alike(layers, "modelopt"), in_file_names(model, layers)
    if first.is_mx:
        raise FpsimError(
            f"layout modelopt: layer {first.name} has E8M0 scales per 32; allowed: NVFP4"
        )
    if first.inputs is not None and first.input_scale is None:
        raise FpsimError(
            f"layout modelopt: layer {first.name} casts its inputs to {first.inputs.name}; "
            "allowed: nvfp4 with a static scale, or float inputs"
        )
    tensors = dict(found.others)
    for name, layer in found.layers.items():
        _modelopt_layer(tensors, name.removesuffix("weight"), layer)
        tensors[name] = _bytes(layer.packed)
        tensors[f"{name}_scale"] = _scale_tensor(layer)
    for name, experts in found.experts.items():
        packed = np.stack([layer.packed.T for layer in experts])
        scales = np.stack([layer.scales.T for layer in experts])
        tensors[name] = _bytes(packed)
        tensors[f"{name}_weight_scale"] = _bytes(scales, torch.float8_e4m3fn)
        _modelopt_layer(tensors, f"{name}_", *experts)
    algorithm = "W4A16_NVFP4" if first.inputs is None else "NVFP4"
    if any(layer.input_factor is not None for layer in layers.values()):
        algorithm = "NVFP4_AWQ"
    about = {
        "quant_method": "modelopt", "quant_algo": algorithm, "group_size": 16,
        "kv_cache_quant_algo": None, "ignore": found.left,
    }  # fmt: skip
    details = {k: v for k, v in about.items() if k not in ("quant_method", "ignore")}
    details["exclude_modules"] = found.left
    (out / "hf_quant_config.json").write_text(
        json.dumps({"producer": {"name": "fpsim"}, "quantization": details}, indent=2)
    )
    _write(model, tensors, about, out)


def _modelopt_layer(tensors: dict[str, torch.Tensor], base: str, *layers: SavedLayer) -> None:
    found = [layer.tensor_scale("modelopt") for layer in layers]
    above = [np.float32(1) if scale is None else scale for scale in found]
    single = all(value == above[0] for value in above)
    tensors[f"{base}weight_scale_2"] = torch.tensor(above[0] if single else np.array(above))
    first = layers[0]
    if first.input_scale is not None:
        if any(layer.input_scale != first.input_scale for layer in layers):
            raise FpsimError(f"layout modelopt: experts of {base} have several input scales")
        tensors[f"{base}input_scale"] = torch.tensor(first.input_scale)
    if first.input_factor is not None:
        tensors[f"{base}pre_quant_scale"] = torch.from_numpy(first.input_factor.copy())


def _write(
    model: PreTrainedModel, tensors: dict[str, torch.Tensor], about: dict[str, Any], out: Path
) -> None:
    config = model.config.to_dict() | {"quantization_config": about}
    config.pop(CONFIG_KEY, None)
    config["architectures"] = [type(model).__name__]
    (out / "config.json").write_text(json.dumps(config, indent=2, default=str))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
