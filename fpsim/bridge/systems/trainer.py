# SPDX-License-Identifier: Apache-2.0
"""Training of a block's constants against the float block's output, one block at a time.

The target is the float block on the float stream; the student is the block with layers computed by
`Learner.forward` on the stream cast so far. The loss is the mean squared error, the optimizer AdamW
without decay, the order of batches fixed. Rounding has the gradient of the identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.systems.casts import RangeCast
from fpsim.bridge.systems.forms import Divide, LayerForm, Matrix, Segment
from fpsim.bridge.systems.learned import cast_through, forwards, frozen, round_through
from fpsim.bridge.systems.stream import Block, Hidden
from fpsim.formats.floating import FloatFormat
from fpsim.units.operands import Operand

__all__ = ["HeadMatrix", "InputScales", "LearnedLinear", "Learner", "train_block"]


class Learner(Protocol):
    """A linear layer with trained constants."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, differentiable in its constants."""

    def form(self) -> LayerForm:
        """Return the layer's form with the present constants."""


class InputScales:
    """Scales, and perhaps shifts, of layers' inputs: x~ = (x - shift) / scale.

    Scales closer to zero than 0.01 count as 0.01, as in OmniQuant's code.
    """

    def __init__(self, scale: NDArray[np.float64], shifted: bool) -> None:
        self.raw = torch.tensor(scale, dtype=torch.float32, requires_grad=True)
        self.shift = torch.zeros(len(scale), requires_grad=shifted)

    @property
    def scale(self) -> torch.Tensor:
        """The scales used, (K,)."""
        near = torch.where(self.raw < 0, -0.01, 0.01)
        return torch.where(self.raw.abs() < 0.01, near, self.raw)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The tensors to train."""
        return [self.raw, self.shift] if self.shift.requires_grad else [self.raw]


class HeadMatrix:
    """A matrix A per head of keys and values: the values x that attention mixes become x A^-1.

    A is masked: its diagonal counts fully, entries within ``band`` of it by ``share``, others not
    at all; AffineQuant widens the band during training. With ``share`` 0 there is a scale per
    channel.
    """

    def __init__(
        self, diagonal: NDArray[np.float64], heads: int, repeats: int, share: float
    ) -> None:
        width = diagonal.size // heads
        start = np.zeros((heads, width, width))
        start[:, range(width), range(width)] = diagonal.reshape(heads, width)
        self.raw = torch.tensor(start, dtype=torch.float32, requires_grad=True)
        self.repeats, self.share, self.band = repeats, share, 0

    @property
    def matrices(self) -> torch.Tensor:
        """The masked matrix of each head, (heads, D, D)."""
        width = self.raw.shape[1]
        apart = (torch.arange(width)[:, None] - torch.arange(width)[None]).abs()
        near = ((apart > 0) & (apart <= self.band)).float() * self.share
        return self.raw * (torch.eye(width) + near)

    def blocks(self, matrices: torch.Tensor, repeats: int) -> torch.Tensor:
        """Return matrices as one block-diagonal matrix, each as often as its head is read."""
        spread = matrices.repeat_interleave(repeats, dim=0)
        whole: torch.Tensor = torch.block_diag(*spread)  # type: ignore[no-untyped-call]
        return whole


class LearnedLinear:
    """A linear layer with learned clipping, and learned transforms of its input or output.

    The range of an output channel is sigmoid(u) max, sigmoid(l) min of the transformed weight, with
    u and l starting at 4; floating-point elements have sigmoid(u) max |w|. Gradients pass the
    rounding unchanged, and reach u and l through the scale.

    Args:
        weight: (N, K).
        bias: (N,) or None; the module's bias, added here.
        element: ``int``: integers with a zero point, or a floating-point element.
        bits: bits of integers.
        cast: cast of inputs.
        scales: scales of the input.
        reads: matrix of heads applied to the input.
        makes: matrix of heads applied to the output.
        clipping: whether u and l are trained; False: the whole range.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        element: FloatFormat | None,
        bits: int,
        cast: Cast | None,
        scales: InputScales | None = None,
        reads: HeadMatrix | None = None,
        makes: HeadMatrix | None = None,
        clipping: bool = True,
    ) -> None:
        self.weight = weight.detach().float()
        self.bias = None if bias is None else bias.detach().float()
        self.element, self.bits, self.cast = element, bits, cast
        self.scales, self.reads, self.makes = scales, reads, makes
        shape = (len(weight), 1)
        self.upper = torch.full(shape, 4.0, requires_grad=clipping)
        self.lower = torch.full(shape, 4.0, requires_grad=clipping)
        self.clipping = clipping

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Learned clipping."""
        return [self.upper, self.lower] if self.clipping else []

    def _turned(self) -> torch.Tensor:
        """Return the weight for transformed inputs."""
        weight = self.weight
        if self.scales is not None:
            weight = weight * self.scales.scale
        if self.reads is not None:
            weight = weight @ self.reads.blocks(self.reads.matrices, self.reads.repeats).T
        if self.makes is not None:
            inverse = torch.linalg.inv(self.makes.matrices.double()).float()
            weight = self.makes.blocks(inverse, 1).T @ weight
        return weight

    def _range(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one = torch.ones(())
        up = torch.sigmoid(self.upper) if self.clipping else one
        low = torch.sigmoid(self.lower) if self.clipping else one
        if self.element is not None:
            largest = up * weight.abs().amax(1, keepdim=True)
            return -largest, largest
        return low * weight.amin(1, keepdim=True), up * weight.amax(1, keepdim=True)

    def rounded(self) -> torch.Tensor:
        """Return the transformed and rounded weight, differentiable."""
        weight = self._turned()
        low, high = self._range(weight)
        if self.element is not None:
            scale = (high / self.element.max_value).clamp(min=1e-12)
            quotient = weight / scale
            limit = self.element.max_value
            inside = quotient.clamp(-limit, limit)
            codes = self.element.encode(inside.detach().double().numpy(), "rne", "saturate")
            values = torch.from_numpy(self.element.decode(codes)).float()
            return (inside + (values - inside).detach()) * scale
        levels = (1 << self.bits) - 1
        scale = ((high - low) / levels).clamp(1e-5, 1e4)
        zero = torch.round(-low / scale).clamp(-1e4, 1e4).detach()
        return ((round_through(weight / scale) + zero).clamp(0, levels) - zero) * scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        bias = self.bias
        if self.scales is not None:
            if self.scales.shift.requires_grad:
                more = self.weight @ self.scales.shift
                bias = more if bias is None else bias + more
            x = (x - self.scales.shift) / self.scales.scale
        if self.reads is not None:
            inverse = torch.linalg.inv(self.reads.matrices.double()).float()
            x = x @ self.reads.blocks(inverse, self.reads.repeats)
        out = cast_through(x, self.cast) @ self.rounded().T
        if self.makes is not None:
            out = out @ self.makes.blocks(self.makes.matrices, 1)
        return out if bias is None else out + bias

    @torch.no_grad()
    def form(self) -> LayerForm:
        """Return the layer's form with the present constants, without the module's bias."""
        maps: list[Any] = []
        bias = None
        if self.scales is not None:
            shift = self.scales.shift.numpy() if self.scales.shift.requires_grad else None
            maps.append(Divide(self.scales.scale.numpy().copy(), shift))
            if shift is not None:
                bias = (self.weight.numpy() @ shift).astype(np.float32)
        if self.reads is not None:
            matrices = self.reads.matrices
            inverse = torch.linalg.inv(matrices.double()).float()
            maps.append(
                Matrix(
                    self.reads.blocks(inverse, self.reads.repeats).numpy(),
                    self.reads.blocks(matrices, self.reads.repeats).T.contiguous().numpy(),
                )
            )
        weight = self._turned()
        low, high = (x.numpy().astype(np.float32) for x in self._range(weight))
        rows = weight.numpy().astype(np.float32)
        if self.element is not None:
            scale = np.maximum(high / np.float32(self.element.max_value), np.float32(1e-12))
            codes = self.element.encode(rows.astype(np.float64) / scale, "rne", "saturate")
            operand = Operand(codes, self.element, factor=scale)
        else:
            operand = RangeCast(self.bits, zero_in_range=False).between(rows, low, high)
        back = None
        if self.makes is not None:
            back = self.makes.blocks(self.makes.matrices, 1).numpy()
        return LayerForm((Segment(operand, self.cast),), tuple(maps), bias=bias, back=back)


@dataclass(frozen=True)
class Training:
    """Mean losses of the first and the last epoch of `train_block`."""

    first: float
    last: float


def train_block(
    block: Block,
    targets: Hidden,
    states: Hidden,
    learners: Mapping[str, Learner],
    groups: Sequence[tuple[list[torch.Tensor], float]],
    epochs: int,
    matrices: Sequence[HeadMatrix] = (),
) -> Training:
    """Train the constants of a block's layers.

    Args:
        block: a block whose layers are linear modules.
        targets: the float block's outputs.
        states: hidden states of the model cast so far.
        learners: learners of the block's layers, by name; their constants change in place.
        groups: parameters with learning rates.
        epochs: passes over all batches; 0: no training.
        matrices: matrices of heads whose bands widen from epoch to epoch.

    Returns:
        The losses.

    Raises:
        FpsimError: a block with experts, or a loss that is not finite.
    """
    modules: dict[nn.Module, Any] = {}
    for name, learner in learners.items():
        if block.layers[name].index is not None:
            raise FpsimError(f"layer {name}: experts are not trained block by block; skip them")
        modules[block.layers[name].module] = block.computed(name, learner.forward)
    used = [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters]
    if not (epochs and used):
        return Training(0.0, 0.0)
    optimizer = torch.optim.AdamW(used, weight_decay=0.0)
    losses = []
    with frozen(block.module), forwards(modules), torch.enable_grad():
        for epoch in range(epochs):
            for matrix in matrices:
                width = matrix.raw.shape[1]
                matrix.band = (width - 1) * epoch // max(epochs - 1, 1) + 1
            total = 0.0
            for batch, (x, target) in enumerate(zip(states, targets, strict=True)):
                loss = (block.call(batch, x) - target).square().mean()
                if not torch.isfinite(loss):
                    raise FpsimError(
                        f"block {block.name}: the loss is not finite in epoch {epoch + 1}"
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach())
            losses.append(total / len(states))
    return Training(losses[0], losses[-1])
