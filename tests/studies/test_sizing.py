# SPDX-License-Identifier: Apache-2.0
"""Accumulator sizing against sums by hand and against fractions, step by step."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.helpers import chain, exact, fixed, float_format, unit_of

from fpsim import FloatFormat, FpsimError, MacUnit, Overflow, get_unit, oracle
from fpsim.formats.rounding import Flag
from fpsim.kernels.scalar import sizing as kernel
from fpsim.oracle.numbers import decode, to_grid
from fpsim.studies import sizing
from fpsim.studies.sizing import Sizing, study
from fpsim.testing.strategies import MatmulCase, all_specs, fixed_stages, float_stages, matmul_cases
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

ONES = [2] * 16  #: E2M1 codes of 1.0


def values(unit: MacUnit, *numbers: float) -> list[int]:
    return unit.a.encode(np.array(numbers, dtype=float)).tolist()


def sized(unit: MacUnit, *numbers: float, c: int = 0, **more: Any) -> Sizing:
    """Return the sizing of one dot product of values with ones."""
    return study(unit, values(unit, *numbers), ONES[: len(numbers)], c, dots=True, **more)


# -- by hand -------------------------------------------------------------------------------------


def test_partial_sums_decide_the_register() -> None:
    """6, 12, 11.5, -0.5 .. in halves: 24 is the largest, so six bits with a sign."""
    got = sized(chain("e8m23"), 6, 6, -0.5, -6, -6)
    assert (got.largest, got.fixed_lsb, got.fixed_width) == (12.0, -1, 6)
    assert got.any_order_width == 7  # 24.5 is 49 halves
    assert (got.overflows, got.inexact, got.swamped) == (0, 0, 0)
    assert (got.max_relative_error, got.sqnr_db) == (0.0, math.inf)
    # 11.5 = 10111b * 2^-1 has five significant bits; 12 is below 2^4.
    assert got.mantissa_bits == 4
    assert got.exponent_min == 3
    assert got.exponent_bits == 1
    fmt = got.float_format
    assert fmt is not None and fmt.max_value >= 12


def test_a_register_may_be_one_code_wider_below() -> None:
    """-8 fits four bits, +8 needs five."""
    assert sized(chain("e8m23"), -4, -4).fixed_width == 2  # -2, -1 times 4
    assert sized(chain("e8m23"), -1, -6, -1).fixed_width == 4
    assert sized(chain("e8m23"), 1, 6, 1).fixed_width == 5


def test_steps_that_are_swamped() -> None:
    """E5M2 holds 32, 40, ...: four ones after it each vanish, a 3 is rounded to 0, a 6 to 8."""
    unit = chain("e5m2")
    got = study(unit, values(unit, 6, 1, 1, 3, 6, 0), [7, 2, 2, 2, 2, 2], dots=True)
    assert got.largest == 47.0
    assert got.steps == 6
    assert got.inexact == 5  # 36 -> 32 too
    assert got.swamped == 3
    assert got.overflows == 0
    assert got.max_relative_error == pytest.approx(7 / 47)


def test_overflow_and_saturation() -> None:
    """E4M3FN steps by 32 up to 448, where truncated products of 36 still overflow."""
    saturating = chain("e4m3fn", "rtz")
    spread = [7] * 20
    got = study(saturating, spread, spread, dots=True)
    assert got.overflows == got.saturations == 6
    infinite = chain("e4m3", "rne")
    got = study(infinite, spread, spread, dots=True)
    assert got.overflows == 1, "what comes after infinity is no further overflow"
    assert got.saturations == 0
    assert got.not_finite == 1
    assert got.max_relative_error == 0.0


def test_a_fixed_register_wraps_saturates_and_rounds() -> None:
    wrap, clamp = fixed(6, 0, "wrap"), fixed(6, 0, "saturate")
    for unit in (wrap, clamp):
        got = study(unit, [7, 7], [7, 2], dots=True)  # 36, 42 into -32..31
        assert got.overflows == got.saturations == (1 if unit is wrap else 2)
        assert got.fixed_width == 7 - 1 and got.fixed_lsb == 1  # 18 and 21 times two
    got = sized(fixed(8, 1, rounding="rtz"), 1, 6, 0.5)
    assert (got.inexact, got.swamped, got.overflows) == (2, 2, 0)
    unit = unit_of(Fixed(6, 0, "saturate", overflow_at="end"))
    got = study(unit, [7, 15], [7, 7], dots=True)
    assert (got.steps, got.overflows, got.inexact) == (1, 0, 0)


def test_a_window_loses_terms_of_its_step() -> None:
    stage = Aligned(2, 1, float_format("e8m23"))
    got = sized(unit_of(stage, "e8m7", "e2m1"), 4, 1, 1, 1)
    assert (got.steps, got.inexact, got.swamped) == (2, 2, 1)  # units of 2 drop every 1
    assert got.max_relative_error == pytest.approx(3 / 7)


def test_data_without_any_sum() -> None:
    got = sized(chain("e5m10"), 0, 0)
    assert (got.largest, got.fixed_width, got.mantissa_bits, got.exponent_bits) == (0.0, 1, 0, 1)
    assert got.sqnr_db == math.inf or got.sqnr_db == -math.inf
    assert json.loads(json.dumps(got.to_dict()))["sqnr_db"] is None


def test_the_initial_accumulator_is_a_partial_sum() -> None:
    unit = chain("e8m23")
    got = sized(unit, 1, -1, c=int(np.float32(-1000.5).view(np.uint32)))
    assert got.largest == 1000.5
    assert got.fixed_lsb == -1


def test_what_chunks_and_conversions_lose_shows_in_the_error() -> None:
    """The outer chain of exact chunk results loses nothing; the coarse chunks do."""
    coarse = Chunked(Chain(float_format("e8m2")), Chain(float_format("e8m23")), size=4)
    got = sized(unit_of(coarse, "e8m7", "e2m1"), 8, 1, 1, 1, 8, 1, 1, 1)
    assert (got.steps, got.inexact) == (2, 0)
    assert got.max_relative_error == pytest.approx(6 / 22)
    assert got.largest == 22.0
    late = Block(2, Chain(float_format("e8m23")), convert=float_format("e8m2"))
    got = study(unit_of(late), [7, 5], ONES[:2], dots=True)
    assert got.inexact == 0
    assert got.max_relative_error == pytest.approx(1 / 9)


def test_it_refuses_what_has_no_partial_sums() -> None:
    unit = get_unit("e5m2-chain-e8m23")
    with pytest.raises(FpsimError, match="operands: a NaN or an infinity has no partial sums"):
        study(unit, [0x7C], [0x3C], dots=True)
    none = np.zeros(0, dtype=np.uint8)
    with pytest.raises(FpsimError, match="a: shape"):
        study(unit, none, none, dots=True)


# -- what it recommends --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_what_it_recommends_is_lossless_and_nothing_narrower_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 16, (3, 40)), rng.integers(0, 16, (40, 2))
    scale = rng.integers(125, 130, (3, 5))
    unit = chain("e5m10")
    got = unit.size(a, b, a_scale=scale)
    truth = exact("e8m23").matmul(a, b, a_scale=scale).view(np.float32)

    stage = got.fixed_stage
    assert stage is not None and got.float_format is not None
    wide = unit_of(stage).matmul(a, b, a_scale=scale)
    assert np.array_equal(stage.initial.decode(wide), truth)
    again = unit_of(stage).size(a, b, a_scale=scale)
    assert (again.overflows, again.inexact, again.sqnr_db) == (0, 0, math.inf)
    narrower = unit_of(replace(stage, width=stage.width - 1)).size(a, b, a_scale=scale)
    assert narrower.overflows
    coarser = unit_of(replace(stage, lsb=stage.lsb + 1)).size(a, b, a_scale=scale)
    assert coarser.inexact

    fmt = got.float_format
    again = unit_of(Chain(fmt)).size(a, b, a_scale=scale)
    assert (again.overflows, again.inexact, again.sqnr_db) == (0, 0, math.inf)
    for less in (
        replace(fmt, mantissa_bits=fmt.mantissa_bits - 1),
        *(
            replace(fmt, exponent_bits=fmt.exponent_bits - 1, bias=fmt.bias + shift)
            for shift in range(-8, 9)
            if fmt.exponent_bits > 1
        ),
    ):
        assert unit_of(Chain(less)).size(a, b, a_scale=scale).inexact, less.name


@pytest.mark.parametrize("seed", range(3))
def test_the_any_order_width_survives_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 16, (1, 30)), rng.integers(0, 16, (30, 1))
    got = chain("e5m10").size(a, b)
    unit = unit_of(Fixed(got.any_order_width, got.fixed_lsb, Overflow.SATURATE))
    assert got.any_order_width >= got.fixed_width
    products = unit.a.decode(a[0]) * unit.b.decode(b[:, 0])
    for order in (np.argsort(products), np.argsort(-products)):
        assert unit.size(a[:, order], b[order]).overflows == 0


# -- against fractions ---------------------------------------------------------------------------


def exact_value(code: int, fmt: Any) -> Fraction | None:
    number = decode(code, fmt)
    return None if number.magnitude is None else number.value


def by_fractions(case: MatmulCase) -> dict[str, Any]:
    """Return the counts and bounds of every dot product of a chain, fixed or exact unit."""
    spec = case.unit.spec
    stage: Any = spec.accumulate
    counts = dict.fromkeys(("steps", "overflows", "inexact", "swamped"), 0)
    sums: list[Fraction] = []
    for i, j in np.ndindex(case.a.shape[0], case.b.shape[1]):
        a, b = case.a[i].tolist(), case.b[:, j].tolist()
        c = 0 if case.c is None else int(case.c[i, j])
        terms = [
            decode(x, spec.a).value * decode(y, spec.b).value for x, y in zip(a, b, strict=True)
        ]
        codes = oracle.steps(spec, a, b, c)
        sums += accumulate([exact_value(c, spec.initial), *terms])
        steps = [terms] if isinstance(stage, Exact) else [[t] for t in terms]
        before = exact_value(c, spec.initial)
        for step, code in zip(steps, codes, strict=True):
            after = exact_value(code, spec.result)
            counts["steps"] += 1
            if before is not None:
                total = before + sum(step)
                counts["inexact"] += after is not None and after != total
                counts["inexact"] += after is None
                counts["swamped"] += after == before and sum(step) != 0
                counts["overflows"] += overflowed(stage, before, sum(step))
            before = after
    used = [s for s in sums if s]
    low = min((lsb(s) for s in used), default=0)
    return counts | {
        "largest": float(max(map(abs, sums))),
        "fixed_lsb": low,
        "mantissa_bits": max((floor_log2(abs(s)) - lsb(s) for s in used), default=0),
    }


def lsb(value: Fraction) -> int:
    top = value.numerator & -value.numerator
    return top.bit_length() - 1 - (value.denominator.bit_length() - 1)


def floor_log2(value: Fraction) -> int:
    n = value.numerator.bit_length() - value.denominator.bit_length()
    return n if Fraction(2) ** n <= value else n - 1


def overflowed(stage: Any, before: Fraction, term: Fraction) -> bool:
    """Whether the rounded sum lies beyond the largest value."""
    if isinstance(stage, Fixed):
        number = oracle.Number(term < 0, abs(term))
        total = before / Fraction(2) ** stage.lsb + to_grid(number, stage.lsb, stage.rounding)
        return not stage.initial.min_integer <= total <= stage.initial.max_integer
    fmt: FloatFormat = stage.format
    total = before + term
    number = oracle.Number(total < 0, abs(total))
    flags = oracle.flags(number, fmt, stage.rounding, Overflow.SATURATE)
    return bool(flags & Flag.OVERFLOW)


def plain_specs() -> Any:
    kinds = float_stages(Chain, False) | float_stages(Exact, False) | fixed_stages(False)
    return all_specs(kinds)


@given(matmul_cases(plain_specs(), max_k=9, special=False, scaled=False))
@settings(max_examples=100)
def test_counts_equal_those_of_fractions(case: MatmulCase) -> None:
    start = None if case.c is None else case.unit.spec.initial.decode(case.c)
    if start is not None and not np.isfinite(start).all():
        return
    got = study(case.unit, case.a, case.b, case.c)
    expected = by_fractions(case)
    assert {k: getattr(got, k) for k in expected} == expected


@given(matmul_cases(all_specs(), max_k=9, special=False))
@settings(max_examples=60)
def test_it_takes_any_unit(case: MatmulCase) -> None:
    arguments = case.arguments
    try:
        got = study(case.unit, **arguments)
    except FpsimError as error:
        assert "no partial sums" in str(error) or "has no code" in str(error)
        return
    assert got.dots == case.a.shape[0] * case.b.shape[1]
    assert max(got.swamped, got.overflows) <= got.inexact <= got.steps
    assert got.saturations <= got.overflows
    assert json.dumps(got.to_dict())
    if got.inexact == 0 and isinstance(case.unit.spec.accumulate, Chain | Exact | Aligned | Tree):
        assert got.not_finite == 0
        assert got.max_relative_error == 0.0


def test_wide_sums_are_exact_too() -> None:
    """Terms 2^80 apart leave 64-bit integers."""
    unit = unit_of(Chain(float_format("e8m23")), "e8m7", "e2m1")
    got = sized(unit, 2.0**60, 1.5 * 2.0**-30, -(2.0**60))
    assert got.largest == 2.0**60 + 1.5 * 2.0**-30
    assert (got.fixed_lsb, got.fixed_width) == (-31, 60 + 31 + 2)
    assert got.mantissa_bits == 60 + 31
    assert got.float_format is None
    assert got.fixed_stage is None
    assert (got.inexact, got.swamped) == (1, 1)


def test_a_captured_layer_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of rows give what one gives."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 16, (20, 64)), rng.integers(0, 16, (64, 9))
    unit = chain("e4m3fn")
    whole = unit.size(a, b)
    monkeypatch.setattr("fpsim.studies.sizing.BATCH", 64 * 9 * 3)
    parts = unit.size(a, b)
    assert replace(parts, sqnr_db=0, mean_relative_error=0) == replace(
        whole, sqnr_db=0, mean_relative_error=0
    )
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db)


@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chain-e5m2",
        "e2m1-chain-e5m10",
        "e4m3fn-chain-e8m7-rtz",
        "e2m1-chain-e4m3fn",
        "e2m1-chain-e8m23",
    ],
)
@pytest.mark.parametrize("groups", [0, 5])
def test_lanes_account_as_the_steps_one_by_one_do(
    name: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with a sum beyond the format (of E4M3FN) are looked at step by step."""
    unit, rng = get_unit(name), np.random.default_rng(3)
    a, b = (
        unit.a.encode(4 * rng.normal(size=(3, 50))),
        unit.b.encode(4 * rng.normal(size=(50, 300))),
    )
    scales = {}
    if groups:
        scales["a_scale"] = rng.integers(124, 130, (3, groups)).astype(np.uint8)
        scales["b_scale"] = rng.integers(125, 128, (groups, 300)).astype(np.uint8)
    wanted = study(unit, a, b, **scales)
    monkeypatch.setattr(sizing, "MIN_PRODUCTS", 1)
    accounts = []
    account = kernel.chain_account
    monkeypatch.setattr(kernel, "chain_account", lambda *x: accounts.append(account(*x)))
    found = study(unit, a, b, **scales)
    assert len(accounts) == 3  # one for each row
    assert found.mean_relative_error == pytest.approx(wanted.mean_relative_error, rel=1e-12)
    same = {"mean_relative_error": 0.0, "sqnr_db": 0.0}
    assert replace(found, **same) == replace(wanted, **same)
    assert found.sqnr_db == pytest.approx(wanted.sqnr_db, rel=1e-12)
