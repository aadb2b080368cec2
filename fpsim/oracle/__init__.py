# SPDX-License-Identifier: Apache-2.0
"""The oracle: every unit in exact Python integers, slow, and short enough to check by reading.

It takes formats and specs as data and shares no code with the kernels: it decodes, adds and rounds
with `fractions.Fraction`, finds the two neighbouring codes of a value and chooses one. It needs
neither Numba nor `fpsim.compute`.
"""

from __future__ import annotations

from fpsim.oracle.numbers import Number, decode, encode, flags
from fpsim.oracle.trace import Node, Trace
from fpsim.oracle.whole_units import dot, dot_with_flags, step_with_flags, steps, trace

__all__ = [
    "Node",
    "Number",
    "Trace",
    "decode",
    "dot",
    "dot_with_flags",
    "encode",
    "flags",
    "step_with_flags",
    "steps",
    "trace",
]
