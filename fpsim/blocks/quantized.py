# SPDX-License-Identifier: Apache-2.0
"""A tensor in a block format: codes, scales, and the shapes they must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.fields import Span

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["Quantized", "Tiles", "check_axis", "other_axis", "scales_shape", "spread", "stored"]

#: Elements per scale: a count along the axis, all, or (across, along) for tiles of two axes.
Block = int | Span | tuple[int, int]


@dataclass(frozen=True)
class Quantized:
    """A tensor in a block format.

    ``codes`` has the tensor's shape; ``scales`` has one entry per block: ceil(K / block) along
    ``axis`` and otherwise the tensor's shape (one block per tensor: all ones). A tensor without
    elements has no blocks, hence no scales. The further parts are None unless the format stores
    them; with ``negative_scales``, ``scales`` belong to elements with the sign bit clear.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    axis: int
    negative_scales: NDArray[Any] | None = None  #: of elements with the sign bit set
    zero_points: NDArray[np.int32] | None = None
    tensor_scale: Any = None  #: a float32 or, with one per row, an array with 1 along ``axis``
    variants: NDArray[np.uint8] | None = None  #: the grid of each block
    #: of each sub-block of the last level: index into the products of the levels' ratios, the last
    #: level's changing fastest
    ratios: NDArray[np.uint8] | None = None
    #: of each top element: its index in its sub-block (as many as those have elements: none), or
    #: the index of its offset
    tops: NDArray[np.uint8] | None = None
    macros: NDArray[np.uint8] | None = None  #: m of each macro block's 1 + m / 2^bits
    #: the format that it is in, so that units can take it as it is
    format: BlockFormat | None = field(default=None, repr=False, compare=False)


def check_axis(axis: object, ndim: int) -> int:
    """Return ``axis`` counted from 0; FpsimError if an array of ``ndim`` dimensions has none."""
    whole = isinstance(axis, int | np.integer) and not isinstance(axis, bool)
    if not whole or not -ndim <= axis < ndim:  # type: ignore[operator]
        raise FpsimError(f"axis: {axis!r} does not exist in an array of {ndim} dimensions")
    return int(axis) % ndim  # type: ignore[call-overload, no-any-return]


def other_axis(axis: int, ndim: int) -> int:
    """Return the axis across which tiles run: the last that is not ``axis``."""
    return ndim - 1 if axis != ndim - 1 else ndim - 2


def scales_shape(block: Block, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of a tensor's scales.

    Args:
        block: elements per scale.
        shape: of the codes.
        axis: the axis blocks run along, from 0.

    Returns:
        The shape, with the number of blocks along ``axis``.

    Raises:
        FpsimError: tiles of two axes in an array of one.
    """
    length = shape[axis]
    if isinstance(block, tuple):
        if len(shape) < 2:
            raise FpsimError(f"x: blocks of {block[0]} x {block[1]} need two dimensions, not 1")
        counts = {axis: block[1], other_axis(axis, len(shape)): block[0]}
        return tuple(-(-n // counts.get(i, 1)) for i, n in enumerate(shape))
    groups = min(length, 1) if isinstance(block, Span) else -(-length // block)
    if block is not Span.TENSOR:
        return (*shape[:axis], groups, *shape[axis + 1 :])
    groups = int(0 not in shape)
    return tuple(groups if i == axis else 1 for i in range(len(shape)))


def spread(array: NDArray[Any], block: Block, shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """Repeat the entries of blocks for their elements.

    Args:
        array: one entry per block, of the shape `scales_shape` returns.
        block: elements per entry.
        shape: of the elements.
        axis: the axis blocks run along, from 0.

    Returns:
        One entry per element.
    """
    if 0 in shape:
        return np.zeros(shape, dtype=array.dtype)
    if block is Span.TENSOR:
        return np.broadcast_to(array, shape)
    length = shape[axis]
    if isinstance(block, tuple):
        other = other_axis(axis, len(shape))
        across = np.repeat(array, block[0], axis=other)
        array, size = np.take(across, np.arange(shape[other]), axis=other), block[1]
    else:
        size = length if isinstance(block, Span) else min(block, length)
    return np.take(np.repeat(array, size, axis=axis), np.arange(length), axis=axis)


class Tiles(NamedTuple):
    """Arrays (..., M, K) as rows of tiles: (rows of tiles, tiles in one times elements of one)."""

    shape: tuple[int, ...]
    block: tuple[int, int]

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the tiles of an array of ``shape``, padded with zeros, row by row."""
        *_, m, k = self.shape
        high, wide = self.block
        padded = np.pad(array.reshape(-1, m, k), ((0, 0), (0, -m % high), (0, -k % wide)))
        cut = padded.reshape(len(padded), -1, high, padded.shape[2] // wide, wide)
        return np.ascontiguousarray(cut.swapaxes(2, 3)).reshape(-1, padded.shape[2] * high)

    def array(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the array whose tiles ``rows`` are."""
        *_, m, k = self.shape
        high, wide = self.block
        cut = rows.reshape(-1, -(-m // high), -(-k // wide), high, wide).swapaxes(2, 3)
        whole = cut.reshape(cut.shape[0], cut.shape[1] * high, -1)[:, :m, :k]
        return np.ascontiguousarray(whole).reshape(self.shape)


def stored(part: Any, name: str, shape: tuple[int, ...], kinds: str | None = None) -> NDArray[Any]:
    """Return a part of a quantized tensor, checked.

    Args:
        part: the part.
        name: its name, for errors.
        shape: the shape it must have.
        kinds: numpy's letters of allowed kinds of dtype; None: any.

    Returns:
        The part as an array.

    Raises:
        FpsimError: it is missing, has another shape, or a dtype of another kind, naming it.
    """
    if part is None:
        raise FpsimError(f"{name}: missing from the quantized tensor")
    array = np.asarray(part)
    if array.shape != shape:
        raise FpsimError(f"{name}: shape {array.shape} is not {shape}, one entry per block")
    if kinds is not None and array.dtype.kind not in kinds:
        raise FpsimError(f"{name}: dtype {array.dtype} is not what the format stores")
    return array
