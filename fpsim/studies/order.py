# SPDX-License-Identifier: Apache-2.0
"""Effect of the order of a sum: one dot product given to a unit in many orders.

A chain that rounds after every add depends on order; an exact sum, and a fixed-point register that
never rounds or clamps, do not. Aligned windows, trees and chunks may depend on order for some data,
which this module finds out. A scale moves with its element, so a unit with blocks gets whole blocks
in another order.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.philox import numpy_generator
from fpsim.base.progress import counted
from fpsim.compute.scalar.dot_products import dot_codes
from fpsim.compute.values import Rows
from fpsim.kernels.scalar import limbs
from fpsim.units.operands import DotOperands, ScaleOptions
from fpsim.units.spec import spec_of

__all__ = ["ORDERS", "Outcome", "Study", "study"]

Array = NDArray[Any]
#: Named orders; ``random`` stands for all random ones.
ORDERS = ("given", "reversed", "ascending", "descending", "small first", "large first", "random")

#: Orders computed together.
ORDERS_AT_ONCE = 1 << 12


@dataclass(frozen=True)
class Outcome:
    """The result of one order."""

    order: str  #: one of `ORDERS`
    code: int  #: result code
    value: float


@dataclass(frozen=True)
class Study:
    """Results of one dot product in different orders."""

    unit: str
    exact: float  #: the exact sum, ``c`` included
    outcomes: tuple[Outcome, ...]

    @property
    def codes(self) -> list[int]:
        """The distinct results, ascending as integers."""
        return sorted({outcome.code for outcome in self.outcomes})

    @property
    def depends(self) -> bool:
        """Whether any two orders have different result codes."""
        return len(self.codes) > 1

    @property
    def spread(self) -> float:
        """Largest minus smallest finite result."""
        finite = [o.value for o in self.outcomes if math.isfinite(o.value)]
        return max(finite) - min(finite) if finite else 0.0

    @property
    def largest_error(self) -> float:
        """Largest |result - exact sum| of a finite result."""
        errors = [abs(o.value - self.exact) for o in self.outcomes if math.isfinite(o.value)]
        return max(errors, default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data; values that are not finite are text."""
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        for outcome in outcomes:
            if not math.isfinite(outcome["value"]):
                outcome["value"] = str(outcome["value"])
        return {
            "unit": self.unit,
            "exact": self.exact if math.isfinite(self.exact) else str(self.exact),
            "depends": self.depends,
            "distinct": len(self.codes),
            "spread": self.spread,
            "largest_error": self.largest_error,
            "outcomes": outcomes,
        }


def study(
    unit: Any,
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike | None = None,
    *,
    random_orders: int = 100,
    seed: int = 1,
    **options: Unpack[ScaleOptions],
) -> Study:
    """Compute one dot product in the named orders and some random ones.

    Products are sorted by value (ascending, descending) and by magnitude (small or large first),
    blocks by the value and magnitude of their scaled sums. A partial last block keeps its place.

    Args:
        unit: a MacUnit or a MacSpec without random bits.
        a, b: operand codes (K,).
        c: initial accumulator code; +0 if absent.
        random_orders: number of random orders, 0 or more.
        seed: seed of the random orders.
        options: scales and ``block`` as in `fpsim.unit.MacUnit.dot`.

    Returns:
        Codes and values by order, and the exact sum.

    Raises:
        FpsimError: operands that do not fit the unit, several dot products, a unit that rounds at
            random, or a negative seed.
    """
    spec = spec_of(unit)
    if spec.random_bits:
        raise FpsimError(f"unit: {spec.name} rounds at random, whatever the order")
    if not isinstance(random_orders, int) or random_orders < 0:
        raise FpsimError(f"random_orders: {random_orders!r} is not a count")
    args = DotOperands.check(spec, a, b, c, **options)
    if args.shape:
        raise FpsimError(f"a: an order study is of one dot product, not of {args.shape} of them")
    rows = Rows.of(spec, args)
    terms = rows.products()[0] if spec.block is None else rows.block_terms(spec.block)[0][0]
    parts = terms.reshape(1, -1)
    size = 1 if spec.block is None else spec.block.size
    whole = args.length // size
    keys = terms[: whole * (spec.quadrants if spec.block else 1)].reshape(whole, -1).sum(axis=1)
    names, orders = _orders(keys, random_orders, seed)
    index = (orders[:, :, None] * size + np.arange(size)).reshape(len(names), -1)
    tail = np.broadcast_to(np.arange(whole * size, args.length), (len(names), args.length % size))
    whole_index = np.concatenate([index, tail], axis=1)
    starts = range(0, len(names), ORDERS_AT_ONCE)
    codes = np.concatenate([
        dot_codes(spec, _permuted(args, whole_index[i : i + ORDERS_AT_ONCE]))
        for i in counted(starts)
    ])  # fmt: skip
    values = spec.result.decode(codes).astype(np.float64)
    first = float(spec.initial.decode(args.c.reshape(1))[0])
    total = np.empty(1)
    limbs.exact_dots(parts, np.ones(parts.shape), np.array([first]), False, total)
    outcomes = zip(names, codes.tolist(), values.tolist(), strict=True)
    return Study(spec.name, float(total[0]), tuple(Outcome(*o) for o in outcomes))


def _orders(keys: Array, count: int, seed: int) -> tuple[list[str], Array]:
    """Return names and permutations (orders, K) of named and random orders."""
    given = np.arange(keys.size)
    ascending = np.argsort(keys, kind="stable")
    small = np.argsort(np.abs(keys), kind="stable")
    rng = numpy_generator(seed)
    orders = [given, given[::-1], ascending, ascending[::-1], small, small[::-1]]
    orders += [rng.permutation(keys.size) for _ in range(count)]
    return [*ORDERS[:-1], *[ORDERS[-1]] * count], np.array(orders)


def _permuted(args: DotOperands, index: Array) -> DotOperands:
    """Return one dot product per row of ``index`` (P, K), with a scale per element."""
    return DotOperands(
        a=args.a.ordered(index),
        b=args.b.ordered(index),
        c=np.broadcast_to(args.c, index.shape[:1]),
        given=None,
    )
