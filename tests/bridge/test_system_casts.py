# SPDX-License-Identifier: Apache-2.0
"""Casts of systems beside their definition."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from fpsim import get_format
from fpsim.bridge.systems import casts
from fpsim.bridge.systems.casts import GridCast


@pytest.mark.parametrize("together", [1, 1 << 16])
@pytest.mark.parametrize("element", ["int4s", "int4", "e2m1", "e3m0", "int8s"])
def test_a_searched_scale_is_the_best_of_all(
    element: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casts, "SEARCHED_TOGETHER", together)
    fmt, rng = get_format(element), np.random.default_rng(5)
    rows = rng.standard_t(3, (24, 150)).astype(np.float32)
    rows[0], rows[1, 1:], rows[2] = 0, 0, rng.random(150)
    rows[3] = np.repeat([1, -1, 100], 50)
    found = GridCast(fmt, search=80).quantize(rows)
    assert found.factor is not None
    for row, chosen in zip(rows, found.factor[:, 0].tolist(), strict=True):
        whole = np.float32(np.abs(row).max()) / np.float32(fmt.max_value) or np.float32(1)
        scales = [np.float32(whole * np.float32(1 - i / 100)) for i in range(80)]
        errors = [
            (
                np.abs(fmt.decode(fmt.encode(row / np.float64(s), "rne", "saturate")) * s - row)
                ** 2.4
            ).sum()
            for s in scales
        ]
        assert chosen == scales[int(np.argmin(errors))]
