# SPDX-License-Identifier: Apache-2.0
"""Casts of training operands beyond those of inference: stochastic, unclipped, unbiased.

Each takes float32 rows (R, K) along the summed axis and returns codes and scales
(`fpsim.units.operands.Operand`). Random integers come from a `Randomness`. y is the number that is
rounded to the element format, fl one rounding to float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.blocks.casts import VECTOR_BLOCKS
from fpsim.blocks.fields import Span
from fpsim.blocks.scale_rules import (
    Arithmetic,
    ScaleRule,
    block_scales,
    outer_scale,
    power_of_two_codes,
)
from fpsim.bridge.cast import block_operand
from fpsim.bridge.training.randomness import Randomness
from fpsim.bridge.training.stochastic import stochastic_e2m1
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.rounding import Rounding
from fpsim.kernels.codec.encode import VECTOR_MINIMUM
from fpsim.kernels.codec.scaled_blocks import block_extremes
from fpsim.units.operands import Operand, Scales

__all__ = [
    "E2M1",
    "E4M3",
    "RANDOM_BITS",
    "EdenCast",
    "ElementCast",
    "FormatCast",
    "QuestCast",
    "RowMaximumCast",
    "TrainingCast",
    "UnclippedMxCast",
    "block_maxima",
    "grid_units",
    "scaled_rows",
]

Floats = NDArray[np.float32]


def _float_format(name: str) -> FloatFormat:
    found = get_format(name)
    assert isinstance(found, FloatFormat)
    return found


E2M1, E4M3 = _float_format("e2m1"), _float_format("e4m3fn")
#: Default of random bits of a stochastic cast.
RANDOM_BITS = 8
MAX_RANDOM_BITS = 16


class TrainingCast(Protocol):
    """A cast of one operand of a training product; any object with these members is one.

    A cast with a grid other than that of the operand's scales and factors also has a method
    ``grid_units(rows, operand)``, which returns rows in units of the grid, for slopes.
    """

    @property
    def element(self) -> Format:
        """Element format of the codes."""

    @property
    def along(self) -> int:
        """Elements of which the rows must have a multiple."""

    @property
    def stochastic(self) -> bool:
        """Whether casts of one tensor differ with the `Randomness`."""

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows (R, K), finite and of one tensor, as an operand.

        Raises:
            FpsimError: values without a code.
        """


