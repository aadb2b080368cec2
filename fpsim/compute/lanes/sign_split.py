# SPDX-License-Identifier: Apache-2.0
"""Block sums of operands whose scales differ by sign, as blocks of operands with one scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import elements_finite
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import value_table
from fpsim.formats.floating import Format
from fpsim.units.operands import Scales
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
    if block is None or not zeros or not elements_finite(args):
        return None
    signs = [(x, y) for x in _signs(spec, "a") for y in _signs(spec, "b")]
    found = []
    for operand, own in zip(args.operands, zip(*signs, strict=True), strict=True):
        codes, scales = _spread(operand.codes, operand.format, list(own), block.size), None
        if operand.scales is not None:
            whole = operand.scales.spread(block.size, operand.length)
            picked = [whole[..., sign or 0] for sign in own]
            made = np.stack(picked, axis=2).reshape(len(codes), -1, 1)
            scales = Scales(made, operand.scales.format, block.size)
        found.append(replace(operand, codes=codes, scales=scales))
    unit = replace(spec, sign_split=SignSplit.NONE, name="")
    return unit, replace(args, a=found[0], b=found[1])


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
