# SPDX-License-Identifier: Apache-2.0
"""A weight matrix as in a file: packed codes and scales, read in place.

Nothing is cast here. Codes are unpacked, never decoded and encoded again; for numbers the layout's
own order of float32 operations is used, so they equal those of its other readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.grids import Table
from fpsim.bridge.cast import Cast
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.units.operands import Operand, Scales

__all__ = ["Nibbles", "StoredInputs", "StoredMatrix", "StoredRows", "given_inputs", "unswizzled"]

#: Rows and columns of scales in a tile of the layout for matrix units.
TILE = (128, 4)


class Nibbles(StrEnum):
    """Places of the codes of a group in its bytes."""

    LOW_FIRST = "low-first"  #: element 2j in the low half of byte j, 2j + 1 in the high half
    HIGH_FIRST = "high-first"  #: element 2j in the high half of byte j, 2j + 1 in the low half
    HALVES = "halves"  #: element j in the low half of byte j, j + n/2 in the high half


@dataclass(frozen=True, eq=False)
class StoredInputs:
    """The steps from a layer's inputs to operands.

    Inputs are multiplied by ``factor`` (K,) (AWQ); then every group of elements is multiplied by
    the matrix ``rotation``; then ``cast`` makes codes. A step that is None is left out; inputs
    without a cast stay float.
    """

    cast: Cast | None = None
    factor: NDArray[np.float32] | None = None
    rotation: NDArray[np.float32] | None = None

    def same(self, other: StoredInputs) -> bool:
        """Whether two objects have equal steps."""
        mine, theirs = (self.factor, self.rotation), (other.factor, other.rotation)
        arrays = all(
            a is b or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in zip(mine, theirs, strict=True)
        )
        return arrays and self.cast == other.cast


def given_inputs(inputs: StoredInputs, x: torch.Tensor) -> torch.Tensor:
    """Return inputs (..., K) before the cast: multiplied and rotated."""
    if inputs.factor is not None:
        x = x * torch.from_numpy(inputs.factor).to(x.device)
    if inputs.rotation is not None:
        rotation = torch.from_numpy(inputs.rotation).to(x.device)
        groups = x.reshape(*x.shape[:-1], -1, rotation.shape[0]).to(rotation.dtype)
        x = (groups @ rotation).flatten(-2)
    return x


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows (N, K) of packed codes, with one scale code per block and one scale above all.

    Args:
        name: name of the tensor, for messages.
        packed: bytes (N, ..., bytes of a group), a view of the file; group after group.
        nibbles: order of codes in a group.
        element: a 4-bit format, or the table in which codes are looked up.
        scale: format of the block scales.
        scales: scale codes (N, K / block), a view of the file.
        block: elements per scale.
        above: the scale above, float32; None: 1.
        divides: whether values are divided by ``above``, not multiplied.
        flip: bits in which the file's codes differ from the element's: 8 for integers plus 8.
        zeros: zero points (N, K / block) of integers: numbers are (code - zero) times the scale;
            None: all are zero.
    """

    name: str
    packed: NDArray[np.uint8]
    nibbles: Nibbles
    element: FloatFormat | FixedFormat | Table
    scale: FloatFormat
    scales: NDArray[Any]
    block: int
    above: np.float32 | None = None
    divides: bool = False
    flip: int = 0
    zeros: NDArray[np.int8] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and elements of a row."""
        rows, *groups = self.packed.shape
        return rows, 2 * math.prod(groups)

    @property
    def factor(self) -> np.float32:
        """The float32 factor of the products."""
        if self.above is None:
            return np.float32(1)
        return np.float32(1) / self.above if self.divides else self.above

    def check(self) -> None:
        """Check the scales; all element codes are valid.

        Raises:
            FpsimError: scales that are too many, too few, negative or NaN, or a scale above that is
                not positive and finite; the message names the tensor.
        """
        rows, columns = self.shape
        wanted = (rows, -(-columns // self.block))
        if columns % self.block or self.scales.shape != wanted:
            raise FpsimError(
                f"{self.name}: {columns} columns and scales of shape {self.scales.shape} are not "
                f"blocks of {self.block}, which need {wanted}"
            )
        if self.scale.bits == 32:
            numbers = self.scales.view(np.float32)
            bad = ~(np.isfinite(numbers) & (numbers >= 0))
        else:
            bad = ~_is_number(self.scale)[self.scales]
        if bad.any():
            row, group = (int(i[0]) for i in np.nonzero(bad))
            code = int(self.scales[row, group])
            raise FpsimError(
                f"{self.name}: scale code {code:#x} in row {row}, block {group}, is no number of "
                f"{self.scale.name} from 0 on"
            )
        if self.above is not None and not (np.isfinite(self.above) and self.above > 0):
            raise FpsimError(
                f"{self.name}: the scale of the tensor is {self.above}, but must be positive and "
                "finite"
            )

    def codes(self, count: int | None = None) -> NDArray[np.uint8]:
        """Unpack all rows, or the first ``count``, into codes (rows, K)."""
        packed, n = self.packed[:count], self.packed.shape[-1]
        out = np.empty((packed.shape[0], self.shape[1]), np.uint8)
        groups = out.reshape(*packed.shape[:-1], 2 * n)
        if self.nibbles is Nibbles.HALVES:
            low, high = groups[..., :n], groups[..., n:]
        else:
            low, high = groups[..., ::2], groups[..., 1::2]
        if self.nibbles is Nibbles.HIGH_FIRST:
            low, high = high, low
        np.bitwise_and(packed, 0x0F, out=low)
        np.right_shift(packed, 4, out=high)
        if self.flip:
            out ^= np.uint8(self.flip)
        return out

    def values(self) -> NDArray[np.float32]:
        """Return the numbers (N, K), computed in float32 as the layout's own readers do."""
        scales = self.scale.decode(np.ascontiguousarray(self.scales)).astype(np.float32)
        if self.above is not None:
            scales = scales / self.above if self.divides else scales * self.above
        out = _values(self.element)[self.codes()]
        blocks = out.reshape(out.shape[0], -1, self.block)
        if self.zeros is not None:
            blocks -= self.zeros[..., None]
        blocks *= scales[..., None]
        return out


