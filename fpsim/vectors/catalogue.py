# SPDX-License-Identifier: Apache-2.0
"""The published catalogue: a small released set, coverage and mutants of every unit in `golden/`.

    golden/NAME.toml             the unit
    golden/NAME/                 its released set: vectors.hex, manifest.json
    golden/reports/NAME.json     coverage, which vector kills which mutant, cost of random vectors
    golden/checksums.json        SHA-256 of vectors.hex of the large sets, which are made on demand

The released set is a choice from the corner classes: for every mutant a vector that kills the
mutant, two vectors for every coverage bin, all streams, and a few random vectors.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.progress import counted
from fpsim.base.resources import golden_dir
from fpsim.unit import get_unit, unit_names
from fpsim.vectors.coverage.set_coverage import Coverage, bin_table, expected_bins, row_bins
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.files.writer import write
from fpsim.vectors.mutants.kills import Kill, kills, random_costs
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.plans.planner import plan
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before
from fpsim.vectors.sets.vector_set import Section, VectorPlan, VectorSet, section_of

__all__ = ["Release", "check_release", "large_set", "release"]

SEED = 1
#: Random vectors of a large set, and of a released set.
LARGE, FEW = 1 << 16, 32
#: Vectors of each section that are traced to choose a released set.
TRACED = 20
#: Vectors of a released set per coverage bin.
PER_BIN = 2
#: Elements per vector and per scale of units for which `Record.of` takes others.
LENGTHS: dict[str, tuple[int, int]] = {
    "e2m1-chain-e5m10": (4, 0),
    "e2m1-chain-e4m3fn-sr6": (4, 0),
    "e1m2-chain-e8m7": (4, 0),
    "e3m0-fixed16q4-saturate": (4, 0),
    "int4-fixed12q0-saturate": (4, 0),
    "llm-fp4-shift-e5m10": (4, 1),
    "mxfp4-block32-e8m23": (64, 32),
    "nvfp4-block16-e8m23": (32, 16),
    "amxfp4-block32-e8m23": (64, 32),
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Release:
    """A released set of vectors with its coverage and the fate of every mutant under it."""

    selection: VectorSet
    coverage: Coverage
    kills: tuple[Kill, ...]

    def problems(self) -> list[str]:
        """Return the reasons against publishing: living mutants, unexplained empty bins."""
        alive = [f"mutant alive: {k.mutant}" for k in self.kills if k.alive]
        return alive + [f"bin empty: {b.name}" for b in self.coverage.bins if b.missing]

    def to_dict(self) -> dict[str, Any]:
        """Return coverage and fates of mutants as JSON-ready data, as in `golden/reports`."""
        return {"coverage": self.coverage.to_dict(), "mutants": [k.to_dict() for k in self.kills]}


def plan_of(name: str, strategy: str, count: int) -> VectorPlan:
    """Plan a set of a published unit, with the elements per vector that its released set has.

    Args:
        name: name of the unit: a TOML file in `golden/`, without the suffix.
        strategy: how vectors are chosen, as `fpsim.vectors.plans.planner.plan` takes it.
        count: number of random vectors.

    Returns:
        The plan, of seed 1; `LENGTHS` gives elements per vector and per scale of some units.
    """
    k, group = LENGTHS.get(name, (None, None))
    return plan(get_unit(name), strategy=strategy, count=count, seed=SEED, k=k, group=group)


def large_set(name: str) -> VectorPlan:
    """Return the plan of a unit's large set; `golden/checksums.json` has the set's checksum."""
    return plan_of(name, "mixed", LARGE)


def select(name: str) -> VectorSet:
    """Choose the released set of a published unit from its corner classes and random vectors."""
    source = plan_of(name, "directed", FEW)
    columns, record = source.columns(), source.record
    streams = next((s for s in source.sections if s.name == "streams"), None)
    held = set(range(streams.start, streams.start + streams.count)) if streams else set()
    _stand_alone(columns, held)
    keep = held | {kill.vector for kill in kills(record, columns) if kill.vector is not None}
    tried: list[int] = sorted(keep)
    for s in source.sections:
        step = max(1, s.count // TRACED)
        tried += [i for i in range(s.start, s.start + s.count, step) if i not in keep]
    keep |= _for_bins(record, columns, tried, keep)
    rest = [i for i in range(source.count) if i not in set(tried)]
    keep |= _for_missing(record, columns, rest, keep)
    order = sorted(keep)
    random = plan_of(name, "random", FEW).columns()
    dots = np.flatnonzero(random["op"] == Op.DOT)
    chosen = {n: np.concatenate([columns[n][order], random[n][dots]]) for n in columns}
    names = [section_of(source.sections, i) for i in order]
    return VectorSet(record, chosen, _sections([*names, *["random"] * dots.size]), seed=SEED)


def _stand_alone(columns: Columns, held: set[int]) -> None:
    """Turn accumulating vectors, except ``held`` ones, into dot products with explicit addends.

    Each can then be chosen without the vectors before it.
    """
    rows = np.flatnonzero(columns["op"] == Op.MAC)
    rows = rows[~np.isin(rows, np.fromiter(held, dtype=np.int64))]
    columns["c"][rows] = accumulators_before(columns)[rows]
    columns["op"][rows] = Op.DOT


def _for_bins(record: Record, columns: Columns, tried: list[int], keep: set[int]) -> set[int]:
    """Return vectors that fill bins left empty by the kept vectors."""
    part = {n: c[tried] for n, c in columns.items()}
    hits: Counter[str] = Counter()
    chosen: set[int] = set()
    for index, bins in zip(tried, row_bins(record, part), strict=True):
        if index in keep:
            hits.update(bins)
        elif any(hits[b] < PER_BIN for b in bins):
            hits.update(bins)
            chosen.add(index)
    return chosen


def _for_missing(record: Record, columns: Columns, rest: list[int], keep: set[int]) -> set[int]:
    """Return vectors that hit bins without a hit, from a search through ``rest``."""
    order = sorted(keep)
    hits: set[str] = set()
    for bins in row_bins(record, {n: c[order] for n, c in columns.items()}):
        hits |= bins
    missing = {n for n, why in expected_bins(record).items() if why is None} - hits
    chosen: set[int] = set()
    stride = max(1, len(rest) // 1021)
    for start in range(stride if missing else 0):
        part = rest[start::stride]
        found = row_bins(record, {n: c[part] for n, c in columns.items()})
        for index, bins in zip(part, found, strict=True):
            if bins & missing:
                missing -= bins
                chosen.add(index)
            if not missing:
                return chosen
    return chosen


def _sections(names: list[str]) -> tuple[Section, ...]:
    sections: list[Section] = []
    for i, name in enumerate(names):
        if sections and sections[-1].name == name:
            sections[-1] = Section(name, sections[-1].start, sections[-1].count + 1)
        else:
            sections.append(Section(name, i, 1))
    return tuple(sections)


def prove(selection: VectorSet, costs: bool = True) -> Release:
    """Return a selection of vectors with its coverage and the fate of every mutant."""
    record, columns = selection.record, selection.columns
    hits: Counter[str] = Counter()
    for bins in counted(row_bins(record, columns), selection.count):
        hits.update(bins)
    table = Coverage(record.spec.name, selection.count, bin_table(record, hits))
    mutants = mutants_of(record)
    found = kills(record, columns, mutants)
    if costs:
        found = random_costs(record, mutants, found)
    return Release(selection, table, tuple(found))


def release(name: str, say: Say, directory: Path | None = None) -> Release:
    """Make, prove and write the released set of a published unit, with the large set's checksum.

    Args:
        name: name of the unit: a TOML file in `golden/`, without the suffix.
        say: takes a line about the set before its problems are reported.
        directory: where the set, ``reports`` and ``checksums.json`` go; None: `golden/`.

    Returns:
        The set, its coverage, and the fate of every mutant.

    Raises:
        FpsimError: a living mutant, or a bin empty without a reason; nothing is written.
    """
    root = directory or golden_dir()
    made = prove(select(name))
    say(f"{name}: {made.selection.count} vectors, {len(made.kills)} mutants")
    problems = made.problems()
    if problems:
        raise FpsimError(f"{name}: not published; {'; '.join(problems)}")
    write(made.selection, root / name, ("readmemh",))
    text = json.dumps(made.to_dict(), indent=1) + "\n"
    write_atomic(root / "reports" / f"{name}.json", text.encode())
    sums = root / "checksums.json"
    known = json.loads(sums.read_text(encoding="utf-8")) if sums.exists() else {}
    known[name] = _large_checksum(name)
    write_atomic(sums, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
    return made


def _large_checksum(name: str) -> dict[str, Any]:
    """Make the large set in a temporary directory and return its count and checksum."""
    source = large_set(name)
    with tempfile.TemporaryDirectory() as scratch:
        path = write(source, Path(scratch) / name, ("readmemh",))
        digest = open_set(path).manifest["files"]["vectors.hex"]["sha256"]
    return {"count": source.count, "sha256": digest}


def check_release(name: str, large: bool = True) -> int:
    """Check a released set and regenerate the large one; return the vectors of both.

    Raises:
        FpsimError: a result other than the unit's, or another checksum.
    """
    root = golden_dir()
    count = check(root / name).count
    if large:
        known = json.loads((root / "checksums.json").read_text(encoding="utf-8")).get(name)
        found = _large_checksum(name)
        if known != found:
            raise FpsimError(
                f"{name}: the large set is {found}, golden/checksums.json says {known}"
            )
        count += found["count"]
    return count


def names_or_all(names: list[str]) -> list[str]:
    """Return the given names of published units, or all names.

    Raises:
        FpsimError: a name that is not published.
    """
    for name in names:
        if name not in unit_names():
            raise FpsimError(f"unit: {name!r} is not published; known: {', '.join(unit_names())}")
    return names or unit_names()
