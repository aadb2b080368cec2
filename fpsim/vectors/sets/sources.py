# SPDX-License-Identifier: Apache-2.0
"""What can be written as a set: sections cut into blocks, and their header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import fpsim
from fpsim.units.spec import MacSpec
from fpsim.vectors.files.formats import OPS
from fpsim.vectors.sets.clocked import ClockShape
from fpsim.vectors.sets.record import Shape
from fpsim.vectors.sets.stream import Section
from fpsim.vectors.sets.words import Columns, Words

__all__ = ["CLOCK_SCHEMA", "SCHEMA", "DotSource", "Job", "Progress", "header_of", "shape_of"]

#: Of sets of dot products, and of streams of single products.
SCHEMA, CLOCK_SCHEMA = Shape.schema, ClockShape.schema

#: A block: the number of its part and its number there.
Job = tuple[int, int]
#: Takes vectors done and vectors in all.
Progress = Callable[[int, int], None]


class DotSource(Protocol):
    """What can be written: `fpsim.vectors.sets.plans.DotPlan`, a selection, tiles of a model."""

    @property
    def shape(self) -> Words:
        """Unit and lanes."""
        ...

    @property
    def strategy(self) -> str:
        """How the vectors were chosen."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the random ones."""
        ...

    @property
    def count(self) -> int:
        """Number of vectors."""
        ...

    @property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        ...

    @property
    def extra(self) -> dict[str, Any]:
        """What else the manifest says: JSON-ready, empty for most."""
        ...

    def jobs(self) -> list[Job]:
        """Return the blocks, in order."""
        ...

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in one block."""
        ...

    def block(self, part: int, block: int) -> Columns:
        """Return one block with its results."""
        ...


def header_of(source: DotSource) -> dict[str, Any]:
    """Return what a header says of a set."""
    shape = source.shape
    header = {
        "schema": shape.schema,
        "generator": f"fpsim {fpsim.__version__}",
        "unit": shape.spec.to_dict(),
        "canonical": shape.spec.canonical_name,
        "equation": shape.spec.equation,
        "strategy": source.strategy,
        "seed": source.seed,
        "count": source.count,
        "k": shape.k,
        "group": shape.group,
        "ops": OPS,
        "fields": [vars(f) for f in shape.fields],
        "word_bits": shape.word_bits,
        "sections": [vars(s) for s in source.sections],
    }
    if shape.schema == CLOCK_SCHEMA:
        header["ops"] = {name: code for name, code in OPS.items() if name != "dot"}
        for key in ("canonical", "k", "group"):
            del header[key]
    return header | source.extra


def shape_of(header: dict[str, Any]) -> Words:
    """Return the shape of a set from its header.

    Raises:
        FpsimError: a unit or lengths that cannot be.
    """
    names = {f.get("name") for f in header["fields"] if isinstance(f, dict)}
    spec, flags = MacSpec.from_dict(header["unit"]), "flags" in names
    if header["schema"] == CLOCK_SCHEMA:
        return ClockShape(spec, "exp" in names, flags)
    return Shape(spec, header["k"], header["group"], flags)
