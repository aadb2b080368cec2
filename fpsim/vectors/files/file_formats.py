# SPDX-License-Identifier: Apache-2.0
"""File formats of a set: text lines by one kernel, a package, NumPy arrays.

    readmemh   vectors.hex      // header, one word per line for $readmemh
    jsonl      vectors.jsonl    a header object, then an object of hexadecimal fields per line
    csv        vectors.csv      # header, names, hexadecimal fields
    testfloat  vectors.txt      Berkeley TestFloat's lines: upper-case fields between spaces, which
                                have no comments; manifest.json is their header
    npz        vectors.npz      one array of codes per field (n,) or (n, lanes); header: JSON text
    svh        vectors_pkg.svh  a SystemVerilog package: localparams, packed struct of a word
    matrices   a, b, c, d.hex   the operands of tiles once each (`files.tile_matrices`)

Codes are bit patterns; lane 0 of a field is in its low bits. Headers state the unit, the schema,
field positions, seed, count, the SHA-256 of the manifest's header, and the SHA-256 of the body: the
text after the header (in vectors.npz and vectors_pkg.svh, the body of vectors.hex). See
docs/vector-files.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.codec.hex_words import write_words
from fpsim.vectors.files.manifest import Header, header_digest
from fpsim.vectors.sets.status_flags import FLAG_CODES, FLAG_TEXT
from fpsim.vectors.sets.word_layout import Field, WordLayout

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "TEXT_FORMATS",
    "TILE_FORMATS",
    "Lines",
    "TextFormat",
    "json_header",
    "package",
]


@dataclass(frozen=True)
class TextFormat:
    """A text format: turns vectors into lines; ``head`` makes the header from the body's digest."""

    file: str
    head: Callable[[Header, WordLayout, str], str]
    pieces: Callable[
        [WordLayout], tuple[Sequence[str], str]
    ]  #: literal before each field, and at the end
    whole: bool = False  #: whether a line is one field, the word
    upper: bool = False


class Lines:
    """Turns columns of codes into lines of one text format, all of equal length."""

    def __init__(self, form: TextFormat, record: WordLayout) -> None:
        self.form, self.record = form, record
        before, end = form.pieces(record)
        if form.whole:
            widths = [record.word_bits]
            self._first = np.array([0, record.widths.size], dtype=np.int64)
        else:
            widths = [field.width for field in record.fields]
            self._first = np.cumsum([0, *(field.lanes for field in record.fields)]).astype(np.int64)
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
        """Bytes of a line, line end included."""
        return int(self._template.size)

    def size(self, count: int) -> int:
        """Return the bytes of the lines of ``count`` vectors, without a header."""
        return count * self.length

    def text(self, elements: NDArray[np.uint64]) -> bytes:
        """Return the lines of words, which are given code by code (n, E)."""
        out = np.empty((elements.shape[0], self.length), dtype=np.uint8)
        out[:] = self._template
        write_words(
            elements, self.record.widths, self._first, self._ends, self._digits, self._alphabet, out
        )
        return out.tobytes()


def _hex_head(header: Header, record: WordLayout, digest: str) -> str:
    lines = [
        f"{header['generator']}: {header['count']} vectors of {record.title}, "
        f"schema {header['schema']}",
        *record.remarks(header),
    ]
    for field in record.fields:
        lanes = f"  {field.lanes} x {field.lane_width} bits" if field.lanes > 1 else ""
        lines.append(f"{_bits(field)}{lanes}".replace("[", " [", 1))
    lines += [f"manifest {header_digest(header)}", f"sha256 {digest}"]
    return "".join(f"// {line}\n" for line in lines)


def _bits(field: Field) -> str:
    """Return a field's name with its bit positions."""
    return f"{field.name}[{field.lsb + field.width - 1}:{field.lsb}]"


def _json_head(header: Header, record: WordLayout, digest: str) -> str:
    return json_header(header, digest) + "\n"


