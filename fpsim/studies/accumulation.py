# SPDX-License-Identifier: Apache-2.0
"""Error of accumulators by length and order of a dot product, with the bound of theory.

The error of a dot product is |result - exact| / sum |a_i b_i|. A sum of K terms by rounded
additions has an error of at most gamma_h = h u / (1 - h u) (N. J. Higham, "Accuracy and Stability
of Numerical Algorithms", 2nd ed., 2002, section 4.2), where h is the largest number of additions
that a term goes through and u the unit roundoff: 2^-p to nearest with p significant bits, 2^(1-p)
in every other mode. The bound holds while nothing overflows and no addition is rounded below the
normal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Rounding
from fpsim.studies.distributions import samples
from fpsim.studies.sizing import study
from fpsim.units.operands import DotOptions
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Exact, Tree

__all__ = [
    "ORDERS",
    "AccumulationRow",
    "AccumulatorCounts",
    "accumulator_counts",
    "error_bound",
    "measure_accumulation",
]

#: Orders of the products, by name: permutations of K products with given values.
ORDERS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.int64]]] = {
    "natural": lambda p: np.broadcast_to(np.arange(p.shape[-1]), p.shape).copy(),
    "ascending": lambda p: np.argsort(np.abs(p), axis=-1, kind="stable"),
    "descending": lambda p: np.argsort(-np.abs(p), axis=-1, kind="stable"),
}
#: Most dot products whose steps are all looked at, for the share of swamped steps.
_STUDIED = 8


@dataclass(frozen=True)
class AccumulationRow:
    """Errors of one unit in dot products of one length in one order.

    Attributes:
        unit: name of the unit.
        length: K.
        order: a key of `ORDERS`.
        dots: dot products measured.
        rms_error, max_error: |result - exact| / sum |a_i b_i|, over finite results.
        not_finite: number of infinite and NaN results.
        swamped: share of the steps, in some of the dot products, that did not change the
            accumulator although the term was not zero.
        bound: the largest error by theory; None if theory has no bound for the stage.
    """

    unit: str
    length: int
    order: str
    dots: int
    rms_error: float
    max_error: float
    not_finite: int
    swamped: float
    bound: float | None


def error_bound(spec: MacSpec, length: int) -> float | None:
    """Return the bound on |result - exact| / sum |a_i b_i| of the module, or None.

    Chains, exact sums and binary trees have a bound; errors of fixed registers, windows and chunks
    depend on the data. ``length`` is K.
    """
    stage = spec.accumulate
    if not isinstance(stage, Chain | Exact | Tree):
        return None
    nearest = stage.rounding in (Rounding.RNE, Rounding.RNA)
    u = 2.0 ** (-(stage.format.mantissa_bits + 1) + (0 if nearest else 1))
    if isinstance(stage, Exact):
        depth = 1
    elif isinstance(stage, Chain):
        depth = max(length - 1, 1)
    elif stage.lanes > 1 or stage.radix != 2:
        return None
    else:
        # A step is a node of n leaves; its result is added to the running sum.
        leaves = min(stage.products or length, length)
        depth = math.ceil(math.log2(max(leaves, 2))) + math.ceil(length / leaves)
    return depth * u / (1 - depth * u) if depth * u < 1 else math.inf


def measure_accumulation(
    units: Sequence[Any],
    lengths: Sequence[int] = (16, 64, 256, 1024, 4096),
    orders: Sequence[str] = ("natural",),
    dots: int = 64,
    data: str = "gaussian",
    seed: int = 1,
    positive: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[AccumulationRow, ...]:
    """Return the error of units on random dot products, unit by unit, length by length.

    Operands are samples of ``data``, scaled so that the operand format's largest value is four
    standard deviations, and cast to nearest; the exact sum is that of the cast operands.

    Args:
        units: `fpsim.MacUnit` objects; operands have no scales.
        lengths: values of K, in products.
        orders: keys of `ORDERS`.
        dots: dot products per row.
        data: a distribution of `fpsim.studies.distributions`.
        seed: seed of the operands, and of the random bits of stochastic units.
        positive: whether the second operand equals the first, so that every product increases the
            sum; else it is drawn apart, and sums stay near zero.
        report: called with rows done and rows in all.

    Returns:
        A row per unit, length and order.

    Raises:
        FpsimError: no units or lengths, an unknown order or distribution, a length below 1, or
            a unit that refuses operands without scales.
    """
    if not units or not lengths or not orders:
        raise FpsimError("units: at least one unit, one length and one order are needed")
    for order in orders:
        if order not in ORDERS:
            raise not_one_of("order", order, ORDERS)
    for number in (*lengths, dots):
        if number < 1:
            raise FpsimError(f"length: {number} is not a positive integer")
    rows: list[AccumulationRow] = []
    total = len(units) * len(lengths) * len(orders)
    for unit in units:
        for length in lengths:
            for order in orders:
                rows.append(_measure(unit, length, order, dots, data, seed, positive))
                report(len(rows), total)
    return tuple(rows)


@dataclass(frozen=True)
class AccumulatorCounts:
    """Counts of steps by the binade of the accumulator's magnitude, over many dot products.

    ``counts`` maps e to the number of steps after which 2^e <= |accumulator| < 2^(e+1).
    """

    length: int
    steps: int
    counts: dict[int, int]
    zeros: int
    not_finite: int


def accumulator_counts(
    unit: Any, length: int = 256, dots: int = 64, data: str = "gaussian", seed: int = 1
) -> AccumulatorCounts:
    """Count the binades of a unit's accumulator on independent random operands, step by step.

    Args:
        unit: a `fpsim.MacUnit`; operands have no scales.
        length: K.
        dots: dot products.
        data: a distribution of `fpsim.studies.distributions`.
        seed: seed of the operands, and of the random bits of stochastic units.

    Returns:
        Steps per binade.

    Raises:
        FpsimError: an unknown distribution, a length below 1, or a unit that refuses operands
            without scales.
    """
    a, b = _operands(unit, length, dots, data, seed, False)
    options: DotOptions = {"random": RandomBits(seed)} if unit.spec.random_bits else {}
    values = np.abs(unit.result.decode(unit.accumulate(a, b, **options)).astype(np.float64))
    finite = values[np.isfinite(values)]
    exponents, counts = np.unique(np.frexp(finite[finite > 0])[1] - 1, return_counts=True)
    return AccumulatorCounts(
        length,
        values.size,
        {int(e): int(n) for e, n in zip(exponents, counts, strict=True)},
        int((finite == 0).sum()),
        values.size - finite.size,
    )


def _operands(
    unit: Any, length: int, dots: int, data: str, seed: int, positive: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return codes (dots, K) of both operands; the second equals the first if ``positive``."""
    x = samples(data, 2 * dots * length, seed).reshape(2, dots, length)
    x /= x.std()
    if positive:
        x[1] = x[0]
    return (
        unit.a.encode(x[0] * (unit.a.max_value / 4)),
        unit.b.encode(x[1] * (unit.b.max_value / 4)),
    )


