# SPDX-License-Identifier: Apache-2.0
"""Facts about the codes and scales in use, found by one look at each operand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.hashed_once import hashed_once
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import MAX_TABLE_BITS, Span, value_span, value_table, values_of
from fpsim.formats.floating import Format
from fpsim.kernels.pack.panels import mark_used
from fpsim.units.operands import Operand

__all__ = [
    "Facts",
    "all_finite",
    "elements_finite",
    "facts_of",
    "finite_elements",
    "infinite_scales",
    "infinities",
    "special_results",
    "zero_scales",
]

Array = NDArray[Any]
#: Bits of formats whose products are narrow whichever codes are in use, and of formats for which
#: facts are cached by the set of codes in use.
MAX_KNOWN_BITS, MAX_KEPT_BITS = 6, 8


@hashed_once
@dataclass(frozen=True)
class InUse:
    """Facts about the values of the codes of a format that occur in an array."""

    span: Span | None  #: of the finite nonzero values; None if there are none
    finite: bool  #: whether no value is NaN or infinite
    infinite: bool  #: whether a value is infinite
    zero: bool  #: whether a value is zero

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> InUse:
        """Return the facts about an array of values."""
        finite, infinite = bool(np.isfinite(values).all()), bool(np.isinf(values).any())
        return cls(value_span(values), finite, infinite, bool((values == 0).any()))


@lru_cache(maxsize=1024)
def _in_use(fmt: Format, used: bytes) -> InUse:
    """Return the facts about the values of the codes in use.

    Args:
        fmt: the format.
        used: a byte for each code of the format, 1 if the code is in use.
    """
    return InUse.of(value_table(fmt)[np.frombuffer(used, dtype=bool)])


NO_SCALES = InUse(None, True, False, False)


class Facts:
    """Facts about the codes and scales of one operand, each found at its first use."""

    def __init__(self, operand: Operand) -> None:
        self._codes, self._format, self._scales = operand.codes, operand.format, operand.scales

    @cached_property
    def elements(self) -> InUse:
        """Facts about the values of the elements, scales left out."""
        return _looked_up(self._codes, self._format)

    @cached_property
    def scales(self) -> InUse:
        """Facts about the values of the scales; `NO_SCALES` if there are none."""
        if self._scales is None:
            return NO_SCALES
        codes, fmt = self._scales.codes, self._scales.format
        if codes.itemsize > 2:
            return InUse.of(values_of(np.unique(codes), fmt))
        return _looked_up(codes, fmt)

    @cached_property
    def elements_finite(self) -> bool:
        """Whether no element is NaN or infinite, scales left out."""
        return _always_finite(self._format) or self.elements.finite

    @cached_property
    def squares(self) -> float:
        """The largest sum of squares of a row, for a narrow format without scales."""
        values = value_table(self._format)
        largest = float(np.abs(values[np.isfinite(values)]).max())
        # Of numbers up to one, squares that are zero in float32 do not count beside the others.
        squares = np.square(values / largest).astype(np.float32)
        return float(squares.take(self._codes).sum(axis=1).max()) * largest**2

    @property
    def summed(self) -> bool:
        """Whether `squares` has been computed; `summary` leaves it out."""
        return "squares" in self.__dict__

    @cached_property
    def summary(self) -> tuple[InUse | None, InUse, int]:
        """Facts about elements (None if not needed) and scales, and elements per scale (0: none).

        Elements of a narrow format that is always finite are not looked at.
        """
        known = self._format.bits <= MAX_KNOWN_BITS and _always_finite(self._format)
        elements = None if known else self.elements
        if self._scales is None:
            return elements, NO_SCALES, 0
        return elements, self.scales, self._scales.block


@cache
def _always_finite(fmt: Format) -> bool:
    return bool(np.isfinite(value_table(fmt)).all())


def facts_of(operand: Operand) -> Facts:
    """Return the facts about an operand, found once and kept as long as the operand lives."""
    found: Facts | None = operand.found.get("facts")
    if found is None:
        found = operand.found["facts"] = Facts(operand)
    return found


def _looked_up(codes: Array, fmt: Format) -> InUse:
    """Return the facts about an array of codes of a format with a table, by marking codes."""
    used = np.zeros(1 << min(8 * codes.itemsize, MAX_TABLE_BITS), dtype=bool)
    mark_used(codes.ravel(order="K"), used)
    used = used[: 1 << fmt.bits]
    if fmt.bits <= MAX_KEPT_BITS:
        return _in_use(fmt, used.tobytes())
    return InUse.of(value_table(fmt)[used])


# -- both operands -------------------------------------------------------------------------------


def all_finite(args: MatmulOperands) -> bool:
    """Return whether no element and no scale is NaN or infinite."""
    facts = [facts_of(operand) for operand in args.operands]
    return all(fact.elements_finite and fact.scales.finite for fact in facts)


def elements_finite(args: MatmulOperands) -> bool:
    """Return whether no element of either operand is NaN or infinite, scales left out."""
    return all(facts_of(operand).elements_finite for operand in args.operands)


def infinities(args: MatmulOperands) -> bool:
    """Return whether an element or a scale of either operand is infinite."""
    facts = [facts_of(operand) for operand in args.operands]
    return any(_infinite_element(fact) or fact.scales.infinite for fact in facts)


def _infinite_element(facts: Facts) -> bool:
    return not facts.elements_finite and facts.elements.infinite


def infinite_scales(args: MatmulOperands) -> bool:
    """Return whether a scale is infinite, which makes NaN of a zero element, not of its block."""
    return any(facts_of(operand).scales.infinite for operand in args.operands)


def zero_scales(args: MatmulOperands) -> bool:
    """Return whether a scale of either operand is zero."""
    return any(facts_of(operand).scales.zero for operand in args.operands)


def finite_elements(args: MatmulOperands) -> MatmulOperands:
    """Return operands with code 0 in place of NaN and infinite elements."""
    a, b = (
        replace(x, codes=np.where(_finite(x), x.codes, 0).astype(x.codes.dtype, copy=False))
        for x in args.operands
    )
    return replace(args, a=a, b=b)


def special_results(args: MatmulOperands) -> Array:
    """Return the mask (M, N) of results with a NaN or infinite element in their row or column."""
    rows, columns = (np.asarray(~_finite(operand).all(axis=1)) for operand in args.operands)
    return np.asarray(rows[:, None] | columns)


def _finite(operand: Operand) -> Array:
    """Return the mask of finite elements, in the shape of the codes."""
    finite = np.asarray(np.isfinite(value_table(operand.format)))
    return np.asarray(finite[operand.codes])
