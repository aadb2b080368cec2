# SPDX-License-Identifier: Apache-2.0
"""Points that no other point beats in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["pareto"]


def pareto(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the places of points that no other one beats: all costs at most, one less.

    Args:
        costs: of each point, less is better; NaN and infinities are never on the front.

    Returns:
        Places, by the first cost, then the second. Of equal points the first one stands for all.
    """
    usable = [i for i, cost in enumerate(costs) if all(math.isfinite(c) for c in cost)]
    front: list[int] = []
    for i in sorted(usable, key=lambda place: (*costs[place], place)):
        beaten = any(all(x <= y for x, y in zip(costs[j], costs[i], strict=True)) for j in front)
        if not beaten:
            front.append(i)
    return front
