# SPDX-License-Identifier: Apache-2.0
"""Small 4-bit checkpoints, written by code that shares nothing with the reader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

LEVELS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
NF4 = np.array(
    [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105, 0, 0.0795803,
     0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1], np.float32
)  # fmt: skip


@dataclass
class Matrix:
    """Random codes (N, K) with random scale bytes, and the numbers that they mean."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    block: int
    above: Any = 1.0
    divides: bool = False

    @classmethod
    def random(cls, rng: Any, rows: int, columns: int, block: int, above: float = 1.0) -> Matrix:
        codes = rng.integers(0, 16, (rows, columns), dtype=np.uint8)
        low, high = (118, 123) if block == 32 else (0x30, 0x50)
        scales = rng.integers(low, high, (rows, columns // block), dtype=np.uint8)
        return cls(codes, scales, block, np.float32(above))

    @property
    def packed(self) -> NDArray[np.uint8]:
        return (self.codes[:, 0::2] + 16 * self.codes[:, 1::2]).astype(np.uint8)

    @property
    def values(self) -> NDArray[np.float32]:
        raw = torch.from_numpy(self.scales)
        fp8 = torch.float8_e8m0fnu if self.block == 32 else torch.float8_e4m3fn
        scale = raw.view(fp8).to(torch.float32).numpy()
        scale = scale / self.above if self.divides else scale * self.above
        return LEVELS[self.codes] * np.repeat(scale, self.block, axis=1)


def byte_tensor(array: NDArray[np.uint8], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).view(dtype)


def fp8(array: NDArray[np.uint8]) -> torch.Tensor:
    return byte_tensor(array, torch.float8_e4m3fn)


def number(value: Any) -> torch.Tensor:
    return torch.tensor([float(value)], dtype=torch.float32)


def write_folder(
    folder: Path, model: nn.Module, tensors: dict[str, torch.Tensor], quantization: dict[str, Any]
) -> Path:
    """Write a folder with the model's other tensors beside these."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = model.config.to_dict()  # type: ignore[operator, union-attr]
    config["architectures"] = [type(model).__name__]
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config, default=str))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def others(model: nn.Module, *coded: str) -> dict[str, torch.Tensor]:
    """Return a model's tensors but those with one of these in their names."""
    state = model.state_dict()
    kept = {k: v.clone() for k, v in state.items() if not any(part in k for part in coded)}
    if model.config.tie_word_embeddings:  # type: ignore[union-attr]
        kept.pop("lm_head.weight", None)
    return kept
