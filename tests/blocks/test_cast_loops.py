# SPDX-License-Identifier: Apache-2.0
"""Compiled casts: parts of large tensors, threads, and scales against the rules in numpy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from support.block_cases import check_against_oracle

from fpsim import BlockFormat, get_block_format, get_format
from fpsim.blocks import cast_steps, chosen
from fpsim.blocks.cast_plan import plan_cast, scale_parameters, split_grids
from fpsim.blocks.cast_steps import ScaleInputs, ScaleKind, scale_of
from fpsim.blocks.grids import Ties
from fpsim.blocks.meaning import meaning
from fpsim.blocks.named import named_block_formats
from fpsim.blocks.scale_rules import POWER_RULES, Outer, block_scales
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.llvm.side_by_side import INDEX, Blocks, program
from fpsim.kernels.llvm.vector import FLOAT

PARTS = ("codes", "scales", "variants", "ratios", "tops", "zero_points", "macros")


@pytest.mark.one_in(3)
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


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "name", ["fouroversix", "fouroversix-mae", "fouroversix-abs-max", "if4", "nvif4", "razer",
             "razer-a", "nxfp4", "mxffp", "blockdialect", "m2xfp"],
)  # fmt: skip
def test_choices_turn_where_errors_do(name: str) -> None:
    """Candidates are told apart by the last bit of an element, whatever sums come first."""
    fmt = get_block_format(name)
    assert isinstance(fmt.block, int)
    rng = np.random.default_rng(11)
    found: list[NDArray[np.float32]] = []
    given: dict[str, Any] = {"tensor_scale": 1.0} if fmt.tensor_range else {}

    def chosen_for(row: NDArray[np.float32]) -> tuple[int, ...]:
        done = fmt.quantize(row, **given)
        picks = (done.scales, done.variants, done.ratios)
        return tuple(n for pick in picks if pick is not None for n in pick.tolist())

    for _ in range(2000):
        if len(found) == 4 * 3:
            break
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
    assert len(found) == 4 * 3, "the choice does not follow the element"
    others = rng.uniform(-6, 6, (24, fmt.block)).astype(np.float32)  # special values of every sign
    for row in [*found, *others]:  # each alone: one that is unclear has all of a vector done anew
        check_against_oracle(fmt, row[None], **given)


def test_sums_of_many_alike_errors_lose_bits() -> None:
    """All additions round the same way, and a choice between sums in float32 would be wrong."""
    one = [-1024 + k for k in range(8)] + [0] + [820 + k for k in range(6)] + [1024]
    hollow = [{"table": [v * s / 1024 for v in one], "wide": "e5m10"} for s in (1, -1)]
    fmt = BlockFormat.from_dict({
        "name": "hollow", "element": hollow[0], "variants": [{"element": hollow[1]}],
        "choice": "mse", "stored": "metadata", "block": 256, "scale": "e4m3",
    })  # fmt: skip
    near, far = np.float32(820 / 1024), np.float32(0)

    def in_float32(errors: list[np.float32]) -> np.float32:
        total = np.float32(0)
        for error in errors:
            total = np.float32(np.float64(error) ** 2 + np.float64(total))
        return total

    def apart(c: np.float32) -> float:
        """Return by how much sums of the same errors in two orders differ."""
        one, other = [near - c] * 128, [c - far] * 128
        return abs(float(in_float32(one + other)) - float(in_float32(other + one)))

    drawn = np.random.default_rng(3).uniform(0.41, 0.445, 100).astype(np.float32)
    for c in sorted(drawn, key=apart)[-3:]:
        row = np.repeat([c, -c], 128)
        row[0] = 1.0

        def cast(bits: int, row: NDArray[np.float32] = row) -> int:
            row[5] = np.int32(bits).view(np.float32)
            return int(fmt.quantize(row).variants[0])  # type: ignore[index]

        least, most = (int(np.float32(end).view(np.int32)) for end in (0.41, 0.496))
        first = cast(least)
        assert cast(most) != first, "the choice does not follow the element"
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if cast(middle) == first else (least, middle)
        for bits in (least, most):
            cast(bits)
            check_against_oracle(fmt, row[None])


@pytest.mark.parametrize("special", [5.0, -5.0, 8.0, -7.0, 0.25, -0.25])
@pytest.mark.parametrize("ties", ["even", "away", "zero", "up", "down"])
def test_ends_of_the_interval_of_a_special_value(special: float, ties: str) -> None:
    fmt = BlockFormat.from_dict({
        "name": "special", "element": "e2m1", "special": special, "ties": ties, "scale": "e4m3",
        "target": 8, "block": 16,
    })  # fmt: skip
    ends = [v for v in meaning(fmt).grids[0].keys.tolist() if v != 0]
    bits = [k + step for k in ends for step in (-1, 0, 1)]
    x = np.array([k if k >= 0 else k ^ 0x7FFFFFFF for k in bits], dtype=np.int32).view(np.float32)
    rows = np.resize(x, (-(-x.size // 15), 16))
    rows[:, 1:] = np.resize(x, (len(rows), 15))
    rows[:, 0] = 8.0  # under a scale of 1
    check_against_oracle(fmt, rows)


@pytest.mark.parametrize("name", ["fouroversix", "if4", "razer", "nxfp4", "mxffp", "blockdialect"])
def test_bounds_of_errors_follow_from_the_roundings(name: str) -> None:
    """No input is known that needs the whole of a bound: it must be what its proof asks for."""
    fmt = get_block_format(name)
    choice = plan_cast(fmt).kind.choice
    t = Fraction(1, 1 << 24)
    # Of powers of two only 1 / F and x / F round; `fpsim.blocks.cast_choice` counts the others.
    apart = (4 if fmt.rule in POWER_RULES else 21) * t
    share, squares, sizes = map(Fraction, choice.bounds)
    c = share - 5 * t
    # 2 D |e| <= c e^2 + D^2 / c for every e.
    assert c > 0
    assert apart**2 * (1 + 1 / c) <= squares < 4 * apart**2 * (1 + 1 / c)
    assert apart <= sizes < 4 * apart


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


#: One of each kind of cast that has no tensor scale, so that it finds largest magnitudes itself.
ALONE = ["nf4", "bof4-s", "dint4", "blockdialect", "blockdialect-a", "nxfp4", "mxffp", "mx6", "hif4",
         "m2xfp", "mxfp4+", "mxfp4++", "m2xfp-a", "mxfp4-ggml"]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name for name in (*ALONE, "fouroversix") if get_block_format(name).default_nan == "scale"],
)
def test_blocks_with_bad_values_are_zeros_and_leave_others_alone(name: str) -> None:
    fmt = get_block_format(name)
    size = fmt.block if isinstance(fmt.block, int) else 1024
    rng = np.random.default_rng(12)
    x = rng.standard_normal((40, 1024)).astype(np.float32)
    x[0, :7] = -0.0
    blocks = rng.random((40, 1024 // size)) < 0.2
    blocks[3], blocks[5] = True, False
    bad = np.repeat(blocks, size, axis=1)
    spoilt = np.where(bad & (rng.random(x.shape) < 0.1), np.float32(np.nan), x)
    starts = np.flatnonzero(blocks.ravel()) * size
    spoilt.reshape(-1)[starts] = np.resize(
        np.array([np.nan, -np.nan, np.inf, -np.inf]), starts.size
    )
    clean = np.where(bad, np.float32(0), x)
    q, wanted = fmt.quantize(spoilt, nan="scale"), fmt.quantize(clean)
    np.testing.assert_array_equal(q.codes, np.where(bad, 0, wanted.codes))
    assert fmt.scale is not None
    np.testing.assert_array_equal(q.scales[~blocks], wanted.scales[~blocks])
    assert (q.scales[blocks] == (fmt.scale.nan_code or 0)).all()
    for part in ("variants", "ratios", "tops"):
        mine, own = getattr(q, part), getattr(wanted, part)
        if own is not None:
            np.testing.assert_array_equal(mine, own, err_msg=part)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [*ALONE, "razer", "fouroversix", "if4"])
@pytest.mark.parametrize("power", [-149, -140, -126, -100, 100])
def test_numbers_near_the_ends_of_float32(name: str, power: int) -> None:
    """Scales that are subnormal, at an end of their range, or 0, in blocks beside ordinary ones."""
    rng = np.random.default_rng(power + 200)
    x = rng.standard_normal((4, 64)).astype(np.float32)
    x[:2] = np.clip(np.ldexp(rng.integers(-24, 25, (2, 64)), power), -3e38, 3e38)
    x[0, ::3] = -0.0
    check_against_oracle(get_block_format(name), x)


@pytest.mark.parametrize("block", [1, 3, 8, 15, 16, 17, 20, 35, 64, 80])
@pytest.mark.parametrize("name", ["nf4", "fp4-bnb", "razer", "mxffp"])
def test_blocks_of_any_length(name: str, block: int) -> None:
    """Rows of a register, of a part of one, and a rest."""
    fmt = replace(get_block_format(name), block=block)
    x = np.random.default_rng(block).standard_normal((3, 2 * block + 1)).astype(np.float32)
    given: dict[str, Any] = {"tensor_scale": 0.25} if fmt.tensor_range else {}
    check_against_oracle(fmt, x, **given)


@pytest.mark.parametrize("name", [f["name"] for f in named_block_formats() if f.get("special") or f.get("variants")])  # fmt: skip
@pytest.mark.parametrize("ties", ["even", "away", "zero", "up", "down", None])
def test_a_special_value_takes_an_interval(name: str, ties: str | None) -> None:
    """Without its interval of keys a grid is the one without it, on both sides of each threshold."""
    fmt = replace(get_block_format(name), ties=None if ties is None else Ties(ties))
    what = meaning(fmt)
    halves, symmetric = split_grids(fmt, what)
    for half, grid in zip(halves, what.grids, strict=True):
        keys = np.concatenate([grid.keys, grid.keys - 1, half.keys, [half.low - 1, half.high]])
        keys = np.concatenate([keys, np.random.default_rng(0).integers(-(2**30), 2**30, 500)])
        for key in keys[np.abs(keys) <= 0x7F800000].tolist():  # others are NaN
            index = int((np.array(grid.keys) <= key).sum())
            negative = key < 0
            own = ~key & 0x7FFFFFFF if symmetric and negative else key
            at = int((np.array(half.keys) <= own).sum())
            value, code = half.values[at], half.codes[at] & 255
            if symmetric and negative:
                value, code = -value, half.codes[at] >> 8
            if half.low <= key < half.high:
                assert half.special is not None
                value, code = half.special, half.special_code
            assert (value, code) == (grid.values[index], grid.codes[index]), (name, key)


def test_twins_whose_scales_end_are_other_candidates() -> None:
    """E0M3 is E1M2 under twice the scale, but where no such scale is left."""
    fmt = get_block_format("mxffp")
    rng = np.random.default_rng(13)
    steps = rng.integers(-7, 8, (40, 32)).astype(np.float32)
    steps[:, 0] = 7
    x = np.ldexp(steps, rng.integers(-3, 3, (40, 1))) + rng.choice([0.0, 0.01], (40, 1))
    x = x.astype(np.float32)
    q = fmt.quantize(x)
    assert q.variants is not None
    assert (q.variants == 2).any()
    assert not (q.variants == 3).any()
    check_against_oracle(fmt, x[:12])
    # Of the scales 1/2 and 1, E1M2 would have a smaller one.
    fields = {"element": "e1m2", "variants": [{"element": "e0m3"}], "scale": "ue1m0b1_nozero"}
    narrow = BlockFormat.from_dict(fmt.to_dict() | fields)
    x = (steps / 8 + rng.uniform(-0.02, 0.02, steps.shape)).astype(np.float32)
    q = narrow.quantize(x)
    assert q.variants is not None
    assert (q.variants == 1).all()
    check_against_oracle(narrow, x)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("choice", ["mse", "mae", "abs_max"])
@pytest.mark.parametrize("errors", ["float32", "float64"])
def test_choices_between_signed_scales(choice: str, errors: str) -> None:
    fmt = BlockFormat.from_dict(
        get_block_format("fouroversix").to_dict()
        | {"errors": errors, "signed_max": True, "choice": choice}
    )
    x = np.random.default_rng(14).standard_normal((6, 160)).astype(np.float32)
    q = fmt.quantize(x)
    assert (q.scales >> 7).any()
    check_against_oracle(fmt, x)


@pytest.mark.sweep
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of x86")
@pytest.mark.parametrize("features", ["", "+avx,+avx2,+fma,+sse4.2,+popcnt"])
def test_other_instruction_sets_give_the_same_bits(features: str) -> None:
    """Registers of eight words, with and without an instruction that looks words up in them."""
    program = (
        "import hashlib, numpy as np; from dataclasses import replace; import fpsim\n"
        "x = np.random.default_rng(3).standard_normal((9, 544), dtype=np.float32)\n"
        "names = ('nf4', 'fp4-bnb', 'razer', 'nxfp4', 'm2xfp', 'blockdialect', 'mx6', 'dint4')\n"
        "for fmt in map(fpsim.get_block_format, names):\n"
        "    q = fmt.quantize(x)\n"
        "    parts = (q.codes, q.scales, q.variants, q.ratios)\n"
        "    held = b''.join(part.tobytes() for part in parts if part is not None)\n"
        "    print(fmt.name, hashlib.sha256(held).hexdigest())"
    )
    command = [sys.executable, "-c", program]
    more = {"NUMBA_CPU_NAME": "x86-64-v3"} | ({"NUMBA_CPU_FEATURES": features} if features else {})
    host, other = (
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        for environment in (os.environ, os.environ | more)
    )
    assert host == other
    assert len(host.split()) == 16
