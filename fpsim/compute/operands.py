# SPDX-License-Identifier: Apache-2.0
"""The operands of a dot product or a matrix product: checked once, in one shape.

Scales are codes of the unit's scale formats, one per ``block`` consecutive elements along K (the
last block may be partial). E8M0 code ``s`` adds ``s - 127`` to the exponents of the products it
covers, 255 makes them NaN; an integer exponent ``n`` per group, such as LLM-FP4's per-channel
shift, is code 127 + n. An operand that `MacSpec.sign_split` names has two scales per block in one
more, last axis: for elements without the sign bit, and with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.codes_in_use import codes_between, marked
from fpsim.compute.operand_checks import (
    block_size,
    broadcast,
    check_block,
    check_matrix,
    random_bits_of,
    scale_codes,
)
from fpsim.formats.floating import check_codes
from fpsim.formats.random_bits import RandomBits, part_of
from fpsim.units.spec import MacSpec

__all__ = ["DotOperands", "DotOptions", "MatmulOperands", "OperandOptions", "ScaleOptions"]

Array = NDArray[Any]


class DotOptions(TypedDict, total=False):
    """Rarely needed arguments of a product: see `fpsim.unit.MacUnit.dot`."""

    block: int | None
    random: ArrayLike | RandomBits | None


class ScaleOptions(DotOptions, total=False):
    """The same with scales."""

    a_scale: ArrayLike | None
    b_scale: ArrayLike | None


class OperandOptions(ScaleOptions, total=False):
    """Everything that may come with ``a`` and ``b``."""

    c: ArrayLike | None


@dataclass(frozen=True)
class DotOperands:
    """``a``, ``b`` (..., K); ``c`` (...); scales (..., G) or split (..., G, 2); ``given``
    are random integers (..., roundings), or a seed that makes them."""

    a: Array
    b: Array
    c: Array
    a_scale: Array | None
    b_scale: Array | None
    a_block: int
    b_block: int
    given: Array | RandomBits | None
    draws: tuple[int, int] = (0, 0)  #: random integers of each dot product that a seed makes, bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.c.shape)

    @property
    def length(self) -> int:
        """K, the number of products."""
        return int(self.a.shape[-1])

    @cached_property
    def random(self) -> Array | None:
        """The random integers (..., roundings)."""
        if not isinstance(self.given, RandomBits):
            return self.given
        count, bits = self.draws
        return self.given.integers(math.prod(self.shape), count, bits).reshape(*self.shape, count)

    def at(self, index: tuple[Array, ...]) -> DotOperands:
        """Return the dot products at an index of the result."""
        found: dict[str, Any] = {}
        for name in ("a", "b", "c", "a_scale", "b_scale", "random"):
            array = getattr(self, name)
            found[name] = None if array is None else array[index]
        return replace(self, given=found.pop("random"), **found)

    @classmethod
    def check(
        cls,
        spec: MacSpec,
        a: ArrayLike,
        b: ArrayLike,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        block: int | None = None,
        random: ArrayLike | RandomBits | None = None,
    ) -> DotOperands:
        """Return the operands broadcast against each other.

        Raises:
            FpsimError: a wrong dtype, a code out of range, shapes that do not fit, or random bits
                that the unit does not take, naming the operand.
        """
        a_codes, b_codes = check_codes(a, spec.a, "a"), check_codes(b, spec.b, "b")
        for name, array in (("a", a_codes), ("b", b_codes)):
            if array.ndim < 1 or array.shape[-1] < 1:
                raise FpsimError(f"{name}: shape {array.shape} has no elements along K (last axis)")
        length = a_codes.shape[-1]
        if b_codes.shape[-1] != length:
            raise FpsimError(f"b: K is {b_codes.shape[-1]} along its last axis but {length} in a")
        parts = [a_codes.shape[:-1], b_codes.shape[:-1]]
        c_codes = check_codes(np.zeros((), np.uint8) if c is None else c, spec.initial, "c")
        parts.append(c_codes.shape)
        scales = []
        blocks = []
        for name, scale in (("a", a_scale), ("b", b_scale)):
            codes, size = None, 1
            if scale is not None:
                codes, groups_axis = scale_codes(spec, name, scale)
                groups = codes.shape[groups_axis:][:1]
                size = block_size(f"{name}_scale", groups, length, block)
                check_block(spec, f"{name}_scale", size)
                parts.append(codes.shape[:groups_axis])
            scales.append(codes)
            blocks.append(size)
        shape = broadcast(parts)
        return cls(
            a=np.broadcast_to(a_codes, (*shape, length)),
            b=np.broadcast_to(b_codes, (*shape, length)),
            c=np.broadcast_to(c_codes, shape),
            a_scale=_expand(spec, "a", scales[0], shape),
            b_scale=_expand(spec, "b", scales[1], shape),
            a_block=blocks[0],
            b_block=blocks[1],
            given=random_bits_of(spec, random, shape, length),
            draws=(spec.roundings(length), spec.random_bits),
        )


@dataclass(frozen=True)
class MatmulOperands:
    """``a`` (M, K), ``b`` (K, N), ``c`` (M, N) or None; ``a_scale`` (M, G), ``b_scale`` (G, N),
    with one more axis of 2 where the operand is split.

    What is ``paired`` are dot products side by side, a result of one row: column n is the product
    of row n of ``a``, N rows, and column n of ``b``.
    """

    a: Array
    b: Array
    c: Array | None
    a_scale: Array | None
    b_scale: Array | None
    a_block: int
    b_block: int
    random: Array | RandomBits | None
    paired: bool = False
    signs: tuple[int, int] = (0, 0)  #: sign bits of paired codes, 0 where there is none

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the result."""
        return 1 if self.paired else self.a.shape[0], self.b.shape[1]

    @classmethod
    def check(
        cls,
        spec: MacSpec,
        a: ArrayLike,
        b: ArrayLike,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        block: int | None = None,
        random: ArrayLike | RandomBits | None = None,
    ) -> MatmulOperands:
        """Return the checked operands; raises as `DotOperands.check` does."""
        a_codes, b_codes = check_codes(a, spec.a, "a"), check_codes(b, spec.b, "b")
        for name, array in (("a", a_codes), ("b", b_codes)):
            if array.ndim != 2 or 0 in array.shape:
                raise FpsimError(f"{name}: shape {array.shape} is not a matrix with elements")
        (m, length), (k, n) = a_codes.shape, b_codes.shape
        if k != length:
            raise FpsimError(f"b: K is {k} along its first axis but {length} in a")
        c_codes = None if c is None else check_codes(c, spec.initial, "c")
        if c_codes is not None and c_codes.shape != (m, n):
            raise FpsimError(f"c: shape {c_codes.shape} is not ({m}, {n})")
        scales: list[Array | None] = [None, None]
        blocks = [1, 1]
        given = (("a", a_scale, (m, None), 1), ("b", b_scale, (None, n), 0))
        for i, (name, scale, wanted, groups_axis) in enumerate(given):
            if scale is None:
                continue
            codes, _ = scale_codes(spec, name, scale)
            split = spec.splits(name)
            check_matrix(f"{name}_scale", codes.shape, (*wanted, 2) if split else wanted)
            groups = codes.shape[groups_axis : groups_axis + 1]
            blocks[i] = block_size(f"{name}_scale", groups, length, block)
            check_block(spec, f"{name}_scale", blocks[i])
            scales[i] = codes
        return cls(
            a=a_codes,
            b=b_codes,
            c=c_codes,
            a_scale=scales[0],
            b_scale=scales[1],
            a_block=blocks[0],
            b_block=blocks[1],
            random=random_bits_of(spec, random, (m, n), length),
        )

    @cached_property
    def used(self) -> dict[str, Array]:
        """Which codes operands and scales use, by name: a mask (2^bits of the dtype).

        Wide scales are left out; elements are looked through when they are asked for. Of those that
        are paired it is what lies between the smallest and the largest magnitude, which is quicker
        to find.
        """
        return _Used(self)

    def cut(self, start: int, stop: int) -> MatmulOperands:
        """Return the part ``start..stop - 1`` of K, without ``c``; whole scale blocks stay."""
        a_scale, a_block = _cut_scale(self.a_scale, self.a_block, 1, start, stop)
        b_scale, b_block = _cut_scale(self.b_scale, self.b_block, 0, start, stop)
        return replace(
            self,
            a=self.a[:, start:stop],
            b=self.b[start:stop],
            c=None,
            a_scale=a_scale,
            b_scale=b_scale,
            a_block=a_block,
            b_block=b_block,
        )

    def rows(self, part: slice) -> MatmulOperands:
        """Return some rows of ``a``, ``c`` and the result; what is paired has one."""
        if self.paired:
            return self
        return replace(
            self,
            a=self.a[part],
            c=None if self.c is None else self.c[part],
            a_scale=None if self.a_scale is None else self.a_scale[part],
            random=_rows_of(self.random, part, self.b.shape[1]),
        )

    def drawing(self, start: int, roundings: int, bits: int) -> MatmulOperands:
        """Return the same with some of the random integers, their low ``bits`` bits."""
        return replace(self, random=part_of(self.random, start, roundings, bits))

    def columns(self, part: slice) -> MatmulOperands:
        """Return some columns of operands that are paired."""
        random = self.random
        if isinstance(random, RandomBits):
            random = random.after(part.start)
        elif random is not None:
            random = random[:, part]
        return replace(
            self,
            a=self.a[part],
            b=self.b[:, part],
            c=None if self.c is None else self.c[:, part],
            a_scale=None if self.a_scale is None else self.a_scale[part],
            b_scale=None if self.b_scale is None else self.b_scale[:, part],
            random=random,
        )

    def random_integers(self, roundings: int, bits: int) -> Array | None:
        """Return the random integers (M, N, roundings) as an array."""
        if not isinstance(self.random, RandomBits):
            return self.random
        m, n = self.shape
        return self.random.integers(m * n, roundings, bits).reshape(m, n, roundings)

    def as_dots(self, spec: MacSpec) -> DotOperands:
        """Return the M * N dot products (M, N, K)."""
        (m, n), k = self.shape, self.a.shape[1]
        rows = (None,) if self.paired else (slice(None), None)  # where the axis of N goes
        scales = [
            None if self.a_scale is None else self.a_scale[rows],
            None if self.b_scale is None else np.moveaxis(self.b_scale, 1, 0)[None],
        ]
        a_scale, b_scale = (
            None if scale is None else np.broadcast_to(scale, (m, n, *scale.shape[2:]))
            for scale in scales
        )
        return DotOperands(
            a=np.broadcast_to(self.a[rows], (m, n, k)),
            b=np.broadcast_to(self.b.T[None], (m, n, k)),
            c=np.zeros((m, n), dtype=spec.initial.dtype) if self.c is None else self.c,
            a_scale=a_scale,
            b_scale=b_scale,
            a_block=self.a_block,
            b_block=self.b_block,
            given=self.random_integers(spec.roundings(k), spec.random_bits),
        )

    def every(self, first: int, step: int) -> MatmulOperands:
        """Return every ``step``-th product from ``first`` on, without ``c``."""
        scales: list[Array | None] = [None, None]
        for i, (scale, block) in enumerate(
            ((self.a_scale, self.a_block), (self.b_scale, self.b_block))
        ):
            if scale is not None:
                axis = 1 - i
                whole = np.repeat(scale, block, axis=axis).take(range(self.a.shape[1]), axis=axis)
                scales[i] = whole[:, first::step] if axis else whole[first::step]
        return replace(
            self,
            a=self.a[:, first::step],
            b=self.b[first::step],
            c=None,
            a_scale=scales[0],
            b_scale=scales[1],
            a_block=1,
            b_block=1,
        )


