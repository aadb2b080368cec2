# SPDX-License-Identifier: Apache-2.0
"""What operands are checked for: shapes, blocks of scales, random integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, check_codes
from fpsim.formats.random_bits import RandomBits
from fpsim.units.spec import MacSpec

__all__ = [
    "block_size",
    "broadcast",
    "check_block",
    "check_matrix",
    "random_bits_of",
    "scale_codes",
]

Array = NDArray[Any]


def scale_codes(spec: MacSpec, operand: str, scale: ArrayLike) -> tuple[Array, int]:
    """Return checked scale codes and the axis of their groups, counted from the end."""
    name = f"{operand}_scale"
    codes = check_codes(scale, getattr(spec, name), name)
    if not spec.splits(operand):
        return codes, -1
    if codes.ndim < 2 or codes.shape[-1] != 2:
        raise FpsimError(
            f"{name}: shape {codes.shape} has no last axis of 2 (one scale per sign), which "
            f"{spec.name} needs"
        )
    return codes, -2


def check_block(spec: MacSpec, name: str, size: int) -> None:
    """Refuse scale blocks that cut a unit's blocks of products."""
    stage = spec.block
    if stage is not None and size % stage.size:
        raise FpsimError(
            f"{name}: one scale per {size} elements, but {spec.name} sums blocks of {stage.size}; "
            "a multiple is needed"
        )


def check_matrix(name: str, shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> None:
    """Refuse a scale matrix of another shape than ``wanted`` (None: any number of groups)."""
    fits = len(shape) == len(wanted) and all(
        w in (None, s) for s, w in zip(shape, wanted, strict=True)
    )
    if not fits:
        text = ", ".join("G" if w is None else str(w) for w in wanted)
        raise FpsimError(f"{name}: shape {shape} is not ({text})")


def block_size(name: str, groups_shape: tuple[int, ...], length: int, block: int | None) -> int:
    """Return how many elements along K one scale covers."""
    groups = groups_shape[0] if groups_shape else 0
    if block is not None:
        if not isinstance(block, int | np.integer) or block < 1:
            raise FpsimError(f"block: {block!r} is not a positive integer")
        if groups != -(-length // block):
            raise FpsimError(
                f"{name}: {groups} groups do not cover K = {length} in blocks of {block}; "
                f"{-(-length // block)} are needed"
            )
        return int(block)
    if groups < 1 or length % groups:
        raise FpsimError(
            f"{name}: {groups} groups do not divide K = {length}; "
            "give block= for a partial last one"
        )
    return length // groups


def broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape that leading shapes broadcast to."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(str(s) for s in shapes)
        raise FpsimError(f"operands: leading shapes {listed} do not broadcast") from None


def random_bits_of(
    spec: MacSpec, random: ArrayLike | RandomBits | None, shape: tuple[int, ...], length: int
) -> Array | RandomBits | None:
    """Return what a matrix product's roundings take: nothing, a seed or an array (..., count)."""
    count = spec.roundings(length)
    if not count:
        if random is not None:
            raise FpsimError(f"random: {spec.name} takes no random bits")
        return None
    if random is None:
        raise FpsimError(f"random: {spec.name} rounds stochastically and needs random integers")
    if isinstance(random, RandomBits):
        return replace(random, width=spec.random_bits)
    array = check_codes(random, FixedFormat(spec.random_bits, signed=False), "random")
    try:
        return np.broadcast_to(array, (*shape, count))
    except ValueError:
        raise FpsimError(
            f"random: shape {array.shape} does not broadcast to {(*shape, count)}"
        ) from None
