# SPDX-License-Identifier: Apache-2.0
"""Runs lane steps: packs operands, runs the kernel, turns accumulators into codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.bounds import F32_BITS
from fpsim.compute.facts import all_finite
from fpsim.compute.lanes.pack import Packed, Packing, half_bits, lane_shift, pack, packings
from fpsim.compute.lanes.random import cubes, streams
from fpsim.compute.lanes.steps.fixed import ClampedSum, GridSum
from fpsim.compute.lanes.steps.step import NEAREST, Step, is_ieee, random_parameters
from fpsim.compute.lanes.steps.sums import Slice
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import Plan
from fpsim.compute.scalar.dot_products import convert_fixed, encode_exact, with_nan
from fpsim.formats.floating import FloatFormat
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Overflow
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.matmul_driver import gemm, histories
from fpsim.kernels.llvm.tiles import RandomSource, Source, Tile, tile_of, turn
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Chain, Exact, Fixed

__all__ = ["Job", "packed_job", "run_lanes", "run_slices", "run_steps", "run_values"]

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
    """
    return packed_job(spec, args, plan, machine).codes(args)


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
    """
    return packed_job(spec, args, plan, machine).codes(args, history=True)


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
    return packed_job(spec, args, plan, machine).accumulators(first, args.random, history=True)


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
    job, found = packed_job(spec, args, plan, machine), []
    assert isinstance(plan.step, Slice)
    for last, width in plan.slices:
        kernel = replace(job.kernel, step=replace(plan.step, last=last, width=width))
        own = job._replace(kernel=kernel)
        found.append(np.ldexp(own.accumulators(None, None), last))
    return np.stack(found)


def packed_job(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Job:
    """Return the kernel of a plan with packed operands: all that a product takes but its codes.

    Args:
        spec: the unit.
        args: operands of the product.
        plan: a plan with a step; it caches the layout of operands between products.
        machine: the processor to generate code for.

    Returns:
        The kernel and the operands in the layout that it reads.
    """
    if not plan.setups:
        plan.setups.append(_setup_of(spec, args, plan, machine))
    kernel, operands = plan.setups[0]
    return Job(kernel, pack(args, operands), args.shape, args.length)


@dataclass(frozen=True)
class _Kernel:
    """The compiled code of a plan, and the numbers that it reads, without operands."""

    step: Step
    source: Source
    tile: Tile
    random_width: int  #: bits of a random integer of the seed or array; 0 if there are none

    def __reduce__(self) -> tuple[type[_Kernel], tuple[Step, Source, Tile, int]]:
        """Leave the compiled code out of copies and pickles."""
        return _Kernel, (self.step, self.source, self.tile, self.random_width)

    @cached_property
    def run(self) -> Callable[..., None]:
        """The matrix product."""
        return gemm(self.step, self.tile, self.source)

    @cached_property
    def numbers(self) -> tuple[Array, Array]:
        """Run-time numbers, float64 and int64, one step after the other."""
        reals: list[float] = []
        integers: list[int] = []
        for level in self.step.levels:
            own = level.numbers
            reals, integers = [*reals, *own[0].values()], [*integers, *own[1].values()]
        if self.step.random:
            bits, place = self.step.stage.random_bits, self.step.random_place
            integers += random_parameters(bits, place, self.random_width).values()
        # Integers may be bit patterns with the sign bit set.
        wrapped = np.array([value % (1 << 64) for value in integers] or [0], dtype=np.uint64)
        return np.array(reals or [0.0]), wrapped.view(np.int64)


def _setup_of(
    spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine
) -> tuple[_Kernel, tuple[Packing, Packing]]:
    """Return the kernel of a plan and the packing of both operands."""
    step, source = plan.step, replace(plan.source, paired=args.paired)
    assert step is not None
    tile = tile_of(step, source, machine, flat=args.shape[0] == 1)
    inner, multiple = step.levels[0], turn(step, source)
    depth = -(-args.length // multiple) * multiple
    dtype = np.float16 if inner.lane is Lane.F16 else inner.lane.dtype
    shift = lane_shift(args, inner.lane, source)
    how = packings(spec, args, source, tile, depth, dtype, inner.powers, machine, shift, plan.split)
    width = step.stage.random_bits if step.random else 0
    if isinstance(args.random, RandomBits):
        width = args.random.width
    return _Kernel(step, source, tile, width), how


def _native_codes(fmt: FloatFormat, values: Array) -> Array | None:
    """Return the codes of values of float16, or of float32 or its upper bits; None for others.

    NaN may have any sign and payload.
    """
    if is_ieee(fmt, 5, 10, 15):
        return values.view(np.uint16) if values.dtype == np.float16 else half_bits(values)
    if is_ieee(fmt, 8, fmt.mantissa_bits, 127):
        bits = values.astype(np.float32, copy=False).view(np.uint32)
        below = F32_BITS - 1 - fmt.mantissa_bits
        return (bits >> np.uint32(below)).astype(fmt.dtype) if below else bits
    return None


class Job(NamedTuple):
    """A kernel with packed operands, for a result of shape (M, N)."""

    kernel: _Kernel
    packed: Packed
    shape: tuple[int, int]
    length: int  #: K

    def codes(self, args: MatmulOperands, history: bool = False) -> Array:
        """Return the final codes (M, N); for paired operands with ``history`` all steps' codes."""
        stage, random = self.kernel.step.stage, args.random
        if isinstance(stage, Fixed):
            return self._fixed_codes(stage, args, history)
        first = None if args.c is None else stage.initial.decode(args.c)
        values = self.accumulators(first, random, history)
        if isinstance(stage, Exact):
            if isinstance(random, RandomBits):
                random = random.integers(values.size, 1, stage.random_bits)
            return encode_exact(stage, values, random)
        # Chains to nearest clamp every result; other sums that saturate may leave infinities.
        clamped = isinstance(stage, Chain) and stage.rounding in NEAREST
        native = stage.overflow is Overflow.INF or (stage.overflow is Overflow.SATURATE and clamped)
        codes = _native_codes(stage.result, values) if native else None
        if codes is None:
            codes = np.asarray(stage.result.encode(values, "rtz", str(stage.overflow)))
        own = stage.nan if isinstance(stage, Aligned) else None
        return with_nan(stage.result.nan_code if own is None else own, values, codes)

    def _fixed_codes(self, stage: Fixed, args: MatmulOperands, history: bool) -> Array:
        if not all_finite(args):
            raise FpsimError(
                f"operands: a NaN or infinite operand or scale has no code in {stage.initial.name}"
            )
        last, random = self.kernel.step.levels[-1], args.random
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
        """Return the accumulators as lane values.

        Args:
            start: the initial accumulators (M, N); None: +0.
            random: random integers (M, N, roundings) or their seed, for a step that takes some.
            history: whether paired operands give the accumulators of every step.

        Returns:
            The last accumulators (M, N), or with ``history`` those of every step, (steps, N).
        """
        (m, n), lane = self.shape, self.kernel.step.lane
        c = np.zeros(self.packed.padded, lane.dtype)
        if start is not None:
            c[:m, :n] = start
        if lane is Lane.F16:
            c = half_bits(c)
        if history:
            c = self._run_history(c, random)
            m = len(c)
        elif self.kernel.step.random:
            self._run_parts(c, random)
        else:
            self._run_tiles(self.packed, c, _NO_RANDOM)
        return (c.view(np.float16) if lane is Lane.F16 else c)[:m, :n]

    def _run_tiles(self, packed: Packed, c: Array, random: Array) -> None:
        """Run the tiles of a matrix product on accumulators."""
        a, b, *scales = packed
        self.kernel.run(a, b, c, *self.kernel.numbers, random, *scales)

    def _run_parts(self, c: Array, random: Array | RandomBits | None) -> None:
        """Run the tiles of a matrix product, as many rows at a time as there are integers for."""
        for rows, cube in self._random_parts(random, c.shape):
            whole = rows.stop - rows.start == c.shape[0]
            part = self.packed if whole else self.packed.rows(rows)
            self._run_tiles(part, c[rows], cube)

    def _run_history(self, c: Array, random: Array | RandomBits | None) -> Array:
        """Return the accumulators (steps, N) after every step of dot products side by side."""
        kernel, packed, cube = self.kernel, self.packed, _NO_RANDOM
        step, source = kernel.step, kernel.source
        if step.random:
            ((_, cube),) = self._random_parts(random, c.shape)
        span = turn(step, source)
        out = np.empty((packed.a.shape[2] // span, c.shape[1]), c.dtype)
        scales = packed.x, packed.y, packed.x_powers, packed.y_powers
        run = histories(step, kernel.tile, source)
        run(packed.a, packed.b, c, *kernel.numbers, cube, *scales, packed.starts, out)
        return out[: -(-self.length // span)]

    def _random_parts(
        self, random: Array | RandomBits | None, padded: tuple[int, int]
    ) -> Iterable[tuple[slice, Array]]:
        """Return rows of the result and their random integers, or streams."""
        source, tile = self.kernel.source, self.kernel.tile
        assert random is not None
        if source.random is not RandomSource.LOADED:
            assert isinstance(random, RandomBits)
            return [(slice(0, padded[0]), streams(random, self.shape, padded))]
        assert not isinstance(random, RandomBits)
        blocks = self.packed.a.shape[2] * source.per_word // source.size
        return cubes(random, padded, blocks * source.quadrants, tile.rows)