def _measure(
    unit: Any, length: int, order: str, dots: int, data: str, seed: int, positive: bool
) -> AccumulationRow:
    a, b = _operands(unit, length, dots, data, seed, positive)
    products = unit.a.decode(a) * unit.b.decode(b)
    places = ORDERS[order](products)
    a, b = np.take_along_axis(a, places, -1), np.take_along_axis(b, places, -1)
    options: DotOptions = {"random": RandomBits(seed)} if unit.spec.random_bits else {}
    results = unit.result.decode(unit.dot(a, b, **options))
    exact = np.array([math.fsum(row) for row in products])
    finite = np.isfinite(results)
    scale = np.abs(products).sum(axis=-1)
    errors = np.abs(results - exact)[finite] / np.where(scale > 0, scale, 1)[finite]
    sizing = study(unit, a[:_STUDIED], b[:_STUDIED], dots=True, **options) if finite.all() else None
    return AccumulationRow(
        unit.name,
        length,
        order,
        dots,
        float(np.sqrt(np.mean(errors**2))) if errors.size else math.nan,
        float(errors.max()) if errors.size else math.nan,
        int((~finite).sum()),
        math.nan if sizing is None or not sizing.steps else sizing.swamped / sizing.steps,
        error_bound(unit.spec, length),
    )
