# SPDX-License-Identifier: Apache-2.0
"""Whether a pass means something: the mistakes that a design could have and no vector would show.

The unit's mutants are run over the vectors that the design was told, without all that its ports and
operations cannot take. A mutant that no such vector kills is a mistake that would have passed,
unless it is proved to give the same results wherever this design can be brought.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError, nearest
from fpsim.base.progress import current
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.stimulus import LINES, BeatWriter, selected
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.verify.operation_diagnosis import adequacy_of_operation, mutants_shown
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.mutants.reach import Addends, Reach
from fpsim.vectors.mutants.survivors import survivors
from fpsim.vectors.sets.record import Columns, Op, accumulators_before

__all__ = ["Adequacy", "check_waivers", "judge"]

_FILE = "adequacy.json"
#: Vectors of a part, and parts after which what lives on is looked at for a proof.
PART, BEFORE_PROOFS = 1 << 12, 16


@dataclass(frozen=True)
class Adequacy:
    """Which mistakes the vectors that a design was told would have found."""

    found: int  #: mistakes that some vector shows
    excused: int  #: mistakes that show nowhere, by proof
    unfound: tuple[str, ...]  #: mistakes that no vector shows
    waived: tuple[str, ...] = ()  #: of the unfound, those that ``waive`` in the TOML names

    @property
    def missing(self) -> tuple[str, ...]:
        """Mistakes that would have passed and are not waived."""
        return tuple(name for name in self.unfound if name not in self.waived)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "found": self.found,
            "excused": self.excused,
            "unfound": list(self.missing),
            "waived": list(self.waived),
        }

    def __str__(self) -> str:
        total = self.found + len(self.unfound)
        lines = [f"mistakes that these vectors would find: {self.found} of {total}"]
        if self.missing:
            names = ", ".join(repr(name) for name in self.missing)
            lines.append(
                f"not found, so a design with one of them would pass: {names}; "
                "give more vectors or operations, or waive them in the design's TOML"
            )
        if self.waived:
            lines.append(f"waived: {', '.join(repr(name) for name in self.waived)}")
        return "\n".join(lines)


def check_waivers(dut: Dut, source: VectorSource) -> tuple[str, ...]:
    """Return the mutants that a design waives.

    Raises:
        FpsimError: a waiver that names none.
    """
    operation = source.operation
    mutants = mutants_of(source.record) if operation is None else mutants_shown(source, dut)
    known = {_plain(mutant.name): mutant.name for mutant in mutants}
    for name in dut.waive:
        if _plain(name) not in known:
            raise FpsimError(
                f"waive: {name!r} is no mistake of {source.record.title}"
                f"{nearest(_plain(name), known)}; `fpsim coverage --mutants` lists them"
            )
    return tuple(known[_plain(name)] for name in dut.waive)


def _plain(name: str) -> str:
    """Return a mutant's name as it is compared: colons do not count."""
    return " ".join(name.replace(":", " ").lower().split())


def judge(
    dut: Dut, source: VectorSource, writer: BeatWriter, directory: Path, stimulus: str = LINES
) -> Adequacy:
    """Find the mistakes that the vectors of a source would show in a design.

    Args:
        dut: the design, with its waivers.
        source: vectors for it.
        writer: tells them to the design.
        directory: a build directory; the mistakes found are kept there until the vectors change, by
            the digest of the file of beats in its folder ``run``.
        stimulus: the name of that file.

    Returns:
        The mistakes found and not found.

    Raises:
        FpsimError: a waiver that names no mistake.
    """
    waivers = check_waivers(dut, source)
    file = directory / _FILE
    key = _key(dut, source, directory / "run" / stimulus)
    known = _learned(file, key)
    if known is None:
        known = _tried(dut, source, writer)
        write_atomic(file, json.dumps({"key": key} | known).encode())
    unfound = tuple(known["unfound"])
    waived = tuple(name for name in waivers if name in unfound)
    return Adequacy(known["found"], known["excused"], unfound, waived)


def _tried(dut: Dut, source: VectorSource, writer: BeatWriter) -> dict[str, Any]:
    if source.operation is not None:
        return adequacy_of_operation(dut, source, writer)
    record = source.record
    every = mutants_of(record)
    mutants = [mutant for mutant in every if equivalent(record, mutant) is None]
    alike = partial(dut.comparison.canonical, record.spec.result)
    sums, reach = _sums(source, writer), _reach(dut, source, writer)
    alive = survivors(record, islice(sums, BEFORE_PROOFS), mutants, alike)
    unproved = [mutant for mutant in alive if not reach.equivalent(mutant)]
    unfound = survivors(record, sums, unproved, alike) if unproved else []
    excused = len(every) - len(mutants) + len(alive) - len(unproved)
    return {
        "found": len(every) - excused - len(unfound),
        "excused": excused,
        "unfound": [mutant.name for mutant in unfound],
    }


def _reach(dut: Dut, source: VectorSource, writer: BeatWriter) -> Reach:
    codes = writer.told_codes() if isinstance(writer, Serialiser) else {}
    known = dut.known_ops
    if dut.adapter is not None or (dut.carries("c") and known & {"dot", "load"}):
        addends = Addends.ANY
    else:
        addends = Addends.GROWN if "mac" in known else Addends.ZERO
    return Reach(source.record, addends, codes)


def _sums(source: VectorSource, writer: BeatWriter) -> Iterator[tuple[Columns, NDArray[Any]]]:
    """Yield the vectors that sum products and are compared, and the accumulator before each."""
    carried, update = 0, current()
    for told, columns in selected(source, writer):
        if not told.size:
            continue
        update(int(told[0]), source.count)
        before = accumulators_before(columns, carried)
        carried = int(columns["acc"][-1])
        op = columns["op"]
        sums = writer.compared(columns) & ((op == Op.MAC) | (op == Op.DOT))
        rows = np.flatnonzero(sums)
        for start in range(0, rows.size, PART):
            part = rows[start : start + PART]
            yield {name: column[part] for name, column in columns.items()}, before[part]


def _key(dut: Dut, source: VectorSource, stimulus: Path) -> str:
    digest = hashlib.sha256(f"{fpsim.__version__} {source.record.described()!r}".encode())
    looked_at = [*dut.output.parts, source.k, source.group, dut.comparison, dut.domain]
    digest.update(repr(looked_at).encode())
    with stimulus.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _learned(file: Path, key: str) -> dict[str, Any] | None:
    """Return the mistakes that an earlier run found with equal vectors; None without such a run."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None
