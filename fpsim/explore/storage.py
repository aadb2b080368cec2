# SPDX-License-Identifier: Apache-2.0
"""Storage of a recipe's operands."""

from __future__ import annotations

from typing import Any

__all__ = ["storage_bits"]


def storage_bits(recipe: Any) -> tuple[float, float]:
    """Return storage bits per weight and per activation, scales of blocks included.

    ``recipe`` is a name or a recipe of `fpsim.bridge`.
    """
    from fpsim.bridge import get_recipe

    chosen = get_recipe(recipe)
    bits: list[float] = []
    for width, cast_of in (
        (chosen.bits.weight, chosen.weight),
        (chosen.bits.activation, chosen.activation),
    ):
        fmt = getattr(cast_of("layer"), "fmt", None) if chosen.is_calibrated else None
        bits.append(float(width if fmt is None else fmt.bits_per_element))
    return bits[0], bits[1]
