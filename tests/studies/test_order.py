# SPDX-License-Identifier: Apache-2.0
"""Order studies: what must and what must not depend on the order of the products."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import chain, exact, fixed, float_format, unit_of

from fpsim import FpsimError, MacUnit, get_unit, oracle
from fpsim.studies.order import ORDERS, _orders, study
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

F32 = float_format("e8m23")
COARSE = float_format("e8m2")


def operands(unit: MacUnit, seed: int, k: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1 << unit.a.bits, k), rng.integers(0, 1 << unit.b.bits, k)


def test_a_chain_forgets_small_terms_after_a_large_one() -> None:
    """In E8M2 4 + 4 + 1 + 1 is 8 large first, 10 small first."""
    unit = chain("e8m2")
    got = study(unit, [6, 6, 2, 2], [2] * 4, random_orders=0)
    by_order = {o.order: o.value for o in got.outcomes}
    assert (by_order["large first"], by_order["small first"]) == (8.0, 10.0)
    assert (by_order["given"], by_order["reversed"]) == (8.0, 10.0)
    assert got.depends
    assert (got.spread, got.exact, got.largest_error) == (2.0, 10.0, 2.0)
    assert [o.order for o in got.outcomes] == list(ORDERS[:-1])


def test_sorted_orders_are_sorted_by_value_and_by_magnitude() -> None:
    """The keys alone, then a chain of 4, -0.5, 1 and -8 in E8M2 with every order by the oracle."""
    expected = {
        "given": [0, 1, 2, 3],
        "reversed": [3, 2, 1, 0],
        "ascending": [3, 1, 2, 0],
        "descending": [0, 2, 1, 3],
        "small first": [1, 2, 0, 3],
        "large first": [3, 0, 2, 1],
    }
    names, orders = _orders(np.array([4, -0.5, 1, -12]), 2, 1)
    assert names == [*expected, "random", "random"]
    assert orders[:6].tolist() == list(expected.values())
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders.tolist())
    unit = chain("e8m2")
    a, b = [6, 9, 2, 14], [2, 2, 2, 4]  # 4, -0.5, 1, -4 * 2
    got = {o.order: o.code for o in study(unit, a, b, random_orders=0).outcomes}
    for name, order in expected.items():
        assert got[name] == oracle.dot(unit, np.take(a, order), np.take(b, order)), name


@pytest.mark.parametrize(
    "unit",
    [
        exact("e5m10"),
        exact("e4m3fn", "rup"),
        fixed(24, -2),
        fixed(9, -2, "wrap"),
        unit_of(Aligned(24, 12, F32)),  # one step: integers of one window
        unit_of(Chunked(Exact(F32), Chain(F32), size=4)),
        unit_of(Block(4, Exact(F32))),
        unit_of(Tree(F32)),
    ],
    ids=lambda u: u.name,
)
@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=10)
def test_what_cannot_depend_on_order_does_not(unit: MacUnit, seed: int) -> None:
    """Nothing rounds, wrapping is a group, or one window takes every product at once."""
    got = study(unit, *operands(unit, seed), random_orders=20)
    assert not got.depends
    assert got.spread == 0.0


@pytest.mark.parametrize(
    "unit",
    [
        chain("e5m2"),
        fixed(6, -2, "saturate"),
        unit_of(Aligned(4, 4, COARSE)),
        unit_of(Tree(COARSE)),
        unit_of(Chunked(Chain(COARSE), Chain(F32), size=4)),
        unit_of(Block(4, Chain(COARSE))),
        get_unit("nvidia-h100-e4m3"),
    ],
    ids=lambda u: u.name,
)
def test_what_can_depend_on_order_does_for_some_data(unit: MacUnit) -> None:
    found = False
    for seed in range(5):
        a, b = operands(unit, seed, 64)
        for fmt, codes in ((unit.a, a), (unit.b, b)):
            codes[~np.isfinite(fmt.decode(codes))] = 0
        found = found or study(unit, a, b).depends
    assert found


def test_a_fixed_register_that_is_wide_enough_has_no_order() -> None:
    unit = fixed(8, -2, "saturate")
    a, b = operands(unit, 3, 64)
    assert study(unit, a, b).depends
    needed = unit.size(a[None], b[:, None])
    wide = fixed(needed.any_order_width, needed.fixed_lsb, "saturate")
    assert not study(wide, a, b).depends


def test_scales_go_with_their_elements_and_blocks_stay_whole() -> None:
    unit = unit_of(Block(4, Exact(F32)), a_scale="e5m2", sign_split="a")
    a, b = operands(unit, 5, 18)
    scale = unit.spec.a_scale.encode(np.random.default_rng(1).normal(size=(5, 2)) * 4)
    got = study(unit, a, b, a_scale=scale, block=4)
    code = int(unit.dot(a, b, a_scale=scale, block=4))
    assert got.codes == [code]
    assert got.outcomes[0].value == got.exact
    coarse = unit_of(Block(4, Chain(COARSE)), a_scale="e5m2", sign_split="a")
    assert study(coarse, a, b, a_scale=scale, block=4).outcomes[0].code == int(
        coarse.dot(a, b, a_scale=scale, block=4)
    )


def test_it_is_reproducible_and_ready_for_json() -> None:
    unit = chain("e4m3fn")
    a, b = operands(unit, 1)
    first = study(unit, a, b, random_orders=7, seed=3)
    assert first == study(unit, a, b, random_orders=7, seed=3)
    assert len(first.outcomes) == 13
    data = json.loads(json.dumps(first.to_dict()))
    assert data["depends"] is first.depends
    assert data["distinct"] == len(first.codes)


def test_what_it_refuses() -> None:
    with pytest.raises(FpsimError, match="rounds at random"):
        study(chain("e4m3fn", "sr", random_bits=4), [1], [1])
    with pytest.raises(FpsimError, match=r"a: an order study is of one dot product, not of \(2,\)"):
        study(chain("e4m3fn"), [[1], [1]], [1])
    with pytest.raises(FpsimError, match="random_orders: -1"):
        study(chain("e4m3fn"), [1], [1], random_orders=-1)
