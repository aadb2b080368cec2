# SPDX-License-Identifier: Apache-2.0
"""The beat serialiser: which bits every port carries in every beat of a vector.

A `Serialiser` turns vectors into lines of text, one per beat: a digit of marks, then hexadecimal
digits of every port, then of every output that the beat's result is compared with. Benches do
nothing but move these digits, in Python or in SystemVerilog alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.hdl.bench.beat_plan import Beat, BeatPlan, LineField, Mark
from fpsim.hdl.dut.dut import EXPONENT_BITS, Dut, Wires
from fpsim.hdl.dut.encodings import decode, encodable, encode
from fpsim.hdl.dut.wires import MAX_WORD, Piece, zeros
from fpsim.kernels.codec.hex_words import write_words
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.record import Columns, Op

__all__ = ["Serialiser"]

Codes = NDArray[np.uint64]
_ALPHABET = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
#: The sum of two E8M0 biases.
_E8M0_BIASES = 254
_E8M0_NAN = 255


class Serialiser:
    """A design and a unit: lines of vectors.

    Raises:
        FpsimError: as `fpsim.hdl.bench.beat_plan.BeatPlan`.
    """

    def __init__(self, dut: Dut, spec: MacSpec, k: int, group: int = 0) -> None:
        self.plan = BeatPlan(dut, spec, k, group)
        self.dut, self.group = dut, group
        self._beats = self.plan.beats
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
        fit = self._variant_of(columns) >= 0
        for name, wires in self.plan.wires.items():
            if name in columns:
                column = columns[name].reshape(fit.size, -1)
                fit &= self._fits(column, self.plan.widths[name], wires).all(axis=1)
        if self.group and self.dut.carries("exp"):
            fit &= ~((columns["a_scale"] == _E8M0_NAN) | (columns["b_scale"] == _E8M0_NAN)).any(
                axis=1
            )
        return fit

    def compared(self, columns: Columns) -> NDArray[np.bool_]:
        """Return of which vectors the result is compared."""
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
        broken = np.where(fit, -1, index)
        starts = np.where(chained, -1, index)
        last_break = np.maximum.accumulate(broken) if op.size else broken
        last_start = np.maximum.accumulate(starts) if op.size else starts
        whole = np.where(last_start >= 0, last_break < last_start, synchronous & (last_break < 0))
        keep = fit & (whole | ~chained)
        return keep, bool(keep[-1]) if op.size else synchronous

    @staticmethod
    def _fits(codes: NDArray[Any], width: int, wires: Wires) -> NDArray[np.bool_]:
        fit = encodable(codes, width, wires.encoding)
        bits = wires.element_bits or width
        if bits < width:
            dropped = codes.astype(np.uint64) >> np.uint64(bits - wires.signed)
            ones = np.uint64((1 << (width - bits + wires.signed)) - 1)
            fit &= (dropped == 0) | ((dropped == ones) & wires.signed)
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
        wires, width = self.plan.wires["acc"], self.plan.widths["acc"]
        code = 0
        for port, pieces in self.plan.acc.items():
            at = sum(piece.width for piece in pieces)
            bits = seen[port][-at:]
            for piece in pieces:
                part, bits = bits[: piece.width], bits[piece.width :]
                if piece.name:
                    if not set(part) <= {"0", "1"}:
                        return None
                    code |= int(part, 2) << piece.shift
        bits_on_wires = wires.element_bits or width
        if code >> width and bits_on_wires > width:
            code &= (1 << width) - 1
        return decode(code, width, wires.encoding)

    def _text(self, beat: Beat, wired: _Wired, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        groups: list[tuple[Piece, ...]] = [(Piece(4, value=int(beat.marks)),)]
        groups += [beat.ports[f.port] for f in self.inputs]
        compared = Mark.COMPARE in beat.marks
        groups += [self.plan.acc[f.port] if compared else zeros(f.width) for f in self.outputs]
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
        codes = self._column(name).astype(np.uint64)
        wires, width = self._wires[name], self.owner.plan.widths[name]
        codes = encode(codes.reshape(codes.shape[0], -1), width, wires.encoding)
        bits = wires.element_bits or width
        if bits > width and wires.signed:
            high = np.uint64(((1 << bits) - 1) ^ ((1 << width) - 1))
            codes = np.where(codes >> np.uint64(width - 1) & np.uint64(1), codes | high, codes)
        return codes

    def _column(self, name: str) -> NDArray[Any]:
        if name != "exp":
            return self.columns[name]
        if not self.owner.group:
            return np.zeros(self.columns["op"].size, dtype=np.uint64)
        total = self.columns["a_scale"].astype(np.int64) + self.columns["b_scale"]
        return (total - _E8M0_BIASES).view(np.uint64) & np.uint64((1 << EXPONENT_BITS) - 1)
