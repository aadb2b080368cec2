# SPDX-License-Identifier: Apache-2.0
"""Sets of every case: each once, addends and random integers too, and the table where it is more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fpsim import FpsimError, get_unit, oracle
from fpsim.cli import main
from fpsim.formats.floating import FixedFormat
from fpsim.formats.names import get_format
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.plans.exhaustive import MAX_CASES
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.code_lists import finite_codes, finite_count
from fpsim.vectors.sets.record import Columns, Op
from fpsim.vectors.sets.vector_set import VectorPlan

pytestmark = pytest.mark.usefixtures("one_thread")

#: A unit, elements per vector, and how many codes each input element of a word has.
DOTS = [
    ("e2m1-chain-e4m3fn", 1, 16 * 16 * 256),  # every NaN too
    ("e2m1-chain-e2m1-sr3", 1, 16 * 16 * 16 * 8),
    ("e4m3fnxe2m1-fixed6q4", 1, 254 * 16 * 64),  # no NaN: there is no code for it
    ("e4m3fnuzxe2m0-fixed5q0", 1, 255 * 8 * 32),
    ("e1m0.ue2m0.split-block2-into-chain-e2m1", 2, 4**4 * 4**4 * 16),
]


def inputs(plan: VectorPlan, columns: Columns) -> np.ndarray:
    """Return the input elements of every vector, (n, elements)."""
    elements, at, kept = plan.record.elements(columns), 0, []
    for field in plan.record.fields:
        if field.name not in ("op", "acc"):
            kept.append(elements[:, at : at + field.lanes])
        at += field.lanes
    return np.concatenate(kept, axis=1)


@pytest.mark.parametrize(("name", "k", "count"), DOTS)
def test_every_case_of_a_vector_once(name: str, k: int, count: int) -> None:
    plan = plan_set(get_unit(name), strategy="exhaustive", k=k)
    assert [s.name for s in plan.sections] == ["exhaustive"]
    assert plan.count == count
    columns = plan.columns()
    rows = inputs(plan, columns)
    keys = np.zeros(count, dtype=np.uint64)
    for element in rows.T:  # as digits of one number: no case twice, so all of them
        keys = keys * np.uint64(int(element.max()) + 1) + element
    assert np.all(keys[1:] > keys[:-1])  # in the order of the word
    assert (columns["op"] == Op.DOT).all()
    for i in range(0, count, count // 50 + 1):
        row = {n: c[i] for n, c in columns.items()}
        options = plan.record.options(row)
        assert int(row["acc"]) == int(
            oracle.dot(plan.record.spec, row["a"], row["b"], row["c"], **options)
        )


def test_blocks_stand_alone() -> None:
    """2^24 cases: block 77 holds the cases of its place, and nothing else was made."""
    plan = plan_set(get_unit("e2m1-chain-e5m10"), strategy="exhaustive", k=1)
    assert plan.count == MAX_CASES and plan.parts[0].blocks > 77
    first = int(plan.parts[0].bounds[77])
    block = plan.parts[0].make(77)
    case = first + 12345
    assert int(block["a"][12345, 0]) == case >> 20
    assert int(block["b"][12345, 0]) == case >> 16 & 15
    assert int(block["c"][12345]) == case & 0xFFFF
    assert block["c"].size == plan.rows(0, 77)


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("int4-fixed6q0-saturate", 256 * 64),
        ("e2m1-chain-e4m3fn", 256 * 256),
        ("e2m1-chain-e2m1-sr3", 256 * 16 * 8),
    ],
)
def test_every_product_onto_every_accumulator(name: str, cases: int) -> None:
    stream = plan_set(get_unit(name), strategy="exhaustive", start="load")
    assert [s.name for s in stream.sections] == ["exhaustive"]
    assert stream.count == 2 * cases
    columns = stream.columns()
    load, mac = ({n: c[begin::2] for n, c in columns.items()} for begin in (0, 1))
    assert (load["op"] == Op.LOAD).all() and (mac["op"] == Op.MAC).all()
    inputs = [load["c"], *(mac[n][:, 0] for n in mac if mac[n].ndim == 2)]
    assert np.unique(np.stack(inputs), axis=1).shape[1] == cases
    assert np.array_equal(load["acc"], load["c"])
    for i in range(0, cases, cases // 50 + 1):
        row = {n: c[i] for n, c in mac.items()}
        assert int(row["acc"]) == stream.record.trace(row, int(load["c"][i])).code


def test_larger_spaces_keep_the_table() -> None:
    half, fixed = get_unit("e2m1-chain-e5m10"), get_unit("e2m1-fixed24q2")
    assert plan_set(half, strategy="exhaustive", start="load").count == 2 * MAX_CASES
    for made in (
        plan_set(half, strategy="exhaustive", start="clear"),
        plan_set(fixed, strategy="exhaustive", start="load"),
        plan_set(fixed, strategy="exhaustive"),
        plan_set(half, strategy="exhaustive", k=2),
    ):
        assert [s.name for s in made.sections] == ["products"]
    mixed = {s.name for s in plan_set(half).sections}
    assert "products" in mixed and "exhaustive" not in mixed


def test_the_command_and_its_check(tmp_path: Path) -> None:
    out = str(tmp_path / "set")
    assert main(["vectors", "e2m1-chain-e2m1", "--k", "1", "--strategy", "exhaustive",
                 "--format", "readmemh", "--jobs", "2", "--out", out]) == 0  # fmt: skip
    assert open_set(out).count == 4096
    assert main(["vectors", "--check", out]) == 0
    assert main(["vectors", "e2m1-chain-e2m1", "--strategy", "exhaustive", "--out", out]) == 0
    assert main(["vectors", "--check", out]) == 0


FORMATS = ["e2m1", "e4m3fn", "e5m2", "e8m0", "ue4m3fn", "e5m10", "e4m3fnuz", "int4", "e3m2", "e8m7"]


@pytest.mark.parametrize("name", FORMATS)
def test_finite_codes_are_counted_and_listed(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(1 << fmt.bits)
    expected = codes[np.isfinite(fmt.decode(codes))]
    assert finite_count(fmt) == expected.size
    assert np.array_equal(finite_codes(fmt), expected)


def test_wide_registers_are_not_listed() -> None:
    """Counting the cases of a 64-bit accumulator takes no list of its codes."""
    assert finite_count(FixedFormat(64)) == 1 << 64
    plan = plan_set(get_unit("e2m1-fixed60q2"), strategy="exhaustive", k=1)
    assert [s.name for s in plan.sections] == ["products"]
    with pytest.raises(FpsimError, match="strategy"):
        plan_set(get_unit("e2m1-fixed60q2"), strategy="all")


def test_a_register_behind_a_conversion_does_not_accumulate(tmp_path: Path) -> None:
    """Its vectors stand alone: no operation shows the register itself."""
    out = ["--out", str(tmp_path / "set")]
    name = "e2m1-fixed24q2-to-e5m10"
    assert main(["vectors", name, *out, "--strategy", "random", "--count", "64"]) == 0
    opened = check(tmp_path / "set")
    assert opened.count == 64 and set(opened.columns()["op"].tolist()) == {Op.DOT}
    assert main(["vectors", name, "--out", str(tmp_path / "more"), "--start", "load"]) == 2
