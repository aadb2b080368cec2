# SPDX-License-Identifier: Apache-2.0
"""Units on processors that a test names, and with some steps left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fpsim import MacUnit
from fpsim.compute.lanes.steps.step import Step
from fpsim.compute.lanes.steps.window import Carrier, WholeWindow
from fpsim.compute.matmul import matmul_codes
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import Allowed, Plan, any_step, plan_matmul
from fpsim.kernels.llvm.machine import Machine

#: Processors to plan and generate code for: this one, AVX2 with float16 conversions, and neither.
MACHINES = {"this": Machine.host(), "f16c": Machine(frozenset({"f16c"})), "none": Machine()}


def cut_windows(step: Step) -> bool:
    """Leave out windows that cut nothing off, and those whose integers are not floats."""
    return not isinstance(step, WholeWindow) and getattr(step, "carrier", "") != Carrier.INT32


def carried(step: Step) -> bool:
    """Leave out steps that tell the processor how to round."""
    return not step.direction


@dataclass(frozen=True)
class On:
    """A unit on a processor, perhaps without some steps."""

    unit: MacUnit
    machine: Machine
    allowed: Allowed = any_step

    def plan(self, *operands: Any, **more: Any) -> Plan:
        """Return the plan for operands, as `MacUnit.plan` does."""
        spec = self.unit.spec
        args = MatmulOperands.check(spec, *operands, **more)
        return plan_matmul(spec, args, self.machine, self.allowed)

    def matmul(self, *operands: Any, **more: Any) -> NDArray[Any]:
        """Return the codes of a matrix product, as `MacUnit.matmul` does."""
        spec = self.unit.spec
        args = MatmulOperands.check(spec, *operands, **more)
        return matmul_codes(spec, args, self.machine, self.allowed)[0]


__all__ = ["MACHINES", "On", "carried", "cut_windows"]
