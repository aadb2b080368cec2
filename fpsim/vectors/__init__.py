# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of any unit: planned, written, read, checked and explained.

    from fpsim import vectors

    folder = vectors.write(vectors.plan(unit, count=1000), "out/vectors")
    columns = vectors.read(folder).columns        # codes by field: op, a, b, c, acc, ...
    vectors.check(folder)                         # recompute every result, compare every byte
    print(vectors.explain(folder, line=20))       # one vector, step by step
    vectors.plan_operation("quantize:mxfp4")      # a converter, adder, multiplier or quantizer

docs/vector-files.md specifies the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fpsim.vectors.sets.choices import STARTS, STRATEGIES

__all__ = [
    "STARTS",
    "STRATEGIES",
    "Field",
    "Op",
    "Record",
    "Section",
    "VectorPlan",
    "VectorSet",
    "check",
    "explain",
    "plan",
    "plan_operation",
    "read",
    "write",
]

if TYPE_CHECKING:
    from fpsim.vectors.explanation import explain
    from fpsim.vectors.files.checker import check, read
    from fpsim.vectors.files.writer import write
    from fpsim.vectors.operations.operation_plan import plan_operation
    from fpsim.vectors.plans.planner import plan
    from fpsim.vectors.sets.record import Field, Op, Record
    from fpsim.vectors.sets.vector_set import Section, VectorPlan, VectorSet
else:
    from fpsim.base.lazy_names import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Field": "fpsim.vectors.sets.record",
            "Op": "fpsim.vectors.sets.record",
            "Record": "fpsim.vectors.sets.record",
            "Section": "fpsim.vectors.sets.vector_set",
            "VectorPlan": "fpsim.vectors.sets.vector_set",
            "VectorSet": "fpsim.vectors.sets.vector_set",
            "check": "fpsim.vectors.files.checker",
            "explain": "fpsim.vectors.explanation",
            "plan": "fpsim.vectors.plans.planner",
            "plan_operation": "fpsim.vectors.operations.operation_plan",
            "read": "fpsim.vectors.files.checker",
            "write": "fpsim.vectors.files.writer",
        },
        __all__,
    )
