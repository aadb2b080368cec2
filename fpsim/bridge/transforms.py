# SPDX-License-Identifier: Apache-2.0
"""Transforms of a linear layer's operands that do not change its output in real arithmetic.

    hadamard     x H (W H)^T: an orthogonal rotation spreads outlier channels   (QuaRot, 2404.00456)
    smoothquant  (x / s)(W s)^T, s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)    (2211.10438)
    outliers     the channels of largest inputs multiplied apart, in float32    (QUIK, 2310.09259)

Transforms compose in the order given; each sees inputs changed by the one before. They act on
single layers, so they work for any model; `rotate_residual` instead fuses a rotation into the
weights of a LLaMA-like model, as QuaRot does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from fpsim.base.errors import FpsimError, not_one_of

__all__ = [
    "Hadamard",
    "LayerTransform",
    "Outliers",
    "SmoothQuant",
    "Transform",
    "apply_transforms",
    "get_transforms",
    "orthogonal",
    "rotate_residual",
]

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LayerTransform:
    """A transform of one layer: ``inputs`` (..., K) and ``weight`` (N, K), in torch.

    ``apart`` are input channels that both functions set to zero, and that are multiplied in float32
    beside the unit.
    """

    inputs: Function
    weight: Function
    apart: torch.Tensor | None = None


def apply_transforms(
    transforms: Sequence[LayerTransform], x: torch.Tensor, matrix: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Apply a layer's transforms to both of its operands.

    Args:
        transforms: in order.
        x: input, (..., K).
        matrix: weight, (N, K).

    Returns:
        Input and weight for the unit, and the product of the channels kept apart, (..., N), or None
        if no transform keeps any.
    """
    beside = None
    for transform in transforms:
        if transform.apart is not None:
            part = x[..., transform.apart].float() @ matrix[:, transform.apart].float().T
            beside = part if beside is None else beside + part
        x, matrix = transform.inputs(x), transform.weight(matrix)
    return x, matrix, beside


class Transform(Protocol):
    """Makes a `LayerTransform` for each layer; any object with these members is one."""

    @property
    def needs_inputs(self) -> bool:
        """Whether `layer` needs calibration inputs."""

    def layer(self, weight: torch.Tensor, inputs: torch.Tensor | None) -> LayerTransform:
        """Return the transform of a layer with weight (N, K) and inputs (T, K)."""


@dataclass(frozen=True)
class Hadamard:
    """Rotation by `orthogonal` (seeded random signs first, as QuaRot's randomised Hadamard)."""

    seed: int = 0
    needs_inputs: bool = False

    def layer(self, weight: torch.Tensor, inputs: torch.Tensor | None) -> LayerTransform:
        """Return the rotation of K channels."""
        rotation = orthogonal(weight.shape[1], self.seed)

        def rotate(x: torch.Tensor) -> torch.Tensor:
            return (x.float() @ rotation).to(x.dtype)

        return LayerTransform(rotate, rotate)


@dataclass(frozen=True)
class SmoothQuant:
    """Migration of difficulty from inputs to weights, ``alpha`` in 0..1."""

    alpha: float = 0.5
    needs_inputs: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise FpsimError(f"transforms: alpha: {self.alpha!r} is not in 0..1")

    def layer(self, weight: torch.Tensor, inputs: torch.Tensor | None) -> LayerTransform:
        """Return the scaling; channels that are always zero keep 1."""
        assert inputs is not None
        largest = inputs.abs().amax(0)
        column = weight.detach().float().abs().amax(0).clamp(min=1e-5)
        scale = largest**self.alpha / column ** (1 - self.alpha)
        scale = torch.where(largest > 0, scale.clamp(min=1e-5), 1.0)
        return LayerTransform(lambda x: (x / scale).to(x.dtype), lambda w: w * scale)


@dataclass(frozen=True)
class Outliers:
    """``count`` input channels of the largest calibration magnitudes are not run on the unit."""

    count: int = 16
    needs_inputs: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise FpsimError(f"transforms: count: {self.count!r} is not a positive number")

    def layer(self, weight: torch.Tensor, inputs: torch.Tensor | None) -> LayerTransform:
        """Return the split."""
        assert inputs is not None
        count = min(self.count, inputs.shape[1])
        apart = inputs.abs().amax(0).topk(count).indices.sort().values
        keep = torch.ones(inputs.shape[1])
        keep[apart] = 0

        def without(x: torch.Tensor) -> torch.Tensor:
            return x * keep.to(x.dtype)

        return LayerTransform(without, without, apart)


_KINDS: dict[str, Callable[..., Any]] = {
    "hadamard": Hadamard,
    "smoothquant": SmoothQuant,
    "outliers": Outliers,
}


