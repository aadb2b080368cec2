# SPDX-License-Identifier: Apache-2.0
"""Block sums of operands whose scales differ by sign, as blocks of operands with one scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import elements_finite
from fpsim.compute.values import value_table
from fpsim.formats.floating import Format
from fpsim.units.spec import MacSpec, SignSplit

__all__ = ["without_split"]

Array = NDArray[Any]


def without_split(spec: MacSpec, args: MatmulOperands) -> tuple[MacSpec, MatmulOperands] | None:
    """Return a unit and operands of the same block sums, one block after the other, or None.

    Of a block there is one per combination of signs, in which the elements of other signs are zero:
    an element without a zero, or infinite, has none.
    """
    block = spec.block
    zeros = all(value_table(fmt)[0] == 0 for fmt in (spec.a, spec.b))
    if block is None or not zeros or not elements_finite(spec, args):
        return None
    signs = [(x, y) for x in _signs(spec, "a") for y in _signs(spec, "b")]
    found: dict[str, Any] = {"a_block": block.size, "b_block": block.size}
    for i, name in enumerate("ab"):
        # K last, whichever operand.
        codes, scale = getattr(args, name), getattr(args, f"{name}_scale")
        rows = codes if name == "a" else codes.T
        own = [pair[i] for pair in signs]
        spread = _spread(rows, getattr(spec, name), own, block.size)
        found[name] = spread if name == "a" else spread.T
        if scale is None:
            continue
        whole = scale if name == "a" else np.moveaxis(scale, 0, 1)
        whole = np.repeat(whole, getattr(args, f"{name}_block") // block.size, axis=1)
        whole = whole[:, : -(-rows.shape[1] // block.size)]
        picked = [whole if sign is None else whole[..., sign] for sign in own]
        scales = np.stack(picked, axis=2).reshape(len(rows), -1)
        found[f"{name}_scale"] = scales if name == "a" else scales.T
    return replace(spec, sign_split=SignSplit.NONE, name=""), replace(args, **found)


def _signs(spec: MacSpec, operand: str) -> tuple[int | None, ...]:
    return (0, 1) if spec.splits(operand) else (None,)


def _spread(codes: Array, fmt: Format, signs: list[int | None], size: int) -> Array:
    """Return codes (R, K') with every block as often as there are signs: None takes all codes."""
    rows, length = codes.shape
    groups = -(-length // size)
    padded = np.zeros((rows, groups * size), dtype=codes.dtype)
    padded[:, :length] = codes
    blocks = padded.reshape(rows, groups, size)
    negative = blocks >> (fmt.bits - 1) if fmt.signed else np.zeros_like(blocks)
    parts = [blocks if sign is None else np.where(negative == sign, blocks, 0) for sign in signs]
    return np.stack(parts, axis=2).reshape(rows, -1)
