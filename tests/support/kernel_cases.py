# SPDX-License-Identifier: Apache-2.0
"""Operands that kernels of scaled products meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import FloatFormat, MacUnit


def operands(unit: MacUnit, shifts: range, shape: tuple[int, int, int]) -> dict[str, NDArray[Any]]:
    """Return random codes, initial accumulators with specials among them, and scales for each."""
    m, k, n = shape
    rng = np.random.default_rng(m * k * n)

    def finite(fmt: Any, *size: int) -> NDArray[Any]:
        codes = rng.integers(0, 1 << fmt.bits, size)
        return np.where(np.isfinite(fmt.decode(codes)), codes, 0)

    result = unit.result
    c = rng.integers(0, 1 << min(result.bits, 62), (m, n)).astype(np.uint64)
    if isinstance(result, FloatFormat):  # mostly of a size that the products can change
        near = rng.normal(size=(m, n)) * 2.0 ** rng.integers(min(shifts), max(shifts) + 4, (m, n))
        overflow = str(unit.spec.accumulate.overflow)
        c = np.where(rng.random((m, n)) < 0.8, result.encode(near, "rtz", overflow), c)
    arguments = {
        "a": finite(unit.a, m, k),
        "b": finite(unit.b, k, n),
        "c": c,
        "a_scale": 127 + rng.choice(list(shifts), (m, k)),
    }
    bits = unit.spec.accumulate.random_bits
    if bits:
        arguments["random"] = rng.integers(0, 1 << bits, (m, n, k))
    return arguments
