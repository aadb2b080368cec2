# SPDX-License-Identifier: Apache-2.0
"""Tiles of a model's linear layers as vectors, with the codes and scales of the network.

A tile of a layer is some rows of its input and some of its output channels, both cast for the unit
(`fpsim.bridge.layer_operands`); scales of whole rows or tensors, which the bridge multiplies in
float afterwards, are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import same_blocks
from fpsim.bridge.product import derived_unit
from fpsim.unit import MacUnit, get_unit
from fpsim.units.operands import Operand
from fpsim.units.spec import MacSpec
from fpsim.vectors.plans.tiles import Tile, TilePlan, TileSize
from fpsim.vectors.sets.record import Record, natural_k

__all__ = ["model_tiles"]


def model_tiles(
    operands: Mapping[str, tuple[Operand, Operand]],
    unit: str | MacSpec | MacUnit,
    size: TileSize,
    *,
    per_layer: int = 1,
    k: int | None = None,
    flags: bool = False,
    source: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> TilePlan:
    """Plan tiles of layers' operands as a set of vectors.

    Tiles are spread evenly over rows and output channels; their K starts at element 0 and ends with
    the shortest row, or earlier if ``size`` says so.

    Args:
        operands: input and weight by name of the layer.
        unit: see `fpsim.get_unit`.
        size: rows, columns and, if given, elements along K.
        per_layer: number of tiles of each layer.
        k: elements of a beat; by default a step of the unit, or a scale block.
        flags: whether results have status flags.
        source: origin of the operands, for the manifest.
        seed: seed of the random integers of a unit with stochastic rounding.

    Returns:
        The plan.

    Raises:
        FpsimError: a tile larger than a layer, layers of different formats, or a length that does
            not fit the blocks.
    """
    if not isinstance(per_layer, int) or isinstance(per_layer, bool) or per_layer < 1:
        raise FpsimError(f"tiles: {per_layer!r} is not a positive integer")
    pairs = {name: same_blocks(*pair) for name, pair in operands.items()}
    units = {derived_unit(get_unit(unit), *pair).spec for pair in pairs.values()}
    blocks = {_block(*pair) for pair in pairs.values()}
    if len(units) > 1 or len(blocks) > 1:
        raise FpsimError("layer: these layers have different formats; choose them by --layer")
    spec, block = units.pop(), blocks.pop()
    length = min(pair[0].codes.shape[1] for pair in pairs.values())
    whole = TileSize(size.m, size.n, length if size.k is None else size.k)
    assert whole.k is not None
    step = k or _beat(spec, block)
    cuts: list[_Cut] = []
    for name, (a, b) in pairs.items():
        sizes = (("M", size.m, a.codes.shape[0]), ("N", size.n, b.codes.shape[0]),
                 ("K", whole.k, a.codes.shape[1]))  # fmt: skip
        for what, wanted, there in sizes:
            if wanted > there:
                raise FpsimError(f"tile: {what} is {wanted}, but {name} has {there}")
        for i in range(per_layer):
            rows, columns = (_start(i, per_layer, there - wanted) for _, wanted, there in sizes[:2])
            label = f"{name}[{rows}:{rows + size.m},{columns}:{columns + size.n}]"
            cuts.append(_Cut(label, name, rows, columns))
    record = Record(spec, step, block, flags)
    names = tuple(cut.label for cut in cuts)
    if len(set(names)) < len(names):
        raise FpsimError(f"tiles: {per_layer} of {size.m}x{size.n} are more than a layer has")
    about = {"kind": "model", **(source or {})}
    seed = seed if record.roundings else 0
    return TilePlan(record, whole, names, _Maker(pairs, cuts, whole), seed=seed, source=about)


@dataclass(frozen=True)
class _Cut:
    """Place of a tile in a layer."""

    label: str
    layer: str
    row: int
    column: int


@dataclass(frozen=True)
class _Maker:
    pairs: dict[str, tuple[Operand, Operand]]
    cuts: list[_Cut]
    size: TileSize

    def __call__(self, index: int) -> Tile:
        cut, size = self.cuts[index], self.size
        a, b = self.pairs[cut.layer]
        rows, columns = slice(cut.row, cut.row + size.m), slice(cut.column, cut.column + size.n)
        c = np.zeros((size.m, size.n), dtype=np.int64)
        part = (_codes(a, rows, size), _codes(b, columns, size))
        scales = (_scales(a, rows, size), _scales(b, columns, size))
        return Tile(cut.label, *part, c, *scales)


def _codes(operand: Operand, part: slice, size: TileSize) -> NDArray[Any]:
    return operand.codes[part, : size.k]


def _scales(operand: Operand, part: slice, size: TileSize) -> NDArray[Any] | None:
    assert size.k is not None
    if operand.scales is None:
        return None
    return operand.scales.given[part, : -(-size.k // operand.block)]


def _block(a: Operand, b: Operand) -> int:
    """Return the elements per scale of either operand; 0 without scales."""
    return next((x.block for x in (a, b) if x.scales is not None), 0)


def _beat(spec: MacSpec, block: int) -> int:
    """Return the elements of a beat: a step of the unit, in whole blocks."""
    step = natural_k(spec)
    return -(-step // block) * block if block else step


def _start(index: int, count: int, room: int) -> int:
    return room * index // (count - 1) if count > 1 else 0
