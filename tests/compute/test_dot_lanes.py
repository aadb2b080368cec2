# SPDX-License-Identifier: Apache-2.0
"""Many dot products side by side in lanes equal scalar code, which `test_any_unit` holds against
the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import by_default
from support.machines import MACHINES
from support.unit_cases import as_dots, outcome

from fpsim import FpsimError, MacUnit, RandomBits, get_unit
from fpsim.compute import dot
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.scalar import dot_products
from fpsim.testing.strategies import all_specs, matmul_cases
from fpsim.units.operands import DotOperands

pytestmark = [pytest.mark.usefixtures("one_thread", "dots_in_lanes")]

Codes = NDArray[Any]
#: A panel of every lane and part of one; two chunks of codes and part of one.
ROWS, LENGTH = 150, 301
#: Unit, elements of a scale (0: none), what the kernel's name begins with.
UNITS = [
    ("e2m1-chain-e5m10", 0, ("half", "via-half")),  # a table in a register
    ("e2m1-chain-e5m10", 32, ("half", "via-half")),
    ("e4m3fn-chain-e5m10", 0, ("half", "via-half")),  # bits of float16, or a table for NaN
    ("e3m2-chain-e8m23", 0, ("float",)),
    ("e5m10-chain-e8m23", 16, ("float",)),
    ("e8m7-chain-e8m23", 0, ("float",)),  # the upper half of float32
    ("e8m10-chain-e8m23", 0, ("float",)),  # codes of four bytes
    ("int8.e2m1-chain-e8m23", 0, ("float",)),
    ("e2m1-chain-e8m23-rna", 0, ("lane64-rna",)),
    ("nvidia-h100-e4m3", 0, ("integer32-32-rtz-rtz", "aligned64-32-rtz-rtz")),
    ("e4m3fn-aligned4f40-e8m13", 4, ("aligned64-4-rtz-rtz",)),
    ("mxfp4-block32-e8m23", 32, ("block32 float",)),
    ("nvidia-b200-nvf4", 16, ("block16 whole64-4-rtz", "block16 aligned64-4-rtz-rtz")),
    ("nvidia-b200-nvf4", 0, ("block16 whole64-4-rtz", "block16 aligned64-4-rtz-rtz")),
    ("e2m1.e5m2.split-block4-into-chain-e8m23", 4, ("block4 float",)),
    ("e2m1.e5m2.split-chain-e8m23", 4, ("float",)),  # each element looks for its scale
    ("e2m1-chunked64-of-chain-e5m10-into-chain-e8m23", 0, ("chunk64 ",)),
    ("e2m1-fixed24q2", 0, ("float",)),
    ("e2m1-fixed60q2-saturate", 0, ("float",)),
    ("e5m10-exact-e8m23", 0, ("slice64",)),
    ("e4m3fnuz-tree-e5m10", 0, ("scalar",)),
    ("e2m1-tree-e5m10-lanes7", 7, ("chunk43",)),  # scales go with their elements
    ("e4m3.e8m23-chain-e8m23", 4, ("tree-1-radix3-fused-wide-float",)),
    (
        "e4m3fn.e8m23-block4-into-chain-e8m23",
        4,
        ("block4 tree-1-radix3-fused-wide-float",),
    ),
    ("e5m2-block4-into-chain-e8m23", 4, ("block4 tree-1-radix3-fused-wide-float",)),
    (
        "e2m1-chunked64-of-chunked16-of-chain-e5m10-into-chain-e5m10-into-chain-e8m23",
        0,
        ("scalar",),
    ),
]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels of all matrix products and dot products to come."""
    found: list[str] = []
    run: Callable[..., Any] = dot.matmul_codes

    def noted(*args: Any) -> Any:
        codes, plan = run(*args)
        found.append(plan.kernel)
        return codes, plan

    monkeypatch.setattr(dot, "matmul_codes", noted)
    return found


def scalar(unit: MacUnit, *args: Any, **options: Any) -> Codes:
    """Return what scalar code makes of dot products."""
    return dot_products.dot_codes(unit.spec, DotOperands.check(unit.spec, *args, **options))


