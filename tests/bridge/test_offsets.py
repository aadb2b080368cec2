# SPDX-License-Identifier: Apache-2.0
"""Real offsets of operands, added exactly, and any4, which needs them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import get_recipe  # noqa: E402
from fpsim.bridge.offsets import rounded_sum  # noqa: E402
from fpsim.bridge.product import Product, straight_through  # noqa: E402
from fpsim.bridge.systems.casts import RangeCast, input_cast  # noqa: E402
from fpsim.bridge.systems.tables import learn_tables, nearest_centres  # noqa: E402
from fpsim.formats.names import E8M0, get_format  # noqa: E402
from fpsim.oracle.block_formats import fl  # noqa: E402
from fpsim.units.operands import Operand, Scales  # noqa: E402

E2M1 = get_format("e2m1")


def exactly(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(values)


def in_float32(exact: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: float(fl(v)), otypes=[np.float32])(exact)


@pytest.mark.parametrize("spread", [0, 12])
@pytest.mark.parametrize("inputs", ["fp16", "int4-asym", "e2m1"])
def test_offsets_are_added_exactly_and_rounded_once(inputs: str, spread: int) -> None:
    rng = np.random.default_rng(spread)
    x = rng.standard_normal((4, 70)).astype(np.float32) * np.exp2(rng.integers(-spread, 1, (4, 70)))
    cast = input_cast(inputs) if inputs != "int4-asym" else RangeCast(4)
    a = cast.quantize(x.astype(np.float32))
    w = learn_tables(rng.standard_normal((5, 70)).astype(np.float32) + 3, 32).operand()
    far = rng.standard_normal(w.offsets.shape) * np.exp2(
        rng.integers(-spread, spread + 1, w.offsets.shape)
    )
    b = replace(w, offsets=far.astype(np.float32))
    found, _ = Product(get_unit("exact")).run(replace(a, factor=None), b)
    bare, _ = Product(get_unit("exact")).run(replace(a, factor=None), replace(b, offsets=None))
    values = exactly(a.values())
    sums = np.stack([values[:, g : g + 32].sum(axis=1) for g in range(0, 70, 32)], axis=1)
    wanted = in_float32(exactly(bare) + sums @ exactly(b.offsets).T)
    if inputs == "int4-asym":  # zero points are added to the same sum before it is rounded
        np.testing.assert_allclose(found, wanted, rtol=3e-7)
    else:
        np.testing.assert_array_equal(found, wanted)
    with_factor, _ = Product(get_unit("exact")).run(a, b)
    factor = np.float32(1) if a.factor is None else a.factor
    np.testing.assert_array_equal(with_factor, found * factor)


def with_offsets(seed: int, rows: int, block: int, spread: int, scaled: bool = True) -> Operand:
    """Return rows (rows, 70) of E2M1 whose blocks have offsets of many magnitudes.

    Without scales a row is one block.
    """
    rng = np.random.default_rng(seed)
    groups = -(-70 // block) if scaled else 1
    offsets = rng.standard_normal((rows, groups)) * np.exp2(
        rng.integers(-spread, 3, (rows, groups))
    )
    codes = rng.integers(0, 16, (rows, 70)).astype(np.uint8)
    scales = rng.integers(120, 130, (rows, groups, 1)).astype(np.uint8)
    return Operand(
        codes,
        E2M1,
        Scales(scales, E8M0, block) if scaled else None,
        offsets=offsets.astype(np.float32),
    )


@pytest.mark.parametrize("spread", [0, 40])
@pytest.mark.parametrize(("block", "other"), [(16, 16), (8, 32), (32, 8), (5, 7)])
@pytest.mark.parametrize("which", ["first", "both", "first, no scales"])
def test_offsets_of_the_first_operand(which: str, block: int, other: int, spread: int) -> None:
    a = with_offsets(1, 3, block, spread, scaled="no" not in which)
    b = with_offsets(2, 5, other, spread, scaled="no" not in which)
    b = b if which == "both" else replace(b, offsets=None)
    found, _ = Product(get_unit("exact")).run(a, b)
    values = [
        exactly(replace(x, offsets=None).values())
        + (0 if x.offsets is None else exactly(np.repeat(x.offsets, x.block, axis=1)[:, :70]))
        for x in (a, b)
    ]
    bare = [replace(x, offsets=None) for x in (a, b)]
    products = [exactly(x.values()) for x in bare]
    inside, _ = Product(get_unit("exact")).run(*bare)  # the unit's own result is rounded before
    wanted = values[0] @ values[1].T - products[0] @ products[1].T + exactly(inside)
    np.testing.assert_array_equal(found, in_float32(wanted))


def test_offsets_of_integers_with_zero_points() -> None:
    """Zero points of either operand count in the sums that the other's offsets multiply."""
    rng = np.random.default_rng(5)
    x, w = (RangeCast(4).quantize(rng.random((n, 70)).astype(np.float32) + 1) for n in (3, 5))
    offsets = [rng.standard_normal((n, 1)).astype(np.float32) for n in (3, 5)]
    a, b = (replace(o, factor=None, offsets=f) for o, f in zip((x, w), offsets, strict=True))
    found, _ = Product(get_unit("exact")).run(a, b)
    exact = [exactly(replace(o, offsets=None).values()) + exactly(o.offsets) for o in (a, b)]
    np.testing.assert_array_equal(found, in_float32(exact[0] @ exact[1].T))


