# SPDX-License-Identifier: Apache-2.0
"""Runs lane steps: packs operands, runs the kernel, turns accumulators into codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.facts import all_finite
from fpsim.compute.lanes.pack import Packed, Packing, half_bits, lane_shift, pack, packings
from fpsim.compute.lanes.random import cubes, streams
from fpsim.compute.lanes.steps.fixed import ClampedSum, GridSum
from fpsim.compute.lanes.steps.step import Step, random_parameters
from fpsim.compute.lanes.steps.sums import Slice
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import Plan
from fpsim.compute.scalar.dot_products import convert_fixed, encode_exact, float32_codes
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Overflow
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.matmul_driver import gemm, histories
from fpsim.kernels.llvm.tiles import RandomSource, Source, Tile, tile_of, turn
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Exact, Fixed

__all__ = ["run_lanes", "run_slices", "run_steps", "run_values"]

Array = NDArray[Any]
_NO_RANDOM = np.zeros((1, 1, 1), dtype=np.uint32)


def run_lanes(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Return the result codes of a matrix product, by a plan's lane step.

    Args:
        spec: the unit.
        args: operands of the product.
        plan: a plan with a step; it caches the layout of operands between products.
        machine: the processor to generate code for.

    Returns:
        Codes (M, N).

    Raises:
        FpsimError: a result that the accumulator has no code for, or a NaN or infinite operand or
            scale of a fixed-point unit.
            scale where it is fixed-point.
    """
    return _job(spec, args, plan, machine).codes(args)


