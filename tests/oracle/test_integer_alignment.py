# SPDX-License-Identifier: Apache-2.0
"""The two readings of an integer's exponent in an aligned stage: its format's, or its product's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fpsim import MacUnit, get_unit, oracle

UNIT = get_unit("int4-aligned2f3-e8m23")


@pytest.mark.parametrize(
    ("a", "b", "plain", "normalised"),
    [
        ((1, 0), (1, 0), 0, 1),  # 2^0 under 2^6, three fraction bits
        ((-8, 1), (7, 7), -56, -52),  # 7 beside 56: nothing of it above 2^3, 4 of it above 2^2
        ((4, 1), (4, 4), 16, 20),  # 4 beside 16: 2^(6-3) cuts it, 2^(4-3) does not
        ((-8, 4), (-8, 2), 72, 72),
    ],
)
def test_integers_align_by_their_format_or_by_their_product(
    a: tuple[int, int], b: tuple[int, int], plain: int, normalised: int
) -> None:
    stage = replace(UNIT.spec.accumulate, normalised=True)  # type: ignore[call-arg]
    for unit, expected in (
        (UNIT, plain),
        (MacUnit(replace(UNIT.spec, accumulate=stage, name="")), normalised),
    ):
        codes = [np.array(x, dtype=np.int64).astype(np.uint8) & 15 for x in (a, b)]
        code = oracle.dot(unit, *codes)
        assert unit.result.decode(np.array([code], unit.result.dtype))[0] == expected
