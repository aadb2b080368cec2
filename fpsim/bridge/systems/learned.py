# SPDX-License-Identifier: Apache-2.0
"""Learning through rounding: straight-through estimators, and rotations that stay orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.product import float_rows
from fpsim.bridge.systems.recipe import StreamModel, rms_gain
from fpsim.bridge.systems.stream import CACHES, Block

__all__ = [
    "RESIDUAL", "cast_through", "cayley_step", "forwards", "frozen", "learn_rotations",
    "recomputed", "round_through",
]  # fmt: skip

#: Name of the rotation of the residual stream.
RESIDUAL = "rotation"


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Round half to even; the gradient is that of the identity."""
    found: torch.Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return found


def cast_through(x: torch.Tensor, cast: Cast | None) -> torch.Tensor:
    """Return x (..., K) cast row by row; the gradient is that of the identity."""
    if cast is None:
        return x
    values = cast.quantize(float_rows(x)).dequantize().astype(np.float32)
    return x + (torch.from_numpy(values).reshape(x.shape) - x).detach()


def cayley_step(rotation: torch.Tensor, direction: torch.Tensor, rate: float) -> torch.Tensor:
    """Return an orthogonal matrix after a step against a direction in Euclidean space.

    With A = G R^T - R G^T (skew) and Y = R - t A (R + Y) / 2 by five fixed-point iterations, which
    approach the Cayley transform of A; t is the rate, at most 1 / ||A||_1.

    Args:
        rotation: R, (d, d).
        direction: G, such as a gradient with momentum.
        rate: t, if not limited.

    Returns:
        The new R.
    """
    skew = direction @ rotation.T
    skew = skew - skew.T
    step = min(rate, 1 / (float(skew.abs().sum(0).max()) + 1e-8))
    moved = rotation - step * (skew @ rotation)
    for _ in range(5):
        moved = rotation - step / 2 * (skew @ (rotation + moved))
    return moved


@contextmanager
def forwards(
    functions: Mapping[nn.Module, Callable[..., Any]],
) -> Iterator[None]:
    """Let modules compute with functions of their input, within a context."""
    before = {module: module.__dict__.get("forward") for module in functions}
    for module, function in functions.items():
        module.__dict__["forward"] = function
    try:
        yield
    finally:
        for module, own in before.items():
            module.__dict__.pop("forward", None)
            if own is not None:
                module.__dict__["forward"] = own


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Take no gradients of a module's parameters, within a context."""
    wanted = [p.requires_grad for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in zip(module.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)


@dataclass(frozen=True)
class Reader:
    """A linear layer whose input is divided by a gain and turned by a rotation.

    The rotation turns every part of the input of its own width: the whole, or each head.
    """

    module: nn.Module
    gain: torch.Tensor  #: (K,) or ()
    rotation: str  #: name of the rotation

    def forward(self, x: torch.Tensor, turn: torch.Tensor, cast: Cast | None) -> torch.Tensor:
        """Compute the layer with its input turned and cast, straight through.

        Args:
            x: input, (..., K).
            turn: the rotation.
            cast: cast of turned inputs, or None.

        Returns:
            The output, (..., N).
        """
        weight: Any = self.module.weight
        bias: Any = self.module.bias
        turned = cast_through(_turned(x / self.gain, turn), cast)
        return nn.functional.linear(turned, _turned(weight * self.gain, turn), bias)


def _turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    return (x.reshape(*x.shape[:-1], -1, len(turn)) @ turn).flatten(-2)


def _readers(stream: StreamModel, rotations: Mapping[str, torch.Tensor]) -> list[Reader]:
    """Return the layers that read a norm, and those that end attention and have a rotation."""
    found = []
    for block in stream.blocks:
        if not block.groups:
            block.find_groups(stream.first)
        for group in block.groups:
            name, gain = block.name, torch.ones(())
            if group.norm is not None:
                norm = stream.model.get_submodule(group.norm)
                name, width = RESIDUAL, len(rotations[RESIDUAL])
                gains = rms_gain(norm, width)
                gain = torch.from_numpy(np.where(gains != 0, gains, 1.0)).float()
            elif not block.ends_attention(group.names) or name not in rotations:
                continue
            found += [Reader(block.layers[layer].module, gain, name) for layer in group.names]
    return found


def recomputed(block: Block) -> Callable[..., Any]:
    """Return a block's forward that keeps its input alone, and runs again in the backward pass.

    Gradients have the bits of plain backpropagation: the second run computes the values of the
    first, and the terms of a shared parameter's gradient are added in the order of the first run's
    graph.
    """
    real = block.module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        # The second run would append its keys and values to a cache that has them.
        plain = {key: value for key, value in kwargs.items() if key not in CACHES}
        return checkpoint(real, *args, use_reentrant=False, **plain)

    return forward


def _next_token_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """Return the mean cross entropy of a batch's tokens but the first, and let go of the logits."""
    logits = model(**batch).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch["input_ids"][:, 1:].flatten()
    )


