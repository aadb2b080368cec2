# SPDX-License-Identifier: Apache-2.0
"""Turns checked operands of a matrix product into the arrays that lane kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.hashed_once import hashed_once
from fpsim.compute.bounds import float_shift, half_shift, operand_spans
from fpsim.compute.lanes.pack_bytes import byte_offset, byte_panels, byte_power, byte_rows
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import Split
from fpsim.compute.values import MAX_TABLE_BITS, compact, exponent_table, exponents_of, value_table
from fpsim.formats.floating import Format
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.tiles import Source, Tile
from fpsim.kernels.llvm.vector import Lane
from fpsim.kernels.pack import panels
from fpsim.kernels.scalar.aligned import NO_EXPONENT
from fpsim.units.operands import Operand, Side, sides
from fpsim.units.spec import MacSpec
from fpsim.units.stages import NanScale

__all__ = [
    "Packed",
    "Packing",
    "half_bits",
    "keep",
    "lane_shift",
    "pack",
    "pack_values",
    "packings",
    "powers",
]

Array = NDArray[Any]
_NO_SCALES = np.zeros((0, 0, 1), dtype=np.uint8)
_ONE = np.ones(1)
_NO_STARTS = np.zeros((1, 1, 1), dtype=np.int32)


class Packed(NamedTuple):
    """Both operands as arrays for `fpsim.kernels.llvm.matmul_driver.gemm`.

    ``a`` (planes, M, K) has rows; if every column of the result has its own ``a``, panels like
    ``b`` (planes, panels, K, columns).
    """

    a: Array
    b: Array
    x: Array
    y: Array
    x_powers: Array
    y_powers: Array
    starts: Array = _NO_STARTS

    @property
    def padded(self) -> tuple[int, int]:
        """M and N, padded to whole tiles."""
        return 1 if self.a.ndim == 4 else self.a.shape[1], self.b.shape[1] * self.b.shape[3]

    def rows(self, part: slice) -> Packed:
        """Return the operands for some rows of the result, if the step does not align."""
        a, starts = (np.ascontiguousarray(x[:, part]) for x in (self.a, self.starts))
        return self._replace(a=a, x=self.x[part], starts=starts)


def powers(exponents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return 2^e in float64; 0 for `NO_EXPONENT`, which does not count in an alignment."""
    counts = exponents > NO_EXPONENT
    return np.where(counts, np.ldexp(1.0, np.where(counts, exponents, 0)), 0.0)


def lane_shift(args: MatmulOperands, lane: Lane, source: Source) -> int:
    """Return the exponent s that moves a power of two from ``b`` to ``a`` to fit both in a lane.

    Args:
        args: scaled operands whose values times 2^s and 2^-s fit the lane, by the plan's proof.
        lane: float16, float32 or float64.
        source: where terms come from.

    Returns:
        s; 0 for float64, and for blocks, whose elements are packed without scales.
    """
    if source.block or lane is Lane.F64:
        return 0
    found = (half_shift if lane is Lane.F16 else float_shift)(*operand_spans(args))
    assert found is not None
    return found


def pack_values(args: MatmulOperands) -> tuple[Array, Array]:
    """Return the scaled values (M, K) and (N, K) in float64."""
    a, b = (np.empty(operand.codes.shape) for operand in args.operands)
    for operand, out in zip(args.operands, (a, b), strict=True):
        panels.pack_rows(operand.codes, *_scaled_table(operand, out.dtype), out)
    return a, b


@hashed_once
@dataclass(frozen=True)
class Packing:
    """How one operand is packed: M or N padded to whole tiles and K to ``depth``, with zeros.

    Elements of blocks are in planes by their sign; with ``split``, in planes by their parts too.
    """

    which: int  #: 0 for ``a``, 1 for ``b``
    side: Side
    layout: _Layout
    source: Source  #: kind of the terms
    depth: int  #: K, padded to whole turns of the kernel's loop
    dtype: Any  #: the lane's type; float16 arrays hold bit patterns
    aligned: bool  #: whether the step reads the powers 2^e of terms
    machine: Machine
    power: int  #: values, or the scales of blocks, are times 2^power
    offset: int  #: added to bytes of ``b``
    nan_scale: NanScale  #: effect of a NaN scale on its block
    split: Split | None  #: how wide elements are cut into parts


