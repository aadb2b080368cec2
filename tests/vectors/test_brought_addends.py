# SPDX-License-Identifier: Apache-2.0
"""Addends for designs that cannot load one: products that sum up to them, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import fpsim
from fpsim import oracle
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.corner_classes import add_built_classes
from fpsim.vectors.plans.brought_addends import Brought
from fpsim.vectors.plans.sum_starts import begun
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before

UNITS = [
    ("nvidia-a100-bf16", 0.9),
    ("nvidia-h100-e4m3", 0.1),
    ("nvidia-l40s-e5m2-f16", 0.9),
    ("amd-cdna3-xf32", 0.9),
    ("intel-amx-bf16", 0.9),
    ("nvidia-b200-nvf4", 0.3),
    ("nvidia-b200-mxf4", 0.9),
    ("int4-fixed12q0-saturate", 0.5),
    ("e2m1-chain-e5m10", 0.1),
]


def corners(record: Record) -> Columns:
    builder = VectorBuilder(record)
    add_built_classes(builder)
    return builder.columns()


@pytest.mark.parametrize(("unit", "share"), UNITS)
def test_products_sum_up_to_an_addend_in_the_exact_model(unit: str, share: float) -> None:
    record = Record.of(fpsim.get_unit(unit).spec)
    columns = corners(record)
    ways = Brought.to_addends(record, columns, None)
    wanted = np.unique(columns["c"][np.isin(columns["op"], (Op.DOT, Op.LOAD))])
    assert np.isin(ways.codes, wanted).all() and (np.diff(ways.codes.astype(np.int64)) > 0).all()
    assert ways.codes.size > share * wanted.size
    for i in np.linspace(0, ways.codes.size - 1, 12).astype(int):
        acc = np.zeros(1, dtype=record.spec.initial.dtype)
        for turn in range(ways.counts[i]):
            row = {name: column[i : i + 1, turn] for name, column in ways.columns.items()}
            acc = oracle.dot(record.spec, row["a"], row["b"], acc, **record.options(row))
        assert acc[0] == ways.codes[i]


@pytest.mark.parametrize("unit", ["nvidia-a100-bf16", "nvidia-b200-nvf4"])
def test_sums_from_a_clear_meet_the_addends_that_there_is_a_way_to(unit: str) -> None:
    record = Record.of(fpsim.get_unit(unit).spec)
    columns = corners(record)
    dots = {name: column[columns["op"] == Op.DOT] for name, column in columns.items()}
    ways = Brought.to_addends(record, columns, None)
    there = (dots["c"] == 0) | (ways.lengths(dots["c"]) > 0)
    assert there.any() and not there.all()
    made = begun(record, dots, ways)
    assert set(np.unique(made["op"])) == {Op.CLEAR, Op.MAC} and not made["c"].any()
    made["acc"] = record.expected(made)
    ends = np.flatnonzero(np.append(made["op"][1:] == Op.CLEAR, True))
    met = {name: column[there] for name, column in dots.items()}
    assert (accumulators_before(made)[ends] == met["c"]).all()
    assert all((made[name][ends] == met[name]).all() for name in ("a", "b"))
    assert (made["acc"][ends] == record.dot(met, met["c"])).all()


def test_an_addend_out_of_reach_is_left_out_with_all_that_accumulates_onto_it() -> None:
    record = Record.of(fpsim.get_unit("nvidia-v100-fp16").spec)
    builder = VectorBuilder(record)
    one, far = (int(record.spec.initial.encode([x])[0]) for x in (1.0, 2.0**100))
    for op, c in ((Op.DOT, far), (Op.MAC, 0), (Op.LOAD, one), (Op.MAC, 0), (Op.DOT, 0)):
        builder.add(op=op, c=c)
    columns = builder.columns()
    made = begun(record, columns, Brought.to_addends(record, columns, None))
    assert made["op"].tolist() == [Op.CLEAR, Op.MAC, Op.MAC, Op.CLEAR, Op.MAC]
    assert record.expected(made)[1:3].tolist() == [one, one]


def test_only_allowed_codes_bring_an_addend() -> None:
    record = Record.of(fpsim.get_unit("e4m3fn-aligned4f25-e8m23").spec)
    allowed = np.append(0, np.arange(8, 40, 2))
    builder = VectorBuilder(record, {"a": allowed, "b": allowed})
    values = builder.palette.products[2]
    builder.add(c=record.spec.initial.encode(np.concatenate([values, values + values[-1]])))
    ways = Brought.to_addends(record, builder.columns(), builder.palette.allowed)
    assert ways.codes.size > values.size and np.isin(ways.columns["a"], allowed).all()
