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


def guessed(
    unit: str, design: Design, k: int = 4, group: int | None = None, count: int = COUNT
) -> list[Guess]:
    """Return the guesses about a design that is told dot products, each by itself."""
    made = vectors.plan(fpsim.get_unit(unit), strategy="random", count=count, k=k, group=group)
    run = fetch(from_plan(made), range(count))
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


def misread_table(record: Record, columns: Columns, right: Codes) -> Codes:
    edits = {n: np.where(columns[n] & 7 == 7, columns[n] ^ 1, columns[n]) for n in "ab"}
    return record.dot(columns | edits, columns["c"])


def without_carry(record: Record, columns: Columns, right: Codes) -> Codes:
    low, term = columns["c"] & 255, (right - columns["c"]) & 255
    return (right - (((low + term) >> 8) << 8)) & 0xFFFFFF


def late(record: Record, columns: Columns, right: Codes) -> Codes:
    return np.concatenate([right[:3], right[:-3]])


def early(record: Record, columns: Columns, right: Codes) -> Codes:
    return np.concatenate([right[1:], right[-1:]])


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


def subtracted(record: Record, columns: Columns, right: Codes) -> Codes:
    return record.dot(columns | {"a": columns["a"] ^ 8}, columns["c"])


def addend_subtracted(record: Record, columns: Columns, right: Codes) -> Codes:
    return record.dot(columns, columns["c"] ^ 0x8000)


def symmetric(record: Record, columns: Columns, right: Codes) -> Codes:
    return np.where(right == 0x800, 0x801, right)


@pytest.mark.parametrize(
    ("unit", "design", "mistake", "shape"),
    [
        ("e2m1-chain-e5m10", subtracted, "the products subtracted", {}),
        ("e2m1-chain-e5m10", addend_subtracted, "the addend subtracted", {}),
        ("e2m1-fixed12q2-saturate", symmetric, "overflow saturates at minus the largest number", {}),
        ("e2m1-fixed24q2", misread, "a: code b read as 3", {}),
        ("e2m1-fixed24q2", misread_table, "a and b: magnitude 7 read as 6", {}),
        ("e2m1-fixed24q2", without_carry, "the carry into bit 8 lost", {}),
        ("e2m1-fixed24q2", late, "the result of the 3 vectors before comes (3 late, as under a latency 3 too small)", {}),
        ("e2m1-fixed24q2", early, "the result of the vector after comes (1 early, as under a latency 1 too large)", {}),
        ("e2m1-fixed24q2", stuck, "the output stays at 123", {}),
        ("e2m1-fixed24q2", without_element, "element 2 dropped", {}),
        ("mxfp4-block32-e8m23", without_block, "block 1 dropped", {"k": 64, "group": 32}),
    ],
)  # fmt: skip
def test_the_mistake_is_named_first(
    unit: str, design: Design, mistake: str, shape: dict[str, Any]
) -> None:
    best = guessed(unit, design, **shape)[0]
    assert best.mistake == mistake and best.fits
    assert f"explains {best.explained} of {best.mismatches}" in str(best)


def test_no_guess_fits_what_no_table_has() -> None:
    assert not [guess for guess in guessed("e2m1-fixed24q2", noise) if guess.fits]


def test_a_mistake_that_only_some_results_contradict_does_not_fit() -> None:
    def ored(record: Record, columns: Columns, right: Codes) -> Codes:
        """Return sums of products that are negative as soon as one factor is."""
        both = (columns["a"] & columns["b"] & 8) != 0
        a = np.where(both, columns["a"] ^ 8, columns["a"]).astype(np.uint8)
        return record.dot(columns | {"a": a}, columns["c"])

    found = guessed("e2m1-fixed24q2", ored, k=1)
    near = next(guess for guess in found if guess.mistake.startswith("sign of "))
    assert near.explained > 0.9 * near.mismatches and not near.fits
    assert near.contradicted > 0.1 * near.matches


def test_sums_that_go_on_from_a_wrong_one_say_nothing() -> None:
    """A register that wraps where it should saturate: one wrong step, then hundreds that follow."""
    unit, wraps = (fpsim.get_unit(f"e2m1-fixed10q2{end}") for end in ("-saturate", ""))
    options = {"strategy": "random", "count": 3000, "start": "clear"}
    run = fetch(from_plan(vectors.plan(unit, **options)), range(3000))  # type: ignore[arg-type]
    columns = run.columns | {"acc": np.zeros_like(run.columns["acc"])}
    seen = Record(wraps.spec, 1).expected(columns).astype(np.uint64)
    before = np.concatenate([seen[:1] * 0, seen[:-1]])
    rows = np.arange(3000)
    best = guesses(Case(run, seen, before, rows - 1, rows))[0]
    assert best.fits and best.mistake == "overflow wrap", str(best)
    assert 0 < best.mismatches < (seen != run.columns["acc"]).sum() / 2


def test_mistakes_with_the_same_answers_are_one_guess() -> None:
    def halved(record: Record, columns: Columns, right: Codes) -> Codes:
        half = fpsim.get_unit("e2m1b2xe2m1-chain-e5m10").spec
        return Record(half, record.k).dot(columns, columns["c"])

    best = guessed("e2m1-chain-e5m10", halved, k=1)[0]
    assert best.fits and {best.mistake, *best.also} >= {
        "a: bias one larger", "b: bias one larger"
    }  # fmt: skip
    assert ", or " in str(best)


def test_several_mistakes_at_once_are_named_together() -> None:
    def careless(record: Record, columns: Columns, right: Codes) -> Codes:
        other = fpsim.get_unit("e2m1_flush-chain-e4m3-rtz").spec
        return Record(other, record.k).dot(columns, columns["c"])

    best = guessed("e2m1-chain-e4m3", careless, k=1, count=1500)[0]
    assert best.fits and set(best.mistake.split(", and ")) == {
        "rounding rtz", "a and b: subnormals read as zero"
    }  # fmt: skip


def test_subnormals_with_a_hidden_bit_and_zeros_that_are_zero() -> None:
    def hidden(record: Record, columns: Columns, right: Codes) -> Codes:
        quarters = np.array([0, 3, 4, 6, 8, 12, 16, 24])  # 0.5 with a hidden bit is 0.75
        a, b = (columns[name][:, 0].astype(np.int64) for name in "ab")
        sign = np.where((a ^ b) & 8, -1, 1)
        return (columns["c"] + sign * quarters[a & 7] * quarters[b & 7]) & 0xFFFFFF

    best = guessed("e2m1-fixed24q4", hidden, k=1)[0]
    assert best.fits and best.mistake == "a and b: subnormals read as normal, zeros as zero"


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.sweep)])
def test_subnormals_that_are_flushed_at_one_depth(depth: int) -> None:
    def flushed(record: Record, columns: Columns, right: Codes) -> Codes:
        size = right & 0x7F
        there = (size >= 8 >> depth) & (size < 16 >> depth)
        return np.where(there, right & 0x80, right)

    best = guessed("e4m3f-chain-e4m3", flushed, k=1)[0]
    assert best.mistake == f"subnormal results {depth} places down flushed" and best.fits
