# SPDX-License-Identifier: Apache-2.0
"""The aligned stage by hand: each setting on sums small enough to do on paper.

bfloat16 operands times one make any term; the numbers in comments are in units of the window's
last bit, 2^(E - F).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import dot_code, dot_value, float_format, unit_of

from fpsim import MacUnit, get_unit
from fpsim.units.stages import Aligned

INF = float("inf")
NAN = float("nan")


def aligned(products: int, fraction_bits: int, fmt: str = "e8m23", **more: Any) -> MacUnit:
    """Return a bfloat16 unit with one aligned stage."""
    if "container" in more:
        more["container"] = float_format(more["container"])
    return unit_of(Aligned(products, fraction_bits, float_format(fmt), **more), "e8m7")


# -- the window ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("align", "expected"),
    [("rtz", 4), ("rdn", 2), ("rup", 4), ("rne", 4), ("rna", 2), ("rto", 2)],
)
def test_alignment_rounds_the_magnitude_or_floors(align: str, expected: float) -> None:
    """4 is 2 units, -1 is -0.5: truncation drops it, floor makes it -1 (two's complement)."""
    assert dot_value(aligned(2, 1, align=align), [4, -1]) == expected


def test_nearest_alignment_is_not_truncation() -> None:
    """-1.5 is -0.75 units."""
    assert dot_value(aligned(2, 1, align="rne"), [4, -1.5]) == 2
    assert dot_value(aligned(2, 1, align="rtz"), [4, -1.5]) == 4


def test_sticky_alignment_only_makes_the_last_bit_odd() -> None:
    """12 is 6 units and 2^-20 a trace of one: round to odd keeps it as 1."""
    assert dot_value(aligned(2, 2, align="rto"), [12, 2.0**-20]) == 14
    assert dot_value(aligned(2, 2, align="rtz"), [12, 2.0**-20]) == 12


def test_a_product_is_not_renormalised() -> None:
    """1.5 * 1.5 has e = 0, so units of 1/4 hold its 2.25; normalised it has e = 1 and loses it."""
    assert dot_value(aligned(2, 2), [1.5], [1.5]) == 2.25
    assert dot_value(aligned(2, 2, normalised=True), [1.5], [1.5]) == 2.0


def test_a_subnormal_operand_keeps_the_smallest_exponent() -> None:
    """E2M1's 0.5 is subnormal, e = 0: units of 1/2 lose 0.25; normalised they are of 1/4."""
    stage = Aligned(2, 1, float_format("e8m23"))
    assert dot_value(unit_of(stage), [0.5, 0.5], [0.5, 1]) == 0.5
    stage = Aligned(2, 1, float_format("e8m23"), normalised=True)
    assert dot_value(unit_of(stage), [0.5, 0.5], [0.5, 1]) == 0.75


def test_a_zero_product_does_not_raise_the_exponent() -> None:
    assert dot_value(aligned(2, 2), [0, 0.25], [1024, 1]) == 0.25
    assert dot_value(aligned(2, 2), [2.0**-10, 0.25], [1024, 1]) == 1.25


def test_the_window_has_exactly_f_fraction_bits() -> None:
    for bits in (1, 13, 24, 25):
        small = 2.0**-bits
        assert dot_value(aligned(2, bits, "e8m13" if bits < 13 else "e8m23"), [1, small]) in (
            1 + small,
            1.0 if bits > 23 else 1 + small,  # a float32 cannot show the last bits
        )
        assert dot_value(aligned(2, bits), [1, small / 2]) == 1.0
        assert dot_value(aligned(4, bits), [1, -1, small, small], c=0) == 2 * small
        assert dot_value(aligned(4, bits), [1, -1, small / 2, small / 2], c=0) == 0.0


def test_one_large_term_takes_small_ones_with_it_even_if_it_cancels() -> None:
    assert dot_value(aligned(3, 4), [1024, 1, -1024]) == 0.0
    assert dot_value(aligned(3, 10), [1024, 1, -1024]) == 1.0


def test_steps_of_n_products_run_in_index_order() -> None:
    """Products 3 and 4 meet the rounded sum of the first two; the last step is filled with zero."""
    unit = aligned(2, 1)
    steps = unit.accumulate(*(unit.a.encode(v) for v in ([4.0, 1, 1, 1, 5], np.ones(5))))
    assert unit.result.decode(steps).tolist() == [4.0, 4.0, 8.0]
    assert dot_value(aligned(4, 1), [4, 1, 1, 1]) == 4.0
    assert dot_value(aligned(2, 1), [1, 1, 4, 1]) == 6.0


def test_an_exponent_floor_coarsens_small_sums() -> None:
    assert dot_value(aligned(2, 2), [3, 1]) == 4.0
    floored = aligned(2, 2, exponent_floor=3)  # units of 2
    assert dot_value(floored, [3, 1]) == 2.0
    assert dot_value(floored, [64, 17]) == 80.0
    assert dot_value(floored, [1], c=3) == 2.0


def test_a_narrow_register_wraps_or_saturates() -> None:
    """Two products of 2.25 are 4 units each; four bits hold -8..7."""
    for overflow, expected in (("wrap", -4.0), ("saturate", 3.5)):
        unit = aligned(2, 1, width=4, width_overflow=overflow)
        assert dot_value(unit, [1.5, 1.5], [1.5, 1.5]) == expected
    unit = aligned(2, 1, width=5)
    assert dot_value(unit, [1.5, 1.5], [1.5, 1.5]) == 4.0


# -- the addend ----------------------------------------------------------------------------------


def test_an_early_addend_shares_the_window() -> None:
    """4 is e(c) = 2, units of 1: the product's 0.75 is dropped."""
    assert dot_value(aligned(1, 2), [0.75], c=4) == 4.0
    assert dot_value(aligned(1, 2), [4], c=0.75) == 4.0


def test_a_late_addend_meets_the_rounded_sum() -> None:
    assert dot_value(aligned(1, 2, addend="late"), [0.75], c=4) == 4.75
    assert dot_value(aligned(1, 2, addend="late"), [4], c=0.75) == 4.75
    unit = aligned(2, 24, "e8m2", addend="late")  # 1.375 -> 1.25, then 1.25 + 1.5 -> 2.5 or 3
    assert dot_value(unit, [1.25, 0.125], c=1.5) == 3.0
    unit = aligned(2, 24, "e8m2", addend="late", late_rounding="rtz")
    assert dot_value(unit, [1.25, 0.125], c=1.5) == 2.5


def test_the_joined_addend_of_cdna3_floors_both_parts() -> None:
    """E' = 2: the sum 1.25 on a grid of 1/2 is 1, c = -4.5 on a grid of 2 is -6."""
    settings = {"addend": "joined", "join_sum_bits": 3, "join_addend_bits": 1, "rounding": "rne"}
    assert dot_value(aligned(2, 2, **settings), [1, 0.25], c=-4.5) == -5.0
    assert dot_value(aligned(2, 2, join_rounding="rtz", **settings), [1, 0.25], c=-4.5) == -3.0


def test_a_far_addend_of_cdna3_is_dropped() -> None:
    unit = aligned(2, 8, addend="joined", join_reach=3)
    assert dot_value(unit, [16], c=2) == 18.0
    assert dot_value(unit, [16], c=1.5) == 16.0
    assert dot_value(aligned(2, 8, addend="joined"), [16], c=1.5) == 17.5


def test_even_and_odd_products_have_windows_of_their_own() -> None:
    """-1 survives in the odd window, and joining it to units of 4 floors it to -4."""
    assert dot_value(aligned(2, 2), [16, -1]) == 16.0
    assert dot_value(aligned(2, 2, addend="joined"), [16, -1]) == 16.0
    assert dot_value(aligned(2, 2, addend="joined", lanes=2), [16, -1]) == 12.0
    assert dot_value(aligned(4, 2, addend="joined", lanes=2), [16, -1, 1, -1]) == 12.0


# -- the result ----------------------------------------------------------------------------------


def test_a_result_of_fewer_bits_travels_in_its_container() -> None:
    unit = aligned(3, 10, "e8m2", container="e8m23")
    assert dot_code(unit, [1, 0.25, 0.125]) == np.float32(1.25).view(np.uint32)
    assert dot_code(unit, [-1, -0.25, -0.125]) == np.float32(-1.25).view(np.uint32)
    assert dot_value(unit, [-1], c=1.375) == 0.375  # the addend keeps all of its bits
    nearest = aligned(3, 10, "e8m2", container="e8m23", rounding="rne")
    assert dot_value(nearest, [1, 0.25, 0.125]) == 1.5


def test_a_zero_is_positive_unless_it_has_a_sign() -> None:
    plain, signed = aligned(2, 4), aligned(2, 4, signed_zero=True)
    assert dot_code(plain, [-0.0, -0.0], c=-0.0) == 0
    assert dot_code(signed, [-0.0, -0.0], c=-0.0) == 1 << 31
    assert dot_code(signed, [-0.0, 0.0], c=-0.0) == 0
    assert dot_code(plain, [1, -1]) == 0
    downward = aligned(2, 4, signed_zero=True, rounding="rdn")
    assert dot_code(downward, [1, -1]) == 1 << 31


def test_a_negative_sum_too_small_for_the_format_is_positive_zero() -> None:
    """-2^-30 underflows a truncating E5M10."""
    unit = aligned(2, 4, "e5m10")
    assert dot_code(unit, [-(2.0**-30)]) == 0
    assert dot_code(aligned(2, 4, "e5m10", signed_zero=True), [-(2.0**-30)]) == 1 << 15


@pytest.mark.parametrize("rounding", ["rtz", "rne", "rdn"])
def test_what_is_too_large_is_infinite_in_every_mode(rounding: str) -> None:
    unit = aligned(2, 8, "e5m10", rounding=rounding)
    assert dot_value(unit, [65536]) == INF
    assert dot_value(unit, [-65536]) == -INF
    saturating = aligned(2, 8, "e5m10", rounding=rounding, overflow="saturate")
    assert dot_value(saturating, [65536]) == 65504.0


def test_products_may_exceed_the_result_unless_they_are_limited() -> None:
    """2^200 - 2^200 is +0 where products have exponents to spare, NaN where 2^128 is infinite."""
    big = [2.0**100, -(2.0**100)]
    assert dot_code(aligned(2, 24), big, [2.0**100, 2.0**100]) == 0
    assert np.isnan(dot_value(aligned(2, 24, product_limit=128), big, [2.0**100] * 2))
    assert dot_value(aligned(2, 24, product_limit=128), [2.0**64], [2.0**64]) == INF
    below = dot_value(aligned(2, 24, product_limit=128), [2.0**64], [2.0**63])
    assert below == 2.0**127


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        ([NAN, 1], [1, 1], 0.0),
        ([1, 1], [1, 1], NAN),
        ([INF, 1], [0, 1], 0.0),
        ([INF, INF], [1, -1], 0.0),
        ([INF, 1], [1, 1], -INF),
        ([NAN, INF], [1, 1], INF),
    ],
)
def test_every_invalid_sum_is_the_one_nan(a: Any, b: Any, c: float) -> None:
    assert dot_code(aligned(2, 24), a, b, c) == float_format("e8m23").nan_code
    assert dot_code(aligned(2, 24, nan_code=0x7FFFFFFF), a, b, c) == 0x7FFFFFFF
    assert dot_code(aligned(2, 24, addend="late"), a, b, c) == float_format("e8m23").nan_code
    assert dot_code(aligned(2, 24, addend="joined"), a, b, c) == float_format("e8m23").nan_code


