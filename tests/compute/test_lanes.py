# SPDX-License-Identifier: Apache-2.0
"""Windows in vector lanes: integers, zeros, addends, joined windows.

Expected codes are the oracle's, or the scalar kernels' where a space is exhausted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import by_default, float_format, oracle_matmul, unit_of
from support.lane_cases import AVX512, operands, runs_as
from support.machines import MACHINES, On, cut_windows

from fpsim import get_unit, oracle
from fpsim.compute.lanes.steps.window import Window
from fpsim.compute.plan import Allowed, any_step
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.stages import Aligned

pytestmark = pytest.mark.usefixtures("one_thread")


# -- windows -------------------------------------------------------------------------------------


@AVX512
@pytest.mark.parametrize(
    ("products", "bits", "result", "rounding", "align", "kernel"),
    [
        (8, 24, "e8m23", "rtz", "rtz", "integer32-8-rtz-rtz-native"),  # A100
        (8, 25, "e8m23", "rne", "rne", "integer32-8-rne-rne-native"),  # 25 + 2 + 4 = 31 bits
        (8, 26, "e8m23", "rup", "rdn", "integer32-8-rdn-rup-native-split"),  # products alone: 31
        (8, 27, "e8m23", "rtz", "rtz", "aligned64"),
        (16, 25, "e8m23", "rtz", "rtz", "integer32-16-rtz-rtz-native-split"),  # H100
        (8, 24, "e8m13", "rtz", "rtz", "integer32-8-rtz-rtz"),  # truncated twice is once
        (8, 24, "e8m13", "rne", "rtz", "aligned64"),
        (8, 13, "e8m13", "rne", "rup", "integer32-8-rup-rne"),  # float32 holds the integer
        (8, 24, "e8m23", "rna", "rtz", "aligned64"),  # no conversion rounds so
    ],
)
def test_integer_windows(
    products: int, bits: int, result: str, rounding: str, align: str, kernel: str
) -> None:
    stage = Aligned(products, bits, float_format(result), Rounding(rounding), Rounding(align))
    assert runs_as(unit_of(stage, "e5m10"), 19).startswith(kernel)


@AVX512
def test_integer_windows_take_finite_terms_only() -> None:
    unit = unit_of(Aligned(8, 24, float_format("e8m23")), "e5m10")
    a, b, c = operands(unit, 16)
    for special in (0x7C00, 0xFC00, 0x7E00):
        a[1, 3] = special
        assert unit.plan(a, b, c=c).kernel.startswith("aligned64")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
    a[1, 3] = 0
    c[0] = 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x80000000
    assert unit.plan(a, b, c=c).kernel.startswith("integer32")
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@AVX512
def test_halves_of_a_sum_meet_at_their_largest() -> None:
    """16 of the largest bfloat16 products and c: 65.5 * 2^25 does not fit an int32."""
    unit = unit_of(Aligned(16, 25, float_format("e8m23")), "e8m7")
    for sign in (1, -1):
        a = unit.a.encode(np.full((1, 16), sign * (2 - 2**-7)))
        b = unit.b.encode(np.full((16, 1), 2 - 2**-7))
        c = unit.result.encode(np.full((1, 1), sign * (4 - 2**-22)))
        assert unit.plan(a, b, c=c).kernel.endswith("split")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("rounding", ["rne", "rdn", "rtz"])
@pytest.mark.parametrize("more", [{}, {"width": 9}, {"addend": "late", "late_rounding": "rdn"}])
def test_zeros_keep_their_sign(rounding: str, more: dict[str, Any]) -> None:
    """All -0; mixed; cancelled; all too small to be seen; a sum that a register wraps to zero."""
    fmt = float_format("e8m13")
    unit = unit_of(Aligned(4, 4, fmt, Rounding(rounding), signed_zero=True, **more))
    rows = [[-0.0] * 4, [0.0] * 4, [-0.0, 0.0, -0.0, -0.0], [2.0, -2.0, 0.0, -0.0], [-6.0] * 4]
    rows += [[-0.5, -0.5, -0.5, -0.5], [4.0, 4.0, 4.0, 4.0], [-4.0, -4.0, -4.0, -4.0]]
    a = unit.a.encode(rows)
    b = unit.b.encode(np.array([[1.0, 0.0, 4.0]] * 4))
    for start in (0.0, -0.0, 0.5, -64.0, 2.0**-40):
        c = fmt.encode(np.full((len(rows), 3), start))
        assert unit.plan(a, b, c=c).kernel != "scalar"
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_infinite_addends_pass_registers_and_late_additions() -> None:
    fmt = float_format("e5m10")
    late = Aligned(2, 10, fmt, addend="late")  # type: ignore[arg-type]
    for stage in (late, Aligned(2, 4, fmt, width=8),
                  Aligned(2, 4, fmt, width=8, width_overflow="saturate")):  # type: ignore[arg-type]  # fmt: skip
        unit = unit_of(stage, "e5m2")
        a = unit.a.encode([[57344.0, 57344.0], [1.0, 1.0]])  # the first overflows
        b = unit.b.encode([[57344.0, 1.0], [57344.0, 1.0]])
        c = np.array([[0xFC00, 0x7C00], [0xFC00, 0x7C00]], np.uint16)
        assert unit.plan(a, b, c=c).kernel != "scalar"
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_windows_of_many_products_are_loops() -> None:
    for stage in (
        Aligned(75, 13, float_format("e8m13")),
        Aligned(75, 13, float_format("e8m13"), Rounding.RDN, signed_zero=True),
        Aligned(75, 13, float_format("e8m23"), Rounding.RNE, Rounding.RNA, normalised=True),
        Aligned(66, 24, float_format("e8m23"), addend="joined", lanes=2),  # type: ignore[arg-type]
    ):
        assert runs_as(unit_of(stage, "e4m3fn"), 160) != "scalar"


def test_windows_of_zeros_are_zero() -> None:
    """2^(F - E) of a window without any exponent must stay finite, whatever F is."""
    for bits in (27, 28, 29):
        unit = unit_of(Aligned(1, bits, float_format("e8m23")), "e5m10")
        zeros = np.zeros((2, 2), np.uint16)
        assert not unit.matmul(zeros, zeros).any()


# -- windows joined with the addend --------------------------------------------------------------


@AVX512
@pytest.mark.parametrize(
    "operand",
    by_default(["fp16", "bf16", "xf32", "e4m3", "e5m2"], ["fp16", "e4m3"], "sweep"),
)
def test_joined_windows_are_integers(operand: str) -> None:
    unit = get_unit(f"amd-cdna3-{operand}")
    a, b, c = operands(unit, 35)
    step = unit.plan(a, b, c=c).step
    assert isinstance(step, Window) and (step.carrier, step.spare) == ("int32", (5, 2))
    assert runs_as(unit, 35) == step.name


@pytest.mark.parametrize(("allowed", "lane"), [(any_step, Lane.F32), (cut_windows, Lane.F64)])
def test_joined_windows_on_other_processors(allowed: Allowed, lane: Lane) -> None:
    on = On(get_unit("amd-cdna3-e4m3"), MACHINES["f16c"], allowed)
    a, b, c = operands(on.unit, 35)
    assert on.plan(a, b, c=c).lane is lane
    assert np.array_equal(on.matmul(a, b, c), oracle_matmul(on.unit, a, b, c))


@AVX512
@pytest.mark.parametrize(
    ("settings", "spare"),
    [
        ({}, (5, 2)),
        ({"join_sum_bits": 24}, (0, 0)),
        ({"join_sum_bits": 29, "align": "rdn"}, (5, 0)),
        pytest.param({"join_sum_bits": 37, "rounding": "rup"}, (5, 8), marks=pytest.mark.sweep),
        ({"lanes": 2, "join_reach": 9}, (5, 2)),
        ({"products": 16}, None),  # 16 * 4 half shifted out are as large as c
        ({"join_rounding": "rtz"}, None),
        ({"join_addend_bits": 25}, None),
        ({"fraction_bits": 22, "join_addend_bits": 22}, None),  # c would lose bits
    ],
)
def test_joined_windows_at_every_distance(
    settings: dict[str, Any], spare: tuple[int, int] | None
) -> None:
    """Every exponent of c, with sums that nearly cancel it, and their last bits at every place."""
    fields = {"products": 8, "fraction_bits": 24, "rounding": "rne", "addend": "joined"} | settings
    unit = unit_of(Aligned(format=float_format("e8m23"), **fields), "e5m10")
    a = unit.a.encode(np.array([
        [1.9990234375] * 8,
        [-1.9990234375] * 8,
        [1.0, 2.0**-11, 0, 0, 0, 0, 0, -(2.0**-12)],
        [-1.0, 3 * 2.0**-12, 0, 0, 0, 2.0**-11, 0, 2.0**-12],
        [1.5, -1.5, 2.0**-11, 0, 0, 0, 0, 0],
        [2.0**-12, 0, 0, 0, 0, 0, 0, 0],
    ]))  # fmt: skip
    b = np.full(8, 1.9990234375)
    b[-1] = 2.0**-11
    rng = np.random.default_rng(7)
    powers = np.exp2(np.arange(-30, 46))
    significands = [1.0, 2 - 2.0**-23, 1 + rng.integers(0, 1 << 23) / (1 << 23)]
    starts = np.concatenate([powers * s for s in significands])
    exact_sums = unit.a.decode(a) @ b
    starts = np.concatenate([starts, -starts, -exact_sums, [0.0, -0.0]])
    specials = np.array([0x7F800000, 0xFF800000, 0x7FC00000], np.uint32)
    codes = np.concatenate([unit.result.encode(starts), specials])
    c = np.repeat(codes[None], len(a), 0)
    columns = np.repeat(unit.b.encode(b)[:, None], codes.size, 1)
    plan = unit.plan(a, columns, c=c)
    if spare is None:
        assert plan.lane is Lane.F64
        return
    assert isinstance(plan.step, Window) and plan.step.spare == spare and plan.lane is Lane.F32
    assert np.array_equal(unit.matmul(a, columns, c), oracle_matmul(unit, a, columns, c))


@pytest.mark.parametrize("signed_zero", [True, False])
def test_opposite_scales_move_the_powers_of_terms_too(signed_zero: bool) -> None:
    """65504 * 2^127 is no float32, nor is the power of two that it is aligned by."""
    stage = Aligned(
        4, 13, float_format("e4m3"), Rounding.RDN, Rounding.RNA, signed_zero=signed_zero
    )
    unit = unit_of(stage, "e5m10")
    rng = np.random.default_rng(5)
    a, b = (unit.a.encode(rng.normal(size=s)) for s in ((3, 16), (16, 5)))
    a = np.where(rng.random(a.shape) < 0.5, a, 0x7BFF).astype(a.dtype)
    args = {"a_scale": np.full((3, 2), 254, np.uint8), "b_scale": np.full((2, 5), 0, np.uint8)}
    assert unit.plan(a, b, **args).kernel.startswith(("aligned32", "integer32", "window"))
    np.testing.assert_array_equal(unit.matmul(a, b, **args), unit.matmul(a, b))


@pytest.mark.parametrize("into", ["aligned3f4-e8m23", "aligned5f6-e5m10"])
def test_no_steps_are_added_to_fill_a_turn(into: str) -> None:
    """Two terms per block, three per step: a step of zeros would cut the accumulator once more."""
    unit = get_unit(f"e2m1.e8m0.splitxe2m1-block8-into-{into}")
    rng = np.random.default_rng(3)
    for k in (8, 16, 24, 64):
        a = rng.integers(0, 16, (1, k), dtype=np.uint8)
        b = rng.integers(0, 16, (k, 40), dtype=np.uint8)
        scale = rng.integers(100, 128, (1, k // 8, 2), dtype=np.uint8)
        c = unit.result.encode(rng.normal(size=(1, 40)) * np.exp2(rng.integers(-24, 2, (1, 40))))
        args = {"a_scale": scale, "block": 8}
        expected = oracle.dot(
            unit, np.repeat(a, 40, 0), b.T, c[0], np.repeat(scale, 40, 0), block=8
        )
        np.testing.assert_array_equal(unit.matmul(a, b, c, **args)[0], expected)
