# SPDX-License-Identifier: Apache-2.0
"""How a set is chosen, as names, for the command line, too: this module loads nothing."""

from __future__ import annotations

__all__ = ["STARTS", "STRATEGIES"]

#: How a sum gets its addend: ``dot`` vectors bring it; ``load`` puts it into the accumulator in a
#: vector of its own, before a ``mac``; ``clear`` has none, sums start from +0.
STARTS = ("dot", "load", "clear")
#: Which vectors: every case, corner classes, random ones, or operand pairs, corners and random.
STRATEGIES = ("exhaustive", "directed", "random", "mixed")
