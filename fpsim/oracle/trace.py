# SPDX-License-Identifier: Apache-2.0
"""Traces: every internal node of a sum, in the order of computation."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from fpsim.base.notebook import html_table
from fpsim.formats.floating import Format
from fpsim.formats.rounding import Flag
from fpsim.oracle.numbers import Number, RoundUp, round_up, two_to

__all__ = ["FlagsOnly", "Node", "Silent", "Trace"]


NO_FLAGS = Flag(0)


class Node(NamedTuple):
    """One internal value: a product, an exponent, an aligned term, a sum, a rounded result."""

    step: int  #: number of the stage's step, from 0
    name: str  #: name, such as ``p[3]``, ``E``, ``t[3]``, ``S``, ``sum``, ``acc``
    value: Number | int
    exponent: int | None = None  #: alignment exponent of a term
    code: int | None = None  #: code of a rounded value
    format: str = ""  #: format of the code
    flags: Flag | None = None  #: status flags of the rounding
    lsb: int | None = None  #: for an integer on a grid: its last bit weighs 2^lsb

    @property
    def text(self) -> str:
        """The value as exact text; for an integer on a grid, the integer."""
        return str(self.value) if isinstance(self.value, int) else _text(self.value)

    @property
    def real_text(self) -> str:
        """The value as exact text, in the unit of the operands' values."""
        if self.lsb is None or not isinstance(self.value, int):
            return self.text
        return _text(Number(self.value < 0, abs(self.value) * two_to(self.lsb)))

    @property
    def flag_names(self) -> list[str]:
        """Names of the flags that are set."""
        return [f.name.lower() for f in Flag if f.name and self.flags and f in self.flags]

    def to_dict(self) -> dict[str, Any]:
        """Return the node as JSON-ready data."""
        data: dict[str, Any] = {"step": self.step, "name": self.name, "value": self.real_text}
        if self.lsb is not None:
            data |= {"integer": self.value, "lsb": self.lsb}
        if self.exponent is not None:
            data["exponent"] = self.exponent
        if self.code is not None:
            data |= {"code": self.code, "format": self.format}
        if self.flags is not None:
            data["flags"] = self.flag_names
        return data


@dataclass
class Trace:
    """Nodes in the order of computation, and the result code."""

    nodes: list[Node] = field(default_factory=list)
    code: int = 0
    step: int = 0
    #: Prefix of node names inside chunks: ``chunk0.chunk1.`` in chunk 1 inside chunk 0,
    #: ``outer.chunk2.`` in chunk 2 of the outer stage, whose terms are chunk results.
    prefix: str = ""
    flags: Flag = NO_FLAGS  #: OR of the flags of all operations
    round_up: RoundUp = round_up  #: the rounding decision of all traced operations
    silent: ClassVar[bool] = False

    def add(
        self,
        name: str,
        value: Number | int,
        exponent: int | None = None,
        code: int | None = None,
        fmt: Format | None = None,
        flags: Flag | None = None,
        lsb: int | None = None,
    ) -> None:
        """Append a node.

        Args:
            name: name, such as ``p[3]`` or ``acc``, without the prefix of chunks.
            value: the exact value; for a node on a grid, an integer.
            exponent: the alignment exponent of a term.
            code: the code of a rounded value.
            fmt: the format of the code.
            flags: status flags of the rounding.
            lsb: the exponent of the integer's grid.
        """
        self.flag(flags)
        label = "" if fmt is None else fmt.name
        self.nodes.append(
            Node(self.step, self.prefix + name, value, exponent, code, label, flags, lsb)
        )

    def flag(self, flags: Flag | None, when: bool = True) -> None:
        """Raise status flags; they stay raised."""
        if when and flags:
            self.flags |= flags

    def find(self, name: str, step: int | None = None) -> list[Node]:
        """Return the nodes called ``name``, of one step or of all steps."""
        return [n for n in self.nodes if n.name == name and step in (None, n.step)]

    def _repr_html_(self) -> str:
        from fpsim.oracle.trace_lines import trace_lines

        heads = ("step", "node", "value", "on its grid", "exponent", "code", "flags")
        return html_table(f"result 0x{self.code:x}", heads, trace_lines(self.nodes))

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as JSON-ready data."""
        flags = [f.name.lower() for f in Flag if f.name and f in self.flags]
        nodes = [node.to_dict() for node in self.nodes]
        return {"code": self.code, "flags": flags, "nodes": nodes}


class FlagsOnly(Trace):
    """A trace that keeps only flags."""

    def add(
        self,
        name: str,
        value: Number | int,
        exponent: int | None = None,
        code: int | None = None,
        fmt: Format | None = None,
        flags: Flag | None = None,
        lsb: int | None = None,
    ) -> None:
        """Raise the flags of a node.

        Args:
            name, value, exponent, code, fmt, lsb: not kept.
            flags: status flags of the rounding.
        """
        self.flag(flags)


class Silent(Trace):
    """A trace that keeps nothing."""

    silent = True

    def flag(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def add(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def _text(number: Number) -> str:
    if number.is_nan:
        return "nan"
    sign = "-" if number.negative else ""
    if number.infinite:
        return f"{sign}inf"
    assert number.magnitude is not None
    return sign + _exact(number.magnitude)


def _exact(value: Fraction) -> str:
    """Return a dyadic fraction exactly: as a decimal if it is short, else as integer * 2^e."""
    shift = value.denominator.bit_length() - 1
    integer = value.numerator
    if shift == 0:
        if integer < 1 << 40:
            return str(integer)
        shift = (integer & -integer).bit_length() - 1
        return f"{integer >> shift}*2^{shift}" if shift else str(integer)
    text = str(float(value))
    return text if Fraction(text) == value and len(text) <= 12 else f"{integer}*2^-{shift}"
