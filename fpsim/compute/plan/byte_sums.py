# SPDX-License-Identifier: Apache-2.0
"""Plans of block sums in integers of a byte, four products to an instruction."""

from __future__ import annotations

from dataclasses import replace

from fpsim.compute.facts import infinite_scales
from fpsim.compute.lanes.pack_bytes import WORD, byte_power
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import Span, block_of_scales, scale_span
from fpsim.compute.plan.plan import F32_LEAST, F32_MOST, Plan, inside
from fpsim.kernels.lanes.steps import Step
from fpsim.kernels.lanes.tiles import Source
from fpsim.kernels.lanes.vector import host_features
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Exact, Fixed

__all__ = ["by_bytes"]

#: Products a sum of bytes may have: 2^15 of 2^7 * 2^8 and a start of as much fit 32 bits.
MAX_SIZE = 1 << 15
#: Products to a block where no scale says how many.
FREE_SIZE = 64


def by_bytes(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Plan:
    """Return the plan with its sums of products in bytes, if it has any and they fit."""
    source = plan.source
    if args.paired:  # turning codes takes the time
        return plan
    if not source.block:
        found = _any_order(spec, args, plan)
        if found is None:
            return plan
        source = found
    power = byte_power(spec)
    fits = source.size % WORD == 0 and source.size <= MAX_SIZE
    if power is None or not fits or "avx512vnni" not in host_features():
        return plan
    assert plan.step is not None
    if str(plan.step.real) == "float" and not _scales_fit(args, power):
        return plan
    why = f"{plan.why}; products are summed in bytes, {WORD} at a time"
    kernel = f"block{source.size} {plan.kernel}" if not plan.source.block else plan.kernel
    return replace(plan, kernel=f"bytes {kernel}", why=why, source=replace(source, bytes=True))


def _any_order(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Source | None:
    """Return blocks for a sum of products that is exact in any order, or None."""
    plain = isinstance(plan.step, Step) and plan.step.name in ("float", "double")
    if not plain or not isinstance(spec.accumulate, Exact | Fixed) or infinite_scales(args):
        return None
    size = block_of_scales(args)
    if not size:
        return Source(True, FREE_SIZE)
    return Source(True, size, 1 + spec.splits("a"), 1 + spec.splits("b"))


def _scales_fit(args: MatmulOperands, power: int) -> bool:
    """Return whether float32 holds scales of ``a``, and of both, times 2^power."""
    spans = [scale_span(operand) for operand in args.operands]
    moved = Span(spans[0].low + power, spans[0].high + power)
    return all(inside(span, F32_LEAST, F32_MOST) for span in (moved, moved * spans[1]))
