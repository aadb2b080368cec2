# SPDX-License-Identifier: Apache-2.0
"""A tiny LLaMA with uneven channels, calibrated systems on it, and their layers in plain numpy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from fpsim.bridge import calibrate
from support.tiny_models import llama

BATCHES = [
    {"input_ids": torch.randint(1, 97, (2, 32), generator=torch.Generator().manual_seed(seed))}
    for seed in range(4)
]
#: Every system on integers as its paper has it, and most on FP4, at sizes that fit the model.
SYSTEMS = [
    "gptq", "gptq:group=16", "gptq:element=e2m1,order=activation", "gptq:element=mxfp4,inputs=mxfp4",
    "mr-gptq", "mr-gptq:element=mxfp4-div3", "awq:group=16", "awq:element=e2m1", "smoothquant",
    "smoothquant:inputs=e2m1,element=e2m1", "quarot", "quarot:element=nvfp4,inputs=nvfp4",
    "spinquant:steps=2", "quad", "quad:element=e2m1,inputs=e2m1", "quik",
    "quik:element=e2m1,inputs=e2m1", "spqr", "slim-llm:group=8", "slim-llm:group=8,inputs=int8",
    "aqas", "aqas:element=dint4", "aqas:element=e2m1,inputs=e2m1,solver=true", "mergequant:rank=2",
    "mergequant:element=e2m1,inputs=e2m1", "flattenquant", "flattenquant:element=e2m1,inputs=e2m1",
    "omniquant:epochs=1", "omniquant:epochs=1,element=e2m1,inputs=e2m1", "affinequant:epochs=1",
    "any4:group=16", "db-llm:epochs=1,group=16", "hq-dit", "qrazor-static", "qrazor-static:solver=true",
]  # fmt: skip


@cache
def uneven() -> nn.Module:
    """Weights that matter, gains that differ, a few loud channels."""
    torch.manual_seed(0)
    model = llama().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            else:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
                parameter[7] *= 6
    return model


@cache
def calibrated(recipe: str) -> Any:
    """Calibrate the model once per test run."""
    return calibrate(uneven(), BATCHES, recipe)


# -- forms, read by hand -------------------------------------------------------------------------


def decoded(fmt: Any, codes: np.ndarray) -> np.ndarray:
    """Integers in two's complement, or ExMy with its bias, all codes finite."""
    codes = codes.astype(np.int64)
    if hasattr(fmt, "lsb"):
        return (codes - (codes >> (fmt.width - 1) << fmt.width)) * 2.0**fmt.lsb
    m = fmt.mantissa_bits
    exponent = codes >> m & ((1 << fmt.exponent_bits) - 1)
    fraction = codes & ((1 << m) - 1)
    if fmt.name == "e8m0":
        return 2.0 ** (codes - 127)
    normal = (1 + fraction / 2**m) * 2.0 ** (exponent - fmt.bias)
    tiny = fraction / 2**m * 2.0 ** (1 - fmt.bias)
    sign = 1 - 2 * (codes >> (fmt.exponent_bits + m) & 1) if fmt.signed else 1
    return np.where(exponent > 0, normal, tiny) * sign


def unscaled(operand: Any) -> np.ndarray:
    """Values of an operand but for its factor and its zero points."""
    values = decoded(operand.format, operand.codes)
    if operand.scales is not None:
        scales = decoded(operand.scales.format, operand.scales.given)
        values = values * np.repeat(scales, operand.block, axis=1)[:, : values.shape[1]]
    return values


def fake_quantized(segment: Any, x: np.ndarray) -> np.ndarray:
    """A segment's product: of codes, rounded to float32 as the unit's result is; plus the change
    that zero points make, rounded again; then factors, inputs' first."""
    cast = segment.cast.quantize(x)
    a, b = unscaled(cast), unscaled(segment.weight)
    out = (a @ b.T).astype(np.float32)
    if cast.zeros is not None or segment.weight.zeros is not None:
        za = np.zeros((1, 1)) if cast.zeros is None else cast.zeros
        zb = np.zeros((1, 1)) if segment.weight.zeros is None else segment.weight.zeros
        change = (a - za) @ (b - zb).T - a @ b.T  # exact in float64
        out = (out.astype(np.float64) + change).astype(np.float32)
    if segment.weight.offsets is not None:
        offsets = np.repeat(segment.weight.offsets, segment.weight.block, axis=1)
        change = a.astype(np.longdouble) @ offsets[:, : a.shape[1]].T.astype(np.longdouble)
        out = (out.astype(np.longdouble) + change).astype(np.float32)
    if cast.factor is not None:
        out = out * cast.factor
    return out if segment.weight.factor is None else out * segment.weight.factor.T
