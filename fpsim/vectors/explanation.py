# SPDX-License-Identifier: Apache-2.0
"""One vector of a directory, explained: operands decoded, every internal node, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.oracle import Node
from fpsim.oracle.trace_lines import trace_lines
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.operations.explanation import OperationExplanation, explain_operation
from fpsim.vectors.operations.operation import Operation
from fpsim.vectors.sets.record import Columns, Op, Record
from fpsim.vectors.sets.status_flags import flag_names

__all__ = ["Explanation", "explain", "explain_vector"]

#: Most operand codes, or runs of equal codes, in a line.
MAX_SHOWN = 8


@dataclass(frozen=True)
class Explanation:
    """A vector: operation, operands and expected result, and the exact model's nodes and result."""

    unit: str
    equation: str
    line: int | None  #: line of vectors.hex, from 1; None: the vector is in no file
    index: int  #: number of the vector, from 0
    section: str
    op: str
    operands: dict[str, list[tuple[int, str]]]  #: codes and their values, by field
    before: int  #: code of the accumulator before the vector, or of its addend
    before_value: str  #: ``before`` as a number
    nodes: tuple[Node, ...]
    expected: int
    computed: int
    expected_flags: int | None = None  #: status flags, if the set has them
    flags: int = 0

    @property
    def right(self) -> bool:
        """Whether the expected accumulator, and any expected flags, equal the exact model's."""
        same_flags = self.expected_flags in (None, self.flags)
        return self.expected == self.computed and same_flags

    def to_dict(self) -> dict[str, Any]:
        """Return every field, the nodes as dictionaries, and ``right``, JSON-ready."""
        data = {k: v for k, v in vars(self).items() if k != "nodes"}
        return data | {"nodes": [n.to_dict() for n in self.nodes], "right": self.right}

    def __str__(self) -> str:
        expected = f"0x{self.expected:x}"
        if self.expected_flags is not None:
            expected += f" with flags {flag_names(self.expected_flags)}"
        verdict = "as expected" if self.right else f"BUT THE FILE EXPECTS {expected}"
        result = f"  result 0x{self.computed:x}, flags {flag_names(self.flags)}, {verdict}"
        return "\n".join([*self.steps(), result])

    def full(self) -> str:
        """Return the text with every node of long sums, which ``str`` folds."""
        *_, verdict = str(self).splitlines()
        return "\n".join([*self.steps(every=True), verdict])

    def steps(self, every: bool = False) -> list[str]:
        """Return lines of text: the vector, its operands, and the internal nodes.

        Long sums are folded unless ``every`` is true.
        """
        place = "" if self.line is None else f"line {self.line} "
        lines = [
            f"{self.unit}, {place}(vector {self.index}, {self.section}): {self.op}",
            f"  {self.equation}",
        ]
        for name, values in self.operands.items():
            lines.append(f"  {name:8s} {_row(values, every)}")
        if self.nodes:
            lines.append(f"  accumulator before: {self.before_value}   code {self.before:x}")
        step = -1
        for line in trace_lines(self.nodes, every):
            if line.step != step:
                step = line.step
                lines.append(f"  step {step}")
            lines.append(f"    {line}")
        return lines


def _row(values: list[tuple[int, str]], every: bool) -> str:
    """Return codes with their values; a run of equal codes once, unless ``every`` is true."""
    if every:
        return "  ".join(f"{code:x} = {value}" for code, value in values)
    runs = [(pair, len(list(same))) for pair, same in groupby(values)]
    parts = [
        f"{code:x} = {value}" + (f" (x{count})" if count > 1 else "")
        for (code, value), count in runs
    ]
    if len(parts) > MAX_SHOWN:
        parts = [*parts[:MAX_SHOWN], f"... {len(parts) - MAX_SHOWN} more"]
    return "  ".join(parts)


def explain(directory: str | Path, line: int) -> Explanation | OperationExplanation:
    """Explain the vector on a line of ``vectors.hex``, as error messages number them.

    Raises:
        FpsimError: no vectors in the directory, no vector on the line, or an unknown operation.
    """
    path = Path(directory)
    if not isinstance(line, int) or isinstance(line, bool) or line < 1:
        raise FpsimError(f"line: {line!r} is not a positive integer")
    opened = open_set(path)
    opened.check_ends()
    head, count = opened.head_lines, opened.count
    index = line - head - 1
    if not 0 <= index < count:
        raise FpsimError(
            f"line: {line} of {opened.hex_file} holds no vector; they are on lines "
            f"{head + 1}..{head + count}"
        )
    columns = opened.rows(max(index - 1, 0), index + 1)
    row = {name: column[-1] for name, column in columns.items()}
    if isinstance(opened.record, Operation):
        return explain_operation(opened.record, row, index, line, opened.section_of(index))
    if int(row["op"]) not in set(Op):
        raise FpsimError(f"{opened.hex_file}:{line}: vector {index} has no op {int(row['op'])}")
    before = int(columns["acc"][0]) if index else 0
    return explain_vector(opened.record, row, before, index, line, opened.section_of(index))


def explain_vector(
    record: Record, row: Columns, before: int, index: int, line: int | None, section: str
) -> Explanation:
    """Explain a vector.

    Args:
        record: the unit and its fields.
        row: the codes of the vector by field.
        before: code of the accumulator before the vector.
        index: number of the vector, from 0.
        line: line of the vector in vectors.hex; None: the vector is in no file.
        section: name of the vector's section.

    Returns:
        The vector's operands as numbers, the nodes of its trace, and the result of the exact model.
    """
    op = Op(int(row["op"]))
    if op not in (Op.MAC, Op.IDLE):
        before = int(row["c"]) if op in (Op.DOT, Op.LOAD) else 0
    nodes: tuple[Node, ...] = ()
    computed, flags = 0 if op is Op.CLEAR else before, 0
    if op in (Op.DOT, Op.MAC):
        trace = record.trace(row, before)
        nodes, computed, flags = tuple(trace.nodes), trace.code, int(trace.flags)
    operands = {
        name: _values(np.atleast_1d(column).tolist(), record.format_of(name))
        for name, column in row.items()
        if name not in ("op", "acc", "flags")
    }
    return Explanation(
        record.spec.name, record.spec.equation, line, index, section,
        op.name.lower(), operands, before, _values([before], record.spec.initial)[0][1], nodes,
        int(row["acc"]), computed,
        int(row["flags"]) if record.flags else None, flags,
    )  # fmt: skip


def _values(codes: list[int], fmt: Format) -> list[tuple[int, str]]:
    return [(code, Node(0, "", oracle.decode(code, fmt)).text) for code in codes]