def learn_rotations(
    stream: StreamModel,
    rotations: Mapping[str, torch.Tensor],
    cast: Cast | None,
    steps: int,
    rate: float,
) -> dict[str, torch.Tensor]:
    """Learn rotations of layers' inputs, by next-token cross entropy.

    Inputs that are rotated are cast, straight through; weights stay float. The result is the best
    on the first batch, the initial rotations included. The backward pass computes every block
    again, so that only one block's activations and turned weights are held at a time.

    Args:
        stream: the float model with its batches, which hold ``input_ids``.
        rotations: initial rotations: `RESIDUAL` of norms' outputs, (d, d); and by the name of a
            block, if wanted, that of every head of the input of the layer that ends its attention.
        cast: cast of inputs.
        steps: steps of Cayley SGD, one batch each.
        rate: rate of the first step; it falls to zero by a cosine.

    Returns:
        The rotations.

    Raises:
        FpsimError: batches without tokens, or a model without logits.
    """
    if any("input_ids" not in batch for batch in stream.batches):
        raise FpsimError("batches: learning a rotation by next tokens needs input_ids")
    readers = _readers(stream, rotations)
    now = dict(rotations)
    best, least = now, math.inf
    momentum = {name: torch.zeros_like(turn) for name, turn in now.items()}
    blocks = {block.module: recomputed(block) for block in stream.blocks}

    def loss(turns: Mapping[str, torch.Tensor], batch: Any) -> float:
        """Return the loss; turns that want gradients get them."""

        def forward(reader: Reader) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda x: reader.forward(x, turns[reader.rotation], cast)

        with forwards(blocks | {reader.module: forward(reader) for reader in readers}):
            value = _next_token_loss(stream.model, batch)
            if value.requires_grad:  # inside the context: the backward pass runs blocks again
                value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    with frozen(stream.model):
        for step in range(steps + 1):
            if step % max(steps // 4, 1) == 0 or step == steps:
                with torch.no_grad():
                    value = loss(now, stream.batches[0])
                if value < least:
                    best, least = now, value
            if step == steps:
                break
            turns = {name: turn.clone().requires_grad_(True) for name, turn in now.items()}
            with torch.enable_grad():
                loss(turns, stream.batches[step % len(stream.batches)])
            fallen = rate * (1 + math.cos(math.pi * step / steps)) / 2
            now = {}
            for name, turn in turns.items():
                assert turn.grad is not None
                momentum[name] = 0.9 * momentum[name] + turn.grad
                now[name] = cayley_step(turn.detach(), momentum[name], fallen)
                if step % 25 == 24:  # float32 rounding errors add up
                    q, r = torch.linalg.qr(now[name])
                    now[name] = q * torch.sign(torch.diag(r))
    return {name: turn.detach() for name, turn in best.items()}
