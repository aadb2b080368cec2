# SPDX-License-Identifier: Apache-2.0
"""Budgets such as ``perplexity <= 1.02 * exact``: figures that a unit must keep."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fpsim.base.errors import FpsimError

__all__ = ["FEW_TOKENS", "Budget"]

#: Predicted tokens below which differences of perplexity are said to be chance: with 4-bit
#: operands, embeddings moved by one unit in the last place alone move it by 2 to 5 % of 1 022.
FEW_TOKENS = 10_000

_FORM = re.compile(
    r"\s*(?P<figure>\w+)\s*(?P<sign><=|>=)\s*(?P<number>[0-9.eE+-]+)\s*(?:\*\s*(?P<base>\w+)\s*)?"
)
_BASES = ("exact", "float")


@dataclass(frozen=True)
class Budget:
    """A limit on a figure of a task.

    Attributes:
        figure: its name, such as ``perplexity`` or ``accuracy``.
        lower: whether less of it is better.
        number: the limit, or the factor of ``base``.
        base: ``exact``, the same operands with exact sums; ``float``, the model as it is; or "".
    """

    figure: str
    lower: bool
    number: float
    base: str = ""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that a sentence such as ``perplexity <= 1.02 * exact`` says.

        Raises:
            FpsimError: anything else.
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
        """Return the limit, given the figure of each base."""
        return self.number * (bases[self.base] if self.base else 1.0)

    def met(self, value: float, bases: Mapping[str, float]) -> bool:
        """Return whether a value keeps the limit; NaN never does."""
        limit = self.limit(bases)
        return value <= limit if self.lower else value >= limit

    def __str__(self) -> str:
        times = f" * {self.base}" if self.base else ""
        return f"{self.figure} {'<=' if self.lower else '>='} {self.number:g}{times}"
