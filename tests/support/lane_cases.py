# SPDX-License-Identifier: Apache-2.0
"""Operands for lanes, and which kernel took them after a comparison with the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fpsim import MacUnit
from support.helpers import HOST, oracle_matmul

Codes = NDArray[Any]
#: For what falls back on other kernels without these instructions.
AVX512 = pytest.mark.skipif("avx512f" not in HOST, reason="needs AVX-512F")


def spread(fmt: Any, shape: tuple[int, ...], seed: int, binades: int) -> Codes:
    """Return codes of numbers over many binades, with zeros of both signs and cancellation."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * np.exp2(rng.integers(-binades, binades + 1, shape))
    values[rng.random(shape) < 0.15] = 0.0
    values[rng.random(shape) < 0.1] = -0.0
    values[..., 1::2] = np.where(
        rng.random(values[..., 1::2].shape) < 0.3,
        -values[..., :-1:2] if values.shape[-1] % 2 else -values[..., ::2],
        values[..., 1::2],
    )
    codes: Codes = fmt.encode(values)
    return codes


def operands(unit: MacUnit, k: int, binades: int = 4, seed: int = 2) -> tuple[Codes, Codes, Codes]:
    """Return a (4, K), b (K, 5) and c (4, 5)."""
    a = spread(unit.a, (4, k), seed, binades)
    b = np.abs(unit.b.decode(spread(unit.b, (5, k), seed + 1, binades)))
    c = spread(unit.result, (4, 5), seed + 2, binades + 2)
    return a, unit.b.encode(b.T), c


def runs_as(unit: MacUnit, k: int, binades: int = 4, **options: Any) -> str:
    """Return the kernel, after comparing it with the oracle, with an addend and without."""
    a, b, c = operands(unit, k, binades)
    for addend in (None, c):
        expected = oracle_matmul(unit, a, b, addend, **options)
        assert np.array_equal(unit.matmul(a, b, addend, **options), expected)
    return unit.plan(a, b, c=c, **options).kernel
