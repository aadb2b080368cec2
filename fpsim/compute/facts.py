# SPDX-License-Identifier: Apache-2.0
"""What is true of the codes and scales that operands have: found by looking, once per operand."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import value_table, values_of
from fpsim.formats.floating import Format
from fpsim.kernels.pack.panels import mark_used
from fpsim.units.operands import Operand, Scales
from fpsim.units.spec import MAX_OPERAND_BITS

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


class Facts:
    """Facts about the codes and scales of one operand, each found when it is first asked for."""

    def __init__(self, codes: Array, fmt: Format, scales: Scales | None) -> None:
        self._codes, self._format, self._scales = codes, fmt, scales

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Values of the elements in use, in any order."""
        return _values_in_use(self._codes, self._format)

    @cached_property
    def scale_values(self) -> NDArray[np.float64]:
        """Values of the scales in use, in any order; none without scales."""
        if self._scales is None:
            return np.empty(0)
        codes = self._scales.codes
        if codes.itemsize > 2:
            return values_of(np.unique(codes), self._scales.format)
        return _values_in_use(codes, self._scales.format)

    @cached_property
    def elements_finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        always = bool(np.isfinite(value_table(self._format)).all())
        return always or bool(np.isfinite(self.values).all())

    @cached_property
    def scales_finite(self) -> bool:
        """Whether no scale is NaN or infinite."""
        return bool(np.isfinite(self.scale_values).all())

    @cached_property
    def infinite_element(self) -> bool:
        """Whether an element is infinite."""
        return not self.elements_finite and bool(np.isinf(self.values).any())

    @cached_property
    def infinite_scale(self) -> bool:
        """Whether a scale is infinite."""
        return bool(np.isinf(self.scale_values).any())

    @cached_property
    def zero_scale(self) -> bool:
        """Whether a scale is zero."""
        return bool((self.scale_values == 0).any())


#: Facts live as long as the operand that they are about.
_FACTS: WeakKeyDictionary[Operand, Facts] = WeakKeyDictionary()


def facts_of(operand: Operand) -> Facts:
    """Return the facts about an operand; what was found once is kept."""
    found = _FACTS.get(operand)
    if found is None:
        found = _FACTS[operand] = Facts(operand.codes, operand.format, operand.scales)
    return found


def _values_in_use(codes: Array, fmt: Format) -> NDArray[np.float64]:
    """Return the values of the codes in use, each once."""
    used = np.zeros(1 << min(8 * codes.itemsize, MAX_OPERAND_BITS), dtype=bool)
    mark_used(codes.ravel(order="K")[None], used)
    table = value_table(fmt)
    return table[used[: table.size]]


# -- both operands -------------------------------------------------------------------------------


def all_finite(args: MatmulOperands) -> bool:
    """Return whether no element and no scale is NaN or infinite."""
    facts = [facts_of(operand) for operand in args.operands]
    return all(fact.elements_finite and fact.scales_finite for fact in facts)


def elements_finite(args: MatmulOperands) -> bool:
    """Return whether no element is NaN or infinite."""
    return all(facts_of(operand).elements_finite for operand in args.operands)


def infinities(args: MatmulOperands) -> bool:
    """Return whether an element or a scale is infinite."""
    facts = [facts_of(operand) for operand in args.operands]
    return any(fact.infinite_element or fact.infinite_scale for fact in facts)


def infinite_scales(args: MatmulOperands) -> bool:
    """Return whether a scale is infinite: it makes NaN of an element of 0, not of its block."""
    return any(facts_of(operand).infinite_scale for operand in args.operands)


def zero_scales(args: MatmulOperands) -> bool:
    """Return whether a scale is zero."""
    return any(facts_of(operand).zero_scale for operand in args.operands)


def finite_elements(args: MatmulOperands) -> MatmulOperands:
    """Return operands with code 0 in place of NaN and infinite elements."""
    a, b = (
        replace(x, codes=np.where(_finite(x), x.codes, 0).astype(x.codes.dtype, copy=False))
        for x in args.operands
    )
    return replace(args, a=a, b=b)


def special_results(args: MatmulOperands) -> Array:
    """Return whether results (M, N) of a matrix product have a NaN or infinite element."""
    rows, columns = (np.asarray(~_finite(operand).all(axis=1)) for operand in args.operands)
    return np.asarray(rows[:, None] | columns)


def _finite(operand: Operand) -> Array:
    """Return whether elements are finite, in the shape of the codes."""
    finite = np.asarray(np.isfinite(value_table(operand.format)))
    return np.asarray(finite[operand.codes])
