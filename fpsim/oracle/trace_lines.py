# SPDX-License-Identifier: Apache-2.0
"""A trace as lines of text, with values in one unit and long sums folded.

Nodes that differ only in their number are one line, ``p[1..31]``; long runs, and many steps, keep
the first and the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from fpsim.oracle.trace import Node

__all__ = ["TraceLine", "trace_lines"]

#: Most steps, and most nodes of one kind in a step, that are shown unfolded; and how many last ones
#: stay.
MAX_STEPS, MAX_NODES, LAST = 6, 8, 2
_INDEXED = re.compile(r"(?P<stem>.*\[)(?P<index>\d+)\]")


class TraceLine(NamedTuple):
    """A node as text, or a remark in place of omitted nodes."""

    step: int
    name: str
    value: str = ""  #: exact value, in the unit of the operands' values
    grid: str = ""  #: integer in the hardware, and the weight of its last bit
    exponent: str = ""
    code: str = ""
    flags: str = ""

    def __str__(self) -> str:
        parts = [self.value, self.grid, self.exponent and f"e = {self.exponent}", self.code]
        return f"{self.name:24s} " + "   ".join(part for part in (*parts, self.flags) if part)


def trace_lines(nodes: Sequence[Node], every: bool = False) -> list[TraceLine]:
    """Return the nodes of a trace as lines.

    Args:
        nodes: nodes in the order of computation.
        every: whether to show all, without folding.

    Returns:
        One line per node, or per folded run of nodes.
    """
    steps = [[_line(node) for node in group] for _, group in groupby(nodes, lambda n: n.step)]
    if every:
        return [line for step in steps for line in step]
    steps = [_folded(step) for step in steps]
    if len(steps) > MAX_STEPS:
        first, last = steps[: MAX_STEPS - LAST], steps[-LAST:]
        hidden = steps[MAX_STEPS - LAST : -LAST]
        note = f"... {len(hidden)} steps more"
        steps = [*first, [TraceLine(hidden[0][0].step, note), *_accumulator(hidden[-1])], *last]
    return [line for step in steps for line in step]


def _accumulator(step: list[TraceLine]) -> list[TraceLine]:
    """Return the accumulator after a step that is not shown."""
    return [line for line in step if line.name == "acc"][-1:]


def _line(node: Node) -> TraceLine:
    grid = "" if node.lsb is None else f"{node.value} * 2^{node.lsb}"
    code = "" if node.code is None else f"{node.format} 0x{node.code:x}"
    exponent = "" if node.exponent is None else str(node.exponent)
    flags = ", ".join(node.flag_names)
    return TraceLine(node.step, node.name, node.real_text, grid, exponent, code, flags)


def _folded(step: Iterable[TraceLine]) -> list[TraceLine]:
    found: list[TraceLine] = []
    for stem, group in groupby(step, _stem):
        lines = list(group)
        if stem:
            lines = [_merged(list(same)) for _, same in groupby(lines, lambda line: line[2:])]
            if len(lines) > MAX_NODES:
                more = len(lines) - MAX_NODES
                gap = TraceLine(lines[0].step, f"... {more} more of {stem[:-1]}")
                lines = [*lines[: MAX_NODES - LAST], gap, *lines[-LAST:]]
        found += lines
    return found


def _stem(line: TraceLine) -> str:
    match = _INDEXED.fullmatch(line.name)
    return match["stem"] if match else ""


def _merged(lines: list[TraceLine]) -> TraceLine:
    if len(lines) == 1:
        return lines[0]
    first, last = (_INDEXED.fullmatch(line.name) for line in (lines[0], lines[-1]))
    assert first is not None and last is not None
    return lines[0]._replace(name=f"{first['stem']}{first['index']}..{last['index']}]")
