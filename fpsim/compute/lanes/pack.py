# SPDX-License-Identifier: Apache-2.0
"""Checked operands of a matrix product into the arrays that lane kernels read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.lanes.pack_bytes import byte_power, pack_bytes
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.choose import Split
from fpsim.compute.values import compact, exponent_table, exponents_of, value_table
from fpsim.formats.floating import Format
from fpsim.kernels.lanes.tiles import Source, Tile
from fpsim.kernels.pack import panels
from fpsim.kernels.scalar.aligned import NO_EXPONENT
from fpsim.units.spec import MacSpec
from fpsim.units.stages import NanScale

__all__ = ["Packed", "half_bits", "lane_table", "pack", "pack_values", "plane_table", "powers"]

Array = NDArray[Any]
_NO_SCALES = np.zeros((0, 0, 1), dtype=np.uint8)
_NO_STARTS = np.zeros((1, 1, 1), dtype=np.int32)


@dataclass(frozen=True)
class Packed:
    """The arrays of `fpsim.kernels.lanes.matmul_driver.gemm` that hold operands."""

    a: Array
    b: Array
    x: Array
    y: Array
    x_powers: Array
    y_powers: Array
    starts: Array = field(default_factory=lambda: _NO_STARTS)

    @property
    def padded(self) -> tuple[int, int]:
        """M and N, padded to whole tiles."""
        return self.a.shape[1], self.b.shape[1] * self.b.shape[3]

    @property
    def finite(self) -> bool:
        """Whether no operand is NaN or infinite."""
        return all(bool(np.isfinite(array).all()) for array in (self.a, self.b, self.x, self.y))

    def rows(self, part: slice) -> Packed:
        """Return the operands of some rows of the result, for steps that do not align."""
        a, starts = (np.ascontiguousarray(x[:, part]) for x in (self.a, self.starts))
        return replace(self, a=a, x=self.x[part], starts=starts)


def powers(exponents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return 2^e, 0 where an exponent does not count."""
    counts = exponents > NO_EXPONENT
    return np.where(counts, np.ldexp(1.0, np.where(counts, exponents, 0)), 0.0)


def pack_values(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Array]:
    """Return the scaled values (M, K) and (K, N) in float64."""
    a = np.empty(args.a.shape)
    b = np.empty((1, *args.b.shape))
    panels.pack_rows(args.a, *_scaled_table(spec, args, "a", a.dtype), a)
    panels.pack_panels(args.b, *_scaled_table(spec, args, "b", b.dtype), b)
    return a, b[0]