def _json_pieces(record: WordLayout) -> tuple[list[str], str]:
    names = [field.name for field in record.fields]
    return [('{"' if i == 0 else '", "') + f'{n}": "' for i, n in enumerate(names)], '"}'


def _csv_head(header: Header, record: WordLayout, digest: str) -> str:
    names = ",".join(field.name for field in record.fields)
    fields = " ".join(map(_bits, record.fields))
    start = f"# {header['generator']}, schema {header['schema']}, {header['canonical']}, "
    start += f"seed {header['seed']}, count {header['count']}, fields of a word {fields}, "
    return f"{start}manifest {header_digest(header)}, sha256 {digest}\n{names}\n"


def _separated(separator: str) -> Callable[[WordLayout], tuple[list[str], str]]:
    return lambda record: (["", *[separator] * (len(record.fields) - 1)], "")


TEXT_FORMATS = {
    "readmemh": TextFormat("vectors.hex", _hex_head, lambda _: ([""], ""), whole=True),
    "jsonl": TextFormat("vectors.jsonl", _json_head, _json_pieces),
    "csv": TextFormat("vectors.csv", _csv_head, _separated(",")),
    "testfloat": TextFormat("vectors.txt", lambda *_: "", _separated(" "), upper=True),
}
FORMATS = (*TEXT_FORMATS, "npz", "svh")
#: Formats written by default.
DEFAULT_FORMATS = ("readmemh", "jsonl")
#: Further formats for sets of tiles.
TILE_FORMATS = ("matrices",)


def json_header(header: Header, digest: str) -> str:
    """Return a header as one line of JSON."""
    return json.dumps(header | {"sha256": digest})


def package(header: Header, record: WordLayout, digest: str) -> str:
    """Return the SystemVerilog package that unpacks a word of ``vectors.hex``.

    Args:
        header: the manifest without its files.
        record: the fields of a word.
        digest: SHA-256 of the lines of words in ``vectors.hex``, 64 hexadecimal digits.

    Returns:
        Text of ``vectors_pkg.svh``: localparams, codes of ``op`` and flags, and a packed struct
        with the most significant field first.
    """
    name = re.sub(r"[^a-z0-9]", "_", f"fpsim_{record.title}_vectors")
    members = []
    for field in record.fields:
        outer = f"[{field.lanes - 1}:0]" if field.lanes > 1 else ""
        members.append(f"    logic {outer}[{field.lane_width - 1}:0] {field.name};")
    flags = [
        f"  localparam logic [4:0] FLAG_{name.upper()} = 5'd{code};"
        for name, code in FLAG_CODES.items()
    ]
    ops = ", ".join(f"OP_{op.upper()} = 3'd{code}" for op, code in header["ops"].items())
    has_flags = any(field.name == "flags" for field in record.fields)
    flag_text = FLAG_TEXT if ops else FLAG_TEXT.partition(";")[0]
    lines = [
        f"// {header['generator']}: {header['canonical']}, schema {header['schema']}",
        f"// {header['equation']}",
        f"// strategy {header['strategy']}, seed {header['seed']}, count {header['count']}",
        f"// manifest {header_digest(header)}",
        f"// sha256 {digest}",
        *(f"// {f.name} [{f.lsb + f.width - 1}:{f.lsb}]" for f in record.fields),
        f"package {name}_pkg;",
        "  /* verilator lint_off UNUSEDPARAM */",
        f"  localparam int unsigned WORD_BITS = {record.word_bits};",
        f"  localparam int unsigned COUNT = {header['count']};",
        f"  localparam int unsigned K = {record.k};",
        f"  localparam int unsigned GROUP = {record.group};",
        '  localparam string FILE = "vectors.hex";',
        *([f"  typedef enum logic [2:0] {{{ops}}} op_e;"] if ops else []),
        *([f"  // {flag_text}", *flags] if has_flags else []),
        "  // Most significant field first; element 0 of a field is in its low bits.",
        "  typedef struct packed {",
        *members,
        "  } vector_t;",
        f"endpackage : {name}_pkg",
    ]
    return "\n".join(lines) + "\n"