def get_transforms(given: str | Sequence[str | Transform]) -> tuple[Transform, ...]:
    """Return transforms given by name, such as ``smoothquant:alpha=0.7+hadamard``, or as objects.

    Raises:
        FpsimError: an unknown name or option, with the nearest one.
    """
    items: Sequence[str | Transform] = given.split("+") if isinstance(given, str) else given
    return tuple(_named(item) if isinstance(item, str) else item for item in items if item)


def _named(text: str) -> Transform:
    name, _, tail = text.partition(":")
    if name not in _KINDS:
        raise not_one_of("transforms", name, _KINDS)
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        try:
            options[key] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            raise FpsimError(f"transforms: {part!r} in {text!r} is not option=number") from None
    try:
        transform: Transform = _KINDS[name](**options)
    except TypeError:
        raise FpsimError(f"transforms: {text!r} has an option that {name} does not take") from None
    return transform


@lru_cache(maxsize=32)
def orthogonal(size: int, seed: int = 0) -> torch.Tensor:
    """Return a dense orthogonal matrix (size, size) in float32.

    For size = 2^k m with m odd: random signs, then the Kronecker product of Sylvester's Hadamard
    matrix of 2^k and the orthonormal DCT-II of m, because no Hadamard matrix has odd order m > 1.
    """
    power = size & -size
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < power:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    odd = size // power
    k, n = torch.arange(odd)[:, None], torch.arange(odd)[None]
    cosine = torch.cos(math.pi * (2 * n + 1) * k / (2 * odd)).double() * math.sqrt(2 / odd)
    cosine[0] = math.sqrt(1 / odd)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (size, 1), generator=generator).double() * 2 - 1
    return (signs * torch.kron(matrix / math.sqrt(power), cosine)).float()


# -- a rotation fused into the weights -----------------------------------------------------------

_PARTS = ("embed_tokens", "layers", "norm")
_READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


@torch.no_grad()
def rotate_residual(model: nn.Module, seed: int = 0) -> nn.Module:
    """Rotate the residual stream of a LLaMA-like model, in place, and return the model.

    Gains of the RMS norms go into the layers that read them; embeddings and layers that write to
    the stream are multiplied by Q, readers by its transpose. Without a gain an RMS norm commutes
    with Q, so the model's function does not change. Tied output embeddings are untied.

    Raises:
        FpsimError: a model that is not a pre-norm decoder with LLaMA's modules and plain RMS norms.
    """
    core: Any = getattr(model, "model", None)
    head: Any = getattr(model, "lm_head", None)
    config: Any = getattr(model, "config", None)
    if head is None or not all(hasattr(core, part) for part in _PARTS):
        raise FpsimError(
            f"model: {type(model).__name__} has no model.{{{', '.join(_PARTS)}}} and lm_head, as "
            "a rotation of the residual stream needs"
        )
    _check_readers(core)
    rotation = orthogonal(core.embed_tokens.weight.shape[1], seed).double()
    head.weight = nn.Parameter(head.weight.detach().clone())
    if config is not None:
        config.tie_word_embeddings = False
    _fuse(core.norm, [head], rotation)
    _set(core.embed_tokens, core.embed_tokens.weight.double() @ rotation)
    for layer in core.layers:
        for norm, readers in _READERS.items():
            _fuse(getattr(layer, norm), [layer.get_submodule(r) for r in readers], rotation)
        for name in _WRITERS:
            writer = layer.get_submodule(name)
            _set(writer, rotation.T @ writer.weight.double())
            if writer.bias is not None:
                writer.bias.copy_((rotation.T @ writer.bias.double()).to(writer.bias.dtype))
    return model


def _check_readers(core: Any) -> None:
    wanted = {*_READERS, *_WRITERS, *(r for readers in _READERS.values() for r in readers)}
    for index, layer in enumerate(core.layers):
        names = dict(layer.named_modules())
        missing = sorted(wanted - names.keys())
        more = [n for n in dict(layer.named_children()) if "norm" in n and n not in _READERS]
        if missing or more:
            problem = f"lacks {missing[0]}" if missing else f"has also {more[0]}"
            raise FpsimError(
                f"model: layer {index} {problem}; a rotation of the residual stream needs LLaMA's "
                "modules"
            )
    norm = core.norm
    x = torch.randn(2, norm.weight.shape[0])
    plain = nn.functional.rms_norm(x, (x.shape[1],), None, 1e-6) * norm.weight.float()
    if not torch.allclose(norm(x.to(norm.weight.dtype)).float(), plain, rtol=1e-2, atol=1e-3):
        raise FpsimError(f"model: {type(norm).__name__} is not x / rms(x) * weight")


def _fuse(norm: Any, readers: Sequence[Any], rotation: torch.Tensor) -> None:
    """Move a norm's gain into the layers that read it, and rotate their inputs."""
    gain = norm.weight.double()
    for reader in readers:
        _set(reader, reader.weight.double() * gain @ rotation)
    norm.weight.fill_(1.0)


def _set(module: Any, weight: torch.Tensor) -> None:
    module.weight.copy_(weight.to(module.weight.dtype))