@dataclass(frozen=True)
class ElementCast:
    """Elements without scales, such as bfloat16 (``e8m7``).

    No unit multiplies float32 (``e8m23``): a product with such an operand is the product of the
    real values, rounded to float32.
    """

    name: str
    along: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    @cached_property
    def element(self) -> Format:
        """Element format."""
        return get_format(self.name)

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as codes, rounded to nearest, saturating."""
        return Operand(self.element.encode(rows, "rne", "saturate"), self.element)


@dataclass(frozen=True)
class FormatCast:
    """Cast to a block format, whose fields give scales and the rounding of elements and scales.

    With ``rounding = "sr"`` an element at k / 2^n of the way between two neighbours goes to the
    upper one with probability k / 2^n, n being ``random_bits``; an element between such places is
    first cut to the place nearer to zero.
    """

    fmt: BlockFormat
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        _check_bits(self.random_bits)

    @property
    def element(self) -> Format:
        """Element format of the unit's codes."""
        return self.fmt.wide

    @property
    def along(self) -> int:
        """Elements of a block along the rows."""
        block = self.fmt.block
        if isinstance(block, Span):
            return 1
        return block if isinstance(block, int) else block[1]

    @property
    def stochastic(self) -> bool:
        """Whether elements or scales are rounded stochastically."""
        return Rounding.SR in (self.fmt.rounding, self.fmt.scale_rounding)

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand."""
        if self._is_plain and randomness.source == "counter" and not rows.shape[1] % self.along:
            return self._stochastic(rows, randomness)
        more: dict[str, Any] = {}
        if self.fmt.rounding is Rounding.SR:
            more["random"] = randomness.integers(_shape(rows), self.random_bits)
        if self.fmt.scale_rounding is Rounding.SR:
            groups = (rows.shape[0], -(-rows.shape[1] // self.along))
            more["scale_random"] = randomness.of("scales").integers(groups, self.random_bits)
        if more:
            more["random_bits"] = self.random_bits
        return block_operand(self.fmt, self.fmt.quantize(rows, axis=1, nan="error", **more))

    @cached_property
    def _is_plain(self) -> bool:
        """Whether elements are E2M1, stochastic, with a float scale per block of a row."""
        fmt = self.fmt
        stochastic = fmt.rounding is Rounding.SR and fmt.scale_rounding is not Rounding.SR
        plain = fmt.rule is ScaleRule.ABSMAX and fmt.arithmetic is Arithmetic.DIVIDE
        blocks = isinstance(fmt.block, int) and fmt.outer is Span.TENSOR and fmt.macro is None
        return stochastic and plain and blocks and fmt.element == E2M1

    def _stochastic(self, rows: Floats, randomness: Randomness) -> Operand:
        """Quantize rows stochastically in one loop, with the bits of `BlockFormat.quantize`."""
        fmt, scale = self.fmt, self.fmt.scale
        assert scale is not None
        amax = block_maxima(rows, self.along)
        outer = outer_scale(fmt, amax.max())
        divisors = block_scales(fmt, amax, outer)
        codes = stochastic_e2m1(
            rows, divisors.factor, self.along, self.random_bits, randomness.seed
        )
        factor = _factor(outer.scale) if fmt.tensor_range else None
        return Operand(codes, E2M1, Scales.of_rows(divisors.codes, scale, self.along), factor)


@dataclass(frozen=True)
class UnclippedMxCast:
    """MXFP4 with stochastic rounding that never clips (2502.20586; Quartet, 2505.14669).

    The block scale is 2^(floor(log2 amax) - 2), which leaves magnitudes of up to 8; y = fl(3 x / 4)
    over the scale is below 6, and the factor fl(4 / 3) is applied after the product.
    """

    block: int = 32
    random_bits: int = RANDOM_BITS
    stochastic: ClassVar[bool] = True
    element: ClassVar[Format] = E2M1

    def __post_init__(self) -> None:
        _check_bits(self.random_bits)

    @property
    def along(self) -> int:
        """Elements of a block."""
        return self.block

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand."""
        amax = block_maxima(rows, self.block)
        scales = power_of_two_codes(ScaleRule.FLOOR, amax, self.element)
        powers = E8M0.decode(scales).astype(np.float32)
        if randomness.source == "counter":
            bits, seed = self.random_bits, randomness.seed
            codes = stochastic_e2m1(rows, powers, self.block, bits, seed, before=0.75)
        else:
            y = _blocks(rows, self.block) * np.float32(0.75) / powers[..., None]
            random = randomness.integers(_shape(rows), self.random_bits)
            codes = self.element.encode(
                y.reshape(rows.shape), "sr", random=random, random_bits=self.random_bits
            )
        return Operand(
            codes, self.element, Scales.of_rows(scales, E8M0, self.block), _factor(4 / 3)
        )


