# SPDX-License-Identifier: Apache-2.0
"""Runs lane steps: operands or terms into lanes, the kernel, accumulators back into codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.lanes.pack import Packed, half_bits, lane_shift, pack
from fpsim.compute.lanes.pack_wide import split_products
from fpsim.compute.lanes.parameters import step_parameters
from fpsim.compute.lanes.random import cubes, streams
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.choose import Plan
from fpsim.compute.scalar.dot_products import convert_fixed, encode_exact
from fpsim.formats.random_bits import RandomBits
from fpsim.kernels.lanes.matmul_driver import gemm, histories
from fpsim.kernels.lanes.steps import GroupStep, Step
from fpsim.kernels.lanes.tiles import PRODUCTS, AnyStep, Source, Tile, tile_of, turn
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Block, Chain, Exact, Fixed, NanScale, Stage, Tree

__all__ = ["run_lanes", "run_planes", "run_slices", "run_steps", "run_values"]

Array = NDArray[Any]
_NO_RANDOM = np.zeros((1, 1, 1), dtype=np.uint32)
_NO_INTEGERS = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True)
class _Job:
    """A step with its operands in lanes, for a result of shape (M, N)."""

    stage: Chain | Exact | Fixed | Aligned | Tree
    step: AnyStep
    source: Source
    tile: Tile
    packed: Packed
    shape: tuple[int, int]
    length: int  #: K
    constants: Mapping[str, float] = field(default_factory=dict)
    conversion: Chain | None = None  #: how the terms are rounded first

    @property
    def dtype(self) -> Any:
        """Lane type; float16 lanes are filled through float32."""
        return _dtype(self.step)

    def codes(
        self, start: Array | None, random: Array | RandomBits | None = None, history: bool = False
    ) -> Array:
        """Return the final codes (M, N) from initial ones; of pairs perhaps those of every step."""
        stage = self.stage
        if isinstance(stage, Fixed):
            return self._fixed_codes(stage, start, random, history)
        first = None if start is None else stage.initial.decode(start)
        values = self._run(first, random, history=history)
        if isinstance(stage, Exact):
            if isinstance(random, RandomBits):
                random = random.integers(values.size, 1, stage.random_bits)
            return encode_exact(stage, values.astype(np.float64), random)
        codes = stage.result.encode(values, "rtz", str(stage.overflow))
        if isinstance(stage, Aligned) and stage.nan not in (None, stage.result.nan_code):
            codes[np.isnan(values)] = stage.nan
        return codes

    def values(self, start: Array | None, random: Array | RandomBits | None = None) -> Array:
        """Return the values (M, N) that the lanes end with, from initial codes.

        They are those of the final codes, of a stage that rounds after every step.
        """
        return self._run(None if start is None else self.stage.initial.decode(start), random)

    def _fixed_codes(
        self, stage: Fixed, start: Array | None, random: Array | RandomBits | None, history: bool
    ) -> Array:
        if not self.packed.finite:
            raise FpsimError(
                f"operands: a NaN or infinite operand or scale has no code in {stage.initial.name}"
            )
        first = None if start is None else stage.initial.integers(start)
        grid = self.step.grid if isinstance(self.step, Step) else ""
        if grid == "bits":
            begin = None if first is None else first.view(np.float64)
            integers = self._run(begin, random, history=history).view(np.int64)
        elif grid == "integers":
            begin = None if first is None else first.astype(np.float64)
            integers = self._run(begin, random, history=history).astype(np.int64)
        elif grid == "values":
            begin = None if first is None else np.ldexp(first.astype(np.float64), stage.lsb)
            values = self._run(begin, history=history).astype(np.float64)
            integers = np.ldexp(values, -stage.lsb).astype(np.int64)
        else:
            sums = self._run(None, history=history).astype(np.float64)
            integers = np.ldexp(sums, -stage.lsb).astype(np.int64)
            integers = integers if first is None else integers + first
        if stage.sums_first:
            integers = np.clip(integers, stage.initial.min_integer, stage.initial.max_integer)
        used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - stage.width)
        codes = (integers.view(np.uint64) & used).astype(stage.initial.dtype)
        return codes if stage.convert is None else convert_fixed(stage, codes)

    def sums(self, slices: list[tuple[int, int]]) -> Array:
        """Return the sums (slices, M, N) of every slice (s, w) of the products."""
        found = []
        for last, width in slices:
            reals = np.ldexp(1.0, [-last, width, -width])
            found.append(np.ldexp(self._run(None, None, (reals, _NO_INTEGERS)), last))
        return np.stack(found)

    def _parameters(self, random: Array | RandomBits | None) -> tuple[Array, Array]:
        seeded = random.width if isinstance(random, RandomBits) else 0
        settings = self.stage, self.step, self.dtype, self.constants, self.conversion
        return step_parameters(*settings, seeded)

    def _run(
        self,
        start: Array | None,
        random: Array | RandomBits | None = None,
        parameters: tuple[Array, Array] | None = None,
        history: bool = False,
    ) -> Array:
        """Return the final accumulators (M, N) as lane values; ``start`` holds the initial ones.

        Of pairs with ``history`` they are those of every step, (steps, N).
        """
        packed, (m, n) = self.packed, self.shape
        c = np.zeros(packed.padded, self.dtype)
        if start is not None:
            c[:m, :n] = start
        reals, integers = parameters or self._parameters(random)
        half = str(self.step.real) == "half"
        if half:
            c, reals = half_bits(c), half_bits(reals)
        if history:
            c = self._run_history(packed, c, reals, integers, random)
            m = len(c)
        else:
            self._run_tiles(packed, c, reals, integers, random)
        return (c.view(np.float16) if half else c)[:m, :n]

    def _run_tiles(
        self,
        packed: Packed,
        c: Array,
        reals: Array,
        integers: Array,
        random: Array | RandomBits | None,
    ) -> None:
        """Run the tiles of a matrix product from initial accumulators to final ones."""
        run = gemm(self.step, self.tile, self.source)
        parts: Iterable[tuple[slice, Array]] = [(slice(0, c.shape[0]), _NO_RANDOM)]
        if self.step.random:
            parts = self._random_parts(packed, random, c.shape)
        for rows, cube in parts:
            part = packed if rows.stop - rows.start == c.shape[0] else packed.rows(rows)
            scales = part.x, part.y, part.x_powers, part.y_powers
            run(part.a, part.b, c[rows], reals, integers, cube, *scales, part.starts)

    def _run_history(
        self,
        packed: Packed,
        c: Array,
        reals: Array,
        integers: Array,
        random: Array | RandomBits | None,
    ) -> Array:
        """Return the accumulators (steps, N) after every step of dot products side by side."""
        assert isinstance(self.step, Step | GroupStep) and not self.step.seeded
        cube = _NO_RANDOM
        if self.step.random:
            ((_, cube),) = self._random_parts(packed, random, c.shape)
        span = turn(self.step, self.source)
        out = np.empty((packed.a.shape[2] // span, c.shape[1]), c.dtype)
        scales = packed.x, packed.y, packed.x_powers, packed.y_powers
        run = histories(self.step, self.tile, self.source)
        run(packed.a, packed.b, c, reals, integers, cube, *scales, packed.starts, out)
        return out[: -(-self.length // span)]

    def _random_parts(
        self, packed: Packed, random: Array | RandomBits | None, padded: tuple[int, int]
    ) -> Iterable[tuple[slice, Array]]:
        """Return rows of the result and their random integers, or streams."""
        assert random is not None
        if isinstance(random, RandomBits):
            return [(slice(0, padded[0]), streams(random, self.shape, padded))]
        blocks = packed.a.shape[2] * self.source.per_word // self.source.size
        return cubes(random, padded, blocks * self.source.quadrants, self.tile.rows)


def _dtype(step: AnyStep) -> Any:
    return np.float64 if str(step.real) == "double" else np.float32


def run_lanes(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Return the codes (M, N) of a matrix product by a lane step over its products or blocks."""
    return _job(spec, args, plan).codes(args.c, args.random)