@lru_cache(maxsize=64)
def _values(element: FloatFormat | FixedFormat | Table) -> NDArray[np.float32]:
    """Return the number of each code, by the file's table."""
    if isinstance(element, Table):
        return np.array(element.values, dtype=np.float32)
    return element.decode(np.arange(16, dtype=np.uint8)).astype(np.float32)


@lru_cache(maxsize=16)
def _is_number(scale: FloatFormat) -> NDArray[np.bool_]:
    """Return the mask of scale codes that are numbers; codes with a sign bit are not."""
    codes = np.arange(1 << max(8, scale.bits), dtype=np.int64)
    known = codes < (1 << scale.magnitude_bits)
    values = scale.decode(np.where(known, codes, 0).astype(scale.dtype))
    return np.asarray(known & np.isfinite(values))


@dataclass(frozen=True, eq=False)
class StoredMatrix:
    """A weight matrix (N, K): `StoredRows` joined along N, and the steps of its inputs.

    ``order`` is the order of rows in the model: indices into the rows of the file.

    Raises:
        FpsimError: rows that do not fit together.
    """

    parts: tuple[StoredRows, ...]
    inputs: StoredInputs = StoredInputs()
    order: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        first = self.parts[0]
        for part in self.parts[1:]:
            if (part.shape[1], part.element, part.scale, part.block, part.flip) != (
                first.shape[1], first.element, first.scale, first.block, first.flip
            ):  # fmt: skip
                raise FpsimError(
                    f"{part.name}: its format or its width is not that of {first.name}"
                )

    @property
    def name(self) -> str:
        """Name of the first tensor."""
        return self.parts[0].name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (out_features) and columns (in_features)."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(part.packed.nbytes + part.scales.nbytes for part in self.parts)

    def below(self, others: Sequence[StoredMatrix]) -> StoredMatrix:
        """Return the matrix joined with others along N.

        Raises:
            FpsimError: matrices with other steps of their inputs.
        """
        for other in others:
            if not self.inputs.same(other.inputs):
                raise FpsimError(
                    f"{other.name}: its inputs are scaled otherwise than those of {self.name}, "
                    "with which it is one matrix of the model"
                )
        parts = [part for matrix in (self, *others) for part in matrix.parts]
        orders, start = [], 0
        for matrix in (self, *others):
            rows = matrix.shape[0]
            orders.append(start + (np.arange(rows) if matrix.order is None else matrix.order))
            start += rows
        plain = all(matrix.order is None for matrix in (self, *others))
        return StoredMatrix(tuple(parts), self.inputs, None if plain else np.concatenate(orders))

    def reordered(self, order: NDArray[np.int64]) -> StoredMatrix:
        """Return the matrix with its rows in another order."""
        return replace(self, order=order if self.order is None else self.order[order])

    def _zeros(self) -> NDArray[np.int64] | None:
        """Return the zero points of all rows in the model's order, or None if there are none."""
        if all(part.zeros is None for part in self.parts):
            return None
        parts = [
            np.zeros(part.scales.shape, np.int8) if part.zeros is None else part.zeros
            for part in self.parts
        ]
        zeros = np.concatenate(parts)
        return (zeros if self.order is None else zeros[self.order]).astype(np.int64)

    def operand(self, few: bool = False) -> Operand:
        """Return codes, scales and zero points as an operand; with ``few`` only one row."""
        first, zeros = self.parts[0], self._zeros()
        if few and zeros is not None:
            zeros = zeros[:1]
        element: Format | Table = first.element
        if few:
            codes, scales, factors = first.codes(1), first.scales[:1], [first.factor]
        elif len(self.parts) == 1:
            codes, scales, factors = first.codes(), first.scales, [first.factor]
        else:
            codes = np.concatenate([part.codes() for part in self.parts])
            scales = np.concatenate([part.scales for part in self.parts])
            factors = [part.factor for part in self.parts for _ in range(part.shape[0])]
        factor = np.array(factors, np.float32).reshape(-1, 1)
        if self.order is not None and not few:
            codes, scales = codes[self.order], scales[self.order]
            factor = factor[self.order] if len(factor) > 1 else factor
        if (factor == factor[0]).all():
            factor = factor[:1]
        if isinstance(element, Table):
            wide = element.wide_format
            codes = wide.encode(np.array(element.values))[codes]
            element = wide
        if isinstance(element, FixedFormat) and scales.shape[1] == 1:
            numbers = first.scale.decode(np.ascontiguousarray(scales)).astype(np.float32)
            return Operand(codes, element, factor=numbers, zeros=zeros)
        one = factor.shape == (1, 1) and factor[0, 0] == 1
        found = Scales.of_rows(np.ascontiguousarray(scales), first.scale, first.block)
        offsets = None
        if zeros is not None:
            # Exact for scales of 16 bits; one rounding to float32 for scales of 32.
            each = first.scale.decode(found.codes[..., 0])
            offsets = (-zeros * each).astype(np.float32)
        return Operand(codes, element, found, None if one else factor, offsets=offsets)

    def values(self) -> NDArray[np.float32]:
        """Return the matrix (N, K) for inputs without any steps."""
        parts = [part.values() for part in self.parts]
        out = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.order is not None:
            out = out[self.order]
        if self.inputs.rotation is not None:
            size = self.inputs.rotation.shape[0]
            groups = out.reshape(out.shape[0], -1, size) @ self.inputs.rotation.T
            out = groups.reshape(out.shape)
        if self.inputs.factor is not None:
            out = out * self.inputs.factor
        return out