def packings(
    spec: MacSpec,
    args: MatmulOperands,
    source: Source,
    tile: Tile,
    depth: int,
    dtype: Any,
    aligned: bool,
    machine: Machine,
    power: int,
    split: Split | None,
) -> tuple[Packing, Packing]:
    """Return the packing of both operands.

    Args:
        spec: the unit.
        args: operands of the product.
        source: kind of the terms.
        tile: rows and columns that a kernel computes at a time.
        depth: K, padded to whole turns of the kernel's loop.
        dtype: the lane's type.
        aligned: whether the step reads the powers 2^e of terms.
        machine: the processor that packs.
        power: exponent moved from ``b`` to ``a``: values are times 2^-power and 2^power.
        split: how wide elements are cut into parts.

    Returns:
        The packing of ``a``, in rows, or in panels for dot products side by side; and of ``b``, in
        panels.
    """
    columns, rows = _Panels(tile.columns, args.shape[1]), _RowMajor(tile.rows, args.shape[0])
    layouts: tuple[_Layout, _Layout] = (columns if args.paired else rows, columns)
    nan_scale = NanScale.NAN if spec.block is None else spec.block.nan_scale
    # Byte sums are integers: the power of two that elements share goes to the scales of a.
    moved = (power + ((byte_power(spec) or 0) if source.bytes else 0), -power)
    offset = byte_offset(spec.b, source) if source.bytes else 0
    a, b = (
        Packing(
            i, side, layouts[i], source, depth, dtype, aligned, machine, moved[i], offset,
            nan_scale, split,
        )
        for i, side in enumerate(sides(spec))
    )  # fmt: skip
    return a, b


def pack(args: MatmulOperands, how: tuple[Packing, Packing]) -> Packed:
    """Return both operands as arrays for a lane kernel; arrays of kept operands are made once."""
    a, b = _kept(args.a, how[0]), _kept(args.b, how[1])
    return Packed(a.values, b.values, a.scales, b.scales, a.powers, b.powers, a.starts)


class _Half(NamedTuple):
    """The arrays of one operand in `Packed`."""

    values: Array
    scales: Array
    powers: Array
    starts: Array = _NO_STARTS


def _half(operand: Operand, how: Packing) -> _Half:
    """Return the arrays of one operand."""
    layout, depth, source = how.layout, how.depth, how.source
    none = np.zeros((1, 1, 1), dtype=_stored(how.dtype))
    if not source.block:
        values, exponents = _pack_values(operand, layout, depth, how.dtype, how.power), none
        if how.aligned:
            exponents = np.zeros_like(values)
            layout.store(operand, _power_table(operand, how.dtype, how.power), exponents[0])
        return _Half(values, none, exponents)
    scales = operand.scales
    codes = None if scales is None else scales.spread(source.size, operand.length)
    values_of_scales = _block_scales(operand, codes, how, False)
    powers_of_scales = _block_scales(operand, codes, how, True) if how.aligned else none
    if source.bytes and how.which:
        values = byte_panels(operand, source, layout.tile, depth, how.machine)
        return _Half(values, values_of_scales, powers_of_scales)
    if source.bytes:
        values, starts = byte_rows(operand, source, layout.tile, depth, how.offset, how.machine)
        return _Half(values, values_of_scales, powers_of_scales, starts)
    signs = source.b_signs if how.which else source.a_signs
    out = layout.array(signs, depth, how.dtype)
    for plane, target in enumerate(out):
        table = _plane_table(how.side, how.which, plane, how.split).astype(how.dtype)
        layout.store(operand, _Tables(table, scale_values=table), target)
    return _Half(out, values_of_scales, powers_of_scales)


