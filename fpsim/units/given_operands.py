# SPDX-License-Identifier: Apache-2.0
"""Operands as callers give them: arrays of codes, or tensors that a block format has quantized."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.quantized import Quantized
from fpsim.blocks.unit_view import unit_view
from fpsim.blocks.widen import Wide
from fpsim.formats.floating import Format
from fpsim.units.spec import MacSpec

__all__ = ["Given", "OperandLike", "given_operands"]

#: Codes, or a result of `BlockFormat.quantize`.
OperandLike = ArrayLike | Quantized
Factor = NDArray[np.float32] | None


class Given(NamedTuple):
    """Both operands as arrays; ``factors`` multiply the results.

    A factor has the operand's axes, with 1 along K.
    """

    codes: tuple[ArrayLike, ArrayLike]
    scales: tuple[ArrayLike | None, ArrayLike | None]
    block: int | None
    factors: tuple[Factor, Factor]


def given_operands(
    spec: MacSpec,
    operands: tuple[OperandLike, OperandLike],
    scales: tuple[ArrayLike | None, ArrayLike | None],
    block: int | None,
    axes: tuple[int, int],
) -> Given:
    """Split quantized tensors into codes, scales and factors; arrays stay unchanged.

    Args:
        spec: the unit.
        operands: ``a`` and ``b``.
        scales: scale codes of operands that are arrays.
        block: elements per scale of operands that are arrays.
        axes: the axis of each operand that is summed.

    Returns:
        Codes, scales (both operands with equal blocks), and the factors of tensors and rows.

    Raises:
        FpsimError: a tensor quantized along another axis or to another format than the unit's, or
            a scale argument beside a tensor, which has its own scales.
    """
    a, b = operands
    if not (isinstance(a, Quantized) or isinstance(b, Quantized)):
        return Given((a, b), scales, block, (None, None))
    wides = [
        _wide(spec, name, operand, scale, axis)
        for name, operand, scale, axis in zip("ab", operands, scales, axes, strict=True)
    ]
    blocks = [w.block for w in wides if w is not None and w.scales is not None]
    if block is not None:
        blocks.append(block)
    common = math.gcd(*blocks) if blocks else None
    codes: list[Any] = []
    found: list[Any] = []
    factors: list[Any] = []
    for operand, scale, wide, axis in zip(operands, scales, wides, axes, strict=True):
        if wide is None:
            size = block or common
            codes.append(operand)
            found.append(None if scale is None else _spread(np.asarray(scale), size, common, axis))
            factors.append(None)
            continue
        codes.append(wide.codes)
        whole = wide.scales
        if whole is not None:
            whole = _spread(whole, wide.block, common, axis % wide.codes.ndim)
            groups = -(-wide.codes.shape[axis] // (common or 1))
            whole = np.take(whole, np.arange(groups), axis=axis % wide.codes.ndim)
        found.append(whole)
        factors.append(_factor(wide))
    return Given(tuple(codes), tuple(found), common, tuple(factors))


def _spread(scales: NDArray[Any], block: int | None, common: int | None, axis: int) -> NDArray[Any]:
    """Return each scale repeated, once per ``common`` elements, a divisor of ``block``."""
    if block is None or common is None or block == common:
        return scales
    return np.repeat(scales, block // common, axis=axis)


def _factor(wide: Wide) -> Factor:
    if wide.factor is None:
        return None
    factor = np.asarray(wide.factor, np.float32)
    return factor.reshape((1,) * wide.codes.ndim) if factor.ndim == 0 else factor


def _wide(
    spec: MacSpec, name: str, operand: OperandLike, scale: ArrayLike | None, axis: int
) -> Wide | None:
    """Return a quantized tensor in the unit's element and scale formats; None for an array."""
    if not isinstance(operand, Quantized):
        return None
    if scale is not None:
        raise FpsimError(f"{name}_scale: {name} is a quantized tensor, which has scales of its own")
    if operand.format is None:
        raise FpsimError(
            f"{name}: this Quantized does not say its block format; take what quantize returned, "
            f"or pass its codes and {name}_scale"
        )
    fmt, wanted = operand.format, axis % operand.codes.ndim
    if operand.axis % operand.codes.ndim != wanted:
        raise FpsimError(
            f"{name}: it is quantized along axis {operand.axis}, but axis {wanted} is summed; "
            f"use {fmt.name}'s quantize(x, axis={wanted})"
        )
    wide = unit_view(fmt, operand)
    element: Format = getattr(spec, name)
    if wide.element != element:
        raise FpsimError(
            f"{name}: {fmt.name} has elements of {wide.element.name}, {spec.name} takes "
            f"{element.name}"
        )
    own: Format = getattr(spec, f"{name}_scale")
    if wide.scales is None or wide.scale == own:
        return wide
    # Scales are positive, so an unsigned scale format often holds the scales of a signed one.
    values = wide.scale.decode(wide.scales)
    try:
        codes = own.encode(values)
        same = np.array_equal(own.decode(codes), values, equal_nan=True)
    except FpsimError:
        same = False
    if not same:
        raise FpsimError(
            f"{name}: {fmt.name} has scales in {wide.scale.name}, which {own.name}, the scales of "
            f"{spec.name}, does not hold"
        )
    return Wide(wide.element, wide.codes, own, codes, wide.block, wide.axis, wide.factor)  # type: ignore[arg-type]
