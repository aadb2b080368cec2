# SPDX-License-Identifier: Apache-2.0
"""Chunks in lanes: every kind of sum in a chunk, and every kind that adds their results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import by_default, float_format, oracle_matmul, unit_of
from support.lane_cases import operands
from support.machines import MACHINES, On

from fpsim import MacUnit, Overflow, get_unit
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Joins, Stage, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

F32, F16, BF16 = (float_format(name) for name in ("e8m23", "e5m10", "e8m7"))
SATURATE, WRAP = Overflow.SATURATE, Overflow.WRAP
#: Stages of a chunk, in lanes of float32 and of float64.
INNER: dict[str, Stage] = {
    "chain": Chain(BF16),
    "wide chain": Chain(F32, Rounding.RNA),
    "window": Aligned(2, 10, float_format("e8m10")),
    "joined": Aligned(4, 24, F32, Rounding.RNE, addend="joined", exponent_floor=-126),  # type: ignore[arg-type]
    "tree": Tree(F16, products=4),
    "exact": Exact(float_format("e5m3"), Rounding.RUP),
    "exact float32": Exact(F32),
    "clamped": Fixed(9, -2, SATURATE),
    "wrapped": Fixed(6, -2, WRAP),
    "rounded grid": Fixed(12, 0, WRAP, Rounding.RNA),
    "clamped at the end": Fixed(6, -1, SATURATE, Rounding.RTZ, overflow_at="end"),  # type: ignore[arg-type]
}
OUTER: dict[str, Stage] = {
    "chain": Chain(F32),
    "directed chain": Chain(float_format("e8m9"), Rounding.RDN),
    "window": Aligned(3, 12, F32),
    "tree": Tree(BF16, products=2, radix=4, addend=Joins.FUSED),
    "exact": Exact(BF16, Rounding.RTZ),
    "clamped": Fixed(14, -1, SATURATE, Rounding.RNE),
    "sum": Fixed(24, -8, WRAP),
}
CASES = [(inner, outer) for inner in INNER for outer in OUTER]
QUICK = [(inner, "chain") for inner in INNER] + [("chain", outer) for outer in OUTER]


def check(unit: MacUnit, k: int, **more: Any) -> None:
    """Compare a matrix product with the oracle, with an addend and without."""
    a, b, c = operands(unit, k, 2)
    for addend in (None, c):
        plan = unit.plan(a, b, c=addend, **more)
        made = plan.kernel.count(" into ") == 1 if plan.back_end == "lanes" else plan.chunk
        assert made, plan
        codes = unit.matmul(a, b, addend, **more)
        assert np.array_equal(codes, oracle_matmul(unit, a, b, addend, **more)), plan


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("inner", "outer"), by_default(CASES, QUICK))
def test_chunks_of_every_kind(inner: str, outer: str) -> None:
    """Chunks of 8, the last of 3: five of them, which no outer step of two or three divides."""
    check(unit_of(Chunked(INNER[inner], OUTER[outer], 8)), 35)


@pytest.mark.parametrize("stage", [
    Chunked(Block(4, Chain(BF16)), Chain(F32), 8),
    Block(4, Chunked(Chain(BF16), Chain(F32), 3)),
    Block(4, Chunked(Aligned(2, 20, F32), Chain(BF16), 2)),
])  # fmt: skip
@pytest.mark.parametrize("split", ["none", "a"])
def test_chunks_and_blocks(stage: Stage, split: str) -> None:
    """Blocks in chunks and chunks of block sums; split by sign, a block has two sums."""
    unit = unit_of(stage, sign_split=split)
    rng = np.random.default_rng(4)
    sign = (2,) if split == "a" else ()
    scales = {
        "a_scale": rng.integers(125, 130, (4, 9, *sign)).astype(np.uint8),
        "b_scale": rng.integers(125, 130, (9, 5)).astype(np.uint8),
        "block": 4,
    }
    a, b, c = operands(unit, 35, 2)
    chunk = getattr(stage, "into", stage)
    whole = split == "none" or isinstance(stage, Chunked) or chunk.size % 2 == 0
    assert unit.plan(a, b, c=c, **scales).back_end == ("lanes" if whole else "scalar")
    codes = unit.matmul(a, b, c, **scales)
    assert np.array_equal(codes, oracle_matmul(unit, a, b, c, **scales))


def test_chunks_that_part_a_step_are_scalar_code() -> None:
    unit = unit_of(Chunked(Aligned(4, 10, BF16), Chain(F32), 6))
    a, b, c = operands(unit, 20)
    assert unit.plan(a, b, c=c).back_end == "scalar"
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_results_that_are_not_finite_are_promoted() -> None:
    """Infinities of both signs, NaN, and zeros of both signs that chunks end with."""
    for outer in (Chain(F32), Aligned(2, 12, F32), Tree(F32, products=2)):
        unit = unit_of(Chunked(Chain(F16), outer, 2), "e5m10")
        a = unit.a.encode([[np.inf, 1, -np.inf, 1, 0, 0], [-0.0] * 6, [1, 2, np.inf, 1, 2, 3]])
        a[0, 5] = unit.a.encode(np.nan)
        b = unit.b.encode(np.ones((6, 3)))
        c = unit.result.encode(np.array([[1.0, -0.0, np.inf]] * 3), "rne", "inf")
        codes = unit.matmul(a, b, c)
        assert np.array_equal(codes, oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("machine", ["f16c", "none"])
def test_chunks_on_narrow_registers(machine: str) -> None:
    unit = get_unit("fp4xfp8-chunk16-e8m23")
    on = On(unit, MACHINES[machine])
    a, b, c = operands(unit, 40)
    plan = on.plan(a, b, c=c)
    assert plan.step is not None and plan.step.levels[0].lane is Lane.F32
    assert np.array_equal(on.matmul(a, b, c), oracle_matmul(unit, a, b, c))