def run_steps(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Return the accumulator codes after every step of dot products side by side.

    Args:
        spec: the unit.
        args: paired operands of N dot products.
        plan: a plan with a step.
        machine: the processor to generate code for.

    Returns:
        Codes (steps, N).

    Raises:
        FpsimError: a result that the accumulator has no code for, or a NaN or infinite operand or
            scale of a fixed-point unit.
            scale where it is fixed-point.
    """
    return _job(spec, args, plan, machine).codes(args, history=True)


def run_values(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Return the accumulators after every step of one row of a matrix product.

    Args:
        spec: the unit.
        args: operands of a result of one row.
        plan: a plan with a step of a float accumulator.
        machine: the processor to generate code for.

    Returns:
        Values (steps, N), floats of the lane.
    """
    assert plan.step is not None
    first = None if args.c is None else plan.step.stage.initial.decode(args.c)
    return _job(spec, args, plan, machine).accumulators(first, args.random, history=True)


def run_slices(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Return the exact sum of each slice of the terms of a matrix product.

    Args:
        spec: the unit.
        args: operands of the product, without ``c``.
        plan: a plan with a `Slice` step and the slices.
        machine: the processor to generate code for.

    Returns:
        Values (slices, M, N), float64, multiples of each slice's 2^s; their sum over all slices is
        to the exact sum.
    """
    job, found = _job(spec, args, plan, machine), []
    assert isinstance(plan.step, Slice)
    for last, width in plan.slices:
        own = replace(job, step=replace(plan.step, last=last, width=width))
        found.append(np.ldexp(own.accumulators(None, None), last))
    return np.stack(found)


def _job(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> _Job:
    """Return the step of a plan with packed operands."""
    if not plan.setups:
        plan.setups.append(_setup_of(spec, args, plan, machine))
    setup: _Setup = plan.setups[0]
    return _Job(
        setup.step, setup.source, setup.tile, pack(args, setup.operands), args.shape, args.length
    )


class _Setup(NamedTuple):
    """Kernel, parameters and packing of a plan, without operands."""

    step: Step
    source: Source
    tile: Tile
    operands: tuple[Packing, Packing]


def _setup_of(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> _Setup:
    step, source = plan.step, replace(plan.source, paired=args.paired)
    assert step is not None
    tile = tile_of(step, source, machine, flat=args.shape[0] == 1)
    inner, multiple = step.levels[0], turn(step, source)
    depth = -(-args.length // multiple) * multiple
    dtype = np.float16 if inner.lane is Lane.F16 else inner.lane.dtype
    shift = lane_shift(args, inner.lane, source)
    how = packings(spec, args, source, tile, depth, dtype, inner.powers, machine, shift, plan.split)
    return _Setup(step, source, tile, how)


@dataclass(frozen=True)
class _Job:
    """A step with packed operands, for a result of shape (M, N)."""

    step: Step
    source: Source
    tile: Tile
    packed: Packed
    shape: tuple[int, int]
    length: int  #: K

    def codes(self, args: MatmulOperands, history: bool = False) -> Array:
        """Return the final codes (M, N); for paired operands with ``history`` all steps' codes."""
        stage, random = self.step.stage, args.random
        if isinstance(stage, Fixed):
            return self._fixed_codes(stage, args, history)
        first = None if args.c is None else stage.initial.decode(args.c)
        values = self.accumulators(first, random, history)
        if isinstance(stage, Exact):
            if isinstance(random, RandomBits):
                random = random.integers(values.size, 1, stage.random_bits)
            return encode_exact(stage, values, random)
        codes = None
        if stage.overflow is Overflow.INF:
            codes = float32_codes(stage.result, values)
        if codes is None:
            codes = stage.result.encode(values, "rtz", str(stage.overflow))
        if isinstance(stage, Aligned) and stage.nan not in (None, stage.result.nan_code):
            codes[np.isnan(values)] = stage.nan
        return np.asarray(codes)

    def _fixed_codes(self, stage: Fixed, args: MatmulOperands, history: bool) -> Array:
        if not all_finite(args):
            raise FpsimError(
                f"operands: a NaN or infinite operand or scale has no code in {stage.initial.name}"
            )
        last, random = self.step.levels[-1], args.random
        first = None if args.c is None else stage.initial.integers(args.c)
        if isinstance(last, GridSum) and last.bits:
            begin = None if first is None else first.view(np.float64)
            integers = self.accumulators(begin, random, history).view(np.int64)
        elif isinstance(last, GridSum):
            begin = None if first is None else first.astype(np.float64)
            integers = self.accumulators(begin, random, history).astype(np.int64)
        else:
            begin = None
            if isinstance(last, ClampedSum) and first is not None:
                begin, first = np.ldexp(first.astype(np.float64), stage.lsb), None
            sums = self.accumulators(begin, None, history).astype(np.float64)
            integers = np.ldexp(sums, -stage.lsb).astype(np.int64)
            integers = integers if first is None else integers + first
        if stage.sums_first:
            integers = np.clip(integers, stage.initial.min_integer, stage.initial.max_integer)
        used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - stage.width)
        codes = (integers.view(np.uint64) & used).astype(stage.initial.dtype)
        return codes if stage.convert is None else convert_fixed(stage, codes)

    def accumulators(
        self, start: Array | None, random: Array | RandomBits | None, history: bool = False
    ) -> Array:
        """Return the last accumulators (M, N) as lane values; ``start`` holds the initial ones.

        With ``history``, for paired operands, return the accumulators of every step, (steps, N).
        """
        (m, n), lane = self.shape, self.step.lane
        c = np.zeros(self.packed.padded, lane.dtype)
        if start is not None:
            c[:m, :n] = start
        if lane is Lane.F16:
            c = half_bits(c)
        numbers = self._numbers(random)
        if history:
            c = self._run_history(c, numbers, random)
            m = len(c)
        else:
            self._run_tiles(c, numbers, random)
        return (c.view(np.float16) if lane is Lane.F16 else c)[:m, :n]

    def _numbers(self, random: Array | RandomBits | None) -> tuple[Array, Array]:
        """Return the kernel's run-time numbers, float64 and int64, one step after the other."""
        reals: list[float] = []
        integers: list[int] = []
        for level in self.step.levels:
            own = level.numbers
            reals, integers = [*reals, *own[0].values()], [*integers, *own[1].values()]
        if self.step.random:
            width = random.width if isinstance(random, RandomBits) else 0
            bits = self.step.stage.random_bits
            own_bits = random_parameters(bits, self.step.random_place, width or bits)
            integers = [*integers, *own_bits.values()]
        # Integers may be bit patterns with the sign bit set.
        wrapped = np.array([value % (1 << 64) for value in integers] or [0], dtype=np.uint64)
        return np.array(reals or [0.0]), wrapped.view(np.int64)

    def _run_tiles(
        self, c: Array, numbers: tuple[Array, Array], random: Array | RandomBits | None
    ) -> None:
        """Run the tiles of a matrix product and return the last accumulators."""
        run = gemm(self.step, self.tile, self.source)
        parts: Iterable[tuple[slice, Array]] = [(slice(0, c.shape[0]), _NO_RANDOM)]
        if self.step.random:
            parts = self._random_parts(random, c.shape)
        for rows, cube in parts:
            whole = rows.stop - rows.start == c.shape[0]
            part = self.packed if whole else self.packed.rows(rows)
            scales = part.x, part.y, part.x_powers, part.y_powers
            run(part.a, part.b, c[rows], *numbers, cube, *scales, part.starts)

    def _run_history(
        self, c: Array, numbers: tuple[Array, Array], random: Array | RandomBits | None
    ) -> Array:
        """Return the accumulators (steps, N) after every step of dot products side by side."""
        packed, cube = self.packed, _NO_RANDOM
        if self.step.random:
            ((_, cube),) = self._random_parts(random, c.shape)
        span = turn(self.step, self.source)
        out = np.empty((packed.a.shape[2] // span, c.shape[1]), c.dtype)
        scales = packed.x, packed.y, packed.x_powers, packed.y_powers
        run = histories(self.step, self.tile, self.source)
        run(packed.a, packed.b, c, *numbers, cube, *scales, packed.starts, out)
        return out[: -(-self.length // span)]

    def _random_parts(
        self, random: Array | RandomBits | None, padded: tuple[int, int]
    ) -> Iterable[tuple[slice, Array]]:
        """Return rows of the result and their random integers, or streams."""
        assert random is not None
        if self.source.random is not RandomSource.LOADED:
            assert isinstance(random, RandomBits)
            return [(slice(0, padded[0]), streams(random, self.shape, padded))]
        assert not isinstance(random, RandomBits)
        blocks = self.packed.a.shape[2] * self.source.per_word // self.source.size
        return cubes(random, padded, blocks * self.source.quadrants, self.tile.rows)
