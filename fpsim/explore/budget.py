# SPDX-License-Identifier: Apache-2.0
"""Budgets such as ``perplexity <= 1.02 * exact``: limits on a model's figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fpsim.base.errors import FpsimError

__all__ = ["FEW_TOKENS", "Budget"]

#: Predicted tokens below which a note calls differences of perplexity chance: with 4-bit operands,
#: changing embeddings in the last place moves the perplexity over 1 022 tokens by 2 to 5 %.
FEW_TOKENS = 10_000

_FORM = re.compile(
    r"\s*(?P<figure>\w+)\s*(?P<sign><=|>=)\s*(?P<number>[0-9.eE+-]+)\s*(?:\*\s*(?P<base>\w+)\s*)?"
)
_BASES = ("exact", "float")


@dataclass(frozen=True)
class Budget:
    """A limit on a figure of a task.

    Attributes:
        figure: name of the figure, such as ``perplexity`` or ``accuracy``.
        lower: whether lower figures are better.
        number: the limit, or its ratio to ``base``.
        base: ``exact``, the same operands with exact sums; ``float``, the float model; or "".
    """

    figure: str
    lower: bool
    number: float
    base: str = ""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget stated by a text such as ``perplexity <= 1.02 * exact``.

        Raises:
            FpsimError: another text.
        """
        found = _FORM.fullmatch(text)
        try:
            number = float(found["number"]) if found else math.nan
        except ValueError:
            number = math.nan
        base = (found["base"] or "") if found else ""
        if found is None or not math.isfinite(number) or number <= 0 or base not in ("", *_BASES):
            raise FpsimError(
                f"budget: {text!r} is not FIGURE <= NUMBER or >= NUMBER, perhaps times "
                f"{' or '.join(_BASES)}, such as 'perplexity <= 1.02 * exact'"
            )
        return cls(found["figure"], found["sign"] == "<=", number, base)

    def limit(self, bases: Mapping[str, float]) -> float:
        """Return the limit, from the figure of each base."""
        return self.number * (bases[self.base] if self.base else 1.0)

    def met(self, value: float, bases: Mapping[str, float]) -> bool:
        """Return whether a value is within the budget; NaN never is."""
        limit = self.limit(bases)
        return value <= limit if self.lower else value >= limit

    def __str__(self) -> str:
        times = f" * {self.base}" if self.base else ""
        return f"{self.figure} {'<=' if self.lower else '>='} {self.number:g}{times}"
