# SPDX-License-Identifier: Apache-2.0
"""A systolic array of a unit's MAC: its size, its dataflow, its clocks for a matrix product.

D (M, N) = A (M, K) B (K, N) + C, on ``rows x columns`` MACs, each with the ports of a dot product
(`fpsim.hdl.rtl.parameters`): a *beat* of a MAC is as many elements along K as it takes in a clock.

output-stationary
    A cell holds an output. Rows of A enter from the west, columns of B from the north, both along
    K; a tile of ``rows x columns`` outputs starts from +0, takes K in one run and drains to the
    south while the next one is multiplied.
weight-stationary
    A cell holds a beat of B. A strip of it has ``rows`` beats of K and ``columns`` columns; each
    row of A crosses it, and its sums come from the north and leave to the south, one row of them
    per clock. The next weights come down while these are used. A longer K takes further strips,
    whose sums start from the sums of the strip before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.floating import Format
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chunked, Exact, stages_of

__all__ = ["MAX_CELLS", "MAX_SIDE", "Dataflow", "ProductShape", "SystolicArray"]

MAX_SIDE, MAX_CELLS = 256, 1 << 14
MAX_LENGTH = 1 << 24
#: Ports that an array knows of its MACs.
_CARRIED = {"valid_i", "ready_i", "op_i", "last_i", "a_i", "b_i", "a_scale_i", "b_scale_i", "c_i"}
_ANSWERED = {"ready_o", "valid_o", "acc_o"}


class Dataflow(StrEnum):
    """The data that stay in the cells of an array."""

    OUTPUT_STATIONARY = "output-stationary"  #: sums
    WEIGHT_STATIONARY = "weight-stationary"  #: beats of B


@dataclass(frozen=True)
class ProductShape:
    """A matrix product: rows of A, columns of B, elements along K."""

    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        for name, value in (("M", self.m), ("N", self.n), ("K", self.k)):
            if not 1 <= value <= MAX_LENGTH:
                raise FpsimError(f"shape: {name} is {value}, not in 1..{MAX_LENGTH}")

    @classmethod
    def parse(cls, text: str) -> ProductShape:
        """Return the shape that ``MxNxK`` names.

        Raises:
            FpsimError: another text, or a number outside 1..2^24.
        """
        numbers = _numbers(text)
        if len(numbers) != 3:
            raise FpsimError(f"shape: {text!r} is not MxNxK, such as 128x576x1536")
        return cls(*numbers)

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


@dataclass(frozen=True)
class SystolicArray:
    """An array of one unit's MACs.

    Args:
        spec: the unit.
        rows: MACs per column.
        columns: MACs per row.
        dataflow: the data that stay in the cells.
        scaled: of a chain: with scale codes per element.
        pipeline: registers before the accumulator of each MAC.
        tables: of operands, by ``a`` and ``b``, that go through the array as 4-bit codes of a
            table, whose numbers have the format of the unit's operand.

    Raises:
        FpsimError: sizes outside 1..256 or more than 2^14 MACs; a unit without RTL, or whose MAC
            has ports that an array does not carry; sums that are no addends, where sums move.
    """

    spec: MacSpec
    rows: int
    columns: int
    dataflow: Dataflow
    scaled: bool = False
    pipeline: int = 1
    tables: Mapping[str, CodeTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("columns", self.columns)):
            if not 1 <= value <= MAX_SIDE:
                raise FpsimError(f"array: {value} {name} are not in 1..{MAX_SIDE}")
        if self.rows * self.columns > MAX_CELLS:
            raise FpsimError(
                f"array: {self.rows}x{self.columns} are {self.rows * self.columns} MACs; at most "
                f"{MAX_CELLS} are possible"
            )
        for port in (*self.mac.inputs, *self.mac.outputs):
            if port not in _CARRIED | _ANSWERED:
                raise FpsimError(
                    f"array: {self.mac.name} of {self.spec.name} has the port {port}, which arrays "
                    "do not carry"
                )
        if self.dataflow is Dataflow.WEIGHT_STATIONARY and not self.adds_by_beat:
            raise FpsimError(
                f"dataflow: sums of {self.spec.name} are finished after all of K alone, so they "
                f"cannot move from cell to cell; allowed: {Dataflow.OUTPUT_STATIONARY}"
            )

    @classmethod
    def parse_size(cls, text: str) -> tuple[int, int]:
        """Return rows and columns of a text such as ``8x8``.

        Raises:
            FpsimError: another text.
        """
        numbers = _numbers(text)
        if len(numbers) != 2:
            raise FpsimError(f"array: {text!r} is not ROWSxCOLUMNS, such as 8x8")
        return numbers[0], numbers[1]

    @cached_property
    def mac(self) -> RtlTop:
        """The MAC of a cell."""
        return rtl_top(
            self.spec, stream=True, scaled=self.scaled, pipeline=self.pipeline, tables=self.tables
        )

    @property
    def adds_by_beat(self) -> bool:
        """Whether a sum can go on in another MAC after a beat: not exact, chunked or converted."""
        kinds = stages_of(self.spec.accumulate)
        whole = any(isinstance(stage, Exact | Chunked) for stage in kinds)
        return not whole and self.spec.result == self.spec.initial

    @property
    def lanes(self) -> int:
        """Elements along K that a MAC takes in a clock."""
        return self.mac.inputs["a_i"] // self.operand_bits("a")

    def operand_bits(self, name: str) -> int:
        """Return the bits in which an element of operand ``a`` or ``b`` goes through the array."""
        held: Format | CodeTable = self.tables.get(name, getattr(self.spec, name))
        return held.bits

    @property
    def scaled_elements(self) -> int:
        """Elements of a beat that share a scale."""
        return self.lanes if self.spec.block is None else self.spec.block.size

    @property
    def has_scales(self) -> bool:
        """Whether beats carry scales."""
        return "a_scale_i" in self.mac.inputs

    @property
    def size(self) -> str:
        """Rows and columns, such as ``8x8``."""
        return f"{self.rows}x{self.columns}"

    def beats(self, k: int) -> int:
        """Return the beats of ``k`` elements along K; the last one is filled up with zeros."""
        return -(-k // self.lanes)

    def clocks(self, shape: ProductShape) -> int:
        """Return the clocks of a matrix product, from its first beat to its last result.

        Both are counted; beats come and results are taken whenever the array is ready. Sums of a
        weight-stationary array wait outside for their next strip; strips go over all columns of
        B before they go on along K.
        """
        beats = self.beats(shape.k)
        across = -(-shape.n // self.columns)
        if self.dataflow is Dataflow.OUTPUT_STATIONARY:
            tiles = across * -(-shape.m // self.rows)
            once = beats + self.pipeline + 2 * self.rows + self.columns + 1
            return once + (tiles - 1) * max(beats, self.rows)
        hop = self.pipeline + 1
        weights = (self.rows - 1) * hop + 1  # until the next ones are in their places
        apart = max(shape.m, weights)
        strips = -(-beats // self.rows)
        crossing = self.rows * hop + self.columns  # until a row's sums can come back
        along = max(across * apart, crossing + 1)
        once = shape.m + self.rows + crossing
        return once + (across - 1) * apart + (strips - 1) * along

    def utilization(self, shape: ProductShape) -> float:
        """Return the share of the MACs' lanes that multiply elements of the product, in 0..1."""
        lanes = self.rows * self.columns * self.lanes
        return shape.m * shape.n * shape.k / (lanes * self.clocks(shape))


def _numbers(text: str) -> list[int]:
    parts = text.lower().split("x")
    if not all(part.isdecimal() and part.isascii() and len(part) < 10 for part in parts):
        return []
    return [int(part) for part in parts]