def _block_scales(operand: Operand, codes: Array | None, how: Packing, exponents: bool) -> Array:
    """Return the scales of blocks for a kernel, in its layout.

    Args:
        operand: rows (R, K).
        codes: a scale code (R, G, S) per block of the kernel, or None: all scales are one.
        how: how the operand is packed.
        exponents: return the scales' powers of two, 2^e.
    """
    source, layout, power = how.source, how.layout, 0 if exponents else how.power
    signs = source.b_signs if how.which else source.a_signs
    whole = (layout.count, how.depth // source.size, signs)
    if codes is None:
        found = np.full((1, 1, 1), np.ldexp(1.0, power), how.dtype)
    else:
        found = _scale_values(codes, how, exponents)
    if found.shape != whole:
        short, found = np.repeat(found, signs // found.shape[2], axis=2), np.zeros(whole, how.dtype)
        found[: len(operand.codes), : -(-operand.length // source.size)] = short
    return layout.scales(found)


def _scale_values(codes: Array, how: Packing, exponents: bool) -> Array:
    """Return the values of scale codes in the lane's type, or with ``exponents`` 2^e."""
    fmt, power = how.side.scale, 0 if exponents else how.power
    if fmt.bits <= MAX_TABLE_BITS:
        table = (_lane_powers if exponents else _lane_table)(fmt, power, how.dtype)
    else:
        codes, table = compact(codes, fmt)
        table = powers(exponents_of(table, fmt)) if exponents else np.ldexp(table, power)
    found = table.take(codes).astype(how.dtype, copy=False)
    if how.nan_scale is NanScale.ZERO and not exponents:
        found[np.isnan(found)] = 0.0
    return found


# -- kept between products ------------------------------------------------------------------------


def keep(operand: Operand) -> None:
    """Let products cache the packed arrays of an operand as long as the operand lives."""
    operand.found.setdefault("packed", {})


def _kept(operand: Operand, how: Packing) -> _Half:
    """Return the arrays of one operand, from the cache if `keep` was called for it."""
    own: dict[Packing, _Half] | None = operand.found.get("packed")
    found = None if own is None else own.get(how)
    if found is None:
        found = _half(operand, how)
        if own is not None:
            own[how] = found
    return found


class _Tables(NamedTuple):
    """Tables in which a packer looks codes up: ``values[code] * scale_values[scale]``."""

    values: Array
    scales: Array = _NO_SCALES  #: indices into ``scale_values`` (R, G, S), or none
    place: int = 0  #: place of the sign bit, which selects among S = 2 scales
    scale_values: Array = _ONE
    block: int = 1  #: elements per scale


@dataclass(frozen=True)
class _RowMajor:
    """An operand's rows as a matrix product reads ``a``: front to back, padded to whole tiles."""

    tile: int
    rows: int

    @property
    def count(self) -> int:
        """Rows, padding included."""
        return -(-self.rows // self.tile) * self.tile

    def array(self, planes: int, depth: int, dtype: Any) -> Array:
        """Return zeros (planes, M, K) in this layout, with M padded to whole tiles."""
        return np.zeros((planes, self.count, depth), dtype=dtype)

    def store(self, operand: Operand, tables: _Tables, out: Array) -> None:
        """Write the looked-up values of an operand's codes (M, K) into a plane."""
        panels.pack_rows(operand.codes, *tables, out)

    def scales(self, scales: Array) -> Array:
        """Return scales (rows, G, S) in the kernel's layout."""
        return scales


@dataclass(frozen=True)
class _Panels:
    """An operand's rows as columns: panels as wide as a tile, with K before columns."""

    tile: int
    rows: int

    @property
    def count(self) -> int:
        """Columns, padding included."""
        return -(-self.rows // self.tile) * self.tile

    def array(self, planes: int, depth: int, dtype: Any) -> Array:
        """Return zeros (planes, panels, K, columns of a panel) in this layout."""
        return np.zeros((planes, self.count // self.tile, depth, self.tile), dtype=dtype)

    def store(self, operand: Operand, tables: _Tables, out: Array) -> None:
        """Write the looked-up values of an operand's codes (N, K) into a plane of panels."""
        if operand.codes.flags.c_contiguous:
            panels.pack_columns(operand.codes, *tables, out)
            return
        if tables.scales.size:
            tables = tables._replace(scales=tables.scales.swapaxes(0, 1))
        panels.pack_panels(operand.codes.T, *tables, out)

    def scales(self, scales: Array) -> Array:
        """Return scales (columns, G, S) as (panels, G, S, columns of a panel)."""
        n, groups, signs = scales.shape
        apart = scales.reshape(n // self.tile, self.tile, groups, signs)
        return np.ascontiguousarray(apart.transpose(0, 2, 3, 1))


_Layout = _RowMajor | _Panels


def _pack_values(operand: Operand, layout: _Layout, depth: int, dtype: Any, power: int) -> Array:
    """Return the scaled values of an operand times 2^power; float16 values as bit patterns."""
    if dtype == np.float16 and operand.scales is None:
        table = _lane_table(operand.format, power, dtype).view(np.uint16)
        out = layout.array(1, depth, table.dtype)
        layout.store(operand, _Tables(table, scale_values=table), out[0])
        return out
    wide = _stored(dtype)
    out = layout.array(1, depth, wide)
    layout.store(operand, _scaled_table(operand, wide, power), out[0])
    return half_bits(out) if dtype == np.float16 else out


def _stored(dtype: Any) -> Any:
    """Return the numpy type of arrays that hold lane values for kernels."""
    return np.float32 if dtype == np.float16 else dtype


def half_bits(values: Array) -> Array:
    """Return float16 bit patterns of values that float16 holds exactly."""
    out = np.empty(values.shape, dtype=np.uint16)
    panels.to_half(np.ascontiguousarray(values, dtype=np.float32).reshape(-1), out.reshape(-1))
    return out


@lru_cache(maxsize=64)
def _lane_table(fmt: Format, power: int, dtype: Any) -> Array:
    """Return the values of all codes times 2^power; only codes in use need fit the lane."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(value_table(fmt), power).astype(dtype))


@lru_cache(maxsize=64)
def _lane_powers(fmt: Format, power: int, dtype: Any) -> Array:
    """Return 2^(e + power) for all codes."""
    return np.asarray(np.ldexp(powers(exponent_table(fmt)), power).astype(dtype))


def _scaled_table(operand: Operand, dtype: Any, power: int = 0) -> _Tables:
    """Return the values of codes and of scales, for `_pack_values`.

    If ``power`` is not 0, values or scales may lie outside float32 although their products lie
    inside: such tables are float64.
    """
    kept = np.float64 if power else dtype
    table, place = _lane_table(operand.format, power, kept), operand.format.bits - 1
    if operand.scales is None:
        return _Tables(table, scale_values=np.ones(1, kept))
    indices, scale_table = compact(operand.scales.codes, operand.scales.format)
    return _Tables(table, indices, place, scale_table.astype(kept), operand.scales.block)


def _power_table(operand: Operand, dtype: Any, power: int) -> _Tables:
    """Return the powers of two 2^e of values, times 2^power, and of scales."""
    kept = np.float64 if power else dtype
    table, place = _lane_powers(operand.format, power, kept), operand.format.bits - 1
    if operand.scales is None:
        return _Tables(table, scale_values=np.ones(1, kept))
    fmt = operand.scales.format
    indices, scales = compact(operand.scales.codes, fmt)
    scale_table = powers(exponents_of(scales, fmt)).astype(kept)
    return _Tables(table, indices, place, scale_table, operand.scales.block)


def _plane_table(side: Side, which: int, plane: int, split: Split | None = None) -> Array:
    """Return the values of all codes of ``a`` (``which`` 0) or ``b`` (1) in one plane.

    Planes by sign hold the elements of one sign, all parts of the first sign before the second.
    Part i holds the bits from 2^(low + i * bits) up to part i + 1; NaN is in all parts.
    """
    table = value_table(side.format)
    parts = 1 if split is None else split.counts[which]
    if side.split:
        codes = np.arange(table.size) >> (side.format.bits - 1)
        table = np.where(codes == plane // parts, table, 0.0)
    if split is None:
        return table
    part, low, bits = plane % parts, split.lows[which], split.bits[which]
    table = np.where(np.isinf(table), 0.0, table)  # no infinity is in use
    below, above = (np.fmod(table, np.ldexp(1.0, low + i * bits)) for i in (part, part + 1))
    return np.asarray(above - below)
