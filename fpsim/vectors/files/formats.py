# SPDX-License-Identifier: Apache-2.0
"""File formats of a set of dot products: text lines by one kernel, a package, NumPy arrays.

    readmemh   vectors.hex      // header, one word per line for $readmemh
    jsonl      vectors.jsonl    a header object, then an object of hexadecimal fields per line
    csv        vectors.csv      # header, names, hexadecimal fields
    testfloat  vectors.txt      Berkeley TestFloat's lines: upper-case fields between spaces, which
                                have no comments; manifest.json is their header
    npz        vectors.npz      one array of codes per field (n,) or (n, lanes); header: JSON text
    svh        vectors_pkg.svh  a SystemVerilog package: localparams, packed struct of a word
    matrices   a, b, c, d.hex   the operands of tiles once each (`fpsim.vectors.files.matrices`)

Bit patterns only; lane 0 of a field is in its low bits. Headers state the unit, the schema, field
positions, seed, count and a SHA-256: of what follows the header, in vectors.npz and vectors_pkg.svh
of what follows that of vectors.hex.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.codec.hex_words import write_words
from fpsim.vectors.sets.flags import FLAG_CODES, FLAG_TEXT
from fpsim.vectors.sets.words import Words

__all__ = [
    "FORMATS",
    "TEXT_FORMATS",
    "TILE_FORMATS",
    "Lines",
    "TextFormat",
    "formats_of",
    "json_header",
    "package",
]

OPS = {"idle": 0, "clear": 1, "mac": 2, "load": 3, "dot": 4}
Header = dict[str, Any]


@dataclass(frozen=True)
class TextFormat:
    """How a set becomes lines. ``head`` gives the header for a body digest of 64 digits."""

    file: str
    head: Callable[[Header, Words, str], str]
    pieces: Callable[[Words], tuple[Sequence[str], str]]  #: literal before each field, and the end
    whole: bool = False  #: one field: the word
    upper: bool = False
    numbered: bool = False  #: a line starts with the decimal number of its vector


class Lines:
    """Turns columns into the lines of one format."""

    def __init__(self, form: TextFormat, shape: Words) -> None:
        self.form, self.shape = form, shape
        before, end = form.pieces(shape)
        if form.whole:
            widths = [shape.word_bits]
            self._first = np.array([0, shape.widths.size], dtype=np.int64)
        else:
            widths = [lane.lanes * lane.width for lane in shape.lanes]
            self._first = np.cumsum([0, *(lane.lanes for lane in shape.lanes)]).astype(np.int64)
        self._digits = np.array([-(-w // 4) for w in widths], dtype=np.int64)
        template, ends = "", []
        for literal, digits in zip(before, self._digits.tolist(), strict=True):
            template += literal + "0" * digits
            ends.append(len(template))
        self._ends = np.array(ends, dtype=np.int64)
        self._template = np.frombuffer(f"{template}{end}\n".encode(), dtype=np.uint8)
        alphabet = "0123456789ABCDEF" if form.upper else "0123456789abcdef"
        self._alphabet = np.frombuffer(alphabet.encode(), dtype=np.uint8)

    @cached_property
    def length(self) -> int:
        """Bytes of a line with its end, without the number of its vector."""
        return int(self._template.size)

    def size(self, first: int, stop: int) -> int:
        """Return the bytes of the lines of vectors ``first`` to ``stop - 1``."""
        size = (stop - first) * self.length
        if self.form.numbered:
            size += sum((b - a) * (len(_NUMBER) + digits) for a, b, digits in _decades(first, stop))
        return size

    def ends(self, first: int, stop: int) -> NDArray[np.int64]:
        """Return where the ends of these lines stand, counted from the first one's start."""
        sizes = np.full(stop - first, self.length, dtype=np.int64)
        if self.form.numbered:
            for start, end, digits in _decades(first, stop):
                sizes[start - first : end - first] += len(_NUMBER) + digits
        return np.cumsum(sizes) - 1

    def text(self, elements: NDArray[np.uint64], first: int) -> bytes:
        """Return the lines of words given as elements, the first of which is vector ``first``."""
        out = np.empty((elements.shape[0], self.length), dtype=np.uint8)
        out[:] = self._template
        write_words(
            elements, self.shape.widths, self._first, self._ends, self._digits, self._alphabet, out
        )
        return _numbered(out, first) if self.form.numbered else out.tobytes()


