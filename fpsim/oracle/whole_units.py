# SPDX-License-Identifier: Apache-2.0
"""Whole units in exact integers: results, traces and status flags of dot products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.rounding import Flag
from fpsim.oracle.numbers import NAN, Number, RoundUp, round_up, two_to
from fpsim.oracle.sums import run
from fpsim.oracle.terms import ONE, Element, Scale, scale_of
from fpsim.oracle.trace import FlagsOnly, Silent, Trace
from fpsim.units.given_operands import OperandLike
from fpsim.units.operands import DotOperands, DotOptions, Operand
from fpsim.units.spec import MacSpec, spec_of

__all__ = ["dot", "dot_with_flags", "step_with_flags", "steps", "trace"]


def steps(
    spec: MacSpec,
    a: Sequence[int],
    b: Sequence[int],
    c: int = 0,
    exponents: Sequence[int | None] | None = None,
    random: Sequence[int] | None = None,
) -> list[int]:
    """Compute one dot product whose scales are powers of two.

    Args:
        spec: the unit.
        a, b: operand codes, K each.
        c: the initial accumulator code.
        exponents: added to the products' exponents; None stands for a NaN scale.
        random: one integer per rounding, for ``sr``.

    Returns:
        The accumulator code after each step: a product in chain and fixed stages, N terms in
        aligned and tree ones, everything in an exact one.
    """
    scales = [_power(e) for e in (exponents if exponents is not None else [0] * len(a))]
    elements = [Element(x, y, (s, s)) for x, y, s in zip(a, b, scales, strict=True)]
    return run(spec, spec.accumulate, elements, c, iter(random or ()), Silent())


def step_with_flags(
    spec: MacSpec, a: int, b: int, c: int, exponent: int = 0, random: Sequence[int] = ()
) -> tuple[int, Flag]:
    """Add one product.

    Args:
        spec: the unit.
        a, b: operand codes.
        c: the accumulator code before.
        exponent: added to the product's exponent.
        random: the integer of the rounding, for ``sr``.

    Returns:
        The accumulator code after the product, and its flags as in `dot_with_flags`.
    """
    scale = _power(exponent)
    seen = FlagsOnly()
    codes = run(spec, spec.accumulate, [Element(a, b, (scale, scale))], c, iter(random), seen)
    return codes[-1], seen.flags


def _power(exponent: int | None) -> Scale:
    if exponent is None:
        return Scale(NAN, None)
    return Scale(Number(False, two_to(exponent)), exponent)


def dot(
    unit: Any,
    a: OperandLike,
    b: OperandLike,
    c: ArrayLike | None = None,
    a_scale: ArrayLike | None = None,
    b_scale: ArrayLike | None = None,
    *,
    round_up: RoundUp = round_up,
    **options: Unpack[DotOptions],
) -> NDArray[Any]:
    """Return the accumulator codes of dot products, computed exactly.

    Args:
        unit: a MacUnit or a MacSpec.
        a, b: operand codes (..., K); leading shapes broadcast.
        round_up: decides between two neighbouring codes at every rounding; a decision other than
            the oracle's models a faulty rounder.
        c, a_scale, b_scale, options: as in `MacUnit.dot`.

    Returns:
        Codes (...) of the unit's result format, equal to those of `MacUnit.dot`.

    Raises:
        FpsimError: operands that do not fit, or a NaN that the accumulator has no code for.
    """
    spec = spec_of(unit)
    args = DotOperands.check(spec, a, b, c, a_scale, b_scale, **options)
    out = np.empty(args.shape, dtype=spec.result.dtype)
    for index in np.ndindex(*args.shape):
        out[index] = _run_one(spec, args, index, Silent(round_up=round_up))
    return out


def trace(
    unit: Any,
    a: OperandLike,
    b: OperandLike,
    c: ArrayLike | None = None,
    a_scale: ArrayLike | None = None,
    b_scale: ArrayLike | None = None,
    **options: Unpack[DotOptions],
) -> Trace:
    """Return every internal node of one dot product.

    Args:
        unit: a MacUnit or a MacSpec.
        a, b: operand codes (K,).
        c, a_scale, b_scale, options: as in `MacUnit.dot`, without leading axes.

    Returns:
        The nodes in the order of computation, and the result code.

    Raises:
        FpsimError: operands that do not fit, more than one dot product, or a NaN that the
            accumulator has no code for.
    """
    spec = spec_of(unit)
    args = DotOperands.check(spec, a, b, c, a_scale, b_scale, **options)
    if args.shape:
        raise FpsimError(f"a: a trace is of one dot product, not of {args.shape} of them")
    nodes = Trace()
    nodes.code = _run_one(spec, args, (), nodes)
    return nodes


def dot_with_flags(
    unit: Any,
    a: OperandLike,
    b: OperandLike,
    c: ArrayLike | None = None,
    a_scale: ArrayLike | None = None,
    b_scale: ArrayLike | None = None,
    **options: Unpack[DotOptions],
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return accumulator codes of dot products, and the status flags of each.

    Flags are those of `fpsim.formats.rounding.Flag`, ORed over all operations on the way to the
    result, as in a status register that is cleared before and only set by operations: INEXACT if a
    rounding or an alignment cuts bits off; UNDERFLOW and OVERFLOW of every rounding to a float
    format; OVERFLOW of a register that wraps or saturates; INVALID if NaN arises (infinity minus
    infinity, zero times infinity), or if NaN or infinity becomes a number.

    Args:
        unit: a MacUnit or a MacSpec.
        a, b: operand codes (..., K); leading shapes broadcast.
        c, a_scale, b_scale, options: as in `MacUnit.dot`.

    Returns:
        Codes (...) and flags (...).

    Raises:
        FpsimError: operands that do not fit, or a NaN that the accumulator has no code for.
    """
    spec = spec_of(unit)
    args = DotOperands.check(spec, a, b, c, a_scale, b_scale, **options)
    out = np.empty(args.shape, dtype=spec.result.dtype)
    flags = np.empty(args.shape, dtype=np.uint8)
    for index in np.ndindex(*args.shape):
        seen = FlagsOnly()
        out[index] = _run_one(spec, args, index, seen)
        flags[index] = seen.flags
    return out, flags


def _run_one(spec: MacSpec, args: DotOperands, index: tuple[int, ...], into: Trace) -> int:
    a, b = args.a.at(index), args.b.at(index)
    columns = a.codes.tolist(), b.codes.tolist(), _scales(a), _scales(b)
    elements = [Element(*element) for element in zip(*columns, strict=True)]
    random = [] if args.random is None else args.random[index].tolist()
    return run(spec, spec.accumulate, elements, int(args.c[index]), iter(random), into)[-1]


def _scales(operand: Operand) -> list[tuple[Scale, Scale]]:
    """Return the scales of every element (K,): for a clear sign bit, and for a set one."""
    scales = operand.scales
    if scales is None:
        return [(ONE, ONE)] * operand.length
    groups = []
    for codes in scales.codes.tolist():
        pair = [scale_of(code, scales.format) for code in codes]
        groups.append((pair[0], pair[-1]))
    return [groups[k // scales.block] for k in range(operand.length)]
