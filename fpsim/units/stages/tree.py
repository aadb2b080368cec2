# SPDX-License-Identifier: Apache-2.0
"""The tree stage: products added in a balanced tree, one rounding per node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.stages import fields
from fpsim.units.stages.simple import ProductRounding

__all__ = ["Joins", "Tree"]


class Joins(StrEnum):
    """Where ``c`` joins a tree."""

    ROOT = "root"  #: added to the tree's result, with one more rounding
    LEAF = "leaf"  #: the first leaf (the start of lane 0 where there are lanes)
    FUSED = "fused"  #: one more child of the root node


@dataclass(frozen=True)
class Tree:
    """Balanced adds: per step of ``products`` terms (all K if absent) the levels of a tree.

    Each level replaces every ``radix`` neighbours, from the first on, by their exact sum rounded to
    ``format``; a node may have fewer children, and a node with one child rounds it. With
    ``lanes`` = L, term i is first accumulated into lane i mod L by a chain (one rounding per
    multiply-add, from +0), and the tree adds the lanes.

    Raises:
        FpsimError: a radix, number of lanes or format that no tree has.
    """

    format: FloatFormat
    rounding: Rounding = Rounding.RNE
    overflow: Overflow | None = None  #: None: `FloatFormat.default_overflow`
    products: int | None = None
    radix: int = 2
    lanes: int = 1
    addend: Joins = Joins.ROOT
    product: ProductRounding = ProductRounding.FUSED

    kind: ClassVar[str] = "tree"

    def __post_init__(self) -> None:
        fields.set_float(self)
        if self.products is not None:
            fields.count(self.products, "products", 1, 4096)
        fields.count(self.radix, "radix", 2, 64)
        fields.count(self.lanes, "lanes", 1, 1024)
        object.__setattr__(self, "addend", fields.choice(self.addend, Joins, "addend"))
        product = fields.choice(self.product, ProductRounding, "product")
        object.__setattr__(self, "product", product)
        if self.products is not None and self.lanes > self.products:
            raise FpsimError(f"lanes: {self.lanes} are more than the {self.products} products")

    @property
    def result(self) -> FloatFormat:
        """Format of result codes."""
        return self.format

    @property
    def initial(self) -> FloatFormat:
        """Format of the codes of the addend ``c``."""
        return self.format

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        head = self.kind if self.products is None else f"{self.kind}{self.products}"
        parts = fields.suffixes(
            (self.rounding, Rounding.RNE, str(self.rounding)),
            (self.radix, 2, f"radix{self.radix}"),
            (self.lanes, 1, f"lanes{self.lanes}"),
            (self.addend, Joins.ROOT, str(self.addend)),
            (self.product, ProductRounding.FUSED, str(self.product)),
        )
        overflow = fields.overflow_suffix(self.format, self.overflow)
        return "-".join([head, self.format.name, *parts, *overflow])

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        rounded = f"{self.rounding}[{self.format.name}]"
        leaves = "p_i" if self.product is ProductRounding.FUSED else f"{rounded}(p_i)"
        if self.lanes > 1:
            leaves = f"lane_j, lane_j <- {rounded}(lane_j + {leaves}) for i mod {self.lanes} = j"
        where = {
            Joins.ROOT: f"c <- {rounded}(tree + c)",
            Joins.LEAF: "c <- tree with c as first leaf",
            Joins.FUSED: "c <- tree with c in the root node",
        }[self.addend]
        per = "all K" if self.products is None else f"per {self.products}"
        return f"{per} products: tree of {leaves}, radix {self.radix}, {rounded} per node; {where}"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return 0, the number of random integers of a sum."""
        return 0
