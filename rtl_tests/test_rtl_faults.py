# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the RTL are found by published vectors, and the committed reports say by which."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from faults.fault_excuses import EXCUSES, excuse
from faults.fault_runs import FAMILIES, faults_of, report, show
from faults.faults import FAULTS, Fault, inject
from rtl_support import HERE

from fpsim.base.errors import FpsimError
from fpsim.base.resources import rtl_dir
from fpsim.hdl.bench.simulator import Simulator

#: Faults simulated by default, one per family; all of them with ``-m slow``.
CHOSEN = [
    ("chain", "fp_decode.sv", "subnormals are zero"),
    ("fixed", "fixed_add.sv", "saturation is symmetric"),
    ("aligned", "align_term.sv", "the window has a bit less"),
    ("block", "fp_scale.sv", "a NaN scale is ignored"),
    ("tree", "tree_node.sv", "nodes are truncated"),
    ("chain", "stream_pipe.sv", "a stalled pipeline repeats beats"),
]


@cache
def committed(family: str) -> dict[str, Any]:
    text = (HERE / "reports" / f"{family}.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.file}: {f.name}")
def test_a_fault_fits_its_source(fault: Fault, tmp_path: Path) -> None:
    source = rtl_dir() / fault.file
    (faulty,) = inject(fault, (source,), tmp_path / "faulty")
    assert faulty.read_text() != source.read_text()


def test_a_fault_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = (rtl_dir() / "fp_sum.sv",)
    with pytest.raises(FpsimError, match=r"fault x: 'logic' stands \d+ times in fp_sum.sv, not"):
        inject(Fault("x", "fp_sum.sv", "logic", "wire"), source, tmp_path)
    with pytest.raises(FpsimError, match=r"fault x: fp_scale.sv is not among the sources"):
        inject(Fault("x", "fp_scale.sv", "a", "b"), source, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_report_covers_every_fault(family: str) -> None:
    table = committed(family)
    rows = {(row["file"], row["fault"]): row for row in table["table"]}
    assert list(rows) == [(fault.file, fault.name) for fault in faults_of(family)]
    for fault in faults_of(family):
        row = rows[fault.file, fault.name]
        assert row.get("excused") == excuse(family, fault)
        assert sum(key in row for key in ("shown", "excused", "missed")) == 1
    assert table["shown"] == sum("shown" in row for row in rows.values()) >= 10
    assert not [row["fault"] for row in rows.values() if "missed" in row]


def test_every_excuse_is_needed() -> None:
    used = {excuse(family, fault) for family in FAMILIES for fault in faults_of(family)}
    assert {reason.why for reason in EXCUSES} <= used


@pytest.mark.parametrize(("family", "file", "name"), CHOSEN)
def test_a_published_vector_shows_the_fault(
    family: str, file: str, name: str, icarus: Simulator, tmp_path: Path
) -> None:
    (fault,) = (f for f in FAULTS if (f.file, f.name) == (file, name))
    (row,) = (r for r in committed(family)["table"] if (r["file"], r["fault"]) == (file, name))
    shown = show(family, fault, icarus, tmp_path)
    assert shown is not None and vars(shown) == row["shown"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_is_what_is_found(family: str, icarus: Simulator, tmp_path: Path) -> None:
    assert report(family, icarus, tmp_path, None) == committed(family)
