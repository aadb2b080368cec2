# SPDX-License-Identifier: Apache-2.0
"""The operands of dot products: codes with their formats and scales, checked once, in one shape.

K, the axis that is summed, is the last axis of codes everywhere. Scales are codes of the unit's
scale formats, one per ``block`` consecutive elements along K (the last block may be partial). E8M0
code ``s`` adds ``s - 127`` to the exponents of the products it covers, 255 makes them NaN; an
integer exponent ``n`` per group, such as LLM-FP4's per-channel shift, is code 127 + n. An operand
that `MacSpec.sign_split` names has two scales per block in one more, last axis: for elements
without the sign bit, and with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, Format, check_codes
from fpsim.formats.random_bits import RandomBits
from fpsim.units.given_operands import OperandLike, given_operands
from fpsim.units.spec import MacSpec

__all__ = [
    "DotOperands",
    "DotOptions",
    "Operand",
    "OperandOptions",
    "ScaleOptions",
    "Scales",
    "Side",
    "check_block",
    "check_elements",
    "check_initial",
    "check_length",
    "check_random",
    "check_rows",
    "check_scales",
    "sides",
]

Array = NDArray[Any]


class DotOptions(TypedDict, total=False):
    """Rare arguments of a product, ``block`` and ``random``: see `fpsim.unit.MacUnit.dot`."""

    block: int | None
    random: ArrayLike | RandomBits | None


class ScaleOptions(DotOptions, total=False):
    """Scales of both operands, and the arguments of `DotOptions`."""

    a_scale: ArrayLike | None
    b_scale: ArrayLike | None


class OperandOptions(ScaleOptions, total=False):
    """Addend and scales of a product, and the arguments of `DotOptions`."""

    c: ArrayLike | None


@dataclass(frozen=True, eq=False)
class Scales:
    """Scale codes (..., G, S) of a format, one group per ``block`` elements along K.

    S is 1; or 2 if elements have scales apart by sign bit, clear first, then set.
    """

    codes: Array
    format: Format
    block: int = 1

    @classmethod
    def of_rows(cls, codes: Array, fmt: Format, block: int) -> Scales:
        """Return the scales of rows (R, K).

        Args:
            codes: (R, G), or (R, G, 2) split by sign.
            fmt: format of the codes.
            block: elements along K that share a scale.

        Returns:
            The scales, with a last axis for the signs.
        """
        return cls(codes if codes.ndim == 3 else codes[..., None], fmt, block)

    @property
    def split(self) -> bool:
        """Whether positive and negative elements have scales apart."""
        return bool(self.codes.shape[-1] == 2)

    @property
    def given(self) -> Array:
        """The codes as users give them: (..., G), or (..., G, 2) split by sign."""
        return self.codes if self.split else self.codes[..., 0]

    def spread(self, size: int, length: int) -> Array:
        """Return codes (..., ceil(length / size), S), one group per ``size`` elements.

        Args:
            size: elements per scale in the result: a divisor of ``block``, or a multiple of it if
                the blocks inside have equal scales.
            length: K.
        """
        groups = -(-length // size)
        if self.block < size:
            return self.codes[..., :: size // self.block, :][..., :groups, :]
        whole = self.codes
        if self.block > size:
            whole = np.repeat(whole, self.block // size, axis=-2)
        return whole if whole.shape[-2] == groups else whole[..., :groups, :]

    def cut(self, start: int, stop: int) -> Scales:
        """Return the scales of elements ``start..stop - 1``; if ``start`` cuts a block, one scale
        per element."""
        if start % self.block:
            return Scales(self.spread(1, stop)[..., start:, :], self.format)
        part = slice(start // self.block, -(-stop // self.block))
        return replace(self, codes=self.codes[..., part, :])


@dataclass(frozen=True, eq=False)
class Operand:
    """Codes (..., K) of a format, with scales, factors and offsets.

    The value of an element is its code times its scale, plus the offset of its block, times the
    factor of its row. The unit multiplies code and scale. Offsets and factors are constant along a
    block or along K, so that hardware adds and multiplies them after the product
    (`fpsim.bridge.product.Product`).

    Args:
        codes: (..., K).
        format: format of the codes.
        scales: scales of blocks along K.
        factor: (R, 1) or (1, 1), multiplies the results of rows (R, K).
        zeros: zero points (R, 1) of integers without scales: values are (code - zero) times factor.
        offsets: real numbers (R, G), one per block of the scales; (R, 1) without scales.

    Raises:
        FpsimError: zero points of a float format or beside scales, or offsets of a wrong shape.
    """

    codes: Array
    format: Format
    scales: Scales | None = None
    factor: NDArray[np.float32] | None = None
    zeros: NDArray[np.int64] | None = None
    offsets: NDArray[np.float32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave `found` out of copies and pickles."""
        return {name: value for name, value in self.__dict__.items() if name != "_found"}

    def __post_init__(self) -> None:
        if self.zeros is None and self.offsets is None:
            return
        integers = isinstance(self.format, FixedFormat) and not self.format.lsb
        if self.zeros is not None and not (integers and self.scales is None):
            raise FpsimError(
                f"zeros: a zero point per row needs integers without block scales, not "
                f"{self.format.name}"
            )
        if self.offsets is None:
            return
        wanted = (self.codes.shape[0], -(-self.length // self.block))
        if self.offsets.shape != wanted:
            raise FpsimError(
                f"offsets: shape {self.offsets.shape} is not {wanted}, one per row and block of "
                f"{self.block}"
            )

    @property
    def found(self) -> dict[str, Any]:
        """Facts and packed arrays that products keep with the operand, as long as it lives."""
        found: dict[str, Any] = self.__dict__.setdefault("_found", {})
        return found

    @property
    def length(self) -> int:
        """K, the number of elements that are summed."""
        return int(self.codes.shape[-1])

    @property
    def scaled(self) -> bool:
        """Whether there are scales."""
        return self.scales is not None

    @property
    def block(self) -> int:
        """Elements along K that share a scale; all of them without scales."""
        return self.length if self.scales is None else self.scales.block

    @property
    def signs(self) -> NDArray[np.intp]:
        """1 where the sign bit is set, in the shape of the codes."""
        if not self.format.signed:
            return np.zeros(self.codes.shape, dtype=np.intp)
        return (self.codes >> (self.format.bits - 1)).astype(np.intp)

    def element_scales(self) -> Array | None:
        """Return the scale code of every element (..., K), or None if there are no scales."""
        if self.scales is None:
            return None
        codes = self.scales.spread(1, self.length)
        if self.scales.split:
            codes = np.take_along_axis(codes, self.signs[..., None], axis=-1)
        return codes[..., 0]

    def element_offsets(self) -> NDArray[np.float64] | None:
        """Return the offset of every element (R, K), or None if there are no offsets."""
        if self.offsets is None:
            return None
        each = np.repeat(self.offsets.astype(np.float64), self.block, axis=1)
        return each[:, : self.length]

    def scaled_values(self) -> NDArray[np.float64]:
        """Return code times scale of every element (..., K), exactly, as a unit multiplies them."""
        values = np.asarray(self.format.decode(self.codes))
        scales = self.element_scales()
        if self.scales is None or scales is None:
            return values
        return np.asarray(values * self.scales.format.decode(np.ascontiguousarray(scales)))

    def values(self) -> NDArray[np.float64]:
        """Return `scaled_values` minus zero points, or plus offsets rounded once to float64."""
        values, offsets = self.scaled_values(), self.element_offsets()
        if offsets is not None:
            values = values + offsets
        return values if self.zeros is None else values - self.zeros

    def dequantize(self) -> NDArray[np.float64]:
        """Return `values` times ``factor``, rounded once to float64."""
        return self.values() if self.factor is None else self.values() * self.factor

    def at(self, index: Any) -> Operand:
        """Return the rows at an index of the leading axes: a slice, indices, or a tuple of them."""
        factor = self.factor
        if factor is not None and factor.shape[0] > 1:
            factor = factor[index]
        scales = self.scales
        if scales is not None:
            scales = replace(scales, codes=scales.codes[index])
        return replace(
            self,
            codes=self.codes[index],
            scales=scales,
            factor=factor,
            zeros=None if self.zeros is None else self.zeros[index],
            offsets=None if self.offsets is None else self.offsets[index],
        )

    def broadcast(self, shape: tuple[int, ...]) -> Operand:
        """Return the rows broadcast to leading axes of a shape, without copying."""
        scales = self.scales
        if scales is not None:
            codes = np.broadcast_to(scales.codes, (*shape, *scales.codes.shape[-2:]))
            scales = replace(scales, codes=codes)
        return replace(
            self, codes=np.broadcast_to(self.codes, (*shape, self.length)), scales=scales
        )

    def flat(self) -> Operand:
        """Return the rows with one leading axis, (R, K)."""
        scales = self.scales
        if scales is not None:
            scales = replace(scales, codes=scales.codes.reshape(-1, *scales.codes.shape[-2:]))
        return replace(self, codes=self.codes.reshape(-1, self.length), scales=scales)

    def cut(self, start: int, stop: int) -> Operand:
        """Return the elements ``start..stop - 1`` of K; scales as by `Scales.cut`."""
        scales = None if self.scales is None else self.scales.cut(start, stop)
        return replace(self, codes=self.codes[..., start:stop], scales=scales)

    def ordered(self, index: Any) -> Operand:
        """Return elements of K at an index, with a scale per element.

        For one row (K,) the index may be an array of any shape; the result has its shape.
        """
        scales = self.scales
        if scales is not None:
            codes = scales.spread(1, self.length)[..., index, :]
            scales = Scales(codes, scales.format)
        return replace(self, codes=self.codes[..., index], scales=scales)

    def with_block(self, block: int) -> Operand:
        """Return the operand with each scale repeated, one per ``block`` elements, a divisor."""
        scales = self.scales
        if scales is None or scales.block == block:
            return self
        codes, offsets = np.ascontiguousarray(scales.spread(block, self.length)), self.offsets
        if offsets is not None:
            offsets = np.repeat(offsets, scales.block // block, axis=1)[:, : codes.shape[-2]]
        return replace(self, scales=Scales(codes, scales.format, block), offsets=offsets)

    @cached_property
    def columns(self) -> Operand:
        """Rows (R, K) with K before R in memory, as matrix products read ``b`` fastest."""
        scales = self.scales
        if scales is not None:
            codes = np.ascontiguousarray(scales.codes.swapaxes(0, 1)).swapaxes(0, 1)
            scales = replace(scales, codes=codes)
        return replace(self, codes=np.ascontiguousarray(self.codes.T).T, scales=scales)


class Side(NamedTuple):
    """Element and scale format of operand ``a`` or ``b``."""

    name: str  #: ``a`` or ``b``
    format: Format
    scale: Format
    split: bool  #: whether positive and negative elements have scales apart


@lru_cache(maxsize=256)
def sides(spec: MacSpec) -> tuple[Side, Side]:
    """Return element and scale formats of a unit's operands ``a`` and ``b``."""
    return (
        Side("a", spec.a, spec.a_scale, spec.splits("a")),
        Side("b", spec.b, spec.b_scale, spec.splits("b")),
    )


# -- checks --------------------------------------------------------------------------------------


def check_elements(
    spec: MacSpec, a: ArrayLike, b: ArrayLike, matrices: bool
) -> tuple[Array, Array]:
    """Return the codes of both operands.

    Args:
        spec: the unit.
        a, b: codes (..., K), or with ``matrices`` (M, K) and (K, N).
        matrices: whether the codes are operands of a matrix product.

    Returns:
        Codes (..., K), or (M, K) and (N, K).

    Raises:
        FpsimError: a wrong dtype, a code out of range, no elements, or two lengths K.
    """
    first = check_rows(a, spec.a, "a", matrices)
    second = check_rows(b, spec.b, "b", matrices)
    check_length(first.shape[-1], second.shape[0 if matrices else -1], matrices)
    return first, second.T if matrices else second


def check_rows(given: ArrayLike, fmt: Format, name: str, matrix: bool) -> Array:
    """Return the codes of one operand.

    Args:
        given: codes; two axes if ``matrix``.
        fmt: format of the codes.
        name: name of the operand, for errors.
        matrix: whether the operand is one of a matrix product.

    Returns:
        Codes of the format's type, in the shape that was given.

    Raises:
        FpsimError: a wrong dtype, a code out of range, or no elements.
    """
    codes = check_codes(given, fmt, name)
    if matrix and (codes.ndim != 2 or 0 in codes.shape):
        raise FpsimError(f"{name}: shape {codes.shape} is not a matrix with elements")
    if codes.ndim < 1 or codes.shape[-1] < 1:
        raise FpsimError(f"{name}: shape {codes.shape} has no elements along K (last axis)")
    return codes


def check_length(length: int, found: int, matrices: bool) -> None:
    """Refuse a second operand whose K differs from the first operand's.

    Args:
        length: K of the first operand.
        found: K of the second operand.
        matrices: whether the operands are matrices (M, K) and (K, N).

    Raises:
        FpsimError: ``length`` and ``found`` differ.
    """
    if found != length:
        axis = "first" if matrices else "last"
        raise FpsimError(f"b: K is {found} along its {axis} axis but {length} in a")


def check_initial(spec: MacSpec, c: ArrayLike, shape: tuple[int, int] | None = None) -> Array:
    """Return initial accumulator codes.

    Args:
        spec: the unit.
        c: codes of the unit's initial format.
        shape: required shape (M, N); None for any.

    Returns:
        The codes.

    Raises:
        FpsimError: a wrong dtype, a code out of range, or a shape other than ``shape``.
    """
    codes = check_codes(c, spec.initial, "c")
    if shape is not None and codes.shape != shape:
        raise FpsimError(f"c: shape {codes.shape} is not ({shape[0]}, {shape[1]})")
    return codes


def check_scales(
    spec: MacSpec,
    side: Side,
    scale: ArrayLike | None,
    length: int,
    block: int | None,
    matrix: tuple[int | None, int | None] | None = None,
) -> Scales | None:
    """Return the scales of one operand, or None if it has none.

    Args:
        spec: the unit.
        side: the operand, with its formats.
        scale: codes (..., G), or (..., G, 2) split by sign; None if there are none.
        length: K.
        block: elements per scale, or None where G divides K.
        matrix: required shape for a matrix product, with None for G, which comes first for ``b``;
            None for dot products.

    Returns:
        The scales of rows, K before the signs.

    Raises:
        FpsimError: a wrong dtype or shape, a code out of range, groups that do not cover K, or
            blocks that cut the unit's blocks of products.
    """
    if scale is None:
        return None
    name = f"{side.name}_scale"
    codes = check_codes(scale, side.scale, name)
    if side.split and (codes.ndim < 2 or codes.shape[-1] != 2):
        raise FpsimError(
            f"{name}: shape {codes.shape} has no last axis of 2 (one scale per sign), which "
            f"{spec.name} needs"
        )
    if matrix is not None:
        wanted = (*matrix, 2) if side.split else matrix
        groups = codes.shape[matrix.index(None)] if codes.ndim == len(wanted) else None
        if codes.shape != tuple(groups if w is None else w for w in wanted):
            text = ", ".join("G" if w is None else str(w) for w in wanted)
            raise FpsimError(f"{name}: shape {codes.shape} is not ({text})")
        if matrix[0] is None:
            codes = codes.swapaxes(0, 1)
    if codes.ndim == 0:
        groups = 0
    else:
        codes = codes if side.split else codes[..., None]
        groups = codes.shape[-2]
    size = _block_size(name, groups, length, block)
    check_block(spec, name, size)
    return Scales(codes, side.scale, size)


def check_block(spec: MacSpec, name: str, size: int) -> None:
    """Refuse scales whose blocks cut a unit's blocks of products.

    Args:
        spec: the unit.
        name: name of the scales, for errors.
        size: elements per scale.

    Raises:
        FpsimError: ``size`` is no multiple of the unit's block.
    """
    if spec.block is not None and size % spec.block.size:
        raise FpsimError(
            f"{name}: one scale per {size} elements, but {spec.name} sums blocks of "
            f"{spec.block.size}; a multiple is needed"
        )


def _block_size(name: str, groups: int, length: int, block: int | None) -> int:
    """Return the elements along K per scale: ``block``, or K over the number of groups."""
    if block is not None:
        if not isinstance(block, int | np.integer) or block < 1:
            raise FpsimError(f"block: {block!r} is not a positive integer")
        if groups != -(-length // block):
            raise FpsimError(
                f"{name}: {groups} groups do not cover K = {length} in blocks of {block}; "
                f"{-(-length // block)} are needed"
            )
        return int(block)
    if groups < 1 or length % groups:
        raise FpsimError(
            f"{name}: {groups} groups do not divide K = {length}; "
            "give block= for a partial last one"
        )
    return length // groups


def check_random(
    spec: MacSpec, random: ArrayLike | RandomBits | None, shape: tuple[int, ...], length: int
) -> Array | RandomBits | None:
    """Return the random integers for the roundings of a product.

    Args:
        spec: the unit.
        random: integers that broadcast to (*shape, roundings), a `RandomBits`, or None.
        shape: of the result.
        length: K.

    Returns:
        Integers (*shape, roundings), a `RandomBits`, or None if the unit does not round at random.

    Raises:
        FpsimError: random bits for a unit that takes none, no random bits for a unit that takes
            some, or integers out of range or of a wrong shape.
    """
    count = spec.roundings(length)
    if not count:
        if random is not None:
            raise FpsimError(f"random: {spec.name} takes no random bits")
        return None
    if random is None:
        raise FpsimError(f"random: {spec.name} rounds stochastically and needs random integers")
    if isinstance(random, RandomBits):
        return replace(random, width=spec.random_bits)
    array = check_codes(random, FixedFormat(spec.random_bits, signed=False), "random")
    try:
        return np.broadcast_to(array, (*shape, count))
    except ValueError:
        raise FpsimError(
            f"random: shape {array.shape} does not broadcast to {(*shape, count)}"
        ) from None


# -- dot products --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DotOperands:
    """``a``, ``b`` (..., K) and ``c`` (...), checked; ``given`` are random integers
    (..., roundings) or a `RandomBits`."""

    a: Operand
    b: Operand
    c: Array
    given: Array | RandomBits | None
    draws: tuple[int, int] = (0, 0)  #: random integers of each dot product that a seed makes, bits
    factors: tuple[Any, Any] = (None, None)  #: of ``a`` and ``b`` (..., 1), see `results`

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.c.shape)

    @property
    def length(self) -> int:
        """K, the number of products."""
        return self.a.length

    def results(self, values: Array) -> Array:
        """Return decoded results times the tensor and row scales, which no unit sees."""
        for factor in self.factors:
            if factor is not None:
                values = values * factor[..., 0]
        return values

    @cached_property
    def random(self) -> Array | None:
        """The random integers (..., roundings)."""
        if not isinstance(self.given, RandomBits):
            return self.given
        count, bits = self.draws
        return self.given.integers(math.prod(self.shape), count, bits).reshape(*self.shape, count)

    def at(self, index: Any) -> DotOperands:
        """Return the dot products at an index of the result."""
        random = self.random
        return replace(
            self,
            a=self.a.at(index),
            b=self.b.at(index),
            c=self.c[index],
            given=None if random is None else random[index],
        )

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
    ) -> DotOperands:
        """Check operands and broadcast them against each other.

        Args:
            spec: the unit.
            a, b, c, a_scale, b_scale, block, random: as in `fpsim.unit.MacUnit.dot`.

        Returns:
            Operands of one leading shape.

        Raises:
            FpsimError: a wrong dtype, a code out of range, shapes that do not fit, or random bits
                that the unit does not take, naming the operand.
        """
        given = given_operands(spec, (a, b), (a_scale, b_scale), block, (-1, -1))
        codes = check_elements(spec, *given.codes, matrices=False)
        length = codes[0].shape[-1]
        initial = check_initial(spec, np.zeros((), np.uint8) if c is None else c)
        scales = [
            check_scales(spec, side, scale, length, given.block)
            for side, scale in zip(sides(spec), given.scales, strict=True)
        ]
        shapes = [*(x.shape[:-1] for x in codes), initial.shape]
        shapes += [x.codes.shape[:-2] for x in scales if x is not None]
        try:
            shape = tuple(np.broadcast_shapes(*shapes))
        except ValueError:
            listed = ", ".join(str(s) for s in shapes)
            raise FpsimError(f"operands: leading shapes {listed} do not broadcast") from None
        return cls(
            a=Operand(codes[0], spec.a, scales[0]).broadcast(shape),
            b=Operand(codes[1], spec.b, scales[1]).broadcast(shape),
            c=np.broadcast_to(initial, shape),
            given=check_random(spec, random, shape, length),
            draws=(spec.roundings(length), spec.random_bits),
            factors=given.factors,
        )
