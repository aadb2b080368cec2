# SPDX-License-Identifier: Apache-2.0
"""A tensor in a block format: codes, scales, and the shapes they must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.fields import Span

__all__ = ["Quantized", "check_axis", "scales_shape", "stored"]


@dataclass(frozen=True)
class Quantized:
    """A tensor in a block format.

    ``codes`` has the tensor's shape; ``scales`` has one entry per block: ceil(K / block) along
    ``axis`` and otherwise the same shape (one block per tensor: all ones). A tensor without
    elements has no blocks, hence no scales. What follows is None unless the format stores it;
    ``scales`` then are those of elements with the sign bit clear.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    axis: int
    negative_scales: NDArray[Any] | None = None  #: of elements with the sign bit set
    zero_points: NDArray[np.int32] | None = None
    tensor_scale: np.float32 | None = None


def check_axis(axis: object, ndim: int) -> int:
    """Return ``axis`` counted from 0; FpsimError if an array of ``ndim`` dimensions has none."""
    whole = isinstance(axis, int | np.integer) and not isinstance(axis, bool)
    if not whole or not -ndim <= axis < ndim:  # type: ignore[operator]
        raise FpsimError(f"axis: {axis!r} does not exist in an array of {ndim} dimensions")
    return int(axis) % ndim  # type: ignore[call-overload, no-any-return]


def scales_shape(block: int | Span, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of the scales of codes of ``shape`` in blocks along ``axis`` >= 0."""
    length = shape[axis]
    groups = min(length, 1) if isinstance(block, Span) else -(-length // block)
    if block is not Span.TENSOR:
        return (*shape[:axis], groups, *shape[axis + 1 :])
    groups = int(0 not in shape)
    return tuple(groups if i == axis else 1 for i in range(len(shape)))


def stored(part: Any, name: str, shape: tuple[int, ...], kinds: str | None = None) -> NDArray[Any]:
    """Return a part of a quantized tensor, checked.

    Raises:
        FpsimError: it is missing, has another shape, or a dtype that is not of ``kinds`` (numpy's
            letters; None: whatever it is), naming it.
    """
    if part is None:
        raise FpsimError(f"{name}: missing from the quantized tensor")
    array = np.asarray(part)
    if array.shape != shape:
        raise FpsimError(f"{name}: shape {array.shape} is not {shape}, one entry per block")
    if kinds is not None and array.dtype.kind not in kinds:
        raise FpsimError(f"{name}: dtype {array.dtype} is not what the format stores")
    return array
