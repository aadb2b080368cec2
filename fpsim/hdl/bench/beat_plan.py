# SPDX-License-Identifier: Apache-2.0
"""The beats of a vector: the value on every port of a design, clock by clock.

A `BeatPlan` is a design and a unit without any data: the beats of every operation, each as pieces
of the vector's fields on the design's ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntFlag
from types import MappingProxyType

from fpsim.base.errors import FpsimError
from fpsim.formats.names import E8M0
from fpsim.hdl.dut.dut import EXPONENT_BITS, WAITS, Beats, Dut, Place, Wires
from fpsim.hdl.dut.wires import Piece, cut, filled, zeros
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.record import Op
from fpsim.vectors.sets.status_flags import FLAG_BITS, FLAG_CODES

__all__ = ["Beat", "BeatPlan", "LineField", "Mark"]


class Mark(IntFlag):
    """The first digit of a line."""

    ANSWER = 1  #: a result comes for this beat
    COMPARE = 2  #: the result is compared
    FREE = 4  #: a vector starts here that does not depend on what came before
    RESET = 8  #: no beat: the design is reset here
    PAUSE = 12  #: no beat: a clock without one
    WAIT = 9  #: no beat: results that are under way come first


@dataclass(frozen=True)
class Beat:
    """The content of a line: pieces per port, the most significant first."""

    marks: Mark
    ports: Mapping[str, tuple[Piece, ...]]


@dataclass(frozen=True)
class LineField:
    """A port's digits in a line, ``line[start:stop]``, and the bits that the port must have."""

    port: str
    width: int
    exact: bool  #: the port has just these bits; else at least
    mask: int  #: bits that pieces or results use
    start: int
    stop: int
    quiet: int | None = None  #: value while no beat is there; None: anything