def unswizzled(
    name: str, scales: NDArray[np.uint8], shape: tuple[int, int], swizzled: bool | None = None
) -> NDArray[np.uint8]:
    """Return scale codes in plain order.

    Matrix units read tiles of 128 rows and 4 columns, each a run of 512 bytes in which row r and
    column c lie at ``(r mod 32) 16 + (r // 32) 4 + c``; padding fills the last tiles.

    Args:
        name: name of the tensor.
        scales: scale codes of the file.
        shape: plain shape, rows and columns.
        swizzled: whether scales are in tiles; None: unless they have the plain shape.

    Returns:
        A view of plain scales, a copy of scales in tiles.

    Raises:
        FpsimError: a shape of neither order.
    """
    rows, columns = shape
    if scales.shape == shape and not swizzled:
        return scales
    high, wide = -(-rows // TILE[0]), -(-columns // TILE[1])
    padded = (high * TILE[0], wide * TILE[1])
    if swizzled is False or scales.size != padded[0] * padded[1] or scales.ndim not in (1, 2):
        raise FpsimError(
            f"{name}: shape {scales.shape} is neither {shape} nor, in tiles of 128 x 4, {padded}"
        )
    tiles = scales.reshape(high, wide, 32, 4, 4).transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(tiles.reshape(padded)[:rows, :columns])
