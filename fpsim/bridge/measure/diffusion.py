# SPDX-License-Identifier: Apache-2.0
"""A small diffusion transformer that draws scikit-learn's digits: trained once, and cached.

The model is a DiT (Peebles and Xie, arXiv 2212.09748) with adaLN-Zero blocks: patches of 2 x 2
pixels of an 8 x 8 image, conditioned on the time step and the digit. It predicts the noise in
x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e for 1000 steps whose variances rise linearly from 0.0001 to
0.02 (DDPM, arXiv 2006.11239), and is trained by the mean squared error of e; the weights kept are
an exponential moving average. `draw` samples by DDIM without noise (arXiv 2010.02502), without
guidance.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from fpsim.bridge.measure.digits import trained_once
from fpsim.bridge.measure.wheels import Report

__all__ = ["NAME", "STEPS", "DigitsDiT", "diffusion_model", "draw", "noisy"]

NAME = "dit-digits"
#: Steps of training's diffusion.
STEPS = 1000
#: Version of the training; changes if code below changes the weights.
_VERSION = "1"
_WIDTH, _HEADS, _DEPTH, _PATCH, _SIZE = 64, 4, 4, 2, 8
_EPOCHS, _BATCH, _RATE, _DECAY = 100, 128, 3e-3, 0.99


class DitAttention(nn.Module):
    """Attention of all patches to all patches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        found: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found


class DitBlock(nn.Module):
    """Attention and an MLP behind norms whose shift, scale and gate come from the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.norm1, self.norm2 = (
            nn.LayerNorm(width, eps=1e-6, elementwise_affine=False) for _ in range(2)
        )
        self.attention = DitAttention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return (B, T, D) for hidden states (B, T, D) and a condition (B, D)."""
        parts = self.modulation(nn.functional.silu(condition))[:, None].chunk(6, dim=-1)
        shift, scale, gate = parts[:3]
        hidden = hidden + gate * self.attention(self.norm1(hidden) * (1 + scale) + shift)
        shift, scale, gate = parts[3:]
        inner = nn.functional.gelu(self.up(self.norm2(hidden) * (1 + scale) + shift))
        out: torch.Tensor = hidden + gate * self.down(inner)
        return out


class DigitsDiT(nn.Module):
    """The model; see the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(_PATCH * _PATCH, _WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn((_SIZE // _PATCH) ** 2, _WIDTH))
        self.labels = nn.Embedding(10, _WIDTH)
        self.times = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH))
        self.blocks = nn.ModuleList(DitBlock(_WIDTH, _HEADS) for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(_WIDTH, 2 * _WIDTH)
        self.final = nn.Linear(_WIDTH, _PATCH * _PATCH)
        for layer in (self.modulation, self.final, *(b.modulation for b in self.blocks)):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the noise in noisy images.

        Args:
            sample: (B, 1, 8, 8).
            timestep: (B,), 0 to 999.
            labels: (B,), digits.

        Returns:
            (B, 1, 8, 8).
        """
        patches = nn.functional.unfold(sample, _PATCH, stride=_PATCH).transpose(1, 2)
        hidden = self.embed(patches) + self.places
        condition = self.times(_waves(timestep)) + self.labels(labels)
        for block in self.blocks:
            hidden = block(hidden, condition)
        parts = self.modulation(nn.functional.silu(condition))[:, None].chunk(2, dim=-1)
        out = self.final(self.norm(hidden) * (1 + parts[1]) + parts[0]).transpose(1, 2)
        return nn.functional.fold(out, (_SIZE, _SIZE), _PATCH, stride=_PATCH)


def _waves(timestep: torch.Tensor) -> torch.Tensor:
    """Return cosines and sines of time steps, (B, D)."""
    half = _WIDTH // 2
    angles = timestep[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _kept() -> torch.Tensor:
    """Return a_t, the share of the image's variance that is left at each step, (STEPS,)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), 0).float()


def noisy(images: torch.Tensor, steps: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return images after diffusion.

    Args:
        images: x_0, (B, 1, 8, 8).
        steps: steps of diffusion, 0 to 999, (B,).
        noise: e, like the images.

    Returns:
        x_t, like the images.
    """
    kept = _kept()[steps][:, None, None, None]
    return kept.sqrt() * images + (1 - kept).sqrt() * noise


def diffusion_model(report: Report | None = None) -> DigitsDiT:
    """Return the trained model in eval mode, from the cache or newly trained.

    Raises:
        ModelUnavailable: training is needed and scikit-learn is not installed.
        FpsimError: a cached file with another SHA-256 than recorded.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = DigitsDiT()
    trained_once(NAME, _VERSION, model, _train, "a minute", report)
    return model


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train a model in place, and leave the moving average of its weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.0)
    steps = _EPOCHS * -(-len(labels) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    moving = torch.optim.swa_utils.get_ema_multi_avg_fn(_DECAY)  # type: ignore[no-untyped-call]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=moving)
    model.train()
    for _ in range(_EPOCHS):
        for part in torch.split(torch.randperm(len(labels)), _BATCH):
            times, noise = torch.randint(STEPS, (len(part),)), torch.randn_like(images[part])
            found = model(noisy(images[part], times, noise), times, labels[part])
            loss = (found - noise).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
    model.load_state_dict(average.module.state_dict())


@torch.no_grad()
def draw(
    model: nn.Module,
    labels: torch.Tensor,
    steps: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Draw images by DDIM.

    Args:
        model: predicts the noise, as `DigitsDiT`.
        labels: digits to draw, (N,).
        steps: passes of the model, evenly spread over `STEPS`.
        seed: seed of the first noise.
        progress: called with passes done and in all.

    Returns:
        Images of mean about 0 and variance about 1, (N, 1, 8, 8).
    """
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 1, _SIZE, _SIZE, generator=random)
    times = torch.linspace(STEPS - 1, 0, steps).round().long()
    kept = torch.cat([_kept()[times], torch.ones(1)])
    for i, time in enumerate(times):
        if progress:
            progress(i, steps)
        noise = model(x, time.expand(len(labels)), labels)
        image = (x - (1 - kept[i]).sqrt() * noise) / kept[i].sqrt()
        x = kept[i + 1].sqrt() * image + (1 - kept[i + 1]).sqrt() * noise
    if progress:
        progress(steps, steps)
    return x