class BeatPlan:
    """The beats of every operation of a design.

    ``beats`` maps a way to apply a vector to its beats: an operation, or ``load+mac`` and
    ``clear+mac`` for dot products on a design that has no ``dot``.

    Args:
        k: elements per vector.
        group: elements per scale; 0: no scales.
        flags: whether wires of status flags are part of a result.

    Raises:
        FpsimError: lengths that do not fill the beats, or places that do not fit their fields.
    """

    flags: Mapping[str, Place] = MappingProxyType({})

    def __init__(
        self, dut: Dut, spec: MacSpec, k: int, group: int = 0, flags: bool = False
    ) -> None:
        self.dut, self.spec, self.k, self.group = dut, spec, k, group
        self.flags = dut.output.flags if flags else {}
        self._arrange()

    def _arrange(self) -> None:
        self.widths = self._field_widths()
        self.wires = self._wired()
        self._check_lengths()
        self._input_widths: dict[str, tuple[int, bool, int]] = {}
        beats = {name: self._variant(name) for name in self._variants()}
        self.beats = {name: self._padded(run) for name, run in beats.items()}
        self.results, self._output_widths = self._placed_results()
        self.inputs, self.outputs = self._line_fields()

    def _variants(self) -> list[str]:
        """Return the ways to apply a vector that the design has: its operations, and detours."""
        known = self.dut.known_ops
        names = [op.name.lower() for op in Op if op.name.lower() in known]
        if "dot" not in known and "mac" in known:
            names += [f"{way}+mac" for way in ("load", "clear") if way in known]
        if not self.dut.carries("c"):
            names = [n for n in names if n not in ("load", "load+mac")]
        return names

    def _wired(self) -> dict[str, Wires]:
        """Return how every field that is carried is coded.

        Raises:
            FpsimError: one that is coded in two ways.
        """
        found: dict[str, Wires] = {}
        for beats in self.dut.input.beats:
            for name, wires in beats.fields.items():
                code = found.setdefault(name, wires)
                if _coding(code) != _coding(wires):
                    raise FpsimError(f"input.beats: {name} is coded in two ways")
        found.pop("op", None)
        plain = {"flags": Wires(tuple(self.flags.values()))} if self.flags else {}
        return {**found, **plain, **self._result_wires()}

    def _result_wires(self) -> Mapping[str, Wires]:
        if self.dut.output.acc is None:
            raise FpsimError("output.acc: missing; the design is one of an operation")
        return self.dut.output.results

    def _field_widths(self) -> dict[str, int]:
        spec = self.spec
        return {
            "a": spec.a.bits, "b": spec.b.bits, "c": spec.initial.bits, "exp": EXPONENT_BITS,
            "a_scale": spec.a_scale.bits, "b_scale": spec.b_scale.bits, "acc": spec.result.bits,
            "flags": FLAG_BITS, "random": spec.random_bits,
        }  # fmt: skip

    def _check_lengths(self) -> None:
        scaled = [n for n in ("a_scale", "b_scale", "exp") if self.dut.carries(n)]
        if self.group and not scaled:
            raise FpsimError(
                f"group: vectors with a scale per {self.group} elements, "
                "but no beat carries a_scale, b_scale or exp"
            )
        for name in scaled[: not self.group]:
            if name != "exp":
                raise FpsimError(f"group: 0, so vectors have no {name}, which a beat carries")
        if "exp" in scaled and len(scaled) > 1:
            raise FpsimError(
                "input.beats: exp, which has both scales, is not carried beside a_scale or b_scale"
            )
        if self.group and scaled == ["exp"] and not self._has_exponents():
            raise FpsimError("input.beats: exp carries the sum of E8M0 scales; the unit has others")
        if self.dut.input.per_group and not self.group:
            raise FpsimError("input.per: 'group', but the vectors have no scales")
        told = self.dut.carries("random") or self.dut.lfsr is not None
        if self.spec.roundings(self.k) and not told:
            raise FpsimError(
                f"random: vectors of {self.spec.name} have random integers, but no beat carries "
                "them"
            )
        span = self.group if self.dut.input.per_group else self.k
        for beats in self.dut.input.beats:
            if beats.elements is None:
                continue
            if span % beats.elements or self.k % span:
                raise FpsimError(
                    f"elements: {beats.elements} per beat do not fill {span} of {self.k} elements"
                )
            if self.group and self.group % beats.elements and beats.elements % self.group:
                raise FpsimError(
                    f"elements: {beats.elements} per beat cut scales of {self.group} elements"
                )

    def _has_exponents(self) -> bool:
        scales = (self.spec.a_scale, self.spec.b_scale)
        return scales == (E8M0, E8M0) and not any(map(self.spec.splits, "ab"))

    def _quiet_ports(self) -> dict[str, int]:
        """Return the ports that name an operation, with their values while no beat is there."""
        idle = self.dut.ops.get("idle")
        told = dict(idle) if isinstance(idle, Mapping) else {}
        quiet = {port: told.get(port, 0) for port in self._op_ports("", zero=True)}
        for beats in self.dut.input.beats:
            quiet = dict.fromkeys(beats.tie, 0) | quiet
        quiet |= self.dut.input.tie
        carried = {
            p.port for b in self.dut.input.beats for w in b.fields.values() for p in w.places
        }
        return {port: value for port, value in quiet.items() if port not in carried}

    def _pauses(self) -> list[Beat]:
        """Return the clocks without a beat that follow a vector."""
        interval = self.dut.input.interval
        if interval == WAITS:
            return [Beat(Mark.WAIT, {})]
        return [Beat(Mark.PAUSE, {})] * (int(interval) - 1)

    def _variant(self, name: str) -> list[Beat]:
        first, _, then = name.partition("+")
        if then:
            return [*self._vector(first, compared=False), *self._vector(then, free=False)]
        return self._vector(name)

    def _vector(self, op: str, compared: bool = True, free: bool = True) -> list[Beat]:
        """Return the beats of one operation."""
        if self.dut.ops.get(op) == "reset":
            return [Beat(Mark.RESET, {})]
        output = self.dut.output
        layouts = list(self._layouts()) if op in ("mac", "dot") else [self._single(op)]
        answers = op in output.answers
        reads = output.beats if "read" in self.dut.ops and answers else 0
        beats = []
        for i, layout in enumerate(layouts):
            last = i == len(layouts) - 1
            marks = Mark(0)
            if (last or output.every_beat) and answers and not reads:
                marks |= Mark.ANSWER
                marks |= Mark.COMPARE if last and compared else Mark(0)
            if i == 0 and free and op not in ("mac", "idle"):
                marks |= Mark.FREE
            told = next((n for n in ("next", "mac") if i and n in self.dut.ops), op)
            beats.append(Beat(marks, self._ports(*layout, told, i == 0, last)))
        for i in range(reads):
            ends = i == reads - 1
            marks = Mark.ANSWER if ends else Mark(0)
            marks |= Mark.COMPARE if ends and compared else Mark(0)
            beats.append(Beat(marks, self._ports(self._reading(), 0, "read", False, False)))
        return beats + self._pauses()

    def _reading(self) -> Beats:
        """Return the layout of a beat in which a result leaves: the operation alone."""
        codes = [run.fields["op"] for run in self.dut.input.beats if "op" in run.fields]
        return Beats({"op": codes[0]} if codes else {})

    def _layouts(self) -> Iterator[tuple[Beats, int]]:
        """Yield (layout, first element or first scale code) of every beat."""
        per_group = self.dut.input.per_group
        span = self.group if per_group else self.k
        for low in range(0, self.k, span):
            for beats in self.dut.input.beats:
                if beats.elements is not None:
                    yield from ((beats, low + i) for i in range(0, span, beats.elements))
                elif beats.scales is None:
                    yield beats, low
                else:
                    codes = max(self._codes(n, low, span)[1] for n in _scales_in(beats))
                    yield from ((beats, low + i) for i in range(0, codes, beats.scales))

    def _single(self, op: str) -> tuple[Beats, int]:
        """Return the layout of an operation that takes one beat."""
        wanted = ("c", "op") if op == "load" else ("op", "a")
        runs = self.dut.input.beats
        return next(b for name in wanted for b in runs if name in b.fields), 0

    def _codes(self, name: str, element: int, count: int) -> tuple[int, int]:
        """Return (first, number) of a field's codes that ``count`` elements have."""
        if name in "ab":
            return element, count
        if name == "random":
            return self._random_integers(element, count)
        if name == "c" or not self.group:
            return 0, 1
        low, high = element // self.group, (element + count - 1) // self.group
        per = 1 + (name != "exp" and self.spec.splits(name[0]))
        return low * per, (high - low + 1) * per

    def _random_integers(self, element: int, count: int) -> tuple[int, int]:
        """Return (first, number) of the random integers that roundings of ``count`` elements take.

        A rounding of several beats has its integer in each of them.
        """
        roundings = self.spec.roundings(self.k)
        if not roundings:
            raise FpsimError(f"{self.spec.name} takes no random integers")
        if roundings * count % self.k == 0:
            return roundings * element // self.k, roundings * count // self.k
        if self.k % roundings:
            raise FpsimError(f"{roundings} integers are not shared evenly by {self.k} elements")
        return element // (self.k // roundings), 1

    def _ports(
        self, beats: Beats, at: int, op: str, first: bool, last: bool
    ) -> dict[str, tuple[Piece, ...]]:
        placed: dict[str, list[tuple[int, Piece]]] = {}
        own, held = self.dut.input, self.dut.input.tie
        if not self.dut.vhdl:  # the others are held by the module around the design
            held = {p: v for p, v in held.items() if p not in self.dut.constant_ties()}
        for ties in (held, beats.tie, self._op_ports(op)):
            for port, value in ties.items():
                self._place_value(placed, Place(port), value)
        for mark, on in ((own.first, first), (own.last, last)):
            if mark is not None:
                name = mark.removeprefix("!")
                self._place_value(placed, Place(name), int(on ^ mark.startswith("!")))
        for name, wires in beats.fields.items():
            if name == "op":
                code = self.dut.ops.get(op, 0)
                self._place_value(placed, wires.places[0], code if isinstance(code, int) else 0)
                continue
            try:
                self._place_wires(
                    placed, wires, self._runs(name, wires, *self._part(name, beats, at))
                )
            except FpsimError as error:
                raise FpsimError(f"input.beats.{name}: {error}") from None
        for port, value in self._op_ports(op, zero=True).items():
            if port not in placed:
                self._place_value(placed, Place(port), value)
        try:
            return {port: filled(port, pieces) for port, pieces in placed.items()}
        except FpsimError as error:
            keys = ", ".join([*beats.fields, *beats.tie, *self._op_ports(op)])
            raise FpsimError(f"input.beats: {error} ({keys})") from None

    def _part(self, name: str, beats: Beats, at: int) -> tuple[int, int]:
        span = self.group if self.dut.input.per_group else self.k
        if beats.elements is not None:
            return self._codes(name, at, beats.elements)
        if beats.scales is None or name not in _scales_in(beats):
            return self._codes(name, at, span)
        low = at // span * span
        first, count = self._codes(name, low, span)
        done = at - low
        return first + done, min(beats.scales, count - done)

    def _op_ports(self, op: str, zero: bool = False) -> dict[str, int]:
        """Return the ports that an operation sets, or as 0 all ports that any operation sets."""
        if zero:
            tables = [v for v in self.dut.ops.values() if isinstance(v, Mapping)]
            return {port: 0 for table in tables for port in table}
        value = self.dut.ops.get(op)
        return dict(value) if isinstance(value, Mapping) else {}

    def _runs(self, name: str, wires: Wires, lane: int, lanes: int) -> list[Piece]:
        """Return the elements of a beat from the low bits up."""
        bits = wires.element_bits or self.widths[name]
        if wires.table and len(wires.table) != 1 << self.widths[name]:
            raise FpsimError(
                f"table: {len(wires.table)} patterns for the {1 << self.widths[name]} codes of "
                f"{name}, of {self.widths[name]} bits; allowed: one pattern for each code"
            )
        if wires.order and len(wires.order) != lanes:
            raise FpsimError(f"order: {len(wires.order)} places for {lanes} elements of a beat")
        runs = [Piece(bits, name, lane + i) for i in wires.order or range(lanes)]
        return runs[::-1] if wires.high_first else runs

    def _place_value(
        self, placed: dict[str, list[tuple[int, Piece]]], place: Place, value: int
    ) -> None:
        width = max(1, value.bit_length()) if place.width is None else place.width
        if value >> width:
            raise FpsimError(f"{place.port}: the value {value} has more than {width} bits")
        self._need(place.port, place.lsb + width, False)
        placed.setdefault(place.port, []).append((place.lsb, Piece(width, value=value)))

    def _place_wires(
        self, placed: dict[str, list[tuple[int, Piece]]], wires: Wires, runs: list[Piece]
    ) -> None:
        for place, pieces in cut(wires.places, runs):
            width = sum(piece.width for piece in pieces)
            self._need(place.port, place.lsb + width, place.width is None)
            at = place.lsb
            for piece in pieces:
                placed.setdefault(place.port, []).append((at, piece))
                at += piece.width

    def _need(self, port: str, width: int, exact: bool) -> None:
        """Note the bits that a port must have; a whole port may carry fewer in some beats."""
        known, was_exact, mask = self._input_widths.get(port, (0, False, 0))
        self._input_widths[port] = (max(width, known), exact or was_exact, mask)

    def _padded(self, beats: list[Beat]) -> list[Beat]:
        """Return beats in which every input port has pieces of its full width."""
        padded = []
        for beat in beats:
            ports = {}
            for port, (width, _, _) in self._input_widths.items():
                pieces = beat.ports.get(port, ())
                gap = width - sum(piece.width for piece in pieces)
                ports[port] = (*zeros(gap), *pieces)
            padded.append(Beat(beat.marks, ports))
        return padded

    def _placed_results(
        self,
    ) -> tuple[dict[str, tuple[Piece, ...]], dict[str, tuple[int, bool, int]]]:
        many = self.dut.output.beats
        if many > 1:
            wires = self.wires["acc"]
            if len(wires.places) != 1 or wires.places[0].width is not None:
                raise FpsimError("output.beats: several need acc in one whole port")
            bits = wires.element_bits or self.widths["acc"]
            wires = replace(wires, element_bits=-(-bits // many) * many)
            self.wires["acc"] = wires
        placed: dict[str, list[tuple[int, Piece]]] = {}
        widths: dict[str, tuple[int, bool, int]] = {}
        found: dict[str, tuple[Piece, ...]] = {}
        for name in self.dut.output.results:
            wires = self.wires[name]
            try:
                parts = list(cut(wires.places, self._runs(name, wires, *self._whole(name))))
                if name == "acc":
                    parts += self._flag_wires()
                for place, pieces in parts:
                    at = place.lsb
                    for piece in pieces:
                        placed.setdefault(place.port, []).append((at, piece))
                        at += piece.width
                    width, exact, mask = widths.get(place.port, (0, False, 0))
                    mask |= (1 << at) - (1 << place.lsb)
                    widths[place.port] = (max(width, at), exact or place.width is None, mask)
                found = {port: filled(port, pieces) for port, pieces in placed.items()}
            except FpsimError as error:
                raise FpsimError(f"output.{name}: {error}") from None
        return found, widths

    def _flag_wires(self) -> list[tuple[Place, list[Piece]]]:
        """Return the wires of status flags beside the accumulator."""
        return [
            (place, [Piece(1, "flags", 0, list(FLAG_CODES).index(name))])
            for name, place in self.flags.items()
        ]

    def _whole(self, name: str) -> tuple[int, int]:
        """Return (first, number) of a result's codes."""
        return 0, 1

    def _line_fields(self) -> tuple[tuple[LineField, ...], tuple[LineField, ...]]:
        at = 1
        parts = []
        quiet = self._quiet_ports()
        for table in (self._input_widths, self._output_widths):
            fields = []
            for port, (width, exact, mask) in table.items():
                stop = at + -(-width // 4)
                fields.append(LineField(port, width, exact, mask, at, stop, quiet.get(port)))
                at = stop
            parts.append(tuple(fields))
        return parts[0], parts[1]


def _coding(wires: Wires) -> tuple[object, ...]:
    return wires.encoding, wires.element_bits, wires.signed, wires.table, wires.bias


def _scales_in(beats: Beats) -> list[str]:
    return [n for n in ("a_scale", "b_scale", "exp") if n in beats.fields]
