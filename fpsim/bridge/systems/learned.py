# SPDX-License-Identifier: Apache-2.0
"""Learning through rounding: straight-through estimators, and rotations that stay orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.product import float_rows
from fpsim.bridge.systems.recipe import StreamModel, rms_gain

__all__ = ["cast_through", "cayley_step", "forwards", "learn_rotation", "round_through"]


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
def forwards(functions: dict[nn.Module, Callable[[torch.Tensor], torch.Tensor]]) -> Iterator[None]:
    """Let linear modules compute with functions of their input, within a context."""
    for module, function in functions.items():
        module.__dict__["forward"] = function
    try:
        yield
    finally:
        for module in functions:
            module.__dict__.pop("forward", None)


def learn_rotation(
    stream: StreamModel, rotation: torch.Tensor, cast: Cast | None, steps: int, rate: float
) -> torch.Tensor:
    """Learn the rotation of the norms' outputs, by next-token cross entropy.

    Inputs of layers that read a norm are rotated and cast, straight through; weights stay float.
    The result is the best rotation on the first batch, the initial one included.

    Args:
        stream: the float model with its batches, which hold ``input_ids``.
        rotation: initial rotation, (d, d).
        cast: cast of inputs.
        steps: steps of Cayley SGD, one batch each.
        rate: rate of the first step; it falls to zero by a cosine.

    Returns:
        The rotation.

    Raises:
        FpsimError: batches without tokens, or a model without logits.
    """
    if any("input_ids" not in batch for batch in stream.batches):
        raise FpsimError("batches: learning a rotation by next tokens needs input_ids")
    readers: list[tuple[nn.Module, torch.Tensor]] = []
    for block in stream.blocks:
        if not block.groups:
            block.find_groups(stream.first)
        for group in block.groups:
            if group.norm is not None:
                norm = stream.model.get_submodule(group.norm)
                for name in group.names:
                    module = block.layers[name].module
                    gain = rms_gain(norm, int(rotation.shape[0]))
                    gain = np.where(gain != 0, gain, 1.0)
                    readers.append((module, torch.from_numpy(gain).float()))
    best, least = rotation, math.inf
    momentum = torch.zeros_like(rotation)

    def loss(turn: torch.Tensor, batch: Any) -> torch.Tensor:
        def reader(module: Any, gain: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
            def forward(x: torch.Tensor) -> torch.Tensor:
                turned = cast_through((x / gain) @ turn, cast)
                weight = (module.weight * gain) @ turn
                return nn.functional.linear(turned, weight, module.bias)

            return forward

        with forwards({module: reader(module, gain) for module, gain in readers}):
            logits = stream.model(**batch).logits
        tokens = batch["input_ids"]
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()
        )

    wanted = [p.requires_grad for p in stream.model.parameters()]
    stream.model.requires_grad_(False)
    try:
        for step in range(steps + 1):
            if step % max(steps // 4, 1) == 0 or step == steps:
                with torch.no_grad():
                    value = float(loss(rotation, stream.batches[0]))
                if value < least:
                    best, least = rotation, value
            if step == steps:
                break
            turn = rotation.clone().requires_grad_(True)
            with torch.enable_grad():
                loss(turn, stream.batches[step % len(stream.batches)]).backward()  # type: ignore[no-untyped-call]
            assert turn.grad is not None
            momentum = 0.9 * momentum + turn.grad
            now = rate * (1 + math.cos(math.pi * step / steps)) / 2
            rotation = cayley_step(rotation, momentum, now)
            if step % 25 == 24:  # float32 rounding errors add up
                q, r = torch.linalg.qr(rotation)
                rotation = q * torch.sign(torch.diag(r))
    finally:
        for parameter, before in zip(stream.model.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)
    return best.detach()
