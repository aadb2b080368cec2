# SPDX-License-Identifier: Apache-2.0
"""Codes, values and errors of a format with a bias of its own."""

import numpy as np

import fpsim

e2m1 = fpsim.get_format("e2m1")
shifted = fpsim.get_format("e2m1b2")  # bias 2: all values are halved
print(e2m1.decode(range(8)))
print(shifted.decode(range(8)))

x = np.random.default_rng(1).normal(size=10_000)
for fmt in (e2m1, shifted):
    error = x - fmt.decode(fmt.encode(x))
    print(f"{fmt.name}: mean squared error {np.mean(error**2):.4f}, largest {abs(error).max():.2f}")

codes, flags = shifted.encode([0.1, 1.1, 99.0], "rtz", flags=True)
print(codes, flags)  # 1 inexact, 2 underflow, 4 overflow
