# SPDX-License-Identifier: Apache-2.0
"""The beat serialiser: which bits every port carries in every beat of a vector.

A `Serialiser` turns vectors into lines of text, one per beat: a digit of marks, then hexadecimal
digits of every port, then of every output that the beat's result is compared with. Benches do
nothing but move these digits, in Python or in SystemVerilog alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.hdl.bench.beat_plan import Beat, BeatPlan, LineField, Mark
from fpsim.hdl.dut.dut import EXPONENT_BITS, Dut, Wires
from fpsim.hdl.dut.encodings import decode, encodable, encode, widened
from fpsim.hdl.dut.wires import MAX_WORD, Piece, zeros
from fpsim.kernels.codec.hex_words import write_words
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.code_lists import LISTED_BITS
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["Serialiser"]

Codes = NDArray[np.uint64]
_ALPHABET = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
#: The sum of two E8M0 biases.
_E8M0_BIASES = 254
_E8M0_NAN = 255


class Serialiser:
    """A design and a unit: lines of vectors.

    Raises:
        FpsimError: lengths that do not fill the beats, or places that do not fit their fields.
    """

    def __init__(
        self, dut: Dut, spec: MacSpec, k: int, group: int = 0, flags: bool = False
    ) -> None:
        self._begin(BeatPlan(dut, spec, k, group, flags), Record(spec, k, group))

    def _begin(self, plan: BeatPlan, record: Record) -> None:
        self.plan, self.dut, self.group, self.record = plan, plan.dut, plan.group, record
        self._beats = plan.beats
        fields = (*self.inputs, *self.outputs)
        self.length = max(f.stop for f in fields) + 1

    @property
    def inputs(self) -> tuple[LineField, ...]:
        """Inputs of the design, as they stand in a line."""
        return self.plan.inputs

    @property
    def outputs(self) -> tuple[LineField, ...]:
        """Outputs that are compared."""
        return self.plan.outputs

    # -- what the design can be told -----------------------------------------------------------

    def expressible(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which vectors the design can be told, given the accumulator before them."""
        fit = np.ones(columns["op"].size, dtype=bool)
        for _, told in self._tests(columns):
            fit &= told
        return fit

    def left_out(self, columns: Columns, keep: NDArray[np.bool_]) -> dict[str, int]:
        """Return the reasons why vectors are not told, with the number of vectors for each."""
        found: dict[str, int] = {}
        rest = ~keep
        for reason, told in self._tests(columns):
            count = int((rest & ~told).sum())
            if count:
                found[reason] = count
            rest &= told
        if rest.any():
            found["accumulate onto one of these"] = int(rest.sum())
        return found

    def _tests(self, columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield (the reason for vectors that fail a test, which vectors pass it)."""
        op, known = columns["op"], self.dut.known_ops
        variants = self._variant_of(columns) >= 0
        onto = (op == Op.DOT) & (columns["c"] != 0)
        yield "have an addend, which no port carries", variants | ~onto
        for code in Op:
            name = code.name.lower()
            if name not in known:
                yield f"are '{name}', which the design has not", variants | (op != code)
        yield "cannot be said with these operations", variants
        for name in self._unsaid():
            one = columns[name] == Palette(self.record).one(name[0])
            yield f"have a {name} other than 1, which no port carries", one.all(axis=1)
        for name, wires in self.plan.wires.items():
            if name == "exp" or name in columns:
                column = self.column(columns, name).reshape(op.size, -1)
                fits = self._fits(column, self.plan.widths[name], wires, name == "exp")
                told = np.asarray(fits.all(axis=1))
                yield f"have a code of {name} that its wires cannot carry", told
        if self.group and self.dut.carries("exp"):
            nan = (columns["a_scale"] == _E8M0_NAN) | (columns["b_scale"] == _E8M0_NAN)
            yield "have a NaN scale, and exp is a number", ~nan.any(axis=1)
        if self.dut.domain:
            yield "lie outside the domain", self.dut.domain.holds(self.record, columns)

    def column(self, columns: Columns, name: str) -> NDArray[Any]:
        """Return the codes of a field; of ``exp``, the sums of two exponents in nine bits."""
        if name != "exp":
            return columns[name]
        total = np.zeros((columns["op"].size, 1), dtype=np.int64)
        if self.group:
            total = columns["a_scale"].astype(np.int64) + columns["b_scale"] - _E8M0_BIASES
        bias = self.plan.wires["exp"].bias
        if bias is not None:
            return (total + bias).view(np.uint64)
        return total.view(np.uint64) & np.uint64((1 << EXPONENT_BITS) - 1)

    def _unsaid(self) -> list[str]:
        """Return the scales of vectors that no port carries, so that they can only be 1."""
        if not self.group or self.dut.carries("exp"):
            return []
        return [name for name in ("a_scale", "b_scale") if not self.dut.carries(name)]

    def told_codes(self) -> dict[str, Codes]:
        """Return by field the codes that the design can be told, where they can be listed."""
        found: dict[str, Codes] = {}
        for name in ("a", "b", "a_scale", "b_scale", "c"):
            width = self.plan.widths[name]
            if width > LISTED_BITS or (name.endswith("scale") and not self.group):
                continue
            codes = np.arange(1 << width, dtype=np.uint64)
            codes = codes[self.dut.domain.takes(name, self.record.format_of(name), codes)]
            if name in self._unsaid():
                found[name] = np.array([Palette(self.record).one(name[0])], dtype=np.uint64)
            elif name in self.plan.wires:
                found[name] = codes[self._fits(codes, width, self.plan.wires[name])]
            elif self.group and self.dut.carries("exp") and name.endswith("scale"):
                found[name] = codes[codes != _E8M0_NAN]
        return found

    def compared(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which vectors have a result that is compared."""
        variants = [any(Mark.COMPARE in b.marks for b in beats) for beats in self._beats.values()]
        return np.array(variants)[self._variant_of(columns)]

    def select(self, columns: Columns, synchronous: bool) -> tuple[NDArray[np.bool_], bool]:
        """Return which of consecutive vectors to apply, and whether the state agrees after them.

        A vector that accumulates onto one that is left out is left out too. ``synchronous``: the
        design holds the accumulator that the first vector finds.
        """
        fit, op = self.expressible(columns), columns["op"]
        chained = (op == Op.MAC) | (op == Op.IDLE)
        index = np.arange(op.size)
        broken = np.where(fit | (op == Op.IDLE), -1, index)  # what holds can be skipped
        starts = np.where(chained, -1, index)
        last_break = np.maximum.accumulate(broken) if op.size else broken
        last_start = np.maximum.accumulate(starts) if op.size else starts
        whole = np.where(last_start >= 0, last_break < last_start, synchronous & (last_break < 0))
        keep = fit & (whole | ~chained)
        after = keep | (whole & (op == Op.IDLE))
        return keep, bool(after[-1]) if op.size else synchronous

    @staticmethod
    def _fits(
        codes: NDArray[Any], width: int, wires: Wires, signed: bool = False
    ) -> NDArray[np.bool_]:
        if wires.table:
            return np.asarray(np.array(wires.table)[codes.astype(np.int64)] >= 0)
        if wires.bias is not None:
            return np.asarray(codes < np.uint64(1 << (wires.element_bits or width)))
        bits, signed = wires.element_bits or width, signed or wires.signed
        fit = encodable(widened(codes, width, bits, signed), bits, wires.encoding)
        if bits < width:
            dropped = codes.astype(np.uint64) >> np.uint64(bits - signed)
            ones = np.uint64((1 << (width - bits + signed)) - 1)
            fit &= (dropped == 0) | ((dropped == ones) & signed)
        return fit

    def _variant_of(self, columns: Columns) -> NDArray[np.int64]:
        """Return the index of the variant per vector, -1: none."""
        names = list(self._beats)
        op, c = columns["op"], columns["c"]
        found = np.full(op.size, -1)
        for code in Op:
            name = code.name.lower()
            if name in names:
                found[op == code] = names.index(name)
        dots = (op == Op.DOT) & (found < 0)
        if "load+mac" in names:
            found[dots] = names.index("load+mac")
        if "clear+mac" in names:
            found[dots & (c == 0)] = names.index("clear+mac")
        if not self.dut.carries("c"):
            found[(op == Op.DOT) & (c != 0)] = -1
        return found

    # -- text ----------------------------------------------------------------------------------

    def beats_of(self, columns: Columns) -> NDArray[np.int64]:
        """Return the number of lines of every vector."""
        counts = np.array([len(beats) for beats in self._beats.values()])
        return np.asarray(counts[self._variant_of(columns)])

    def lines(self, columns: Columns) -> NDArray[np.uint8]:
        """Return the lines (n, length) of vectors that are all expressible, in order."""
        variants = self._variant_of(columns)
        counts = self.beats_of(columns)
        starts = np.cumsum(counts) - counts
        out = np.empty((int(counts.sum()), self.length), dtype=np.uint8)
        out[:, -1] = ord("\n")
        wired = _Wired(self, columns)
        for index, beats in enumerate(self._beats.values()):
            rows = np.flatnonzero(variants == index)
            for i, beat in enumerate(beats) if rows.size else ():
                out[starts[rows] + i] = self._text(beat, wired, rows)
        return out

    def seen_code(self, seen: dict[str, str]) -> int | None:
        """Return the accumulator code that bits per output port carry; None: not all known."""
        codes = self._seen_codes(seen, "acc")
        return None if codes is None else codes[0]

    def seen_flags(self, seen: dict[str, str]) -> int | None:
        """Return the status flags that bits per output port carry; None: not all known."""
        codes = self._seen_codes(seen, "flags")
        return None if codes is None else codes[0]

    def _seen_codes(self, seen: dict[str, str], name: str) -> list[int] | None:
        """Return the codes of a result that bits per output port carry; None: not all known."""
        wires, width = self.plan.wires[name], self.plan.widths[name]
        codes: dict[int, int] = {}
        for port, pieces in self.plan.results.items():
            at = sum(piece.width for piece in pieces)
            bits = seen[port][-at:]
            for piece in pieces:
                part, bits = bits[: piece.width], bits[piece.width :]
                if piece.name == name:
                    if not set(part) <= {"0", "1"}:
                        return None
                    codes[piece.lane] = codes.get(piece.lane, 0) | int(part, 2) << piece.shift
        found = []
        for _, code in sorted(codes.items()):
            if wires.table:
                if code not in wires.table:
                    return None
                found.append(wires.table.index(code))
                continue
            read = decode(code, wires.element_bits or width, wires.encoding)
            found.append(read & ((1 << width) - 1))
        return found

    def _text(self, beat: Beat, wired: _Wired, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        groups: list[tuple[Piece, ...]] = [(Piece(4, value=int(beat.marks)),)]
        groups += [beat.ports.get(f.port) or zeros(f.width) for f in self.inputs]
        compared = Mark.COMPARE in beat.marks
        groups += [self.plan.results[f.port] if compared else zeros(f.width) for f in self.outputs]
        pieces = [piece for group in groups for piece in group]
        elements = np.empty((rows.size, len(pieces)), dtype=np.uint64)
        widths = np.array([piece.width for piece in pieces], dtype=np.int64)
        for i, piece in enumerate(pieces):
            elements[:, i] = wired.piece(piece)[rows] if piece.name else np.uint64(piece.value)
        first = np.cumsum([0, *(len(group) for group in groups)]).astype(np.int64)
        ends = [1, *(f.stop for f in (*self.inputs, *self.outputs))]
        digits = np.diff([0, *ends]).astype(np.int64)
        out = np.full((rows.size, self.length), ord("\n"), dtype=np.uint8)
        write_words(elements, widths, first, np.array(ends), digits, _ALPHABET, out)
        return out


class _Wired:
    """Columns as they stand on wires; every element is encoded once."""

    def __init__(self, owner: Serialiser, columns: Columns) -> None:
        self.owner, self.columns = owner, columns
        self._wires = owner.plan.wires
        self._encoded: dict[str, Codes] = {}

    def piece(self, piece: Piece) -> Codes:
        """Return the bits of a piece for every vector."""
        if piece.name not in self._encoded:
            self._encoded[piece.name] = self._encode(piece.name)
        codes = self._encoded[piece.name][:, piece.lane] >> np.uint64(piece.shift)
        if piece.width < MAX_WORD:
            codes = codes & np.uint64((1 << piece.width) - 1)
        return codes

    def _encode(self, name: str) -> Codes:
        codes = self.owner.column(self.columns, name).astype(np.uint64)
        wires, width = self._wires[name], self.owner.plan.widths[name]
        codes = codes.reshape(codes.shape[0], -1)
        if wires.table:
            return np.array(wires.table, dtype=np.int64)[codes.astype(np.int64)].astype(np.uint64)
        bits = wires.element_bits or width
        signed = wires.signed or (name == "exp" and wires.bias is None)
        return encode(widened(codes, width, bits, signed), bits, wires.encoding)
