# SPDX-License-Identifier: Apache-2.0
"""Compiled casts: parts of large tensors, threads, and scales against the rules in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from support.block_cases import check_against_oracle

from fpsim import BlockFormat, get_block_format, get_format
from fpsim.blocks import cast_steps, chosen
from fpsim.blocks.cast_plan import scale_parameters
from fpsim.blocks.cast_steps import ScaleInputs, ScaleKind, scale_of
from fpsim.blocks.scale_rules import Outer, block_scales
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.llvm.side_by_side import INDEX, Blocks, program
from fpsim.kernels.llvm.vector import FLOAT

PARTS = ("codes", "scales", "variants", "ratios", "tops", "zero_points", "macros")


@pytest.mark.parametrize(
    "name",
    ["nf4", "bof4-s", "razer", "blockdialect", "blockdialect-a", "mx4", "mx9", "hif4", "m2xfp",
     "mxfp4++", "m2xfp-a", "fouroversix", "if4", "amxint4", "mxint8", "dint4", "nvfp4-ggml"],
)  # fmt: skip
def test_tensors_of_several_parts_are_their_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two threads, with a last part that is shorter and rows that end within a block."""
    monkeypatch.setattr(chosen, "PART", 1 << 10)
    monkeypatch.setattr(chosen, "LEAST", 1 << 9)
    threads = numba.get_num_threads()
    fmt = get_block_format(name)
    rng = np.random.default_rng(7)
    x = (rng.standard_normal((37, 150)) * np.exp2(rng.integers(-9, 9, (37, 1)))).astype(np.float32)
    given: dict[str, Any] = {"tensor_scale": 0.125} if fmt.tensor_range else {}
    try:
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        whole = fmt.quantize(x, **given)
    finally:
        numba.set_num_threads(threads)
    for r in range(len(x)):
        row = fmt.quantize(x[r : r + 1], **given)
        for part in PARTS:
            mine, own = getattr(whole, part), getattr(row, part)
            assert (mine is None) == (own is None)
            if own is not None:
                np.testing.assert_array_equal(mine[r : r + 1], own, err_msg=part)


@pytest.mark.parametrize(
    "name", ["fouroversix", "fouroversix-mae", "fouroversix-abs-max", "if4", "nvif4", "razer",
             "nxfp4", "mxffp", "blockdialect"],
)  # fmt: skip
def test_choices_turn_where_errors_do(name: str) -> None:
    """Candidates are told apart by the last bit of an element, whatever sums come first."""
    fmt = get_block_format(name)
    assert isinstance(fmt.block, int)
    rng = np.random.default_rng(11)
    found: list[NDArray[np.float32]] = []
    given: dict[str, Any] = {"tensor_scale": 1.0} if fmt.tensor_range else {}

    def chosen_for(row: NDArray[np.float32]) -> tuple[int, int]:
        done = fmt.quantize(row, **given)
        return int(done.scales[0]), 0 if done.variants is None else int(done.variants[0])

    while len(found) < 4 * 3:
        row = (rng.uniform(-1, 1, fmt.block) * 5).astype(np.float32)
        row[0] = 6.0  # the largest, so that scales stay
        ends = np.sort(rng.uniform(0.1, 5.9, 2)).astype(np.float32)
        low, high = (int(bits) for bits in ends.view(np.int32))

        def at(bits: int, row: NDArray[np.float32] = row) -> NDArray[np.float32]:
            changed = row.copy()
            changed[5] = np.int32(bits).view(np.float32)
            return changed

        first = chosen_for(at(low))
        if chosen_for(at(high)) == first:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if chosen_for(at(middle)) == first else (low, middle)
        found += [at(bits) for bits in (low - 1, low, high, high + 1)]
    others = rng.uniform(-6, 6, (24, fmt.block)).astype(np.float32)  # special values of every sign
    check_against_oracle(fmt, np.concatenate([np.stack(found), others]), **given)


def magnitudes() -> NDArray[np.float32]:
    """Return float32 magnitudes of every exponent: powers, their neighbours, ties of few bits."""
    fields = [0, 1, 2, (1 << 23) - 1, 1 << 22, (1 << 22) + 1, 1 << 21, 3 << 21, 7 << 20, 1 << 19,
              (1 << 19) + 1, (1 << 19) - 1, 5 << 19, 0x555555]  # fmt: skip
    bits = [(e << 23) | f for e in range(255) for f in fields]
    random = np.random.default_rng(8).integers(0, 0x7F800000, 2000)
    return np.concatenate([np.array(bits), random]).astype(np.int32).view(np.float32)


