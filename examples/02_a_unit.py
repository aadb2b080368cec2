# SPDX-License-Identifier: Apache-2.0
"""A MAC that rounds after every add: results, a trace, and what its accumulator lost."""

import numpy as np

import fpsim
from fpsim.oracle.trace_lines import trace_lines

unit = fpsim.get_unit("e2m1-chain-e5m10-rtz")
print(unit)

rng = np.random.default_rng(1)
a, b = rng.integers(0, 16, (4, 64)), rng.integers(0, 16, (64, 4))
codes = unit.matmul(a, b)
print(unit.result.decode(codes))
assert codes[0, 0] == fpsim.oracle.dot(unit, a[0], b[:, 0])  # exact rationals agree on every bit

for line in trace_lines(unit.trace(a[0, :3], b[:3, 0]).nodes):
    print(line)

found = unit.size(a, b)
print(f"{found.inexact} of {found.steps} steps lost bits; {found.fixed_width} bits would lose none")
