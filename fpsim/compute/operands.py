# SPDX-License-Identifier: Apache-2.0
"""The operands of a matrix product, and of dot products that run in the lanes of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.formats.random_bits import RandomBits, part_of
from fpsim.units.given_operands import OperandLike, given_operands
from fpsim.units.operands import (
    DotOperands,
    Operand,
    check_elements,
    check_initial,
    check_random,
    check_scales,
    sides,
)
from fpsim.units.spec import MacSpec

__all__ = ["MatmulOperands"]

Array = NDArray[Any]


@dataclass(frozen=True)
class MatmulOperands:
    """``a`` (M, K), ``b`` (N, K) and ``c`` (M, N) or None, for results (M, N).

    With ``paired`` they are N dot products side by side, a result of one row (1, N): column n is
    the product of row n of ``a``, which has N rows then, and row n of ``b``.
    """

    a: Operand
    b: Operand
    c: Array | None
    random: Array | RandomBits | None
    paired: bool = False
    factors: tuple[Any, Any] = (None, None)  #: of ``a`` (M, 1) or (1, 1), ``b`` (1, N) or (1, 1)

    def results(self, values: Array) -> Array:
        """Return decoded results times the scales of tensors and rows, which no unit sees."""
        for factor in self.factors:
            if factor is not None:
                values = values * factor
        return values

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the result."""
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
        b: OperandLike,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        block: int | None = None,
        random: ArrayLike | RandomBits | None = None,
    ) -> MatmulOperands:
        """Return the checked operands of a matrix product.

        Args:
            spec: the unit.
            a, b, c, a_scale, b_scale, block, random: as in `fpsim.unit.MacUnit.matmul`.

        Returns:
            Operands with K last on both sides.

        Raises:
            FpsimError: a wrong dtype, a code out of range, shapes that do not fit, or random bits
                that the unit does not take, naming the operand.
        """
        given = given_operands(spec, (a, b), (a_scale, b_scale), block, (1, 0))
        codes = check_elements(spec, *given.codes, matrices=True)
        m, n, length = len(codes[0]), len(codes[1]), codes[0].shape[1]
        initial = None if c is None else check_initial(spec, c, (m, n))
        a_side, b_side = sides(spec)
        a_scales = check_scales(spec, a_side, given.scales[0], length, given.block, (m, None))
        b_scales = check_scales(spec, b_side, given.scales[1], length, given.block, (None, n))
        return cls(
            a=Operand(codes[0], spec.a, a_scales),
            b=Operand(codes[1], spec.b, b_scales),
            c=initial,
            random=check_random(spec, random, (m, n), length),
            factors=given.factors,
        )

    @classmethod
    def side_by_side(cls, args: DotOperands) -> MatmulOperands:
        """Return dot products as operands of a matrix product of one row."""
        given, c = args.given, args.c.reshape(1, -1)
        if isinstance(given, np.ndarray):
            given = given.reshape(1, -1, given.shape[-1])
        # Without initial accumulators other than +0 more is known of the sums.
        initial = c if c.any() else None
        return cls(args.a.flat(), args.b.flat(), initial, given, paired=True)

    def cut(self, start: int, stop: int) -> MatmulOperands:
        """Return the part ``start..stop - 1`` of K, without ``c``; whole scale blocks stay."""
        return replace(self, a=self.a.cut(start, stop), b=self.b.cut(start, stop), c=None)

    def every(self, first: int, step: int) -> MatmulOperands:
        """Return every ``step``-th product from ``first`` on, without ``c``."""
        return replace(self, a=self.a.every(first, step), b=self.b.every(first, step), c=None)

    def rows(self, part: slice) -> MatmulOperands:
        """Return some rows of ``a``, ``c`` and the result; what is paired has one."""
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
        """Return some columns of operands that are paired."""
        random = self.random
        if isinstance(random, RandomBits):
            random = random.after(part.start)
        elif random is not None:
            random = random[:, part]
        c = None if self.c is None else self.c[:, part]
        return replace(self, a=self.a.at(part), b=self.b.at(part), c=c, random=random)

    def drawing(self, start: int, roundings: int, bits: int) -> MatmulOperands:
        """Return the operands with some of the random integers, their low ``bits`` bits."""
        return replace(self, random=part_of(self.random, start, roundings, bits))

    def random_integers(self, roundings: int, bits: int) -> Array | None:
        """Return the random integers (M, N, roundings) as an array."""
        if not isinstance(self.random, RandomBits):
            return self.random
        m, n = self.shape
        return self.random.integers(m * n, roundings, bits).reshape(m, n, roundings)

    def as_dots(self, spec: MacSpec) -> DotOperands:
        """Return the M * N dot products (M, N, K)."""
        rows = (None,) if self.paired else (slice(None), None)  # where the axis of N goes
        return DotOperands(
            a=self.a.at(rows).broadcast(self.shape),
            b=self.b.at((None,)).broadcast(self.shape),
            c=np.zeros(self.shape, dtype=spec.initial.dtype) if self.c is None else self.c,
            given=self.random_integers(spec.roundings(self.length), spec.random_bits),
        )
