# SPDX-License-Identifier: Apache-2.0
"""The tree stage by hand, in E8M2: three significant bits, so 8 + 1 is 8 and 10 + 1 is 12."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import dot_code, dot_value, float_format, unit_of

from fpsim import MacUnit, get_unit
from fpsim.units.stages import Tree

INF = float("inf")


def tree(fmt: str = "e8m2", **more: Any) -> MacUnit:
    """Return a bfloat16 unit with a tree."""
    return unit_of(Tree(float_format(fmt), **more), "e8m7")


# -- shapes --------------------------------------------------------------------------------------


@pytest.mark.sweep
def test_neighbours_are_added_first() -> None:
    """(8+1) + (1+1) = 8 + 2; a chain would lose every one of them."""
    assert dot_value(tree(), [8, 1, 1, 1]) == 10.0
    assert dot_value(tree(), [1, 8, 1, 1]) == 10.0
    assert dot_value(get_unit("e8m7-chain-e8m2"), [8, 1, 1, 1]) == 8.0


def test_an_odd_leaf_waits_for_the_next_level() -> None:
    """((8+1) + (1+1)) + 1 = 10 + 1 -> 12."""
    assert dot_value(tree(), [8, 1, 1, 1, 1]) == 12.0


def test_a_wider_node_rounds_less() -> None:
    """Radix 4: 8+1+1+1 = 11 -> 12. Radix 3: (8+1+1) + 1 = 10 + 1 -> 12, or 8 + (1+1) elsewhere."""
    assert dot_value(tree(radix=4), [8, 1, 1, 1]) == 12.0
    assert dot_value(tree(radix=3), [8, 1, 1, 1]) == 12.0
    assert dot_value(tree(radix=3), [8, 0.5, 0.5, 1]) == 8.0
    assert dot_value(tree(radix=4), [8, 0.5, 0.5, 1]) == 10.0


def test_steps_of_four_take_the_accumulator_along() -> None:
    """amd-cdna2: ((p0+p1)+(p2+p3)) + c per step, the last step filled with zeros."""
    unit = tree(products=4)
    assert dot_value(unit, [8, 1, 1, 1, 1, 1], c=0) == 12.0  # 10, then 2 + 10
    assert dot_value(unit, [8, 1, 1, 1, 1], c=0) == 12.0  # 10, then 1 + 10 -> 12 (tie to even)
    steps = unit.accumulate(*(unit.a.encode(v) for v in ([8.0, 1, 1, 1, 1], np.ones(5))))
    assert unit.result.decode(steps).tolist() == [10.0, 12.0]


def test_lanes_are_chains_that_a_tree_adds() -> None:
    """[8, 3, 1, 1]: pairs (8+3 -> 12) + 2 = 14; lanes (8+1 -> 8) + (3+1) = 12."""
    assert dot_value(tree(), [8, 3, 1, 1]) == 14.0
    assert dot_value(tree(lanes=2), [8, 3, 1, 1]) == 12.0
    assert dot_value(tree(lanes=2), [8, 3, 1, 1], c=2) == 14.0


def test_more_lanes_than_products_are_empty() -> None:
    assert dot_value(tree(lanes=4), [8, 1]) == 8.0
    assert dot_code(tree(lanes=4), [-0.0]) == 0


# -- where c joins -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addend", "expected"),
    [
        ("root", 12.0),  # ((8+1) + (1+2)) = 11 -> 12, then -1: 11 -> 12
        ("fused", 10.0),  # 8 + 3 - 1 in one node
        ("leaf", 10.0),  # (-1+8), (1+1), (2): 7 + 2 = 9 -> 8, 8 + 2
    ],
)
def test_where_the_addend_joins(addend: str, expected: float) -> None:
    assert dot_value(tree(addend=addend), [8, 1, 1, 2], c=-1) == expected


def test_a_fused_addend_joins_the_root_node_only() -> None:
    """8 and 3 are rounded without it: 8 + 3 + 4 = 15 -> 16."""
    assert dot_value(tree(addend="fused"), [8, 1, 1, 2], c=4) == 16.0


def test_an_addend_at_the_leaf_starts_lane_zero() -> None:
    """Lanes (4+8 = 12, +1 -> 12) and (1+1): 14; at the root (8+1 -> 8) + 2, then 4: 14."""
    assert dot_value(tree(lanes=2, addend="leaf"), [8, 1, 1, 1], c=-1) == 10.0  # 7 + 1 = 8, 8 + 2
    assert dot_value(tree(lanes=2), [8, 1, 1, 1], c=-1) == 8.0  # 8 + 2 = 10, 10 - 1 -> 8


def test_both_readings_of_cdna1() -> None:
    """MMA-Sim's tree rounds every node, Khattak and Mikaitis's adder once.

    1 + 2^-24 + 2^-24 (and one zero) is 1 in a float32 tree's first node and 1 + 2^-23 rounded once.
    """
    operands = [1, 2.0**-12, 2.0**-12, 0], [1, 2.0**-12, 2.0**-12, 0]
    assert dot_value(get_unit("amd-cdna1a"), *operands) == 1.0
    assert dot_value(get_unit("amd-cdna1b"), *operands) == 1 + 2.0**-23
    assert dot_value(get_unit("amd-cdna1b"), *operands, c=2.0**-24) == 1 + 2.0**-23 * 2


# -- nodes ---------------------------------------------------------------------------------------


def test_a_separate_multiplier_rounds_its_product() -> None:
    """1.5 * 1.5 = 2.25 is a tie in E8M2: 2; added exactly it leaves 2.5."""
    assert dot_value(tree(), [1.5, 0.25], [1.5, 1]) == 2.5
    assert dot_value(tree(product="rounded"), [1.5, 0.25], [1.5, 1]) == 2.0


def test_a_lone_product_is_rounded_before_c_joins() -> None:
    """2.25 -> 2, and 2 + 0.25 -> 2; in the root node itself 2.25 + 0.25 = 2.5."""
    assert dot_value(tree(), [1.5], [1.5], c=0.25) == 2.0
    assert dot_value(tree(addend="fused"), [1.5], [1.5], c=0.25) == 2.5


def test_nodes_flush_what_the_format_flushes() -> None:
    """Two halves of the smallest normal are flushed in a node, and so is a flushed operand."""
    small = 2.0**-63
    assert dot_code(tree("e8m23_flush"), [small, 0], [small / 2, 1]) == 0
    assert dot_value(tree("e8m23"), [small, 0], [small / 2, 1]) == 2.0**-127
    cdna2 = get_unit("amd-cdna2-bf16")
    assert dot_code(cdna2, [2.0**-126], [0.5]) == 0


def test_products_of_amds_trees_are_float32_numbers() -> None:
    """2^200 is infinite before 2^200 - 2^200 would cancel; two halves of 2^-126 are flushed."""
    large, small = [2.0**100, 2.0**100], [2.0**-63, 2.0**-63]
    for name in ("amd-cdna1a-bf16", "amd-cdna2-bf16"):
        assert np.isnan(dot_value(get_unit(name), large, [2.0**100, -(2.0**100)]))
    halves = [2.0**-64, 2.0**-64]
    assert dot_code(get_unit("amd-cdna2-bf16"), small, halves) == 0
    assert dot_value(get_unit("amd-cdna1a-bf16"), small, halves) == 2.0**-126


def test_every_node_may_overflow_on_its_way() -> None:
    """65504 + 65504 is infinite in a node, though the whole sum is not."""
    unit = unit_of(Tree(float_format("e5m10")), "e5m10")
    assert np.isnan(dot_value(unit, [65504, 65504, -65504, -65504]))
    assert dot_value(unit, [65504, -65504, 65504, -65504]) == 0.0
    saturating = unit_of(Tree(float_format("e5m10"), overflow="saturate"), "e5m10")
    assert dot_value(saturating, [65504, 65504, -65504, -32752]) == 0.0
    wide = unit_of(Tree(float_format("e5m10"), radix=4), "e5m10")
    assert dot_value(wide, [65504, 65504, -65504, -65504]) == 0.0


def test_infinities_and_nan() -> None:
    assert dot_value(tree(), [INF, 1, 1], c=-5) == INF
    assert np.isnan(dot_value(tree(), [INF, 1, -INF]))
    assert np.isnan(dot_value(tree(), [INF, 1], [0, 1]))
    assert np.isnan(dot_value(tree(), [1, 1], c=float("nan")))


def test_signs_of_zero() -> None:
    """IEEE 754: -0 only from -0s, or from x - x when rounding down; c starts as +0."""
    assert dot_code(tree(), [-0.0, -0.0], c=-0.0) == float_format("e8m2").sign_bit
    assert dot_code(tree(), [-0.0, -0.0]) == 0
    assert dot_code(tree(rounding="rdn"), [1, -1]) == float_format("e8m2").sign_bit
    assert dot_code(tree(products=4), [-0.0, -0.0], c=-0.0) == 0  # the step is filled with +0
