# SPDX-License-Identifier: Apache-2.0
"""One vector of a directory, step by step: operands decoded, every internal node, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.oracle import Node
from fpsim.units.spec import MacSpec
from fpsim.vectors.files import files
from fpsim.vectors.files.manifests import schema_of
from fpsim.vectors.files.writer import open_dots
from fpsim.vectors.sets.flags import flag_names
from fpsim.vectors.sets.record import Columns, Shape
from fpsim.vectors.sets.stream import EXPONENT_BITS, Op

__all__ = ["Explanation", "explain", "explain_clock", "explain_dot"]


@dataclass(frozen=True)
class Explanation:
    """What a vector asks for and what the exact model makes of it."""

    unit: str
    equation: str
    line: int | None  #: of vectors.hex, from 1; None: the vectors are in no file
    index: int  #: of the vector, from 0
    section: str
    op: str
    operands: dict[str, list[tuple[int, str]]]  #: codes and their values, by field
    before: int  #: the accumulator that the vector finds, or its addend
    nodes: tuple[Node, ...]
    expected: int
    computed: int
    expected_flags: int | None = None  #: where the vectors have flags
    flags: int = 0

    @property
    def right(self) -> bool:
        """Whether the file expects what the model computes."""
        same_flags = self.expected_flags in (None, self.flags)
        return self.expected == self.computed and same_flags

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        data = {k: v for k, v in vars(self).items() if k != "nodes"}
        return data | {"nodes": [n.to_dict() for n in self.nodes], "right": self.right}

    def __str__(self) -> str:
        expected = f"{self.expected:x}"
        if self.expected_flags is not None:
            expected += f" with flags {flag_names(self.expected_flags)}"
        verdict = "as expected" if self.right else f"BUT THE FILE EXPECTS {expected}"
        result = f"  result {self.computed:x}, flags {flag_names(self.flags)}, {verdict}"
        return "\n".join([*self.steps(), result])

    def steps(self) -> list[str]:
        """Return lines of text: the vector, its operands, and every internal node."""
        place = "" if self.line is None else f"line {self.line} "
        lines = [
            f"{self.unit}, {place}(vector {self.index}, {self.section}): {self.op}",
            f"  {self.equation}",
        ]
        for name, values in self.operands.items():
            shown = "  ".join(f"{code:x} = {value}" for code, value in values)
            lines.append(f"  {name:8s} {shown}")
        step = -1
        for node in self.nodes:
            if node.step != step:
                step = node.step
                lines.append(f"  step {step}")
            lines.append(f"    {_node(node)}")
        return lines


def _node(node: Node) -> str:
    text = f"{node.name:24s} {node.text}"
    if node.exponent is not None:
        text += f"   e = {node.exponent}"
    if node.code is not None:
        text += f"   {node.format} code {node.code:x}"
    if node.flags:
        text += "   " + ", ".join(str(f) for f in node.to_dict()["flags"])
    return text


def explain(directory: str | Path, line: int) -> Explanation:
    """Explain the vector on a line of ``vectors.hex``, as error messages number them.

    Raises:
        FpsimError: no vectors there, or no vector on that line.
    """
    path = Path(directory)
    if not isinstance(line, int) or line < 1:
        raise FpsimError(f"line: {line!r} is not a positive integer")
    explained = _explain_dot if schema_of(path) == Shape.schema else _explain_clock
    return explained(path, line)


def _row(line: int, head: int, count: int, path: Path) -> int:
    index = line - head - 1
    if not 0 <= index < count:
        raise FpsimError(
            f"line: {line} of {path / 'vectors.hex'} holds no vector; they are on lines "
            f"{head + 1}..{head + count}"
        )
    return index


def _explain_dot(path: Path, line: int) -> Explanation:
    opened = open_dots(path)
    shape = opened.shape
    index = _row(line, opened.head_lines, opened.count, path)
    columns = opened.columns()
    row = {name: column[index] for name, column in columns.items()}
    before = int(columns["acc"][index - 1]) if index else 0
    return explain_dot(shape, row, before, index, line, opened.section_of(index))


def explain_dot(
    shape: Shape, row: Columns, before: int, index: int, line: int | None, section: str
) -> Explanation:
    """Explain a vector of a set of dot products that finds the accumulator ``before``."""
    op = Op(int(row["op"]))
    if op not in (Op.MAC, Op.IDLE):
        before = int(row["c"]) if op in (Op.DOT, Op.LOAD) else 0
    nodes: tuple[Node, ...] = ()
    computed, flags = 0 if op is Op.CLEAR else before, 0
    if op in (Op.DOT, Op.MAC):
        trace = shape.trace(row, before)
        nodes, computed, flags = tuple(trace.nodes), trace.code, int(trace.flags)
    operands = {
        name: _values(np.atleast_1d(column).tolist(), shape.format_of(name))
        for name, column in row.items()
        if name not in ("op", "acc", "flags")
    }
    return Explanation(
        shape.spec.name, shape.spec.equation, line, index, section,
        op.name.lower(), operands, before, nodes, int(row["acc"]), computed,
        int(row["flags"]) if shape.flags else None, flags,
    )  # fmt: skip


def _explain_clock(path: Path, line: int) -> Explanation:
    vectors = files.read(path)
    head = files.head_lines(path)
    index = _row(line, head, vectors.count, path)
    row = {name: int(column[index]) for name, column in vectors.columns.items()}
    before = int(vectors.columns["acc"][index - 1]) if index else 0
    section = next((s.name for s in vectors.sections if s.start <= index < s.start + s.count), "")
    return explain_clock(vectors.spec, row, before, index, line, section)


def explain_clock(
    spec: MacSpec, row: dict[str, int], before: int, index: int, line: int | None, section: str
) -> Explanation:
    """Explain a vector of a stream of single products that finds the accumulator ``before``."""
    op = Op(row["op"])
    nodes: tuple[Node, ...] = ()
    computed, flags = {Op.CLEAR: 0, Op.LOAD: row["c"]}.get(op, before), 0
    if op is Op.MAC:
        trace = oracle.trace(spec, [row["a"]], [row["b"]], np.asarray(before, spec.initial.dtype),
                             **_exponent(row.get("exp", 0)), random=_random(spec, row))  # fmt: skip
        nodes, computed, flags = tuple(trace.nodes), trace.code, int(trace.flags)
    operands = {n: _values([row[n]], getattr(spec, n)) for n in "ab"}
    operands["c"] = _values([row["c"]], spec.initial)
    if spec.random_bits:
        operands["random"] = [(row["random"], str(row["random"]))]
    return Explanation(
        spec.name, spec.equation, line, index, section, op.name.lower(), operands, before, nodes,
        row["acc"], computed, row.get("flags"), flags,
    )  # fmt: skip


def _random(spec: MacSpec, row: dict[str, int]) -> list[int] | None:
    return [row["random"]] if spec.random_bits else None


def _exponent(field: int) -> dict[str, Any]:
    """Return the exponent field of a clock as two E8M0 scales."""
    exponent = field - (1 << EXPONENT_BITS) if field >> (EXPONENT_BITS - 1) else field
    first = min(max(exponent, -127), 127)
    return {"a_scale": [127 + first], "b_scale": [127 + exponent - first]} if exponent else {}


def _values(codes: list[int], fmt: Format) -> list[tuple[int, str]]:
    return [(code, Node(0, "", oracle.decode(code, fmt)).text) for code in codes]
