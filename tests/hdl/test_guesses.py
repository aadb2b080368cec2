# SPDX-License-Identifier: Apache-2.0
"""Which mistake is guessed from wrong bits: the right one, or that none of the known ones fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import vectors
from fpsim.hdl.verify.guesses import Case, Guess, guesses
from fpsim.hdl.verify.vector_source import from_plan
from fpsim.hdl.verify.vector_window import fetch
from fpsim.vectors.sets.record import Columns, Op, Record

Codes = np.ndarray
Design = Callable[[Record, Columns, Codes], Codes]
COUNT = 500


def guessed(unit: str, design: Design, k: int = 4, group: int | None = None) -> list[Guess]:
    """Return the guesses about a design that is told dot products, each by itself."""
    made = vectors.plan(fpsim.get_unit(unit), strategy="random", count=COUNT, k=k, group=group)
    run = fetch(from_plan(made), range(COUNT))
    dots = np.flatnonzero(run.columns["op"] == Op.DOT)
    run = run.take(dots)
    right = run.columns["acc"].astype(np.uint64)
    seen = design(made.record, run.columns, right).astype(np.uint64)
    rows = np.arange(run.count)
    assert (seen != right).sum() > 1
    return guesses(Case(run, seen, right * 0, rows - 1, rows))


def misread(record: Record, columns: Columns, right: Codes) -> Codes:
    a = np.where(columns["a"] == 0xB, 0x3, columns["a"]).astype(np.uint8)
    return record.dot(columns | {"a": a}, columns["c"])


def without_carry(record: Record, columns: Columns, right: Codes) -> Codes:
    low, term = columns["c"] & 255, (right - columns["c"]) & 255
    return (right - (((low + term) >> 8) << 8)) & 0xFFFFFF


def late(record: Record, columns: Columns, right: Codes) -> Codes:
    return np.concatenate([right[:3], right[:-3]])


def stuck(record: Record, columns: Columns, right: Codes) -> Codes:
    return np.full_like(right, 0x123)


def without_block(record: Record, columns: Columns, right: Codes) -> Codes:
    a = columns["a"].copy()
    a[:, 32:] = 0
    return record.dot(columns | {"a": a}, columns["c"])


def without_element(record: Record, columns: Columns, right: Codes) -> Codes:
    b = columns["b"].copy()
    b[:, 2] = 0
    return record.dot(columns | {"b": b}, columns["c"])


def noise(record: Record, columns: Columns, right: Codes) -> Codes:
    return right ^ (np.random.default_rng(2).integers(0, 1 << 9, right.size).astype(np.uint64) & 5)


@pytest.mark.parametrize(
    ("unit", "design", "mistake", "shape"),
    [
        ("e2m1-fixed24q2", misread, "a: code b read as 3", {}),
        ("e2m1-fixed24q2", without_carry, "the carry into bit 8 lost", {}),
        ("e2m1-fixed24q2", late, "the result of 3 vectors before comes (3 late)", {}),
        ("e2m1-fixed24q2", stuck, "the output stays at 123", {}),
        ("e2m1-fixed24q2", without_element, "element 2 dropped", {}),
        ("mxfp4-block32-e8m23", without_block, "block 1 dropped", {"k": 64, "group": 32}),
    ],
)
def test_the_mistake_is_named_first(
    unit: str, design: Design, mistake: str, shape: dict[str, Any]
) -> None:
    best = guessed(unit, design, **shape)[0]
    assert best.mistake == mistake and best.fits
    assert f"explains {best.explained} of {best.mismatches}" in str(best)


def test_no_guess_fits_what_no_table_has() -> None:
    assert not [guess for guess in guessed("e2m1-fixed24q2", noise) if guess.fits]


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.sweep)])
def test_subnormals_that_are_flushed_at_one_depth(depth: int) -> None:
    def flushed(record: Record, columns: Columns, right: Codes) -> Codes:
        size = right & 0x7F
        there = (size >= 8 >> depth) & (size < 16 >> depth)
        return np.where(there, right & 0x80, right)

    best = guessed("e4m3f-chain-e4m3", flushed, k=1)[0]
    assert best.mistake == f"subnormal results {depth} places down flushed" and best.fits