def operands(unit: MacUnit, block: int, anything: bool, seed: int = 1) -> dict[str, Any]:
    """Return operands of numbers next to one, or of any codes, that need no random integers."""
    spec, rng = unit.spec, np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name, fmt in (("a", spec.a), ("b", spec.b)):
        codes = rng.integers(0, 1 << fmt.bits, (ROWS, LENGTH))
        if not anything:
            codes = fmt.encode(rng.normal(size=codes.shape))
        made[name] = codes
        if block:
            scales = getattr(spec, f"{name}_scale")
            shape: tuple[int, ...] = (ROWS, -(-LENGTH // block))
            shape += (2,) * spec.splits(name)
            factors = np.exp2(rng.integers(-3, 4, shape)) * rng.choice([1.0, 1.25], shape)
            made[f"{name}_scale"] = scales.encode(factors, "rne", "saturate")
            made["block"] = block
    if anything:
        initial = rng.integers(0, 1 << 62, ROWS, dtype=np.uint64)
        made["c"] = initial & np.uint64((1 << spec.initial.bits) - 1)
    return made


#: Units whose kernels are compiled by default; for others `matmul` is tested by default.
QUICK = [unit for unit in UNITS if unit[0].startswith(("e2m1", "e4m3fn-chain", "nvidia"))]
QUICK = [unit for unit in QUICK if "e8m23-rna" not in unit[0] and unit[1:2] != (32,)]


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("name", "block", "named"), by_default(UNITS, QUICK, "sweep"))
def test_lanes_equal_scalar_code(
    name: str, block: int, named: tuple[str, ...], kernels: list[str]
) -> None:
    unit = get_unit(name)
    for anything in (False, True):
        given = operands(unit, block, anything)
        assert np.array_equal(unit.dot(**given), scalar(unit, **given))
        assert kernels.pop().startswith(named) or anything


#: Unit, elements of a scale, whether lanes have its steps.
STEPS = [
    ("e2m1-chain-e5m10", 0, True),
    ("e4m3fn-chain-e5m7-sr12", 0, True),
    ("e2m1-fixed24q2", 0, True),
    ("e2m1-fixed12q2-saturate", 0, True),
    ("nvidia-h100-e4m3", 0, True),
    ("e2m1-tree8-e5m10", 0, True),
    ("mxfp4-block32-e8m23", 32, True),
    ("nvidia-b200-nvf4", 16, True),
    ("e2m1.e5m2.split-block4-into-chain-e8m23", 4, False),
    ("e2m1-chunked64-of-chain-e5m10-into-chain-e8m23", 0, False),
    ("e2m1-exact-e8m23", 0, False),
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("name", "block", "lanes"), STEPS)
def test_lanes_tell_every_step(
    name: str, block: int, lanes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = dot.run_steps
    monkeypatch.setattr(dot, "run_steps", lambda *args: ran.append(1) or run(*args))
    unit = get_unit(name)
    for anything in (False, True):
        given = operands(unit, block, anything)
        if unit.spec.random_bits:
            given["random"] = RandomBits(4)
        expected = dot_products.step_codes(unit.spec, DotOperands.check(unit.spec, **given), LENGTH)
        assert np.array_equal(unit.accumulate(**given), expected)
    assert bool(ran) == lanes


@pytest.mark.parametrize("bits", [3, 8, 12, 20])
def test_random_integers_are_taken_in_order(bits: int, kernels: list[str]) -> None:
    """Given as arrays or made of a seed, in words that segments must not cut."""
    unit = get_unit(f"e4m3fn-chain-e5m7-sr{bits}")
    given = operands(unit, 0, False)
    seed = RandomBits(3)
    integers = seed.integers(ROWS, LENGTH, bits)
    expected = scalar(unit, **given, random=integers)
    assert not np.array_equal(expected, scalar(unit, **given, random=integers * 0))
    for kind in (np.uint8, np.uint16, np.uint32, np.int64):
        if np.iinfo(kind).bits >= bits:
            assert np.array_equal(unit.dot(**given, random=integers.astype(kind)), expected)
    assert np.array_equal(unit.dot(**given, random=seed), expected)
    assert "-seeded" in kernels[-1] and "-seeded" not in kernels[0]


def test_batches_take_their_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of operands, addends, scales and random integers, of any leading shape."""
    monkeypatch.setattr(dot, "PRODUCTS_BATCH", 40 * LENGTH)
    unit = get_unit("e4m3fn-chain-e5m7-sr8")
    given = operands(unit, 7, False)
    given["c"] = unit.result.encode(np.linspace(-9, 9, ROWS))
    seed = RandomBits(8)
    expected = scalar(unit, **given, random=seed)
    block = given.pop("block")
    shaped = {key: value.reshape(3, 50, *value.shape[1:]) for key, value in given.items()}
    got = unit.dot(**shaped, block=block, random=seed)
    assert np.array_equal(got, expected.reshape(3, 50))
    integers = seed.integers(ROWS, LENGTH, 8)
    assert np.array_equal(unit.dot(**given, block=block, random=integers), expected)


def test_operands_are_broadcast() -> None:
    unit = get_unit("e4m3fn-chain-e8m23")
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 120, (40, 1, 33)), rng.integers(0, 120, (30, 33))
    assert np.array_equal(unit.dot(a, b), unit.matmul(a[:, 0], b.T))


def test_only_many_products_run_in_lanes(
    monkeypatch: pytest.MonkeyPatch, kernels: list[str]
) -> None:
    """Few are scalar code, which needs nothing compiled for the unit."""
    unit, run = get_unit("e2m1-chain-e5m10"), dot.run_steps
    monkeypatch.setattr(dot, "run_steps", lambda *args: kernels.append("steps") or run(*args))
    monkeypatch.setattr(dot, "ROWS_MINIMUM", 8)
    monkeypatch.setattr(dot, "PRODUCTS_MINIMUM", 80)
    for shape, lanes in (((8, 10), True), ((7, 20), False), ((8, 9), False), ((2, 4, 10), True)):
        for compute in (unit.dot, unit.accumulate):
            kernels.clear()
            compute(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
            assert bool(kernels) == lanes, shape


def test_scales_that_only_their_product_lets_a_lane_hold(kernels: list[str]) -> None:
    unit = get_unit("e2m1-exact-e8m23")
    given = operands(unit, 0, False)
    given |= {"a_scale": np.full((ROWS, 1), 254), "b_scale": np.full((ROWS, 1), 1)}
    assert np.array_equal(unit.dot(**given), scalar(unit, **given))
    assert kernels and "scalar" not in kernels


def test_a_result_without_a_code_is_named() -> None:
    unit = get_unit("e5m2-chain-e2m1")
    a = np.full((70, 5), 0x3C, np.uint8)
    a[66, 2] = 0x7C
    with pytest.raises(FpsimError, match="dot product 66 is NaN"):
        unit.dot(a, np.zeros_like(a))


def test_zeros_keep_their_signs() -> None:
    """Sums toward -infinity have zeros that depend on the signs of all they are made of."""
    unit = get_unit("e2m1-exact-e8m23-rdn")
    rng = np.random.default_rng(2)
    a, b = rng.choice([0, 8, 2, 10], (90, 4)), rng.choice([0, 8, 2], (90, 4))
    expected = scalar(unit, a, b)
    assert {0, 1 << 31} < set(expected.tolist())
    assert np.array_equal(unit.dot(a, b), expected)


@given(st.data())
@settings(max_examples=4)
def test_any_unit(data: st.DataObject) -> None:
    _compare(data)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=250)
def test_any_of_many_units(data: st.DataObject) -> None:
    """Nearly every example compiles a lane step of its own."""
    _compare(data)


def _compare(data: st.DataObject) -> None:
    special = data.draw(st.booleans())
    case = data.draw(matmul_cases(all_specs(), max_k=13, special=special))
    given = as_dots(case)
    expected = outcome(lambda: scalar(case.unit, **given))
    assert outcome(lambda: case.unit.dot(**given)) == expected


@pytest.mark.parametrize("name", ["e4m3fn-chain-e8m23", "e2m1-chain-e8m23-rna"])
def test_narrow_registers(name: str) -> None:
    """Panels of other widths, other generated code, the same codes."""
    unit = get_unit(name)
    given = operands(unit, 32, True)
    pairs = MatmulOperands.side_by_side(DotOperands.check(unit.spec, **given))
    codes, plan = dot.matmul_codes(unit.spec, pairs, MACHINES["f16c"])
    assert plan.back_end == "lanes"
    assert np.array_equal(codes[0], scalar(unit, **given))
