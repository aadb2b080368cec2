# SPDX-License-Identifier: Apache-2.0
"""Hyperparameters of GGUF files that transformers does not read: of experts and of positions.

llama.cpp has no field for the positions of Llama 3: a tensor `rope_freqs.weight` holds what each
frequency is divided by. Readers ignore what a file says beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = [
    "FIELDS",
    "GPT_OSS",
    "ROPE_FACTORS",
    "llama3_factors",
    "scaled_positions",
    "scaling_fields",
]

GPT_OSS = "gpt_oss"
ROPE_FACTORS = "rope_freqs.weight"
#: Names in transformers' configurations by GGUF's fields, for each model type.
FIELDS: dict[str, dict[str, str]] = {
    "mixtral": {
        "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok",
    },
    "qwen2_moe": {
        "expert_feed_forward_length": "moe_intermediate_size",
        "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    },
    "qwen3_moe": {"expert_feed_forward_length": "moe_intermediate_size"},
    GPT_OSS: {
        "attention.sliding_window": "sliding_window",
        "expert_feed_forward_length": "intermediate_size",
    },
}  # fmt: skip
#: Fields of scaled positions by their names in transformers.
_SCALING = {
    "type": "rope_type", "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow",
}  # fmt: skip
#: Every Llama 3 scales by these, and by a factor of its own.
_LLAMA3 = {
    "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def llama3_factors(rope: Mapping[str, Any], size: int) -> NDArray[np.float32]:
    """Return the divisors of the frequencies theta^(-2 i / size), as `rope_freqs.weight` has them.

    Wavelengths below the original length over the high factor stay, those above it over the low one
    are multiplied by the factor, and frequencies go from one to the other linearly in between.

    Args:
        rope: ``rope_theta``, ``factor``, ``low_freq_factor``, ``high_freq_factor`` and
            ``original_max_position_embeddings``, as transformers names them.
        size: dimensions of a head that positions turn.

    Returns:
        The divisors (size / 2,).
    """
    factor, low, high = (
        float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor")
    )
    length = float(rope["original_max_position_embeddings"])
    waves = 2 * math.pi * float(rope["rope_theta"]) ** (np.arange(0, size, 2) / size)
    share = np.clip((length / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1 / ((1 - share) / factor + share), dtype=np.float32)


def scaled_positions(
    model_type: str, said: Mapping[str, Any], theta: float, factors: NDArray[np.float32] | None
) -> dict[str, Any] | None:
    """Return the scaling of positions in the words of transformers; None if there is none.

    Args:
        model_type: transformers' name of the model type.
        said: the fields ``rope.scaling.*`` of a file, without that prefix.
        theta: base of the frequencies.
        factors: the numbers of `rope_freqs.weight`, if a file has it.

    Returns:
        A value for ``rope_scaling`` of a configuration.

    Raises:
        FpsimError: a kind of scaling that is not known, a factor that is not positive, or factors
            that are not those of a Llama 3.
    """
    kind = str(said.get("type", "none"))
    if factors is not None:
        rope = _LLAMA3 | {"factor": float(factors.max())}
        wanted = llama3_factors(rope | {"rope_theta": theta}, 2 * factors.size)
        if kind != "none" or not np.allclose(factors, wanted, rtol=1e-5, atol=0):
            raise FpsimError(
                f"{ROPE_FACTORS}: it does not scale positions as Llama 3 does (from 8192 on, "
                "between factors 1 and 4)"
            )
        return rope
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise FpsimError(f"rope.scaling.type: {kind!r} is not one of none, linear, yarn")
    factor = said.get("factor")
    if not isinstance(factor, float) or not 0 < factor < math.inf:
        raise FpsimError(f"rope.scaling.factor: {factor!r} is not a positive number")
    found = {_SCALING[key]: value for key, value in said.items() if key in _SCALING}
    return found | ({"truncate": False} if model_type == GPT_OSS else {})


def scaling_fields(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields ``rope.scaling.*``, without that prefix, of what transformers says."""
    return {key: rope[name] for key, name in _SCALING.items() if name in rope}
