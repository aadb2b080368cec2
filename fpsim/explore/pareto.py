# SPDX-License-Identifier: Apache-2.0
"""Points that no other point beats in all costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["pareto"]


def pareto(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of the points that no other point beats: all costs at most, one less.

    Args:
        costs: costs of each point, less is better; a point with NaN or infinity is never on the
            front.

    Returns:
        Indices, sorted by the first cost, then the second. Of equal points only the first is taken.
    """
    usable = [i for i, cost in enumerate(costs) if all(math.isfinite(c) for c in cost)]
    front: list[int] = []
    for i in sorted(usable, key=lambda place: (*costs[place], place)):
        beaten = any(all(x <= y for x, y in zip(costs[j], costs[i], strict=True)) for j in front)
        if not beaten:
            front.append(i)
    return front
