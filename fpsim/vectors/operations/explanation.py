# SPDX-License-Identifier: Apache-2.0
"""One vector of an operation: inputs and results decoded, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsim.vectors.operations.operation import Operation
from fpsim.vectors.operations.steps import way
from fpsim.vectors.sets.word_layout import Columns

__all__ = ["OperationExplanation", "explain_operation"]


@dataclass(frozen=True)
class OperationExplanation:
    """A vector's codes and values by field, and the results that the operation gives."""

    operation: str
    equation: str
    line: int | None  #: line of vectors.hex, from 1; None: the vector is in no file
    index: int  #: number of the vector, from 0
    section: str
    fields: dict[str, list[tuple[int, str]]]  #: codes and values, by field
    computed: dict[str, list[int]]  #: results by field
    way: tuple[str, ...] = ()  #: steps that lead to the results

    @property
    def right(self) -> bool:
        """Whether the expected results equal the operation's."""
        held = {name: [code for code, _ in self.fields[name]] for name in self.computed}
        return held == self.computed

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return dict(vars(self)) | {"right": self.right}

    def steps(self) -> list[str]:
        """Return lines of text: the vector, its fields, and the steps to its results."""
        place = "" if self.line is None else f"line {self.line} "
        lines = [
            f"{self.operation}, {place}(vector {self.index}, {self.section})",
            f"  {self.equation}",
        ]
        for name, values in self.fields.items():
            shown = (f"{code:x} = {value}" if value else f"{code:x}" for code, value in values)
            lines.append(f"  {name:12s} {'  '.join(shown)}")
        return lines + [f"    {step}" for step in self.way]

    def __str__(self) -> str:
        lines = self.steps()
        for name, codes in self.computed.items():
            if codes != [code for code, _ in self.fields[name]]:
                lines.append(f"  BUT {name} IS {' '.join(f'{code:x}' for code in codes)}")
        return "\n".join([*lines, "  as expected"] if self.right else lines)

    def full(self) -> str:
        """Return the whole text; operations have nothing to fold."""
        return str(self)


def explain_operation(
    operation: Operation, row: Columns, index: int, line: int | None, section: str
) -> OperationExplanation:
    """Explain a vector of an operation.

    Args:
        operation: the operation of the vector.
        row: the codes of the vector by field.
        index: number of the vector, from 0.
        line: line of the vector in vectors.hex; None: the vector is in no file.
        section: name of the vector's section.

    Returns:
        The vector's fields as numbers, the right results, and the steps that lead to the results.
    """
    whole = {name: np.asarray(codes)[None] for name, codes in row.items()}
    found = operation.results({n: c for n, c in whole.items() if n in operation.inputs})
    fields = {
        name: list(zip(codes.reshape(-1).tolist(), operation.texts(name, codes), strict=True))
        for name, codes in whole.items()
    }
    computed = {name: np.asarray(codes).reshape(-1).tolist() for name, codes in found.items()}
    return OperationExplanation(
        operation.title, operation.equation, line, index, section, fields, computed,
        tuple(way(operation, whole, found)),
    )  # fmt: skip
