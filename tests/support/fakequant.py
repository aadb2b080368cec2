# SPDX-License-Identifier: Apache-2.0
"""Fake quantization in plain torch and numpy: independent opinions that share no code with fpsim.

MXFP4: a block of 32 along in_features takes the scale 2^(floor(log2 max|x|) - 2), read off the exponent;
elements are rounded to the nearest E2M1 value, ties to even, saturating at 6 (OCP MX v1.0, 6.3).
Products are float64 matrix products, rounded once to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

BLOCK = 32


def mxfp4(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` cast to MXFP4 along its last axis and back, in float64."""
    width = x.shape[-1]
    padded = nn.functional.pad(x.double(), (0, -width % BLOCK))
    blocks = padded.unflatten(-1, (-1, BLOCK))
    _, exponent = torch.frexp(blocks.abs().amax(-1, keepdim=True))
    shift = (exponent - 3).clamp(-127, 127)
    scaled = torch.ldexp(blocks, -shift)
    magnitude = scaled.abs()
    step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0)).double()
    cast = (torch.round(scaled / step) * step).clamp(-6, 6)
    return torch.ldexp(cast, shift).flatten(-2)[..., :width]


class FakeQuantLinear(nn.Module):
    """A linear layer on MXFP4 operands with a float64 product."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = mxfp4(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = nn.functional.linear(mxfp4(x), self.weight).float()
        return out if self.bias is None else out + self.bias


def fake_quantize(model: nn.Module) -> nn.Module:
    """Replace every `nn.Linear` but the lm_head, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
            model.set_submodule(name, FakeQuantLinear(module))
    return model


def fake_biased(x: np.ndarray, fmt: Any, bias: Any) -> np.ndarray:
    """Cast as equations 5 to 9 of LLM-FP4 (arXiv 2310.16836) say, in float64; ``bias`` broadcasts against ``x``."""
    scaled = np.clip(x.astype(np.float64) * np.exp2(bias), -fmt.max_value, fmt.max_value)
    with np.errstate(divide="ignore"):
        p = np.maximum(np.floor(np.log2(np.abs(scaled))), 1)
    step = np.exp2(p - fmt.mantissa_bits)
    return np.rint(scaled / step) * step * np.exp2(-np.asarray(bias))