_NUMBER = b'{"i": '


def _decades(first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield runs (start, end, digits) of numbers with the same count of decimal digits."""
    while first < stop:
        digits = len(str(first))
        end = min(stop, 10**digits)
        yield first, end, digits
        first = end


def _numbered(lines: NDArray[np.uint8], first: int) -> bytes:
    """Return lines with the numbers of their vectors before them."""
    pieces = []
    for start, end, digits in _decades(first, first + lines.shape[0]):
        numbers = np.arange(start, end)[:, None] // 10 ** np.arange(digits)[::-1]
        head = np.empty((end - start, len(_NUMBER) + digits), dtype=np.uint8)
        head[:, : len(_NUMBER)] = np.frombuffer(_NUMBER, dtype=np.uint8)
        head[:, len(_NUMBER) :] = numbers % 10 + ord("0")
        part = np.concatenate([head, lines[start - first : end - first]], axis=1)
        pieces.append(part.tobytes())
    return b"".join(pieces)


def _hex_head(header: Header, shape: Words, digest: str) -> str:
    lines = [
        f"{header['generator']}: {header['count']} vectors of {header['unit']['name']}, "
        f"schema {header['schema']}",
        f"unit {header['canonical']}",
        header["equation"],
        f"strategy {header['strategy']}, seed {header['seed']}, {shape.k} elements per vector, "
        + (f"{shape.group} per scale, " if shape.group else "no scales, ")
        + f"{shape.word_bits} bits per word",
        "op: 0 idle (hold), 1 clear (+0), 2 mac (acc = dot(a, b, acc)), 3 load (acc = c), "
        "4 dot (acc = dot(a, b, c)); acc is expected after the clock",
        "element 0 of a field is in its low bits"
        + ("; the first rounding takes element 0 of random" if shape.spec.random_bits else "")
        + ("; of two scales per group the one without sign is the lower" if _splits(shape) else ""),
    ]
    lines += [FLAG_TEXT] * shape.flags
    for lane, field in zip(shape.lanes, shape.fields, strict=True):
        lanes = f"  {lane.lanes} x {lane.width} bits" if lane.lanes > 1 else ""
        lines.append(f"{lane.name} [{field.lsb + field.width - 1}:{field.lsb}]{lanes}")
    lines.append(f"sha256 {digest}")
    return "".join(f"// {line}\n" for line in lines)


def _splits(shape: Words) -> bool:
    return bool(shape.group) and (shape.spec.splits("a") or shape.spec.splits("b"))


def _json_head(header: Header, shape: Words, digest: str) -> str:
    return json_header(header, digest) + "\n"


def _json_pieces(shape: Words) -> tuple[list[str], str]:
    names = [lane.name for lane in shape.lanes]
    return [('{"' if i == 0 else '", "') + f'{n}": "' for i, n in enumerate(names)], '"}'


def _csv_head(header: Header, shape: Words, digest: str) -> str:
    names = ",".join(lane.name for lane in shape.lanes)
    fields = " ".join(f"{f.name}[{f.lsb + f.width - 1}:{f.lsb}]" for f in shape.fields)
    start = f"# {header['generator']}, schema {header['schema']}, {header['canonical']}, "
    start += f"seed {header['seed']}, count {header['count']}, fields of a word {fields}, "
    return f"{start}sha256 {digest}\n{names}\n"


def _clock_hex_head(header: Header, shape: Words, digest: str) -> str:
    lines = [
        f"{header['generator']}: {header['count']} vectors of {header['unit']['name']}, "
        f"schema {header['schema']}",
        header["equation"],
        f"strategy {header['strategy']}, seed {header['seed']}, {shape.word_bits} bits per word",
        "op: 0 idle (hold), 1 clear (+0), 2 mac, 3 load (c); acc is expected after the clock",
    ]
    lines += [FLAG_TEXT] * shape.flags
    lines += [f"{f.name:3s} [{f.lsb + f.width - 1}:{f.lsb}]" for f in shape.fields]
    lines.append(f"sha256 {digest}")
    return "".join(f"// {line}\n" for line in lines)


def _clock_json_pieces(shape: Words) -> tuple[list[str], str]:
    names = [lane.name for lane in shape.lanes]  # the number of the vector stands before them
    return [(", " if i == 0 else '", ') + f'"{n}": "' for i, n in enumerate(names)], '"}'


def _separated(separator: str) -> Callable[[Words], tuple[list[str], str]]:
    return lambda shape: (["", *[separator] * (len(shape.lanes) - 1)], "")


TEXT_FORMATS = {
    "readmemh": TextFormat("vectors.hex", _hex_head, lambda _: ([""], ""), whole=True),
    "jsonl": TextFormat("vectors.jsonl", _json_head, _json_pieces),
    "csv": TextFormat("vectors.csv", _csv_head, _separated(",")),
    "testfloat": TextFormat("vectors.txt", lambda *_: "", _separated(" "), upper=True),
}
#: The same of streams of single products, whose lines are older.
CLOCK_FORMATS = {
    "readmemh": TextFormat("vectors.hex", _clock_hex_head, lambda _: ([""], ""), whole=True),
    "jsonl": TextFormat("vectors.jsonl", _json_head, _clock_json_pieces, numbered=True),
}
FORMATS = (*TEXT_FORMATS, "npz", "svh")
#: Further formats of sets of tiles.
TILE_FORMATS = ("matrices",)


def formats_of(shape: Words) -> dict[str, TextFormat]:
    """Return the text formats that a set can have."""
    return CLOCK_FORMATS if shape.schema == 1 else TEXT_FORMATS


def json_header(header: Header, digest: str) -> str:
    """Return a header as one line of JSON."""
    return json.dumps(header | {"sha256": digest})


def package(header: Header, shape: Words, digest: str) -> str:
    """Return the SystemVerilog package that unpacks a word; ``digest``: of the words' lines."""
    name = re.sub(r"[^a-z0-9]", "_", f"fpsim_{header['unit']['name']}_vectors")
    members = []
    for lane in shape.lanes:
        outer = f"[{lane.lanes - 1}:0]" if lane.lanes > 1 else ""
        members.append(f"    logic {outer}[{lane.width - 1}:0] {lane.name};")
    flags = [
        f"  localparam logic [4:0] FLAG_{name.upper()} = 5'd{code};"
        for name, code in FLAG_CODES.items()
    ]
    ops = ", ".join(f"OP_{op.upper()} = 3'd{code}" for op, code in OPS.items())
    lines = [
        f"// {header['generator']}: {header['canonical']}, schema {header['schema']}",
        f"// {header['equation']}",
        f"// strategy {header['strategy']}, seed {header['seed']}, count {header['count']}",
        f"// sha256 {digest}",
        *(f"// {f.name} [{f.lsb + f.width - 1}:{f.lsb}]" for f in shape.fields),
        f"package {name}_pkg;",
        "  /* verilator lint_off UNUSEDPARAM */",
        f"  localparam int unsigned WORD_BITS = {shape.word_bits};",
        f"  localparam int unsigned COUNT = {header['count']};",
        f"  localparam int unsigned K = {shape.k};",
        f"  localparam int unsigned GROUP = {shape.group};",
        '  localparam string FILE = "vectors.hex";',
        f"  typedef enum logic [2:0] {{{ops}}} op_e;",
        *([f"  // {FLAG_TEXT}", *flags] if shape.flags else []),
        "  // Most significant field first; element 0 of a field is in its low bits.",
        "  typedef struct packed {",
        *members,
        "  } vector_t;",
        f"endpackage : {name}_pkg",
    ]
    return "\n".join(lines) + "\n"