def pack(
    spec: MacSpec,
    args: MatmulOperands,
    source: Source,
    tile: Tile,
    depth: int,
    dtype: Any,
    aligned: bool,
    power: int = 0,
    nan_scale: NanScale = NanScale.NAN,
    split: Split | None = None,
) -> Packed:
    """Return operands in lanes: M and N padded to whole tiles, K to ``depth``, with zeros.

    Elements of blocks are in planes by their sign, and with ``split`` by their parts. Where
    ``dtype`` is float16 they are its bits. ``power`` is moved from ``b`` to ``a``: their values are
    times 2^power and 2^-power.
    """
    (m, k), n = args.a.shape, args.b.shape[1]
    rows, count = -(-m // tile.rows) * tile.rows, -(-n // tile.columns)
    shapes = {
        "a": (source.a_signs, rows, depth),
        "b": (source.b_signs, count, depth, tile.columns),
    }
    none = np.zeros((1, 1, 1), dtype=_stored(dtype))
    x = y = x_powers = y_powers = none
    starts, product_power = _NO_STARTS, 0
    if not source.block:
        a = _pack_values(spec, args, "a", shapes["a"], dtype, power)
        b = _pack_values(spec, args, "b", shapes["b"], dtype, -power)
        if aligned:
            x_powers, y_powers = np.zeros_like(a), np.zeros_like(b)
            panels.pack_rows(args.a, *_power_table(spec, args, "a", dtype, power), x_powers[0])
            panels.pack_panels(args.b, *_power_table(spec, args, "b", dtype, -power), y_powers[0])
        return Packed(a, b, x, y, x_powers, y_powers)

    if source.bytes:
        product_power = byte_power(spec) or 0
        words = pack_bytes(spec, args, source, tile, depth)
        a, b, starts = words.a, words.b, words.starts
    else:
        a, b = (np.zeros(shapes[name], dtype=dtype) for name in ("a", "b"))
        _pack_planes(spec, args, a, b, split)
    groups, used = depth // source.size, -(-k // source.size)

    def packed(operand: str, exponents: bool) -> Array:
        def read(scales: Array) -> Array:
            if exponents:
                return powers(exponents_of(scales, getattr(spec, f"{operand}_scale")))
            return np.where(np.isnan(scales), 0.0, scales) if drop_nan else scales

        size = rows if operand == "a" else count * tile.columns
        scales = _block_scales(spec, args, operand, source, groups, used, size, read)
        return (scales if operand == "a" else _panels(scales, tile.columns)).astype(dtype)

    drop_nan = nan_scale is NanScale.ZERO
    if aligned:
        x_powers, y_powers = packed("a", True), packed("b", True)
    # Sums of bytes are integers: what they are multiples of goes to the scales of a.
    x = np.ldexp(packed("a", False), product_power)
    return Packed(a, b, x, packed("b", False), x_powers, y_powers, starts)


def _pack_values(
    spec: MacSpec, args: MatmulOperands, name: str, shape: tuple[int, ...], dtype: Any, power: int
) -> Array:
    """Return the scaled values of an operand times 2^power; float16 ones as their bits."""
    codes, store = getattr(args, name), panels.pack_rows if name == "a" else panels.pack_panels
    if dtype == np.float16 and getattr(args, f"{name}_scale") is None:
        table = lane_table(getattr(spec, name), power, dtype).view(np.uint16)
        out = np.zeros(shape, dtype=table.dtype)
        store(codes, table, _NO_SCALES, 0, table, 1, out[0])
        return out
    wide = _stored(dtype)
    out = np.zeros(shape, dtype=wide)
    store(codes, *_scaled_table(spec, args, name, wide, power), out[0])
    return half_bits(out) if dtype == np.float16 else out


def _stored(dtype: Any) -> Any:
    """Return what holds values of a lane's type in numpy arrays that kernels take."""
    return np.float32 if dtype == np.float16 else dtype


def half_bits(values: Array) -> Array:
    """Return the float16 bits of values that it holds exactly."""
    out = np.empty(values.shape, dtype=np.uint16)
    panels.to_half(np.ascontiguousarray(values, dtype=np.float32).reshape(-1), out.reshape(-1))
    return out


def _pack_planes(
    spec: MacSpec, args: MatmulOperands, a: Array, b: Array, split: Split | None
) -> None:
    """Fill the planes of both operands, without scales."""
    for name, planes, store in (("a", a, panels.pack_rows), ("b", b, panels.pack_panels)):
        for plane, out in enumerate(planes):
            table = plane_table(spec, name, plane, split).astype(planes.dtype)
            store(getattr(args, name), table, _NO_SCALES, 0, table, 1, out)


def _panels(scales: Array, columns: int) -> Array:
    """Return scales (N, G, S) as (panels, G, S, columns)."""
    n, groups, signs = scales.shape
    split = scales.reshape(n // columns, columns, groups, signs)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 1))


def _cube(spec: MacSpec, args: MatmulOperands, operand: str) -> tuple[Array | None, Array]:
    """Return indices of scales with a last axis of signs, or None, and the table they point to."""
    scale = getattr(args, f"{operand}_scale")
    if scale is None:
        return None, np.ones(1)
    indices, table = compact(scale, getattr(spec, f"{operand}_scale"))
    return np.asarray(indices if spec.splits(operand) else indices[..., None]), table


@lru_cache(maxsize=64)
def lane_table(fmt: Format, power: int, dtype: Any) -> Array:
    """Return the values of all codes times 2^power; of wide formats, those in use fit."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(value_table(fmt), power).astype(dtype))


@lru_cache(maxsize=64)
def _lane_powers(fmt: Format, power: int, dtype: Any) -> Array:
    """Return 2^(e + power) of all codes."""
    return np.asarray(np.ldexp(powers(exponent_table(fmt)), power).astype(dtype))


def _scaled_table(
    spec: MacSpec, args: MatmulOperands, operand: str, dtype: Any, power: int = 0
) -> tuple[Any, ...]:
    """Return a packer's arguments: value table, scales, sign place, scale table, block.

    Where a power moves, a value or a scale may be out of float32's range although their product is
    not: those are multiplied in float64.
    """
    kept = np.float64 if power else dtype
    table = lane_table(getattr(spec, operand), power, kept)
    cube, scale_table = _cube(spec, args, operand)
    return _packer(spec, args, operand, table, cube, scale_table.astype(kept))


def _power_table(
    spec: MacSpec, args: MatmulOperands, operand: str, dtype: Any, power: int
) -> tuple[Any, ...]:
    """Return the same for powers of two."""
    kept = np.float64 if power else dtype
    table = _lane_powers(getattr(spec, operand), power, kept)
    cube, scales = _cube(spec, args, operand)
    scale_table = powers(exponents_of(scales, getattr(spec, f"{operand}_scale")))
    return _packer(spec, args, operand, table, cube, scale_table.astype(kept))


def _packer(
    spec: MacSpec,
    args: MatmulOperands,
    operand: str,
    table: Array,
    cube: Array | None,
    scale_table: Array,
) -> tuple[Any, ...]:
    place = getattr(spec, operand).bits - 1
    block = getattr(args, f"{operand}_block")
    return table, _NO_SCALES if cube is None else cube, place, scale_table, block


def plane_table(spec: MacSpec, operand: str, plane: int, split: Split | None = None) -> Array:
    """Return the values of codes, or the part that a plane holds.

    A split by sign leaves out the other sign's elements; then all parts follow one another. Part i
    has what lies between 2^(low + i * bits) and the same of i + 1; NaN is in all.
    """
    fmt = getattr(spec, operand)
    table = value_table(fmt)
    side = "ab".index(operand)
    parts = 1 if split is None else split.counts[side]
    if spec.splits(operand):
        codes = np.arange(table.size) >> (fmt.bits - 1)
        table = np.where(codes == plane // parts, table, 0.0)
    if split is None:
        return table
    assert split.lows is not None
    part, low, bits = plane % parts, split.lows[side], split.bits[side]
    table = np.where(np.isinf(table), 0.0, table)  # none is in use
    below, above = (np.fmod(table, np.ldexp(1.0, low + i * bits)) for i in (part, part + 1))
    return np.asarray(above - below)


def _per_block(
    spec: MacSpec, args: MatmulOperands, operand: str, source: Source, used: int
) -> Array | None:
    """Return the scales (M or N, blocks, signs) of a block source."""
    indices, table = _cube(spec, args, operand)
    if indices is None:
        return None
    cube = table[indices]
    if operand == "b":
        cube = np.moveaxis(cube, 1, 0)
    block = getattr(args, f"{operand}_block")
    if block < source.size:  # a part of K that cut a scale's block has its scales per element
        return cube[:, :: source.size // block][:, :used]
    return np.repeat(cube, block // source.size, axis=1)[:, :used]


def _block_scales(
    spec: MacSpec, args: MatmulOperands, operand: str, source: Source, groups: int, used: int,
    size: int, read: Callable[[Array], Array],
) -> Array:  # fmt: skip
    """Return what ``read`` makes of the scales, (size, groups, signs): 1 without, 0 beyond."""
    signs = source.a_signs if operand == "a" else source.b_signs
    out = np.zeros((size, groups, signs))
    scales = _per_block(spec, args, operand, source, used)
    count = args.a.shape[0] if operand == "a" else args.b.shape[1]
    out[:count, :used] = 1.0
    if scales is not None:
        out[:count, :used] = np.repeat(read(scales), signs // scales.shape[2], axis=2)
    return out
