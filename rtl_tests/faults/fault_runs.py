# SPDX-License-Identifier: Apache-2.0
"""Do the published vectors find mistakes in RTL? Every fault simulated until a vector shows it.

A family of units (the stage that their terms go into) is judged by published ones, cheapest first:
by the released vectors, then, for faults that those leave alone, by the set that ``fpsim vectors``
makes of the first unit. A fault that none of them shows must be excused in `faults.fault_excuses`,
with the reason why no vector of these units can show it; else the vectors have a hole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from faults.fault_excuses import excuse
from faults.faults import FAULTS, Fault, inject
from fpsim import get_unit
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.resources import golden_dir
from fpsim.hdl.bench.build_dir import SimulationFailed
from fpsim.hdl.bench.replay import Options, ReplayResult, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.vector_source import VectorSource, from_directory, from_plan
from fpsim.vectors.plans.planner import plan as plan_set

__all__ = ["FAMILIES", "Shown", "faults_of", "report", "show", "write_report"]

#: Published units by family, the cheapest to simulate first; what no published unit has is judged
#: by planned vectors of other units, of which ``@k`` is the length.
FAMILIES = {
    "chain": ("e2m1-chain-e5m10", "e1m2-chain-e8m7", "llm-fp4-shift-e5m10"),
    "fixed": ("e2m1-fixed24q2", "e3m0-fixed16q4-saturate", "int4-fixed12q0-saturate"),
    "aligned": ("fp4xfp8-aligned8-f10-rne", "fp4-aligned32-f13"),
    "block": ("nvfp4-block16-e8m23", "mxfp4-block32-e8m23", "amxfp4-block32-e8m23"),
    "tree": ("fp4xfp8-tree8-e8m7",),
    "exact": ("int4xfp4-exact-e8m7", "e5m2xe2m1-exact-e8m7@32"),
    "chunked": ("fp4xfp8-chunk16-e8m23", "e2m1-chunked6-of-chain-e5m10-into-chain-e8m23@15"),
    "composed": (
        "e2m1-chain-e4m3fn-sr6", "e5m2xe4m3fn-chain-e4m3-rounded@4",
        "e5m2xe4m3fn-tree9-e5m10-radix3@9", "e2m1xe4m3fn-tree7-e5m10-radix4-fused@7",
        "e2m1xe4m3fn-tree8-e5m10-lanes4-leaf@8", "e2m1xe4m3fn-tree6-e4m3-leaf-rounded@6",
        "e2m1-block4-into-aligned2f9-e8m13@8", "amd-cdna3-e4m3@16",
    ),
}  # fmt: skip
#: Families that are tried with the faults that name them alone: their leaves are those of others.
NAMED = ("exact", "chunked", "composed")
#: Random vectors of a unit that is not published.
PLANNED = 400
PIPELINE = 2
#: Stalls show mistakes of the handshake; a design that hangs is given up soon.
OPTIONS = Options(stall=0.3, patience=200)


@dataclass(frozen=True)
class Shown:
    """How a fault came to light."""

    unit: str
    vectors: str  #: released, generated, or planned
    vector: int | None  #: index of the first wrong vector; None: the simulation did not end well
    line: int | None  #: of its vectors.hex
    section: str
    how: str  #: what was expected and seen, or how the simulation ended


def faults_of(family: str) -> tuple[Fault, ...]:
    """Return the faults in sources that a family's units are made of."""
    files = {path.name for unit in FAMILIES[family] for path in _top(_vectors(unit)).sources}
    there = (fault for fault in FAULTS if fault.file in files)
    everything = family not in NAMED
    return tuple(f for f in there if family in f.families or (everything and not f.families))


def show(
    family: str, fault: Fault, tool: Simulator, directory: Path, generated: bool = True
) -> Shown | None:
    """Simulate a fault with one set of vectors after another; return how the first one shows it.

    Raises:
        FpsimError: a fault that does not fit its source.
    """
    sets = [(unit, "planned" if "@" in unit else "released") for unit in FAMILIES[family]]
    if generated:
        sets.append((FAMILIES[family][0], "generated"))
        sets += [(unit, "generated") for unit in FAMILIES[family][1:] if "@" in unit]
    for unit, kind in sets:
        shown = _show(unit, kind, fault, tool, directory / f"{unit}-{kind}")
        if shown is not None:
            return shown
    return None


def _show(unit: str, kind: str, fault: Fault, tool: Simulator, directory: Path) -> Shown | None:
    source = _vectors(unit)
    top = _top(source)
    if all(path.name != fault.file for path in top.sources):
        return None
    if kind == "generated":
        source = from_plan(plan_set(source.spec, k=source.k, group=source.group))
    shutil.rmtree(directory, ignore_errors=True)
    faulty = replace(top, sources=inject(fault, top.sources, directory / "faulty"))
    try:
        result = _run(source, faulty, tool, directory / "build")
    except SimulationFailed as error:
        if str(error).startswith("build"):
            raise FpsimError(f"fault {fault.name}: {error}") from None
        return Shown(unit, kind, None, None, "", str(error).splitlines()[0])
    if result.passed:
        return None
    if not result.mismatches:
        return Shown(unit, kind, None, None, "", str(result))
    first = result.mismatches[0]
    section = source.section_of(first.index)
    how = f"expected {first.expected}, seen {first.seen}"
    return Shown(unit, kind, first.index, first.line, section, how)


def report(
    family: str, tool: Simulator, directory: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Return which vector shows each fault of a family, and why some cannot be shown.

    A fault that is neither shown nor excused is ``missed``: a hole in the vectors.

    Raises:
        FpsimError: a fault with an excuse though a vector shows it.
    """
    faults = faults_of(family)
    rows: list[dict[str, Any]] = []
    for done, fault in enumerate(faults):
        why = excuse(family, fault)
        shown = show(family, fault, tool, directory, generated=why is None)
        row: dict[str, Any] = {"fault": fault.name, "file": fault.file}
        if shown is not None and why is not None:
            raise FpsimError(
                f"{family}: fault {fault.name!r} in {fault.file} is excused, but shown"
            )
        if shown is not None:
            row["shown"] = asdict(shown)
        elif why is not None:
            row["excused"] = why
        else:
            row["missed"] = True
        rows.append(row)
        if progress is not None:
            progress(done + 1, len(faults))
    counts = {key: sum(key in row for row in rows) for key in ("shown", "excused", "missed")}
    units = list(FAMILIES[family])
    return {"family": family, "units": units, "faults": len(rows)} | counts | {"table": rows}


def write_report(table: dict[str, Any], path: Path) -> None:
    """Write a report, whole or not at all."""
    write_atomic(path, (json.dumps(table, indent=1) + "\n").encode(), "report")


@cache
def _vectors(unit: str) -> VectorSource:
    name, _, length = unit.partition("@")
    if not length:
        return from_directory(golden_dir() / name)
    spec = get_unit(name).spec
    return from_plan(plan_set(spec, strategy="random", count=PLANNED, k=int(length)))


def _top(source: VectorSource) -> RtlTop:
    scaled = source.group > 0 and source.spec.block is None
    return rtl_top(source.spec, stream=True, scaled=scaled, pipeline=PIPELINE)


def _run(source: VectorSource, top: RtlTop, tool: Simulator, directory: Path) -> ReplayResult:
    dut = reference_dut(source.spec, top)
    writer = Serialiser(dut, source.spec, source.k, source.group)
    return run_source(NativeSimulation(dut, tool, directory, OPTIONS), source, writer)