def run_values(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Return the values (M, N) that lanes end with; see `run_lanes`."""
    return _job(spec, args, plan).values(args.c, args.random)


def run_steps(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Return the codes (steps, N) of dot products that are paired, after every step."""
    return _job(spec, args, plan).codes(args.c, args.random, history=True)


def run_slices(
    spec: MacSpec, args: MatmulOperands, plan: Plan, slices: list[tuple[int, int]]
) -> Array:
    """Return the exact sums (slices, M, N) of each slice of the products."""
    return _job(spec, args, plan).sums(slices)


def _job(spec: MacSpec, args: MatmulOperands, plan: Plan) -> _Job:
    step, source = plan.step, plan.source
    assert step is not None
    source = replace(source, paired=args.paired)
    tile = tile_of(step, source, flat=args.paired)
    multiple = turn(step, source)
    depth = -(-args.length // multiple) * multiple
    shift = lane_shift(args, plan)
    block = spec.accumulate if isinstance(spec.accumulate, Block) else None
    nan_scale = NanScale.NAN if block is None else block.nan_scale
    dtype = np.float16 if str(step.real) == "half" else _dtype(step)
    packed = pack(spec, args, source, tile, depth, dtype, plan.aligns, shift, nan_scale, plan.split)
    if plan.split is not None and not source.block:
        packed = split_products(packed, plan.split)
    stage = plan.stage or (spec.accumulate if block is None else block.into)
    assert isinstance(stage, Chain | Exact | Fixed | Aligned | Tree)
    conversion = None
    if block is not None and block.convert is not None and plan.stage is None:
        conversion = Chain(block.convert, block.convert_rounding)
    sizes = args.shape, args.length
    return _Job(stage, step, source, tile, packed, *sizes, plan.constants, conversion)


def run_planes(
    stage: Stage,
    plan: Plan,
    terms: Array,
    term_powers: Array | None,
    c: Array | None,
    random: Array | RandomBits | None = None,
) -> Array:
    """Return the codes (M, N) of a stage that adds terms (T, M, N).

    A stage that aligns them by exponents takes 2^e of each (`Plan.aligns`); one that rounds at
    random, integers (M, N, roundings).
    """
    step = plan.step
    assert step is not None
    tile = tile_of(step, flat=True)
    dtype = _dtype(step)
    count, shape = terms.shape[0], terms.shape[1:]
    size = int(np.prod(shape))
    depth = -(-count // step.terms) * step.terms
    panels = -(-size // tile.columns)

    def paneled(planes: Array) -> Array:
        full = depth * panels * tile.columns == count * size
        out = (np.empty if full else np.zeros)((1, panels, depth, tile.columns), dtype=dtype)
        flat, whole = planes.reshape(count, size), size // tile.columns
        columns = flat[:, : whole * tile.columns].reshape(count, whole, tile.columns)
        out[0, :whole, :count] = columns.transpose(1, 0, 2)
        out[0, whole:, :count, : size % tile.columns] = flat[:, whole * tile.columns :]
        return out

    ones = np.ones((1, 1, depth), dtype=dtype)
    none = np.zeros((1, 1, 1), dtype=dtype)
    y_powers = none
    if plan.aligns:
        assert term_powers is not None
        y_powers = paneled(term_powers)
    values = paneled(terms)
    packed = Packed(ones, values, none, none, ones, y_powers)
    if str(step.real) == "half":
        packed = replace(packed, a=half_bits(ones), b=half_bits(values))
    assert isinstance(stage, Chain | Exact | Fixed | Aligned | Tree)
    job = _Job(stage, step, PRODUCTS, tile, packed, (1, size), count, plan.constants)
    if isinstance(random, np.ndarray):
        random = random.reshape(1, size, -1)
    return job.codes(None if c is None else c.reshape(1, size), random).reshape(shape)
