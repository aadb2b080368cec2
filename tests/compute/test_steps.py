# SPDX-License-Identifier: Apache-2.0
"""Lane steps as values: one key, one code; and the planner takes the first one with a proof."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from support.helpers import by_default, chain, exact, fixed, float_format, unit_of
from support.machines import MACHINES, On

from fpsim import RandomBits, get_unit, oracle
from fpsim.compute.bounds import Bounds, Span, Start
from fpsim.compute.lanes.steps.step import Step
from fpsim.compute.plan import BackEnd, steps_of
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tile_loop import cell_results
from fpsim.kernels.llvm.tiles import PRODUCTS, Source, tile_of
from fpsim.kernels.llvm.vector import Lane, Lanes, Vec
from fpsim.units.stages import Addend, Aligned, Chain, Exact, Fixed, Joins, Stage, Tree

ROUNDINGS = list(Rounding)
FORMATS = ["e8m23", "e8m7", "e5m10", "e5m10_flush", "e4m3fn", "e8m23_flush"]


def stages() -> Iterator[Stage]:
    """Yield stages of every kind with many settings."""
    for fmt in map(float_format, FORMATS):
        for rounding in ROUNDINGS:
            bits = 8 if rounding is Rounding.SR else 0
            yield Chain(fmt, rounding, None, bits)
            yield Exact(fmt, rounding, None, bits)
            if bits:
                continue
            yield Chain(fmt, rounding, Overflow.SATURATE)
            yield Chain(fmt, rounding, product="rounded")  # type: ignore[arg-type]
            for addend in Joins:
                yield Tree(fmt, rounding, products=4, radix=2, addend=addend)
                yield Tree(fmt, rounding, products=4, radix=4, addend=addend)
    for rounding in ROUNDINGS:
        bits = 5 if rounding is Rounding.SR else 0
        for overflow in (Overflow.WRAP, Overflow.SATURATE):
            yield Fixed(20, -3, overflow, rounding, bits)
            yield Fixed(48, 1, overflow, rounding, bits)
    for fmt in map(float_format, ("e8m23", "e8m10", "e5m10")):
        for rounding in (Rounding.RTZ, Rounding.RNE, Rounding.RDN):
            plain = Aligned(4, 12, fmt, rounding)
            yield from (plain, replace(plain, width=20), replace(plain, normalised=True))
            yield replace(plain, fraction_bits=24, align=Rounding.RNE)
            yield replace(plain, addend=Addend.LATE, late_rounding=Rounding.RUP)
            joined = replace(plain, fraction_bits=24, addend=Addend.JOINED, exponent_floor=-126)
            yield from (joined, replace(joined, join_reach=20), replace(joined, product_limit=3))
            yield replace(plain, signed_zero=True, width=30, width_overflow=Overflow.SATURATE)


def candidates(machine: Machine) -> Iterator[Step]:
    """Yield the steps of every kind whose lemma holds for usual terms, or for wide ones."""
    terms = Bounds(Span(-1, 3), Span(-1, 3), (3, 3), finite=True, halves=True)
    wide = Bounds(Span(-9, 30), Span(-9, 30), (30, 30), finite=False, scaled=True)
    for stage in stages():
        for bounds in (terms, wide):
            own = replace(bounds, count=8, start=Start(stage.initial, None))
            yield from (s for s in steps_of(stage, own, machine) if s.exact_for(own, machine))


class _Terms:
    """Hands out arguments of a function as terms."""

    def __init__(self, lanes: Lanes, x: Any, y: Any) -> None:
        self._x, self._y = Vec(lanes, x, False), Vec(lanes, y, False)

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        return self._x, self._y

    def power(self, i: Any) -> Vec:
        return self._y


def code_of(step: Step) -> str:
    """Return the LLVM IR of a step, its numbers being arguments by name."""
    reals, integers = (list(numbers) for numbers in step.parameters())
    count = 64 // (step.lane.bits // 8)
    real = ir.VectorType(step.lane.real, count)
    whole = ir.VectorType(ir.IntType(step.lane.bits), count)
    kinds = [real] * (3 + len(reals)) + [whole] * (1 + len(integers))
    function = ir.Function(ir.Module(), ir.FunctionType(real, kinds), "step")
    lanes = Lanes(ir.IRBuilder(function.append_basic_block()), step.lane.real, count, 512)
    acc, x, y, *rest = function.args
    p = Parameters(
        {name: Vec(lanes, value, False) for name, value in zip(reals, rest, strict=False)},
        {
            name: Vec(lanes, value, True)
            for name, value in zip(integers, rest[len(reals) + 1 :], strict=True)
        },
    )
    random = Vec(lanes, rest[len(reals)], True)
    source: Any = _Terms(lanes, x, y)
    cell = (0, 0)
    made = cell_results({cell: step.build(Vec(lanes, acc, False), source, p, random)})[cell]
    made = step.finish(made, p)
    lanes.builder.ret(made.value)
    return f"{step.lane} {reals} {integers} {function}"


@pytest.mark.sweep
def test_steps_of_one_key_have_one_code() -> None:
    """A setting that the code depends on but the key lacks would give wrong bits."""
    found: dict[Any, str] = {}
    codes = set()
    for step in candidates(Machine(frozenset({"f16c", "avx512f", "avx512fp16"}))):
        code = code_of(step)
        assert found.setdefault((step.key, step.finish_key), code) == code, step
        codes.add(code)
    assert len(found) > 150 and len(codes) > 100
    assert {key[0][2] for key in found if isinstance(key[0][2], Lane)} == set(Lane)


def test_tiles_of_other_processors_differ() -> None:
    """Step and tile shape make the variant: 32-byte and 64-byte code never mix."""
    wide, narrow = Machine(frozenset({"avx512f"})), Machine()
    for step in candidates(narrow):
        for source in (PRODUCTS, Source(True, 16), Source(True, 32, 2, 2)):
            tiles = [tile_of(step, source, machine) for machine in (wide, narrow)]
            assert tiles[0].lanes == 2 * tiles[1].lanes


@pytest.mark.parametrize(
    ("unit", "lanes"),
    [
        (chain("e5m10"), ["half", "float", "float", "float", "float"]),
        (chain("e8m23"), ["float"] * 5),
        (chain("e8m23", "rtz"), ["float"] * 5),
        (exact("e8m23"), ["float"] * 5),
        (fixed(20, 0, "saturate", "rup"), ["double"] * 5),
        (unit_of(Aligned(8, 24, float_format("e8m23")), "e5m10"), ["float"] * 5),
    ],
)
def test_plans_for_processors(unit: Any, lanes: list[str]) -> None:
    """AVX-512 with FP16, with VNNI, alone, AVX2 and NEON: planned on whatever this is."""
    features = [("f16c", "avx512f", "avx512fp16"), ("f16c", "avx512f", "avx512vnni"),
                ("f16c", "avx512f"), ("f16c",), ()]  # fmt: skip
    a = unit.a.encode(np.linspace(-2, 2, 12).reshape(1, -1))
    b = unit.b.encode(np.linspace(-1, 3, 12).reshape(-1, 1))
    plans = [On(unit, Machine(frozenset(names))).plan(a, b) for names in features]
    assert [str(plan.lane) for plan in plans] == lanes
    assert all(plan.back_end is BackEnd.LANES and plan.why for plan in plans)


TOLD = {
    "e2m1-chain-e5m10-rtz": "rtz",
    "e4m3fn-chain-e5m10-rup": "rup",
    "e4m3fn-chain-e5m10-rdn": "rdn",
    "e2m1-chain-e8m23-rdn": "rdn",
    "e4m3fn-chain-e8m7-rtz": "rtz",
    "e5m2-chain-e4m3fn-rup": "rup",
    "e2m1-chain-e5m10-sr8": "rtz",
    "e5m2-chain-e8m7-sr5": "rtz",
    "nvidia-a100-fp16": "rtz",
    "nvidia-h100-bf16": "rtz",
    "e4m3fn-aligned16f25-e8m23-rup": "rup",
    "e4m3fn-aligned16f25-e8m23-rdn": "rdn",
    "amd-cdna3-fp16": "",
    "nvidia-h100-e4m3": "",
}


@pytest.mark.sweep
@pytest.mark.parametrize("features", ["f16c", pytest.param("none", marks=pytest.mark.sweep)])
@pytest.mark.parametrize(
    "name", by_default(TOLD, [name for name in TOLD if name != "amd-cdna3-fp16"], "sweep")
)
def test_a_processor_whose_mode_is_set_has_the_oracles_bits(name: str, features: str) -> None:
    """Instructions that carry no mode round by the mode that is set, in the tile only."""
    unit, rows, columns, length = get_unit(name), 4, 8, 64
    rng = np.random.default_rng(len(name))
    a, b = (
        side.encode(rng.normal(size=shape) * 2.0 ** rng.integers(-3, 4, shape))
        for side, shape in ((unit.a, (rows, length)), (unit.b, (length, columns)))
    )
    more = {"random": RandomBits(5)} if unit.spec.random_bits else {}
    on = On(unit, MACHINES[features])
    plan = on.plan(a, b, **more)
    assert plan.step is not None and plan.lane is Lane.F32 and plan.step.direction == TOLD[name]
    found = on.matmul(a, b, **more)
    for row, column in np.ndindex(rows, columns):
        own = {key: value.after(row * columns + column) for key, value in more.items()}
        assert found[row, column] == oracle.dot(unit, a[row], b[:, column], **own)
    # The mode is gone: what is added to one is rounded to nearest again.
    place, ones = 2.0**-23, np.ones(2, np.float32)
    assert (ones + np.array([0.3, 0.7], np.float32) * np.float32(place)).tolist() == [1, 1 + place]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("processor", ["this", "f16c"])
@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chain-e4m3-rdn",
        "e4m3fn-chain-e5m10-rdn",
        "e4m3fn-chain-e8m23-rdn",
        "e4m3fn-aligned4f27-e8m23-rdn",
        "e4m3fn-aligned16f25-e8m23-rdn",
        "e4m3fn-tree8-e5m10-rdn",
        "e4m3fn-chunked4-of-chain-e5m10-rdn-into-chain-e8m23-rdn",
    ],
)
def test_sums_that_cancel_have_the_oracles_zero(name: str, processor: str) -> None:
    """Rounded down, x - x is -0, which steps that compute with M - M must not show of +0."""
    unit, rng = get_unit(name), np.random.default_rng(7)
    values = unit.a.encode([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 1.5, 3, 1.25, -1.25, 4, -4, 6, -3])
    a, b = values[rng.integers(0, 16, (16, 8))], values[rng.integers(0, 16, (8, 16))]
    off = rng.choice([0, 0, 0, -1, 2.0**-20], (16, 16))
    a[0], b[:, 0], off[0, 0] = values[0], values[0], 0  # a sum of +0 alone
    c = unit.result.encode(off - unit.a.decode(a) @ unit.b.decode(b), "rne", "saturate")
    c[0, 0] = 0
    found = On(unit, MACHINES[processor]).matmul(a, b, c)
    right = [oracle.dot(unit, a[i], b[:, j], c[i, j]) for i, j in np.ndindex(c.shape)]
    assert found.reshape(-1).tolist() == right


@pytest.mark.sweep
def test_without_any_step_there_are_limbs_and_scalar_code() -> None:
    for unit, back_end in ((exact("e8m23"), BackEnd.LIMBS), (chain("e8m23"), BackEnd.SCALAR)):
        on = On(unit, MACHINES["this"], lambda _: False)
        a, b = np.arange(8)[None], np.arange(8)[:, None]
        plan = on.plan(a, b)
        assert (plan.back_end, plan.lane) == (back_end, Lane.F64 if plan.step else None)
        assert np.array_equal(on.matmul(a, b), unit.matmul(a, b))


@pytest.mark.sweep
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a processor of x86")
def test_the_planner_plans_for_the_processor_that_the_compiler_has() -> None:
    """NUMBA_CPU_NAME takes instructions away: nothing may be planned with them."""
    program = (
        "import numpy as np, fpsim; from fpsim.kernels.llvm.machine import Machine\n"
        "u = fpsim.get_unit('e2m1-chain-e8m7'); a = np.arange(32, dtype=np.uint8)[None] % 16\n"
        "print(Machine.host().register_bits, u.plan(a, a.T).back_end, u.matmul(a, a.T).item())"
    )
    unit, a = chain("e8m7"), np.arange(32, dtype=np.uint8)[None] % 16
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["256", "lanes", str(unit.matmul(a, a.T).item())]
