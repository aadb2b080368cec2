# SPDX-License-Identifier: Apache-2.0
"""Products of zero before and after those of a matrix product, which change no sum from +0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.choose import has_zero
from fpsim.formats.random_bits import Random, RandomBits
from fpsim.units.operands import Scales
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block

__all__ = ["begun", "from_a_word_on", "padded"]

Array = NDArray[Any]


def padded(args: MatmulOperands, more: int) -> MatmulOperands:
    """Return operands with ``more`` products of +0 at the end of K."""
    if not more:
        return args
    found = []
    for operand in args.operands:
        codes, scales = np.pad(operand.codes, ((0, 0), (0, more))), operand.scales
        if scales is not None:
            groups = -(-codes.shape[1] // scales.block) - scales.codes.shape[1]
            one = int(scales.format.encode(1.0, "rtz", "saturate"))
            widths = ((0, 0), (0, groups), (0, 0))
            scales = replace(scales, codes=np.pad(scales.codes, widths, constant_values=one))
        found.append(replace(operand, codes=codes, scales=scales))
    return replace(args, a=found[0], b=found[1])


def begun(random: Random) -> int:
    """Return how many integers of its first word a seed has behind it."""
    return random.begun if isinstance(random, RandomBits) else 0


def from_a_word_on(spec: MacSpec, args: MatmulOperands) -> MatmulOperands:
    """Return operands of the same results whose random integers begin with a whole word of a seed.

    Terms of zero that come first take the integers of that word that are not these operands', and
    leave a sum from +0 as it is. An array of integers where there are no such terms.
    """
    assert isinstance(args.random, RandomBits)
    before, stage = args.random.begun, spec.accumulate
    size, terms = (stage.size, spec.quadrants) if isinstance(stage, Block) else (1, 1)
    if before % terms or not has_zero(spec):
        count = spec.roundings(args.length)
        return replace(args, random=args.random_integers(count, spec.random_bits))
    longer = _after_zeros(args, before // terms, size)
    return replace(longer, random=args.random.past(-before))


def _after_zeros(args: MatmulOperands, blocks: int, size: int) -> MatmulOperands:
    """Return operands with blocks of products of +0 before the others, in scales in use."""
    found = []
    for operand in args.operands:
        codes, scales = np.pad(operand.codes, ((0, 0), (blocks * size, 0))), operand.scales
        if scales is not None:
            fmt, first = scales.format, scales.codes[:, :1]
            one = fmt.encode(1.0, "rtz", "saturate")
            finite = np.where(np.isfinite(fmt.decode(first)), first, one).astype(first.dtype)
            whole = [np.repeat(finite, blocks, axis=1), scales.spread(size, operand.length)]
            scales = Scales(np.concatenate(whole, axis=1), fmt, size)
        found.append(replace(operand, codes=codes, scales=scales))
    return replace(args, a=found[0], b=found[1])
