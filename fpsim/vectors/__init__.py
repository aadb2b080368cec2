# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of any unit: planned, written, read, checked and explained.

    from fpsim import vectors

    folder = vectors.write(vectors.plan(unit, count=1000), "out/vectors")
    columns = vectors.read(folder).columns        # codes by field: op, a, b, c, acc, ...
    vectors.check(folder)                         # every result anew, every byte of every file
    print(vectors.explain(folder, line=20))       # one vector, step by step

docs/vector-files.md says what the files hold.
"""

from __future__ import annotations

from fpsim.vectors.explanation import explain
from fpsim.vectors.files.checker import check, read
from fpsim.vectors.files.writer import write
from fpsim.vectors.plans.planner import STRATEGIES, plan
from fpsim.vectors.sets.record import Field, Op, Record
from fpsim.vectors.sets.vector_set import STARTS, Section, VectorPlan, VectorSet

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
    "read",
    "write",
]
