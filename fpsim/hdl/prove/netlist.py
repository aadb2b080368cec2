# SPDX-License-Identifier: Apache-2.0
"""A netlist as Yosys writes it in BTOR2, evaluated clock by clock on words of an `Algebra`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fpsim.base.errors import FpsimError
from fpsim.hdl.prove.words import Algebra, Word

__all__ = ["ClockedNetlist", "State", "parse_btor"]

#: Words of the registers, by the number that a netlist gives them.
State = Mapping[int, Word]
#: Operands and indices of operations that are not of two operands; a name may follow them.
_SHAPES = dict.fromkeys(("not", "neg", "inc", "dec", "redor", "redand", "redxor"), (1, 0))
_SHAPES |= {"ite": (3, 0), "slice": (1, 2), "uext": (1, 1), "sext": (1, 1)}
_IGNORED = frozenset({"init", "bad", "constraint", "fair", "justice", "output", "next"})


class _Node(NamedTuple):
    op: str
    args: tuple[int, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class ClockedNetlist:
    """A netlist: inputs, registers, and the node that each register takes next."""

    inputs: dict[str, tuple[int, int]]  #: number and width by name
    loose: dict[int, int]  #: width of inputs without a name, which are anything on every clock
    registers: dict[int, int]  #: width by number
    names: dict[int, str]  #: of registers that have one in the source
    nodes: dict[int, _Node]
    constants: dict[int, Word]
    outputs: dict[str, int]
    following: dict[int, int]  #: the node that a register takes

    def free_state(self, algebra: Algebra) -> dict[int, Word]:
        """Return registers that can hold anything."""
        return {n: algebra.free(w, self.names.get(n, f"r{n}")) for n, w in self.registers.items()}

    def step(
        self, algebra: Algebra, state: State, inputs: Mapping[str, Word]
    ) -> tuple[dict[str, Word], dict[int, Word]]:
        """Return the outputs within a clock and the registers after it.

        Args:
            algebra: computes.
            state: the registers before.
            inputs: by name, all of them.

        Returns:
            Outputs by name, and the next state.
        """
        values: dict[int, Word] = {**self.constants, **state}
        values |= {number: inputs[name] for name, (number, _) in self.inputs.items()}
        values |= {number: algebra.free(width, "any") for number, width in self.loose.items()}

        def value(number: int) -> Word:
            found = values[abs(number)]
            return found if number > 0 else algebra.apply("not", [found])

        for number, node in self.nodes.items():
            values[number] = algebra.apply(node.op, [value(n) for n in node.args], node.indices)
        outputs = {name: value(number) for name, number in self.outputs.items()}
        after = {
            n: value(self.following[n]) if n in self.following else w for n, w in state.items()
        }
        return outputs, after


def parse_btor(text: str) -> ClockedNetlist:
    """Return the netlist of a BTOR2 text.

    Raises:
        FpsimError: arrays, or a line that is none.
    """
    widths: dict[int, int] = {}
    made = ClockedNetlist({}, {}, {}, {}, {}, {}, {}, {})
    for line in text.splitlines():
        words = line.partition(";")[0].split()
        if not words:
            continue
        number, op, rest = int(words[0]), words[1], words[2:]
        if op == "sort":
            if rest[0] != "bitvec":
                raise FpsimError("netlist: a memory that was not taken apart into registers")
            widths[number] = int(rest[1])
        elif op == "input":
            width = widths[int(rest[0])]
            if len(rest) > 1:
                made.inputs[rest[1]] = (number, width)
            else:
                made.loose[number] = width
        elif op == "state":
            made.registers[number] = widths[int(rest[0])]
            if len(rest) > 1:
                made.names[number] = rest[1]
        elif op == "output":
            made.outputs[rest[1] if len(rest) > 1 else str(number)] = int(rest[0])
        elif op == "next":
            made.following[int(rest[1])] = int(rest[2])
        elif op in ("const", "constd", "consth", "zero", "one", "ones"):
            width = widths[int(rest[0])]
            base = {"const": 2, "constd": 10, "consth": 16}.get(op)
            value = int(rest[1], base) if base else {"zero": 0, "one": 1, "ones": -1}[op]
            made.constants[number] = Word(width, value & ((1 << width) - 1))
        elif op not in _IGNORED:
            operands, indices = _SHAPES.get(op, (2, 0))
            numbers = [int(word) for word in rest[1 : 1 + operands + indices]]
            made.nodes[number] = _Node(op, tuple(numbers[:operands]), tuple(numbers[operands:]))
    return made