def test_gradients_see_the_offsets_of_the_first_operand() -> None:
    a, b = with_offsets(1, 3, 16, 0), with_offsets(2, 5, 16, 0)
    x, w = (torch.tensor(o.dequantize(), dtype=torch.float32, requires_grad=True) for o in (a, b))
    out = torch.from_numpy(Product(get_unit("exact")).run(a, b)[0])
    straight_through(x[None], w[None], out[None], [(a, b)]).sum().backward()
    values = replace(a, offsets=None).values() + np.repeat(a.offsets, 16, axis=1)[:, :70]
    np.testing.assert_allclose(w.grad, np.tile(values.sum(axis=0), (5, 1)), rtol=1e-5)


def test_sums_are_rounded_once() -> None:
    """Halves of float32's last place, met exactly, missed by 2^-80, and reached from afar."""
    half = 2.0**-24
    cases = [
        ([1.0, half], 1.0),
        ([1.0, half, 2.0**-80], 1 + 2.0**-23),
        ([1.0, 3 * half, -(2.0**-80)], 1 + 2.0**-23),
        ([1.0, half, -(2.0**-80)], 1.0),
        ([2.0**60, 1.0, -(2.0**60), half, 2.0**-90], 1 + 2.0**-23),
        ([1.0 + half - 2.0**-52, 2.0**-54], 1.0),
        ([0.0, -0.0], 0.0),
        ([3e38, 3e38], np.inf),
    ]
    for terms, wanted in cases:
        found = rounded_sum([np.array([t]) for t in terms])
        assert float(found[0]) == wanted, terms
        assert float(rounded_sum([np.array([-t]) for t in terms])[0]) == -wanted
    rng = np.random.default_rng(1)
    many = [rng.standard_normal(500) * np.exp2(rng.integers(-60, 60, 500)) for _ in range(5)]
    np.testing.assert_array_equal(rounded_sum(many), in_float32(sum(exactly(m) for m in many)))


def test_offsets_that_cannot_be() -> None:
    x = input_cast("fp16").quantize(np.ones((2, 8), np.float32))
    w = learn_tables(np.arange(16, dtype=np.float32).reshape(2, 8), 4).operand()
    with pytest.raises(FpsimError, match=r"offsets: shape \(2, 1\) is not \(2, 2\)"):
        replace(w, offsets=np.zeros((2, 1), np.float32))
    far = replace(w, offsets=np.full((2, 2), np.inf, np.float32))
    for a, b in ((x, far), (far, x)):
        with pytest.raises(FpsimError, match="offsets: NaN or infinity"):
            Product(get_unit("exact")).run(a, b)


def test_rows_and_smaller_blocks_keep_their_offsets() -> None:
    w = learn_tables(np.random.default_rng(2).standard_normal((6, 70)).astype(np.float32), 32)
    operand = w.operand()
    np.testing.assert_array_equal(operand.at(slice(2, 4)).dequantize(), operand.dequantize()[2:4])
    np.testing.assert_array_equal(operand.with_block(8).dequantize(), operand.dequantize())


# -- any4 ------------------------------------------------------------------------------------------