class _Used(dict[str, Array]):
    """Masks of codes in use; see `MatmulOperands.used`."""

    def __init__(self, args: MatmulOperands) -> None:
        super().__init__()
        self._args = args
        for name in ("a_scale", "b_scale"):
            codes = getattr(args, name)
            if codes is not None and codes.itemsize <= 2:
                self[name] = marked(codes)

    def __missing__(self, name: str) -> Array:
        if name not in ("a", "b"):
            raise KeyError(name)
        codes = getattr(self._args, name)
        if self._args.paired:
            self[name] = codes_between(codes.ravel(order="K"), self._args.signs[name == "b"])
        else:
            self[name] = marked(codes)
        return self[name]


def _cut_scale(
    scale: Array | None, block: int, axis: int, start: int, stop: int
) -> tuple[Array | None, int]:
    """Return the scales of a part of K, one per element where the part cuts a block."""
    if scale is None:
        return None, block
    if start % block:
        scale, block = np.repeat(scale, block, axis=axis), 1
    part = slice(start // block, -(-stop // block))
    return (scale[:, part] if axis else scale[part]), block


def _expand(
    spec: MacSpec, operand: str, scale: Array | None, shape: tuple[int, ...]
) -> Array | None:
    if scale is None:
        return None
    kept = 2 if spec.splits(operand) else 1
    return np.broadcast_to(scale, (*shape, *scale.shape[-kept:]))


def _rows_of(
    random: Array | RandomBits | None, part: slice, columns: int
) -> Array | RandomBits | None:
    """Return the random integers of some rows of a matrix product's results."""
    if isinstance(random, RandomBits):
        return random.after((part.start or 0) * columns)
    return None if random is None else random[part]