@pytest.mark.parametrize("zero", ["one", "smallest", "keep", "least"])
@pytest.mark.parametrize(
    "scale", ["e4m3fn", "ue4m3fn", "ue3m3fn", "ue5m3fn", "e5m2", "e5m10", "e8m7", "e8m23",
              "ue8m2fn_nozero", "ue6m2b48fn_nozero"],
)  # fmt: skip
def test_scales_are_those_of_the_rules(scale: str, zero: str) -> None:
    """Codes, divisors and decoded scales, bit for bit, in every order of operations."""
    base = BlockFormat.from_dict(
        {"name": "x", "element": "e2m1", "block": 16, "scale": scale, "zero": zero, "ties": "down"}
    )
    kinds: list[dict[str, Any]] = [{}, {"scale_rounding": "rna"}, {"arithmetic": "bf16"}]
    kinds += [{"tensor_range": 448, "arithmetic": how} for how in ("divide", "reciprocal", "ratio")]
    if scale == "ue4m3fn":
        kinds.append({"scale_encoder": "ggml"})
    amax = magnitudes()
    for fields in kinds:
        fmt = replace(base, **fields)
        for s_t in (1.0, 0.0123, 1e-30) if fmt.tensor_range else (1.0,):
            above = np.float32(s_t)
            outer = Outer(above, np.float32(1) / above, above)
            for expansion in (1.0, 1.5):
                check(fmt, amax, outer, expansion)


@pytest.mark.parametrize("rule", ["floor", "rceil", "ceil", "even"])
@pytest.mark.parametrize("scale", ["e8m0", "ue5m0b16f_nozero"])
@pytest.mark.parametrize("target", [0.0, 1.0, 4.5])
def test_powers_are_those_of_the_rules(scale: str, rule: str, target: float) -> None:
    fmt = BlockFormat.from_dict(
        {"name": "x", "element": "e2m1", "block": 16, "scale": scale, "rule": rule,
         "target": target, "ties": "down"}
    )  # fmt: skip
    one = np.float32(1)
    for expansion in (0.5, 1.0, 4.0):
        check(fmt, np.append(magnitudes(), np.float32(0)), Outer(one, one, one), expansion)


def check(fmt: BlockFormat, amax: NDArray[np.float32], outer: Outer, expansion: float) -> None:
    limit = fmt.limit
    wanted = block_scales(fmt, amax, outer, limit, expansion)
    codes, factor = np.empty(amax.size, np.int64), np.empty(amax.size, np.float32)
    decoded = np.empty(amax.size)
    exponent, bump, own_limit, c, n = scale_parameters(fmt, limit, expansion)
    integers = np.array(
        [exponent, bump, n.max_code, n.mantissa_bits, n.exponent_min, n.zero_code], dtype=np.int64
    )
    reals = np.array([own_limit, c, n.floor, *outer[:2]], dtype=np.float32)
    scales_program(n.kind)(amax, integers, reals, codes, decoded, factor, 0, amax.size)
    np.testing.assert_array_equal(codes, wanted.codes)
    np.testing.assert_array_equal(factor, wanted.factor)
    assert isinstance(fmt.scale, FloatFormat)
    np.testing.assert_array_equal(decoded, fmt.scale.decode(wanted.codes))


@cache
def scales_program(kind: ScaleKind) -> Callable[..., None]:
    """Return the program of scales alone."""

    def build(b: Blocks) -> None:
        whole, reals = (
            [b.same(1, i, INDEX) for i in range(6)],
            [b.same(2, i, FLOAT) for i in range(5)],
        )
        numbers = ScaleInputs(*whole[:2], *reals[:3], *whole[2:], *reals[3:])
        scale = scale_of(b, kind, b.get(0, FLOAT), numbers)
        for array, entries in enumerate(scale, start=3):
            b.put(array, entries.value.type.element, entries)

    return program(f"scales alone {tuple(kind)}", 6, build, (cast_steps.__file__, __file__))


@pytest.mark.parametrize(
    "element", ["e2m1", "e2m2", "e0m3", "int3", "int4", "int4s", "e4m3f", "int8q6", "e0m7f"]
)
@pytest.mark.parametrize("ties", ["even", "away", "zero", "up", "down"])
def test_every_value_and_every_tie_of_a_grid(element: str, ties: str) -> None:
    """Seven thresholds, fifteen, more, and equally spaced ones, on both sides of every midpoint."""
    fmt = BlockFormat.from_dict(
        {
            "name": "x",
            "element": element,
            "block": 16,
            "scale": "e8m23",
            "target": 1.0,
            "ties": ties,
        }
    )
    held = get_format(element).decode(np.arange(1 << fmt.element.bits))
    if element == "int4s":
        held = held[np.arange(16) != 8]
    values = np.unique(held)
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    x = np.concatenate(
        [values.astype(np.float32), middles, np.nextafter(middles, np.float32(99999)),
         np.nextafter(middles, np.float32(-99999))]
    )  # fmt: skip
    rows = np.zeros((x.size, 16), np.float32)
    rows[:, 0], rows[:, 1:] = 1.0, np.clip(x, -1, 1)[:, None]  # the scale is 1
    rows = np.where(np.abs(x)[:, None] > 1, np.float32(1), rows)
    found = fmt.dequantize(fmt.quantize(rows))[:, 5]
    for got, y in zip(found, rows[:, 5].astype(float), strict=True):
        off = np.abs(values - y)
        nearest = values[off == off.min()]
        if len(nearest) == 1:
            assert got == nearest[0], y
            continue
        low, high = nearest
        if ties == "even":
            even = [v for v in nearest if int(np.flatnonzero(held == v)[0]) % 2 == 0]
            assert got in (even or nearest), y
        else:
            out = high if low + high >= 0 else low
            inward = low if low + high > 0 else high
            assert got == {"away": out, "zero": inward, "up": high, "down": low}[ties], y
