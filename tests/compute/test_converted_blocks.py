# SPDX-License-Identifier: Apache-2.0
"""Block sums that are converted before they are added, and what zeros and infinities do in blocks.

Expected codes are the oracle's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import chain, float_format, oracle_matmul, unit_of
from support.lane_cases import Codes, operands

from fpsim import FpsimError, MacUnit, Overflow, RandomBits
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import SignSplit
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    NanScale,
    Stage,
    Tree,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def scaled(unit: MacUnit, k: int, block: int, centre: int = 0) -> dict[str, Codes]:
    """Return scales of both operands around 2^centre, for 4 rows and 5 columns."""
    rng = np.random.default_rng(7)
    found = {}
    for name, shape in (("a", (4, k // block)), ("b", (k // block, 5))):
        fmt = getattr(unit.spec, f"{name}_scale")
        signs = (2,) if unit.spec.splits(name) else ()
        values = np.exp2(rng.integers(-4, 5, (*shape, *signs)) + centre)
        found[f"{name}_scale"] = fmt.encode(values if fmt.mantissa_bits == 0 else values * 1.375)
    return found


F16, BF16, F32 = float_format("e5m10"), float_format("e8m7"), float_format("e8m23")


@pytest.mark.parametrize(
    ("into", "convert", "rounding", "settings"),
    [
        (Chain(F32), BF16, "rne", {}),
        (Chain(F32), F16, "rto", {"a_scale": "ue4m3fn", "b_scale": "e4m3fn"}),
        (Chain(F16), float_format("e4m3fn"), "rup", {}),
        (Chain(F16, Rounding.SR, None, 8), BF16, "rna", {}),
        (Aligned(2, 12, F16), float_format("e5m2"), "rdn", {}),
        (Aligned(3, 12, F16, normalised=True), BF16, "rne", {}),
        (Aligned(2, 9, F16, addend=Addend.JOINED, width=20), BF16, "rne", {}),
        (Tree(BF16, products=2), float_format("e4m3_flush"), "rup", {}),
        (Fixed(20, -4, Overflow.SATURATE), BF16, "rtz", {}),
        (Exact(F16, Rounding.RDN), F16, "rne", {}),
        (Chain(F32), BF16, "rne", {"sign_split": SignSplit.BOTH}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nan_scale", NanScale)
def test_converted_blocks(
    into: Stage, convert: Any, rounding: str, settings: dict[str, Any], nan_scale: Any
) -> None:
    unit = unit_of(Block(4, into, convert, Rounding(rounding), nan_scale), **settings)
    a, b, c = operands(unit, 24, 2)
    random = {"random": RandomBits(3)} if unit.spec.random_bits else {}
    for centre in (0, -9, 12):
        scales = scaled(unit, 24, 4, centre) | random
        for addend in (None, c):
            assert unit.plan(a, b, c=addend, **scales).kernel == "scalar"
            codes = unit.matmul(a, b, addend, **scales)
            assert np.array_equal(codes, oracle_matmul(unit, a, b, addend, **scales))


def test_a_conversion_meets_its_ends() -> None:
    """Subnormals, what flushes, what overflows and is NaN, infinite or the largest number."""
    for name in ("e4m3fn", "e4m3", "e4m3_flush", "e3m2fni", "e2m5fn"):
        unit = unit_of(Block(2, Chain(F16), float_format(name)))
        a, b, c = operands(unit, 12, 1)
        for centre in (-8, -5, 5, 8):
            scales = scaled(unit, 12, 2, centre)
            codes = unit.matmul(a, b, c, **scales)
            assert np.array_equal(codes, oracle_matmul(unit, a, b, c, **scales))


def test_a_fixed_point_accumulator_takes_no_converted_term_that_overflows() -> None:
    unit = unit_of(Block(2, Fixed(30, -4), float_format("e4m3")))
    a = b = np.full((2, 2), 7)
    codes = unit.matmul(a, b)  # 72
    assert np.array_equal(codes, oracle_matmul(unit, a, b))
    with pytest.raises(FpsimError, match="has no code"):
        unit.matmul(a, b, a_scale=np.full((2, 1), 130))


# -- zeros and infinities ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"width": 60}, {"fraction_bits": 30}])
def test_the_scale_of_a_zero_block_counts_in_normalised_windows_too(settings: Any) -> None:
    stage = Aligned(
        **({"products": 2, "fraction_bits": 6, "format": F16} | settings), normalised=True
    )
    unit = unit_of(Block(2, stage))
    a, b = unit.a.encode([[0.0, 0.0, 1.0, 0.0]]), unit.b.encode(np.ones((4, 1)))
    c = unit.result.encode([[1.0 + 2.0**-9]])
    for exponent in (0, 3, 13, 40):
        scale = np.array([[127 + exponent, 127]])
        codes = unit.matmul(a, b, c, a_scale=scale)
        assert np.array_equal(codes, oracle_matmul(unit, a, b, c, a_scale=scale))


def test_an_infinite_scale_makes_nan_of_zeros() -> None:
    unit = unit_of(Exact(F32), a_scale="e5m2")
    a, b = np.array([[1, 0, 2, 3], [1, 2, 3, 4]]), np.ones((4, 3), np.uint8)
    scale = np.array([[0x7C], [0x7C]])
    codes = unit.matmul(a, b, a_scale=scale)
    assert np.array_equal(codes, oracle_matmul(unit, a, b, a_scale=scale))
    values = unit.result.decode(codes)
    assert np.isnan(values[0]).all() and np.isinf(values[1]).all()


def test_infinite_elements_of_a_split_operand_are_not_times_zero() -> None:
    unit = unit_of(Block(2, Chain(F32)), "e3m3", sign_split=SignSplit.BOTH)
    infinity = int(unit.a.encode(np.inf, "rne", "inf"))
    a, b = unit.a.encode([[1.0, -2.0]]), unit.b.encode([[1.0], [1.0]])
    b[0] = infinity
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))
    assert np.isinf(unit.result.decode(unit.matmul(a, b))).all()


def test_float16_lanes_take_only_terms_that_they_hold() -> None:
    """Chunks of 2^-26 and its multiples: half-way between subnormal numbers of float16."""
    inner = chain("e3m2b25").spec.accumulate
    unit = unit_of(Chunked(inner, Chain(F16), size=1), "e2m1b13")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 16, (8, 12)), rng.integers(0, 16, (12, 9))
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))
