# SPDX-License-Identifier: Apache-2.0
"""Beats of a converter, multiplier, adder or quantizer: every vector stands alone.

Such vectors have the columns ``op`` (always ``dot``) and ``c`` (always 0) beside the fields of the
operation, so that designs without accumulator take them like vectors of a unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import BeatPlan
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.dut import Dut, Wires, check_known
from fpsim.vectors.operations.operation import Operation
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["OperationBeats", "OperationSerialiser"]


class OperationBeats(BeatPlan):
    """The beats of a vector of an operation.

    Raises:
        FpsimError: fields that the operation has not, inputs that nothing carries, or elements that
            do not fill a vector.
    """

    def __init__(self, dut: Dut, operation: Operation) -> None:
        self.dut, self.operation, self.k, self.group = dut, operation, operation.k, 0
        self._arrange()

    def _field_widths(self) -> dict[str, int]:
        return {field.name: field.lane_width for field in self.operation.fields}

    def _result_wires(self) -> Mapping[str, Wires]:
        known = [field.name for field in self.operation.result_fields]
        parts = self.dut.output.parts
        if not parts:
            raise FpsimError(f"output: no result is mapped; write {' or '.join(known)}")
        check_known(parts, known, "output")
        return parts

    def _check_lengths(self) -> None:
        inputs = list(self.operation.inputs)
        for beats in self.dut.input.beats:
            check_known(beats.fields, inputs, "input.beats")
            if beats.elements is not None and self.k % beats.elements:
                raise FpsimError(
                    f"elements: {beats.elements} per beat do not fill {self.k} elements"
                )
        for name in inputs:
            if not self.dut.carries(name) and name != "tensor_scale":
                raise FpsimError(f"input.beats: no beat carries {name}")
        for key, value in (("k", self.dut.k), ("group", self.dut.group)):
            if value is not None:
                raise FpsimError(
                    f"{key}: not of an operation, whose vectors have {self.k} elements"
                )
        if self.dut.input.per_group:
            raise FpsimError("input.per: 'group', but the vectors have no scales")

    def _codes(self, name: str, element: int, count: int) -> tuple[int, int]:
        lanes = self.operation.lanes_of(name)
        return (element, count) if lanes == self.k else (0, lanes)

    def _whole(self, name: str) -> tuple[int, int]:
        return 0, self.operation.lanes_of(name)


class OperationSerialiser(Serialiser):
    """A design and an operation: lines of vectors.

    Raises:
        FpsimError: fields that the operation has not, inputs that nothing carries, or elements that
            do not fill a vector.
    """

    def __init__(self, dut: Dut, operation: Operation) -> None:
        self.operation = operation
        self._begin(OperationBeats(dut, operation), cast(Record, operation))

    def _tests(self, columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        count = columns["op"].size
        for name, wires in self.plan.wires.items():
            codes = columns[name].reshape(count, -1)
            told = self._fits(codes, self.plan.widths[name], wires).all(axis=1)
            yield f"have a code of {name} that its wires cannot carry", np.asarray(told)
        if self.dut.domain:
            yield "lie outside the domain", self._inside(columns)

    def _inside(self, columns: Columns) -> NDArray[np.bool_]:
        count = columns["op"].size
        inside = np.ones(count, dtype=bool)
        for name, fmt in (self.operation.inputs | self.operation.outputs).items():
            taken = self.dut.domain.takes(name, fmt, columns[name])
            inside &= taken.reshape(count, -1).all(axis=1)
        return inside

    def told_codes(self) -> dict[str, NDArray[Any]]:
        """Return nothing: vectors of an operation hold all that a design can be told."""
        return {}

    def seen_code(self, seen: dict[str, str]) -> int | None:
        """Return the results that bits per output port carry as one number; None: not all known.

        The first of ``output.parts`` in the order of the word stands in the high bits.
        """
        code = 0
        for field in self.operation.result_fields:
            if field.name in self.dut.output.parts:
                codes = self._seen_codes(seen, field.name)
                if codes is None:
                    return None
                part = sum(c << (field.lane_width * lane) for lane, c in enumerate(codes))
                code = code << field.width | part
        return code