@dataclass(frozen=True)
class QuestCast:
    """QuEST's cast of a rotated operand to MXFP4 (2502.05003; Quartet's forward pass).

    The block scale is 2^floor(log2(2.92248 r / 6)), r the root mean square of the block; without
    the floor it would clip at 2.92 r, where E2M1 loses least on Gaussian data. Elements are rounded
    to nearest and saturate.
    """

    block: int = 32
    stochastic: ClassVar[bool] = False
    element: ClassVar[Format] = E2M1
    #: (2.92248 / 6)^2
    RATIO: ClassVar[float] = (2.92248 / 6) ** 2

    @property
    def along(self) -> int:
        """Elements of a block."""
        return self.block

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand."""
        blocks = _blocks(rows, self.block)
        square = np.square(blocks, dtype=np.float64).mean(axis=-1) * self.RATIO
        # floor(log2 of the root of m 2^e), m in [1, 2), is floor(e / 2).
        exponent = (np.frexp(square)[1] - 1) // 2
        found = np.clip(exponent + E8M0.bias, 0, E8M0.max_code)
        scales = np.where(square > 0, found, 0).astype(np.uint8)
        with np.errstate(over="ignore"):
            y = blocks / _powers(scales)
        codes = self.element.encode(y.reshape(rows.shape), "rne", "saturate")
        return Operand(codes, self.element, Scales.of_rows(scales, E8M0, self.block))


@dataclass(frozen=True)
class EdenCast:
    """NVFP4 rounded to nearest and made unbiased by its scales (Quartet II, 2601.22813).

    Elements q are NVFP4's with scales ``override`` times amax / 6, rounded to nearest. Each
    ``group`` of elements has the factor f = <x, x> / <x, q s>, with which random rotations of x and
    their casts have equal lengths on average; its block scales become f s, rounded stochastically
    to E4M3. Sums of squares and f are float64.
    """

    group: int = 128
    override: float = 17 / 16 * 0.93
    random_bits: int = RANDOM_BITS
    stochastic: ClassVar[bool] = True
    element: ClassVar[Format] = E2M1
    BLOCK: ClassVar[int] = 16

    def __post_init__(self) -> None:
        _check_bits(self.random_bits)
        if self.group < self.BLOCK or self.group % self.BLOCK:
            raise FpsimError(f"recipe: group: {self.group!r} is not a multiple of {self.BLOCK}")

    @property
    def along(self) -> int:
        """Elements of a group."""
        return self.group

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand."""
        blocks = _blocks(rows, self.BLOCK)
        amax = np.abs(blocks).max(axis=-1)
        outer = outer_scale(_EDEN, amax.max())
        divisors = block_scales(_EDEN, amax, outer, limit=6 / self.override)
        with np.errstate(all="ignore"):
            y = np.where(blocks == 0, np.float32(0), blocks / divisors.factor[..., None])
        codes = self.element.encode(y.reshape(rows.shape), "rne", "saturate")
        factor = _factor(outer.scale if outer.scale > 0 else 1)
        scales = Scales.of_rows(divisors.codes, E4M3, self.BLOCK)
        operand = Operand(codes, self.element, scales, factor)
        x = _blocks(rows, self.group).astype(np.float64)
        cast = operand.dequantize().reshape(x.shape)
        length, along = (x * x).sum(axis=-1), (x * cast).sum(axis=-1)
        f = np.where(along > 0, length / np.where(along > 0, along, 1), 1.0)
        raw = E4M3.decode(divisors.codes) * np.repeat(f, self.group // self.BLOCK, axis=1)
        random = randomness.of("scales").integers(_shape(raw), self.random_bits)
        found = E4M3.encode(raw, "sr", "saturate", random=random, random_bits=self.random_bits)
        return replace(operand, scales=Scales.of_rows(found, E4M3, self.BLOCK))


#: NVFP4 whose tensor scale leaves room for the factors of block scales.
_EDEN = replace(get_block_format("nvfp4"), name="nvfp4-eden", tensor_range=256)


@dataclass(frozen=True)
class RowMaximumCast:
    """E2M1 with one real scale per row (2501.17116): amax / 6, in float32.

    y = fl(x / fl(amax / 6)) is compared with the midpoints of the grid; ``y < midpoint`` goes down,
    so ties go up, also for negative values. ``power`` takes powers of two that leave the largest
    magnitude in (3, 6], ``bfloat16`` compares y rounded to bfloat16.
    """

    power: bool = False
    bfloat16: bool = False
    along: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False
    element: ClassVar[Format] = E2M1

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand with a factor per row."""
        factor = self.factor(rows)
        y = scaled_rows(rows, factor)
        if self.bfloat16:
            y = get_format("e8m7").decode(get_format("e8m7").encode(y, "rne")).astype(np.float32)
        codes = _ORDER[np.searchsorted(_MIDPOINTS, y, side="right")]
        return Operand(codes, self.element, factor=factor)

    def factor(self, rows: Floats) -> Floats:
        """Return the factor (R, 1) of the elements of each row; 1 for rows of zeros."""
        amax = np.abs(rows).max(axis=1, keepdims=True)
        if self.power:  # 2^floor(log2(6 / amax)) = 2^-ceil(log2(amax / 6))
            mantissa, exponent = np.frexp(amax.astype(np.float64) / 6)
            up = np.where(mantissa == 0.5, exponent - 1, exponent)
            factor = np.ldexp(1.0, np.clip(up, -126, 127)).astype(np.float32)
        else:
            factor = amax / np.float32(6)
        return np.where(factor > 0, factor, np.float32(1))


#: Codes of E2M1 in the order of their values, with one zero, and the midpoints between them.
_ORDER = np.array([15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7], dtype=np.uint8)
_VALUES = E2M1.decode(_ORDER).astype(np.float32)
_MIDPOINTS = (_VALUES[1:] + _VALUES[:-1]) / 2


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_RANDOM_BITS:
        raise FpsimError(f"recipe: random_bits: {bits!r} is not in 1..{MAX_RANDOM_BITS}")


def scaled_rows(rows: Floats, factor: Floats) -> Floats:
    """Return rows over their factors, rounded to float32."""
    return rows / factor


def grid_units(cast: TrainingCast, rows: Floats, operand: Operand) -> Floats:
    """Return rows over their scales, then over their factors, each rounded to float32.

    Args:
        cast: the cast of the operand; its ``grid_units`` is used if it has one.
        rows: (R, K).
        operand: the cast rows, with their scales.

    Returns:
        The rows in units of the element's grid, (R, K).
    """
    own = getattr(cast, "grid_units", None)
    if own is not None:
        return np.asarray(own(rows, operand), dtype=np.float32)
    if operand.scales is not None:
        scales = operand.scales.format.decode(operand.scales.given).astype(np.float32)
        rows = scaled_rows(rows, np.repeat(scales, operand.block, axis=1)[:, : rows.shape[1]])
    return rows if operand.factor is None else scaled_rows(rows, operand.factor)


def block_maxima(rows: Floats, block: int) -> Floats:
    """Return the largest magnitude of each block (R, G); blocks divide the rows.

    Raises:
        FpsimError: NaN or an infinity, which have no codes.
    """
    amax: Floats
    if block not in VECTOR_BLOCKS or rows.size < VECTOR_MINIMUM:
        amax = np.abs(_blocks(rows, block)).max(axis=-1)
    else:
        amax = np.empty((rows.shape[0], rows.shape[1] // block), dtype=np.float32)
        flat = np.ascontiguousarray(rows).reshape(-1)
        bits = np.zeros(1, np.int32)
        block_extremes(block, False)(flat, amax.reshape(-1).view(np.int32), bits)
    if not np.isfinite(amax).all():
        raise FpsimError("x: NaN or infinity has no code")
    return amax


def _blocks(rows: Floats, size: int) -> Floats:
    return rows.reshape(rows.shape[0], -1, size)


def _powers(scales: NDArray[np.uint8]) -> Floats:
    """Return the values of E8M0 codes, one per block."""
    return E8M0.decode(scales).astype(np.float32)[..., None]


def _factor(value: float) -> Floats:
    return np.full((1, 1), value, dtype=np.float32)


def _shape(rows: NDArray[Any]) -> tuple[int, int]:
    return rows.shape[0], rows.shape[1]
