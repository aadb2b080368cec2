# SPDX-License-Identifier: Apache-2.0
"""What users draw: dot products and streams that equal the oracle, blocks at their boundaries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from support.block_cases import check_against_oracle

import fpsim
from fpsim import oracle
from fpsim.testing.strategies import Dots, block_tensors, dots, streams

UNITS = ("e2m1-chain-e4m3", "int4-fixed12q0-saturate", "e4m3fn-chain-e8m7-rtz")


@pytest.mark.parametrize("name", UNITS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_drawn_dots_are_what_the_oracle_says(name: str, data: st.DataObject) -> None:
    unit = fpsim.get_unit(name)
    case = data.draw(dots(name, max_k=6, special=name.startswith("e4m3")))
    assert 1 <= case.a.size == case.b.size <= 6
    assert case.c.shape == ()
    assert case.a.dtype == unit.spec.a.dtype
    assert int(unit.dot(*case)) == oracle.dot(unit, *case)


@settings(max_examples=20, deadline=None)
@given(streams("e2m1-chain-e4m3", max_length=5, max_k=3))
def test_a_drawn_stream_goes_through_one_accumulator(beats: list[Dots]) -> None:
    unit = fpsim.get_unit("e2m1-chain-e4m3")
    acc = beats[0].c
    for beat in beats:
        assert beat.a.size <= 3
        acc = unit.dot(beat.a, beat.b, acc)
    a, b = (np.concatenate([getattr(beat, side) for beat in beats]) for side in "ab")
    assert int(acc) == oracle.dot(unit, a, b, beats[0].c)


def _products(case: Dots) -> list[float]:
    e2m1 = fpsim.get_format("e2m1")
    return [float(p) for p in e2m1.decode(case.a) * e2m1.decode(case.b)]


def _swamped(products: list[float]) -> bool:
    *others, largest = sorted(map(abs, products))
    return len(others) > 1 and largest >= 9 and max(others) <= 1


KINDS = {
    "swamping": _swamped,
    "cancelling": lambda products: len(products) == 2 and products[0] == -products[1] != 0,
    "two exponents": lambda products: len(products) > 4 and len(set(products)) == 2,
}


@pytest.mark.sweep
def test_every_kind_of_hard_sum_is_drawn() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=400, derandomize=True, database=None)
    @given(dots("e2m1-chain-e4m3"))
    def look(case: Dots) -> None:
        seen.update(kind for kind, wanted in KINDS.items() if wanted(_products(case)))

    look()  # type: ignore[no-untyped-call]
    assert set(seen) == set(KINDS)
    assert seen["swamping"] > 15  # by chance there are some


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mxint8", "nf4", "llmfp4-e3m0-row"])
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_drawn_tensors_are_cast_as_the_oracle_casts(name: str, data: st.DataObject) -> None:
    fmt = fpsim.get_block_format(name)
    tensor = data.draw(block_tensors(name, max_blocks=2, rows=2, exponents=(-3, 3)))
    assert tensor.dtype == np.float32
    assert len(tensor) == 2
    check_against_oracle(fmt, tensor)


@pytest.mark.sweep
def test_blocks_have_the_largest_magnitudes_at_which_scales_are_decided() -> None:
    """For E2M3 they are 4, 7.5, its tie with 8, and the float32 numbers beside these."""
    seen: set[float] = set()

    @settings(max_examples=800, derandomize=True, database=None)
    @given(
        block_tensors(fpsim.BlockFormat("short", fpsim.get_format("e2m3"), 4), 1, exponents=(0, 0))
    )
    def look(tensor: NDArray[np.float32]) -> None:
        seen.add(float(np.abs(tensor).max()))

    look()  # type: ignore[no-untyped-call]
    for top in (4.0, 7.5, 7.75):
        beside = [float(np.nextafter(np.float32(top), np.float32(end))) for end in (0, 9)]
        assert {top, *beside} <= seen