def test_an_infinity_stays_one() -> None:
    for addend in ("early", "late", "joined"):
        unit = aligned(2, 24, addend=addend)
        assert dot_value(unit, [INF, 1], [-2, 1], c=3) == -INF
        assert dot_value(unit, [1, 1], c=INF) == INF


# -- the presets' own numbers --------------------------------------------------------------------


def test_the_fourteen_bit_accumulator_of_h100_forgets() -> None:
    """Thirteen fraction bits for FP8: 1 + 2^-13 is kept and 1 + 2^-14 is not; B200 keeps both."""
    hopper, blackwell = get_unit("nvidia-h100-e5m2"), get_unit("nvidia-b200-e5m2")
    a, b = [1, 2.0**-13], [1, 1]
    assert dot_value(hopper, a, b) == 1 + 2.0**-13
    assert dot_value(hopper, [1, 2.0**-14], b) == 1.0
    assert dot_value(blackwell, [1, 2.0**-14], b) == 1 + 2.0**-14
    assert dot_code(hopper, [NAN, 1], b) == 0x7FFFFFFF


def test_fused_results_that_tell_generations_apart() -> None:
    """1 + 2^-24 + 2^-24 in float32: V100's 23 fraction bits drop both, A100's 24 keep them."""
    tiny = [1, 2.0**-12, 2.0**-12], [1, 2.0**-12, 2.0**-12]
    assert dot_value(get_unit("nvidia-v100-fp16"), *tiny) == 1.0
    assert dot_value(get_unit("nvidia-a100-fp16"), *tiny) == 1 + 2.0**-23
    four = [1] + [2.0**-12] * 3 + [2.0**-13] * 4
    quarter = [1] + [2.0**-12] * 3 + [2.0**-12] * 4  # three of 2^-24 and four of 2^-25
    assert dot_value(get_unit("nvidia-a100-fp16"), four, quarter) == 1 + 2.0**-23
    assert dot_value(get_unit("nvidia-h100-fp16"), four, quarter) == 1 + 2.0**-23 * 2


def test_a_nan_spelled_as_negative_zero_is_not_taken_for_a_zero() -> None:
    """FNUZ's only NaN is the code of -0: an overflow that becomes NaN stays NaN."""
    unit = aligned(2, 8, "e4m3fnuz", overflow="nan")
    assert dot_code(unit, [1024]) == 0x80
    assert dot_code(unit, [NAN]) == 0x80
    assert dot_code(unit, [-1, 1]) == 0
