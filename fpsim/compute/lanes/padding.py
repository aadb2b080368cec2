# SPDX-License-Identifier: Apache-2.0
"""Products of zero before and after those of a matrix product, which change no sum from +0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.choose import has_zero
from fpsim.formats.floating import FloatFormat
from fpsim.formats.random_bits import Random, RandomBits
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block

__all__ = ["begun", "from_a_word_on", "padded"]

Array = NDArray[Any]


def padded(spec: MacSpec, args: MatmulOperands, more: int) -> MatmulOperands:
    """Return operands with ``more`` products of +0 at the end of K."""
    if not more:
        return args
    found: dict[str, Any] = {}
    for axis, name in ((1, "a"), (0, "b")):
        codes, scale = getattr(args, name), getattr(args, f"{name}_scale")
        found[name] = _extended(codes, axis, more, 0)
        if scale is not None:
            groups = -(-(codes.shape[axis] + more) // getattr(args, f"{name}_block"))
            one = int(getattr(spec, f"{name}_scale").encode(1.0, "rtz", "saturate"))
            found[f"{name}_scale"] = _extended(scale, axis, groups - scale.shape[axis], one)
    return replace(args, **found)


def _extended(array: Array, axis: int, more: int, value: Any) -> Array:
    widths = [(0, more if i == axis else 0) for i in range(array.ndim)]
    return np.pad(array, widths, constant_values=value)


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
        count = spec.roundings(args.a.shape[1])
        return replace(args, random=args.random_integers(count, spec.random_bits))
    longer = _after_zeros(spec, args, before // terms, size)
    return replace(longer, random=args.random.past(-before))


def _after_zeros(spec: MacSpec, args: MatmulOperands, blocks: int, size: int) -> MatmulOperands:
    """Return operands with blocks of products of +0 before the others, in scales in use."""
    found: dict[str, Any] = {}
    for axis, name in ((1, "a"), (0, "b")):
        codes, scale = getattr(args, name), getattr(args, f"{name}_scale")
        found[name] = _before(codes, axis, blocks * size, np.zeros((1, 1), codes.dtype))
        if scale is not None:
            fmt: FloatFormat = getattr(spec, f"{name}_scale")
            whole = np.repeat(scale, getattr(args, f"{name}_block") // size, axis=axis)
            whole = whole.take(range(-(-codes.shape[axis] // size)), axis=axis)
            first = scale[:, :1] if axis else scale[:1]
            one = fmt.encode(1.0, "rtz", "saturate")
            finite = np.where(np.isfinite(fmt.decode(first)), first, one).astype(scale.dtype)
            found[f"{name}_scale"] = _before(whole, axis, blocks, finite)
            found[f"{name}_block"] = size
    return replace(args, **found)


def _before(array: Array, axis: int, count: int, entry: Array) -> Array:
    """Return an array with ``count`` times an entry before what it has along an axis."""
    shape = [count if i == axis else n for i, n in enumerate(array.shape)]
    return np.concatenate([np.broadcast_to(entry, shape), array], axis=axis)
