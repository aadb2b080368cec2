# SPDX-License-Identifier: Apache-2.0
"""Names of strategies and of starts of sums, in a module that imports nothing."""

from __future__ import annotations

__all__ = ["STARTS", "STRATEGIES"]

#: Where a sum takes its addend from: ``dot``, its own vector; ``load``, a vector before the first
#: ``mac``, which loads it; ``clear``, nowhere: sums start from +0.
STARTS = ("dot", "load", "clear")
#: Vectors of a set: all cases, corner classes, random ones, or pairs, corner classes and random.
STRATEGIES = ("exhaustive", "directed", "random", "mixed")