def naive(row: list[float], weights: list[float]) -> list[float]:
    """Lloyd's steps spelled out, from evenly spaced centres; ties go to the lower centre."""
    centres = [min(row) + (max(row) - min(row)) * i / 15 for i in range(16)]
    before: list[int] = []
    for _ in range(300):
        nearest = [min(range(16), key=lambda i: (abs(y - centres[i]), i)) for y in row]
        if nearest == before:
            break
        before = nearest
        for i in range(16):
            mine = [(y, w) for y, w, n in zip(row, weights, nearest, strict=True) if n == i]
            total = sum(w for _, w in mine)
            if total:
                centres[i] = sum(y * w for y, w in mine) / total
            elif mine:
                centres[i] = sum(y for y, _ in mine) / len(mine)
    return sorted(centres)


@pytest.mark.parametrize("weighted", [False, True])
def test_centres_are_those_of_lloyds_steps(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_t(4, (4, 90))
    rows[2:] = rng.integers(0, 31, (2, 90)) / 2  # many are half way between two centres
    weights = rng.random((4, 90)) if weighted else np.ones((4, 90))
    weights[1, :40] = 0
    found = nearest_centres(rows, weights)
    for row, shares, centres in zip(rows, weights, found, strict=True):
        np.testing.assert_allclose(centres, naive(row.tolist(), shares.tolist()), atol=1e-9)


def test_any4_is_its_equations() -> None:
    rng = np.random.default_rng(4)
    w = (rng.standard_normal((8, 256)) * 0.02 + 0.01).astype(np.float32)
    found = learn_tables(w, 128)
    cut = w.reshape(8, 2, 128)
    low, high = cut.min(axis=2), cut.max(axis=2)
    s = (high - low) / np.float32(15)
    np.testing.assert_array_equal(found.scales, s.astype(np.float16))
    np.testing.assert_array_equal(found.offsets, (low + s * 8).astype(np.float16))
    back = found.operand().dequantize()
    table = np.take_along_axis(found.tables, found.codes.astype(int), axis=1).astype(float)
    wanted = table * np.repeat(found.scales, 128, 1) + np.repeat(found.offsets, 128, 1).astype(
        float
    )
    np.testing.assert_allclose(back, wanted, rtol=1e-12)
    integers = np.rint((cut - low[..., None]) / s[..., None]) * s[..., None] + low[..., None]
    error = ((back - w) ** 2).mean()
    assert error < 0.95 * ((integers.reshape(w.shape) - w) ** 2).mean()  # INT4 of the same groups
    assert found.bits_per_element == 4 + 32 / 128 + 256 / 256


def test_importance_moves_the_error_to_what_matters_less() -> None:
    rng = np.random.default_rng(5)
    w = rng.standard_normal((16, 128)).astype(np.float32)
    importance = np.where(np.arange(128) < 16, 50.0, 1.0)
    plain, weighted = (learn_tables(w, 128, i).operand().dequantize() for i in (None, importance))
    first = slice(0, 16)
    assert ((weighted - w)[:, first] ** 2).sum() < 0.6 * ((plain - w)[:, first] ** 2).sum()
    assert ((weighted - w) ** 2).sum() > ((plain - w) ** 2).sum()


def test_a_constant_weight_has_a_table_too() -> None:
    w = np.full((2, 10), 0.25, np.float32)
    np.testing.assert_allclose(learn_tables(w, 4).operand().dequantize(), w, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"group": 1}, "group: 1 is not"),
        ({"group": 2.0}, "group: 2.0 is not"),
        ({"weight": np.full((1, 4), np.nan)}, "weight: NaN"),
        ({"weight": np.array([[1e6, -1e6, 0, 0]])}, "weight: a group's scale or offset is beyond"),
        ({"importance": np.ones(3)}, "importance: not 4 non-negative"),
        ({"importance": -np.ones(4)}, "importance: not 4 non-negative"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"weight": np.ones((1, 4), np.float32), "group": 4} | arguments
    with pytest.raises(FpsimError, match=words):
        learn_tables(given["weight"], given["group"], given.get("importance"))


def test_the_recipe_refuses_a_group_of_one() -> None:
    with pytest.raises(FpsimError, match="recipe: group: 1"):
        get_recipe("any4:group=1")
