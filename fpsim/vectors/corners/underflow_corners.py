# SPDX-License-Identifier: Apache-2.0
"""Corner classes of sums all parts of which underflow, so that not one partial sum is +0."""

from __future__ import annotations

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.units.stages import Chunked, Tree, stages_of
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    both_signs,
    float_format,
    one_vector,
    opposite,
    repeated,
)

__all__ = ["underflows"]


def underflows(builder: VectorBuilder) -> None:
    """Least products in every lane, under least scales: each partial sum of a tree or chunk becomes
    a zero of the products' sign, and none a +0 that would hide it."""
    record, palette, fmt = builder.record, builder.palette, float_format(builder)
    stages = stages_of(record.spec.accumulate)
    if fmt is None or not any(isinstance(stage, Tree | Chunked) for stage in stages):
        return
    least, scales = 1.0, {}
    for name in ("a_scale", "b_scale") if record.group else ():
        scale: FloatFormat = getattr(record.spec, name)
        smallest = np.ldexp(1.0, scale.exponent_min)
        scales[name], least = int(scale.encode([smallest])[0]), least * smallest
    tiny = palette.product("tiny")
    least *= record.spec.a.decode([tiny[0]])[0] * record.spec.b.decode([tiny[1]])[0]
    if least >= np.ldexp(1.0, fmt.exponent_min - fmt.mantissa_bits):
        return
    for term in (tiny, opposite(palette, tiny)):
        if term is not None:
            operands = one_vector(builder, *repeated(builder, term, record.k))
            builder.add(**operands, **scales, c=both_signs(fmt, np.array([0])))
