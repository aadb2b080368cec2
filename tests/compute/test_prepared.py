# SPDX-License-Identifier: Apache-2.0
"""Second operands that are checked and laid out once, and products of a single row."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from support.helpers import oracle_matmul

import fpsim
from fpsim import FpsimError
from fpsim.compute.lanes import pack
from fpsim.units.operands import sides

#: One unit of every kind of step and of packing: bytes, blocks, splits, windows, float64 lanes.
UNITS = (
    "e2m1-exact-e8m23",
    "e2m1-block32-into-chain-e8m23",
    "e2m1.e5m2.split-block32-into-chain-e8m23",
    "e4m3fn-block32-into-chain-e8m23",
    "e2m1-chain-e5m10",
    "e2m1-fixed16q2-saturate",
    "nvidia-h100-e4m3",
    "e2m1-tree8-e5m10",
    "e5m10-exact-e8m23",
)
LENGTH, COLUMNS = 96, 70


def made(unit: fpsim.MacUnit, rows: int, seed: int = 0) -> tuple[Any, Any, dict[str, Any]]:
    """Return operands of a unit, with scales where it sums blocks."""
    random = np.random.default_rng(seed)
    shapes, found, more = ((rows, LENGTH), (LENGTH, COLUMNS)), [], {}
    for side, shape in zip(sides(unit.spec), shapes, strict=True):
        codes = random.integers(0, 1 << side.format.bits, shape).astype(side.format.dtype)
        codes[~np.isfinite(side.format.decode(codes))] = 0
        found.append(codes)
        if unit.spec.block is not None:
            groups = LENGTH // unit.spec.block.size
            size = (rows, groups) if side.name == "a" else (groups, COLUMNS)
            scales = random.integers(40, 60, (*size, 2) if side.split else size)
            more[f"{side.name}_scale"] = scales.astype(side.scale.dtype)
    return *found, more


@pytest.mark.parametrize("name", UNITS)
def test_prepared_columns_give_the_bits_of_the_given_ones_in_every_product(name: str) -> None:
    unit = fpsim.get_unit(name)
    a, b, scales = made(unit, 3)
    wanted = unit.matmul(a, b, **scales)
    kept = unit.prepare(b, scales.pop("b_scale", None))
    for row in range(3):  # the third finds what the first packed, for its own row
        own = {key: scale[row : row + 1] for key, scale in scales.items()}
        assert np.array_equal(unit.matmul(a[row : row + 1], kept, **own)[0], wanted[row])
    assert np.array_equal(unit.matmul(a, kept, **scales), wanted)


def test_what_is_prepared_is_packed_once_for_all_rows_and_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unit = fpsim.get_unit("e2m1-block32-into-chain-e8m23")
    a, b, scales = made(unit, 1)
    packed = []
    half = pack._half
    monkeypatch.setattr(pack, "_half", lambda x, how: packed.append(how.which) or half(x, how))
    kept = unit.prepare(b, scales["b_scale"])
    for power in range(3):  # other scales are other bounds, which are planned anew
        unit.matmul(a, kept, a_scale=scales["a_scale"] + np.uint8(power))
    assert packed.count(0) == 3 and packed.count(1) == 1
    own = weakref.ref(next(iter(kept.operand.found["packed"].values())).values)
    del kept
    gc.collect()
    assert own() is None


def test_a_copy_of_what_is_prepared_begins_anew_and_gives_equal_bits() -> None:
    unit = fpsim.get_unit("e2m1-block32-into-chain-e8m23")
    a, b, scales = made(unit, 1)
    kept = unit.prepare(b, scales["b_scale"])
    wanted = unit.matmul(a, kept, a_scale=scales["a_scale"])
    assert kept.operand.found
    for copied in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert not copied.operand.found
        assert np.array_equal(unit.matmul(a, copied, a_scale=scales["a_scale"]), wanted)


def test_a_quantized_tensor_is_prepared_with_its_scale_of_the_whole_tensor() -> None:
    fmt, unit = fpsim.get_block_format("nvfp4"), fpsim.get_unit("nvfp4-block16-e8m23")
    rng = np.random.default_rng(0)
    a = fmt.quantize(rng.normal(size=(2, 64)), axis=1)
    b = fmt.quantize(rng.normal(size=(64, 8)) * 1e3, axis=0)
    found = unit.matmul(a, unit.prepare(b), values=True)
    assert np.array_equal(found, unit.matmul(a, b, values=True))


def test_units_with_equal_operands_share_what_is_prepared() -> None:
    first, second = fpsim.get_unit("e2m1-chain-e5m10"), fpsim.get_unit("e2m1-exact-e8m23")
    a, b, _ = made(first, 2)
    assert np.array_equal(second.matmul(a, first.prepare(b)), second.matmul(a, b))


B = np.zeros((64, 4), np.uint8)


@pytest.mark.parametrize(
    ("prepared", "unit", "more", "message"),
    [
        ("e2m1-chain-e5m10", "e4m3fn-exact-e8m23", {}, "b: it was prepared as e2m1 .*; e4m3fn"),
        ("e2m1-chain-e5m10", "e2m1-exact-e8m23", {"b_scale": B[:2]}, "b_scale: a prepared operand"),
        ("e2m1-exact-e8m23", "e2m1-block32-into-chain-e8m23", {"a_scale": B[:4, :2]}, "b_scale: one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(
    prepared: str, unit: str, more: dict[str, Any], message: str
) -> None:
    scale = np.full((4, 4), 127, np.uint8) if "exact" in prepared else None
    kept = fpsim.get_unit(prepared).prepare(B, scale)
    with pytest.raises(FpsimError, match=message):
        fpsim.get_unit(unit).matmul(B.T, kept, **more)


def test_an_operand_of_another_length_is_refused() -> None:
    unit = fpsim.get_unit("e2m1-exact-e8m23")
    with pytest.raises(FpsimError, match="b: K is 64 along its first axis but 32 in a"):
        unit.matmul(B.T[:, :32], unit.prepare(B))
    with pytest.raises(FpsimError, match="b: shape .* is not a matrix"):
        unit.prepare(B[0])


@pytest.mark.parametrize("name", ["e2m1-exact-e8m23", "e5m10-exact-e8m23", "nvidia-h100-e4m3"])
def test_plans_are_kept_for_operands_of_one_kind_only(name: str) -> None:
    unit = fpsim.get_unit(name)
    a, b, _ = made(unit, 4)
    kinds: list[tuple[Any, dict[str, Any]]] = [(a, {})]
    if unit.spec.a.bits > 4:
        tiny, special = a & ~np.asarray(0x78 << (unit.spec.a.bits - 8), a.dtype), a.copy()
        special[1, 5] = unit.spec.a.nan_code  # type: ignore[union-attr]
        kinds = [(tiny, {}), (a, {}), (special, {})]
    else:
        for powers in ([127, 127, 127], [1, 127, 250], [127, 255, 127]):
            scales = np.array([powers] * 4, np.uint8)
            kinds.append((a, {"a_scale": scales, "b_scale": np.full((3, COLUMNS), 127, np.uint8)}))
    zero = np.zeros((4, COLUMNS), unit.spec.initial.dtype)
    for own, more in kinds:
        # No plan is kept for given initial accumulators.
        assert np.array_equal(unit.matmul(own, b, **more), unit.matmul(own, b, zero, **more))


@pytest.mark.parametrize(
    "inner", ["e4m3fn-chunked32-of-aligned8f4", "e5m10-chunked32-of-aligned4f6"]
)
def test_the_last_chunk_is_laid_out_for_its_own_length(inner: str) -> None:
    """Results of chunks that limbs add: a step of zeros more would cut its sum off once more."""
    unit, rng = fpsim.get_unit(f"{inner}-e8m13-into-exact-e8m23"), np.random.default_rng(0)
    a, b = (
        side.encode(rng.normal(size=shape) * 2.0 ** rng.integers(-6, 7, shape))
        for side, shape in ((unit.a, (5, 72)), (unit.b, (72, 7)))
    )
    plan = unit.plan(a, b)
    assert plan.back_end == "limbs" and plan.chunk == 32
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


@pytest.mark.parametrize(
    "name", ["e2m1-exact-e8m23", "e2m1-block32-into-chain-e8m23", "e2m1-chain-e5m10"]
)
def test_a_row_takes_few_calls(name: str) -> None:
    """Python is most of the time of a small product; unlike time, its calls can be counted."""
    unit = fpsim.get_unit(name)
    a, b = np.ones((1, LENGTH), np.uint8), np.ones((LENGTH, COLUMNS), np.uint8)
    scale = np.full((1, LENGTH // 32), 127, np.uint8)
    kept, events = unit.prepare(b, np.repeat(scale.T, COLUMNS, 1)), []
    for _ in range(2):
        unit.matmul(a, kept, a_scale=scale)
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        unit.matmul(a, kept, a_scale=scale)
    finally:
        sys.setprofile(None)
    assert events.count("call") < 120


@pytest.mark.parametrize(
    "name",
    [
        "e5m10-exact-e8m23", "e5m10-chain-e8m23", "e5m10-chain-e5m10", "e5m10-chain-e8m7",
        "nvidia-a100-fp16", "nvidia-h100-e4m3",
    ],
)  # fmt: skip
def test_nan_of_any_sign_becomes_the_one_nan_of_results(name: str) -> None:
    unit = fpsim.get_unit(name)
    a, b, _ = made(unit, 4)
    fmt = unit.spec.a
    assert isinstance(fmt, fpsim.FloatFormat) and fmt.nan_code is not None
    a[0, 3], a[1, 5] = fmt.nan_code, fmt.nan_code | fmt.sign_bit
    if fmt.inf_code is not None:
        a[2, 7], b[7] = fmt.inf_code, 0  # infinity times zero
    wanted = oracle_matmul(unit, a[:3], b[:, :2])
    assert np.array_equal(unit.matmul(a, b)[:3, :2], wanted)
    assert np.isnan(unit.result.decode(wanted[:2])).all()
