# SPDX-License-Identifier: Apache-2.0
"""Operands of a matrix product, and of dot products that run as one row of a matrix product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.random_bits import RandomBits, part_of
from fpsim.units.given_operands import OperandLike, given_operands
from fpsim.units.operands import (
    DotOperands,
    Operand,
    Side,
    check_block,
    check_elements,
    check_initial,
    check_length,
    check_random,
    check_rows,
    check_scales,
    sides,
)
from fpsim.units.spec import MacSpec

__all__ = ["MatmulOperands", "Prepared"]

Array = NDArray[Any]


_NOTHING = np.zeros((1, 1), np.uint8)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A second operand of matrix products, checked once and packed for a kernel once.

    `fpsim.unit.MacUnit.prepare` makes it; ``b`` of `fpsim.unit.MacUnit.matmul` takes it.
    """

    operand: Operand  #: rows (N, K)
    side: Side
    factor: Any  #: (1, N) or (1, 1), multiplies decoded results

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (K, N) of the operand."""
        return self.operand.length, len(self.operand.codes)

    @classmethod
    def of(
        cls, spec: MacSpec, b: OperandLike, b_scale: ArrayLike | None, block: int | None
    ) -> Prepared:
        """Check a second operand for a unit.

        Args:
            spec: the unit.
            b: codes (K, N), or anything else that `fpsim.unit.MacUnit.matmul` takes as ``b``.
            b_scale: scale codes of ``b``; None: every scale is one.
            block: elements of K per scale.

        Returns:
            The operand as rows (N, K).

        Raises:
            FpsimError: a wrong dtype, a code out of range, or scales that do not fit.
        """
        given = given_operands(spec, (_NOTHING, b), (None, b_scale), block, (1, 0))
        columns = check_rows(given.codes[1], spec.b, "b", True).T
        side = sides(spec)[1]
        operand = _columns(spec, side, columns, given.scales[1], given.block)
        return cls(operand, side, given.factors[1])

    def check(self, spec: MacSpec, b_scale: ArrayLike | None) -> None:
        """Refuse ``b_scale`` beside the prepared scales, and units with other operand formats."""
        if b_scale is not None:
            raise FpsimError("b_scale: a prepared operand has scales of its own")
        scales, own = self.operand.scales, sides(spec)[1]
        if self.side != own and (scales is not None or self.side.format != own.format):
            raise FpsimError(
                f"b: it was prepared as {_named(self.side)}; {spec.name} takes {_named(own)}"
            )
        if scales is not None:
            check_block(spec, "b_scale", scales.block)


def _named(side: Side) -> str:
    by_sign = ", one per sign" if side.split else ""
    return f"{side.format.name} with scales of {side.scale.name}{by_sign}"


def _columns(
    spec: MacSpec, side: Side, columns: Array, scales: ArrayLike | None, block: int | None
) -> Operand:
    """Check codes (K, N) of a second operand and scales (G, N); return them as rows (N, K)."""
    n, length = columns.shape
    found = check_scales(spec, side, scales, length, block, (None, n))
    return Operand(columns, side.format, found)


@dataclass(frozen=True)
class MatmulOperands:
    """``a`` (M, K), ``b`` (N, K) and ``c`` (M, N) or None, for results (M, N).

    With ``paired`` they are N dot products side by side, a result of one row (1, N): ``a`` has N
    rows too, and column n is the product of row n of ``a`` and row n of ``b``.
    """

    a: Operand
    b: Operand
    c: Array | None
    random: Array | RandomBits | None
    paired: bool = False
    factors: tuple[Any, Any] = (None, None)  #: factors of ``a`` (M, 1), ``b`` (1, N), or (1, 1)

    def results(self, values: Array) -> Array:
        """Return decoded results times the tensor and row scales, which no unit sees."""
        for factor in self.factors:
            if factor is not None:
                values = values * factor
        return values

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the result, (M, N); (1, N) of paired operands."""
        return 1 if self.paired else self.a.codes.shape[0], self.b.codes.shape[0]

    @property
    def length(self) -> int:
        """K, the number of products of a result."""
        return self.a.length

    @property
    def operands(self) -> tuple[Operand, Operand]:
        """``a`` and ``b``."""
        return self.a, self.b

    @property
    def scaled(self) -> bool:
        """Whether an operand has scales."""
        return self.a.scaled or self.b.scaled

    @classmethod
    def check(
        cls,
        spec: MacSpec,
        a: OperandLike,
        b: OperandLike | Prepared,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        block: int | None = None,
        random: ArrayLike | RandomBits | None = None,
    ) -> MatmulOperands:
        """Check the operands of a matrix product.

        Args:
            spec: the unit.
            a, b, c, a_scale, b_scale, block, random: as in `fpsim.unit.MacUnit.matmul`.

        Returns:
            Operands with K last on both sides.

        Raises:
            FpsimError: a wrong dtype, a code out of range, shapes that do not fit, or random bits
                that the unit does not take, naming the operand.
        """
        a_side, b_side = sides(spec)
        if isinstance(b, Prepared):
            given = given_operands(spec, (a, _NOTHING), (a_scale, None), block, (1, 0))
            codes, right = check_rows(given.codes[0], spec.a, "a", True), b.operand
            check_length(codes.shape[1], right.length, True)
            factors = given.factors[0], b.factor
        else:
            given = given_operands(spec, (a, b), (a_scale, b_scale), block, (1, 0))
            codes, columns = check_elements(spec, *given.codes, matrices=True)
            right = _columns(spec, b_side, columns, given.scales[1], given.block)
            factors = given.factors
        m, n, length = len(codes), len(right.codes), right.length
        scales = check_scales(spec, a_side, given.scales[0], length, given.block, (m, None))
        if isinstance(b, Prepared):
            b.check(spec, b_scale)
        return cls(
            a=Operand(codes, spec.a, scales),
            b=right,
            c=None if c is None else check_initial(spec, c, (m, n)),
            random=check_random(spec, random, (m, n), length),
            factors=factors,
        )

    @classmethod
    def side_by_side(cls, args: DotOperands) -> MatmulOperands:
        """Return dot products as paired operands of a matrix product of one row."""
        given, c = args.given, args.c.reshape(1, -1)
        if isinstance(given, np.ndarray):
            given = given.reshape(1, -1, given.shape[-1])
        # More is known of sums from +0 than of sums from any accumulator.
        initial = c if c.any() else None
        return cls(args.a.flat(), args.b.flat(), initial, given, paired=True)

    def cut(self, start: int, stop: int) -> MatmulOperands:
        """Return the part ``start..stop - 1`` of K, without ``c``; whole scale blocks stay."""
        return replace(self, a=self.a.cut(start, stop), b=self.b.cut(start, stop), c=None)

    def by_lane(self, lanes: int) -> MatmulOperands:
        """Return operands with the products i mod ``lanes`` = 0 first along K, then those of 1."""
        order = np.arange(self.length).reshape(-1, lanes).T.reshape(-1)
        a, b = (Operand(x.codes, x.format, x.scales).ordered(order) for x in self.operands)
        return replace(self, a=a, b=b)

    def rows(self, part: slice) -> MatmulOperands:
        """Return some rows of ``a``, ``c`` and the result; paired operands unchanged."""
        if self.paired:
            return self
        random = self.random
        if isinstance(random, RandomBits):
            random = random.after((part.start or 0) * self.shape[1])
        elif random is not None:
            random = random[part]
        c = None if self.c is None else self.c[part]
        return replace(self, a=self.a.at(part), c=c, random=random)

    def columns(self, part: slice) -> MatmulOperands:
        """Return some of the dot products of paired operands: columns of the result."""
        random = self.random
        if isinstance(random, RandomBits):
            random = random.after(part.start)
        elif random is not None:
            random = random[:, part]
        c = None if self.c is None else self.c[:, part]
        return replace(self, a=self.a.at(part), b=self.b.at(part), c=c, random=random)

    def drawing(self, start: int, roundings: int, bits: int) -> MatmulOperands:
        """Return the operands with a range of each result's random integers.

        Args:
            start: number of the first rounding.
            roundings: number of roundings in the range; 0: no random integers.
            bits: low bits to keep of integers in an array; a seed makes integers of any width.

        Returns:
            Operands with random integers (M, N, roundings), or with a seed advanced to ``start``.
        """
        return replace(self, random=part_of(self.random, start, roundings, bits))

    def random_integers(self, roundings: int, bits: int) -> Array | None:
        """Return the random integers (M, N, roundings) as an array."""
        if not isinstance(self.random, RandomBits):
            return self.random
        m, n = self.shape
        return self.random.integers(m * n, roundings, bits).reshape(m, n, roundings)

    def as_dots(self, spec: MacSpec) -> DotOperands:
        """Return the M * N dot products (M, N, K)."""
        rows = (None,) if self.paired else (slice(None), None)  # the None adds the axis of N
        return DotOperands(
            a=self.a.at(rows).broadcast(self.shape),
            b=self.b.at((None,)).broadcast(self.shape),
            c=np.zeros(self.shape, dtype=spec.initial.dtype) if self.c is None else self.c,
            given=self.random_integers(spec.roundings(self.length), spec.random_bits),
        )
