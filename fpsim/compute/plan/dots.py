# SPDX-License-Identifier: Apache-2.0
"""Plans for dot products side by side: those of matrix products whose codes can be turned."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import operand_spans
from fpsim.compute.plan.plan import ROWS, Plan, float_shift, half_shift
from fpsim.compute.values import exponent_table, value_table
from fpsim.formats.floating import Format
from fpsim.units.spec import MacSpec

__all__ = ["lane_shift", "paired_plan"]

#: Exponents of powers of two that are normal float32 numbers.
FLOAT_LEAST = -126


def lane_shift(spec: MacSpec, args: MatmulOperands, plan: Plan) -> int:
    """Return the power of two that moves from ``b`` to ``a``, so that a lane holds them."""
    assert plan.step is not None
    lane = str(plan.step.real)
    if plan.source.block or lane == "double":
        return 0
    found = (half_shift if lane == "half" else float_shift)(*operand_spans(spec, args))
    assert found is not None
    return found


def paired_plan(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Plan:
    """Return the plan for operands that are paired, or that of scalar code.

    Elements must be float32 numbers, and no scale may depend on an element's sign, nor have a power
    moved to it.
    """
    if plan.kernel in ("limbs", "block limbs"):
        return ROWS
    if plan.step is None:
        return plan
    shift = lane_shift(spec, args, plan)
    scaled = args.a_scale is not None or args.b_scale is not None
    split = spec.splits("a") or spec.splits("b")
    if not plan.source.block and (split or (scaled and shift)):
        return ROWS
    if not (_in_float32(spec.a, shift) and _in_float32(spec.b, -shift)):
        return ROWS
    return plan


@lru_cache(maxsize=64)
def _in_float32(fmt: Format, power: int) -> bool:
    """Return whether float32 holds all values times 2^power, and their powers of two."""
    values, exponents = value_table(fmt), exponent_table(fmt)
    moved = np.ldexp(values, power)
    with np.errstate(over="ignore"):
        held = np.array_equal(moved.astype(np.float32), moved, equal_nan=True)
    used = exponents[np.isfinite(values) & (values != 0)]
    return held and bool(used.min(initial=0) >= FLOAT_LEAST)
