# SPDX-License-Identifier: Apache-2.0
"""Powers of two and logarithms against mpmath's, rounded from 300 bits."""

from __future__ import annotations

import numpy as np
import pytest

from fpsim.base.powers import exp2, log2

mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
CONTEXT = mpmath.mp.clone()
CONTEXT.prec = 300
RANDOM = np.random.default_rng(7)


def test_powers_are_correctly_rounded() -> None:
    """Also those whose last bit numpy, on some processor, has otherwise."""
    x = np.concatenate([
        RANDOM.uniform(-200, 200, 6000), RANDOM.uniform(-1, 1, 3000), np.arange(-20, 20, 1 / 128),
        np.arange(-1022.0, 1024.0, 31.0), np.float64([0.5, -0.5, 1e-17, -1e-300, 0.0]),
    ])  # fmt: skip
    wanted = np.array([float(CONTEXT.mpf(2) ** CONTEXT.mpf(float(v))) for v in x])
    assert np.array_equal(exp2(x), wanted)
    assert exp2(np.float64(3.0)).shape == () and exp2(np.ones((2, 3))).shape == (2, 3)


def test_logarithms_are_correctly_rounded() -> None:
    x = np.concatenate([
        np.ldexp(RANDOM.uniform(0.5, 1, 6000), RANDOM.integers(-200, 200, 6000)),
        1 + RANDOM.uniform(-1e-3, 1e-3, 2000), 1 + np.arange(-9, 9) * 2.0**-52,
        np.ldexp(1.0, np.arange(-300, 300)), np.arange(1.0, 300.0),
    ])  # fmt: skip
    wanted = np.array([float(CONTEXT.log(CONTEXT.mpf(float(v)), 2)) for v in x])
    assert np.array_equal(log2(x), wanted)
    assert np.array_equal(log2(np.ldexp(1.0, np.arange(-300, 300))), np.arange(-300, 300))
