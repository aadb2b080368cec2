# SPDX-License-Identifier: Apache-2.0
"""The file of beats that a bench plays: written from vectors block by block, of any length.

Python reads lines of text. A bench in SystemVerilog reads bytes: two digits of a line in each, the
first in the high half, after a digit 0 where their number is odd, and no ends of lines. It spends
half of its time on text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField, Mark
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.vectors.sets.record import Columns

__all__ = [
    "LINES", "PACKED", "BeatWriter", "Located", "Stimulus", "locate", "selected", "write_stimulus",
]  # fmt: skip

#: Files of beats as lines of text, and packed into bytes.
LINES, PACKED = "stimulus.hex", "stimulus.bin"


class BeatWriter(Protocol):
    """Turns vectors into lines: `fpsim.hdl.bench.serialise.Serialiser`, or an adapter."""

    @property
    def inputs(self) -> tuple[LineField, ...]:
        """Inputs of the design, in the order of their digits in a line."""
        ...

    @property
    def outputs(self) -> tuple[LineField, ...]:
        """Outputs that are compared."""
        ...

    @property
    def length(self) -> int:
        """Bytes of a line with its end."""
        ...

    def select(self, columns: Columns, synchronous: bool) -> tuple[NDArray[np.bool_], bool]:
        """Return which vectors to apply, and whether the design's accumulator agrees after them."""
        ...

    def left_out(self, columns: Columns, keep: NDArray[np.bool_]) -> dict[str, int]:
        """Return the reasons why vectors are not told, with the number of vectors for each."""
        ...

    def compared(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which vectors have a result that is compared."""
        ...

    def lines(self, columns: Columns) -> NDArray[np.uint8]:
        """Return the lines (n, length) of vectors."""
        ...

    def seen_code(self, seen: dict[str, str]) -> int | None:
        """Return the accumulator code that bits per output port carry; None: not all known."""
        ...


@dataclass(frozen=True)
class Stimulus:
    """A file of beats."""

    path: Path
    beats: int  #: lines
    applied: int  #: vectors that the design is told
    compared: int  #: results that are compared
    left_out: int  #: vectors that the design cannot be told
    reasons: dict[str, int] = field(default_factory=dict)  #: why, and how many for each

    @property
    def left_out_text(self) -> str:
        """Say how many vectors were left out; empty if none."""
        if not self.left_out:
            return ""
        total = self.applied + self.left_out
        why = "; ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return f"{self.left_out} of {total} vectors cannot be told to the design: {why}"


@dataclass(frozen=True)
class Located:
    """A vector whose result was compared."""

    index: int  #: among the source's
    row: dict[str, Any]
    before: int | None  #: index of the vector applied before it


def selected(
    source: VectorSource, writer: BeatWriter, reasons: dict[str, int] | None = None
) -> Iterator[tuple[NDArray[Any], Columns]]:
    """Yield the vectors of a source that the design can be told.

    Args:
        source: the vectors.
        writer: writes their beats.
        reasons: if given, counts the other vectors by the reason why they cannot be told.

    Yields:
        Indices (n,) and columns of vectors, block by block.
    """
    synchronous = True
    for start, columns in source.blocks():
        keep, synchronous = writer.select(columns, synchronous)
        if reasons is not None and not keep.all():
            for reason, count in writer.left_out(columns, keep).items():
                reasons[reason] = reasons.get(reason, 0) + count
        rows = np.flatnonzero(keep)
        yield rows + start, {name: column[rows] for name, column in columns.items()}


def write_stimulus(
    source: VectorSource, writer: BeatWriter, path: Path, flush: int = 0
) -> Stimulus:
    """Write the beats of a source's vectors.

    Args:
        source: the vectors.
        writer: writes their beats.
        path: the file: bytes if its name is `PACKED`, else lines of text.
        flush: how often the last vector comes again, its results not compared.

    Returns:
        The file and its counts.

    Raises:
        FpsimError: no vector that the design can be told, or a file that cannot be written.
    """
    beats = applied = compared = 0
    reasons: dict[str, int] = {}
    last: Columns = {}
    scratch = path.with_suffix(".tmp")
    try:
        with scratch.open("wb") as file:
            for rows, columns in selected(source, writer, reasons):
                if not rows.size:
                    continue
                lines = writer.lines(columns)
                file.write((_packed(lines) if path.name == PACKED else lines).tobytes())
                beats += lines.shape[0]
                applied += rows.size
                compared += int(writer.compared(columns).sum())
                last = {name: column[-1:] for name, column in columns.items()}
            if flush and last:
                lines = np.tile(_not_compared(writer.lines(last)), (flush, 1))
                file.write((_packed(lines) if path.name == PACKED else lines).tobytes())
                beats += lines.shape[0]
        scratch.replace(path)
    except OSError as error:
        raise FpsimError(f"stimulus: {path} cannot be written ({error.strerror})") from None
    finally:
        scratch.unlink(missing_ok=True)
    if not compared:
        raise FpsimError(
            f"vectors: of {source.count}, {applied} can be told to the design and none has a "
            "result to compare; nothing would be verified"
        )
    return Stimulus(path, beats, applied, compared, source.count - applied, reasons)


def _not_compared(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return lines of beats whose results are not compared."""
    marks = [int(chr(digit), 16) for digit in lines[:, 0]]
    kept = [mark if mark & Mark.RESET else mark & ~Mark.COMPARE for mark in marks]
    lines[:, 0] = [ord(f"{mark:x}") for mark in kept]
    return lines


def _packed(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes of lines."""
    digits = np.zeros((lines.shape[0], -(-(lines.shape[1] - 1) // 2) * 2), dtype=np.uint8)
    text = lines[:, :-1]
    digits[:, digits.shape[1] - text.shape[1] :] = (text & 15) + 9 * (text >> 6)
    return np.asarray(digits[:, ::2] << 4 | digits[:, 1::2], dtype=np.uint8)


def locate(source: VectorSource, writer: BeatWriter, ordinals: Iterable[int]) -> dict[int, Located]:
    """Find the vectors behind compared results.

    Args:
        source: the vectors.
        writer: wrote their beats.
        ordinals: numbers of compared results, from 0.

    Returns:
        The vectors by ordinal.
    """
    wanted = sorted(set(ordinals))
    found: dict[int, Located] = {}
    done = 0
    last: int | None = None
    for rows, columns in selected(source, writer):
        places = np.flatnonzero(writer.compared(columns)) if rows.size else rows
        while wanted and wanted[0] < done + places.size:
            place = int(places[wanted[0] - done])
            row = {name: column[place] for name, column in columns.items()}
            before = int(rows[place - 1]) if place else last
            found[wanted.pop(0)] = Located(int(rows[place]), row, before)
        if not wanted:
            break
        done += places.size
        last = int(rows[-1]) if rows.size else last
    return found
