# SPDX-License-Identifier: Apache-2.0
"""Errors of accumulators: by hand, within the bound of theory, and named when there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.studies.accumulation import error_bound, measure_accumulation
from fpsim.studies.distributions import samples


def test_a_row_is_half_precision_in_numpy() -> None:
    """A chain into E5M10 is numpy's float16 addition of exact products."""
    k, dots = 512, 3
    (row,) = measure_accumulation([fpsim.get_unit("e2m1-chain-e5m10")], [k], dots=dots, seed=4)
    x = samples("gaussian", 2 * dots * k, 4).reshape(2, dots, k)[0]
    x /= samples("gaussian", 2 * dots * k, 4).std()
    e2m1 = fpsim.get_format("e2m1")
    products = e2m1.decode(e2m1.encode(x * 1.5)) ** 2
    errors = []
    for line in products:
        acc = np.float16(0)
        for p in line:
            acc = np.float16(float(acc) + p)
        errors.append(abs(float(acc) - line.sum()) / line.sum())
    assert row.max_error == max(errors) > 0
    assert row.rms_error == pytest.approx(math.sqrt(np.mean(np.square(errors))))
    assert row.swamped > 0
    assert row.not_finite == 0


@pytest.mark.parametrize(
    "unit",
    ["e2m1-chain-e5m10", "e2m1-chain-e5m10-rtz", "e2m1-tree8-e5m10", "e2m1-tree-e8m7", "exact",
     "e2m1-chain-e8m7-sr8"],
)  # fmt: skip
@pytest.mark.parametrize("positive", [True, False])
def test_no_error_is_beyond_the_bound(unit: str, positive: bool) -> None:
    rows = measure_accumulation(
        [fpsim.get_unit(unit)],
        [8, 64, 300],
        ["natural", "ascending", "descending"],
        16,
        positive=positive,
    )
    assert len(rows) == 9
    for row in rows:
        assert row.bound is not None
        assert row.max_error <= row.bound


def test_bounds_of_theory() -> None:
    # 2^-11 is E5M10's unit roundoff to nearest; truncation has twice that.
    u = 2.0**-11
    assert error_bound(fpsim.get_unit("e2m1-chain-e5m10").spec, 11) == 10 * u / (1 - 10 * u)
    assert error_bound(fpsim.get_unit("e2m1-chain-e5m10-rtz").spec, 11) == 20 * u / (1 - 20 * u)
    assert error_bound(fpsim.get_unit("e2m1-chain-e5m10").spec, 4096) == math.inf
    assert error_bound(fpsim.get_unit("e2m1-fixed24q2").spec, 64) is None


def test_overflow_is_counted_apart() -> None:
    (row,) = measure_accumulation([fpsim.get_unit("e2m1-chain-e4m3")], [1024], dots=4)
    assert row.not_finite == 4
    assert math.isnan(row.max_error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [4]), "at least one unit"),
        (([fpsim.get_unit("exact")], [0]), "length: 0"),
        (([fpsim.get_unit("exact")], [4], ["random"]), "order: 'random' is not one of natural"),
        (([fpsim.get_unit("exact")], [4], ["natural"], 2, "cauchy"), "data: 'cauchy'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        measure_accumulation(*arguments)  # type: ignore[arg-type]
