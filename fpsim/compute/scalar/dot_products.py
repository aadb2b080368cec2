# SPDX-License-Identifier: Apache-2.0
"""Dot products in scalar code, for every unit, with the accumulator after every step.

A stage maps rows of terms to codes; a composite stage makes the terms of the next stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.scalar.settings import aligned_settings, tree_settings
from fpsim.compute.scalar.wide_terms import in_a_row, parts_of, parts_on_grid, terms_to_odd
from fpsim.compute.values import Rows, decoded, exponents_of, result_parts
from fpsim.formats.fixed_grid import MAX_WIDTH, grid_integers
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.scalar import aligned, chain_and_fixed, fixed_point, limbs, tree
from fpsim.units.operands import DotOperands
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    MAX_WINDOW_BITS,
    PRODUCT_BITS,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    ProductRounding,
    Stage,
    Tree,
    first_sum,
)

__all__ = [
    "add_up",
    "convert_fixed",
    "dot_codes",
    "encode_exact",
    "outer_terms",
    "random_rows",
    "step_codes",
    "with_nan",
]

Array = NDArray[Any]
#: Least rows for which a chain takes one product of every row at a time.
COLUMNS_MINIMUM = 1 << 12
_NO_RANDOM = np.zeros((1, 1), dtype=np.int64)


def dot_codes(spec: MacSpec, args: DotOperands) -> Array:
    """Return the result code of each dot product, in scalar code."""
    return step_codes(spec, args, 1).reshape(args.shape)


def step_codes(spec: MacSpec, args: DotOperands, keep: int) -> Array:
    """Return the last accumulator codes of each dot product, shape (..., S).

    Args:
        spec: the unit.
        args: operands of the dot products.
        keep: most steps to keep; S is less if a dot product has fewer.

    Returns:
        Codes of ``spec.result``, the result last.

    Raises:
        FpsimError: a result that the accumulator has no code for.
    """
    if 0 in args.shape:
        return np.empty((*args.shape, 0), dtype=spec.result.dtype)
    c = np.ascontiguousarray(args.c.reshape(-1))
    stage, terms, exponents, random = outer_terms(spec, Rows.of(spec, args), random_rows(args))
    codes = add_up(stage, terms, exponents, c, random, keep)
    return codes.astype(spec.result.dtype, copy=False).reshape(*args.shape, -1)


def random_rows(args: DotOperands) -> Array:
    """Return the random integers (R, roundings), int64; any array if nothing rounds at random."""
    if args.random is None:
        return _NO_RANDOM
    return args.random.reshape(-1, args.random.shape[-1]).astype(np.int64)


def outer_terms(
    spec: MacSpec, rows: Rows, random: Array = _NO_RANDOM
) -> tuple[Stage, Array, Array | None, Array]:
    """Return the sum that makes the result, with its terms.

    Args:
        spec: the unit.
        rows: operands of R dot products, as values.
        random: integers (R, roundings), inner sums' first; any array if nothing rounds at random.

    Returns:
        The stage of the sum; its terms (R, T), or (R, T, P) for terms of P parts: products, scaled
        block sums or chunk results; their alignment exponents (R, T), or None if the stage reads
        none; and the random integers left for the sum.
    """
    return _terms(spec, spec.accumulate, rows, random)


def _terms(
    spec: MacSpec, stage: Stage, rows: Rows, random: Array
) -> tuple[Stage, Array, Array | None, Array]:
    if isinstance(stage, Block):
        values, exponents = rows.block_terms(stage)
        if stage.convert is not None:
            values = _through(values, stage.convert, stage.convert_rounding)
            _check_lifted(stage, values, exponents)
        return _last_sum(stage.into, values, exponents, random)
    if isinstance(stage, Chunked):

        def part(start: int, stop: int, own: Array) -> tuple[Stage, Array, Array | None, Array]:
            return _terms(spec, stage.inner, rows.cut(start, stop), own)

        return _promoted(stage, rows.length, spec.quadrants, random, part)
    aligns = isinstance(stage, Aligned) and not stage.normalised
    return stage, rows.products(), rows.product_exponents() if aligns else None, random


def _last_sum(
    stage: Stage, values: Array, exponents: Array, random: Array
) -> tuple[Stage, Array, Array | None, Array]:
    """Return the last sum of a stage over terms (R, T), with its terms; inner chunks are summed."""
    if not isinstance(stage, Chunked):
        return stage, values, exponents, _own_bits(stage, random)

    def part(start: int, stop: int, own: Array) -> tuple[Stage, Array, Array | None, Array]:
        return _last_sum(stage.inner, values[:, start:stop], exponents[:, start:stop], own)

    return _promoted(stage, values.shape[1], 1, random, part)


def _promoted(
    stage: Chunked,
    length: int,
    quadrants: int,
    random: Array,
    part: Callable[[int, int, Array], tuple[Stage, Array, Array | None, Array]],
) -> tuple[Stage, Array, Array | None, Array]:
    """Sum the chunks of ``length`` terms and return the sum over their results, as `outer_terms`.

    ``part(start, stop, random)`` returns the sum that makes the result of one chunk.
    """
    results, size, taken = [], stage.chunk(length), 0
    for start in range(0, length, size):
        stop = min(start + size, length)
        count = stage.inner.roundings(stop - start, quadrants)
        own = _own_bits(stage.inner, random[:, taken : taken + count])
        inner, values, exponents, left = part(start, stop, own)
        zero = np.zeros(values.shape[0], dtype=stage.inner.initial.dtype)
        results.append(add_up(inner, values, exponents, zero, left, 1)[:, 0])
        taken += count
    fmt = stage.inner.result
    values = result_parts(np.stack(results, axis=1).astype(fmt.dtype, copy=False), fmt)
    sizes = values if values.ndim == 2 else values[..., 0]
    return _last_sum(stage.outer, values, exponents_of(sizes, fmt), random[:, taken:])


def _own_bits(stage: Stage, random: Array) -> Array:
    """Return random integers cut to a sum's low bits; unchanged for a composite stage."""
    if isinstance(stage, Block | Chunked):
        return random
    bits = getattr(stage, "random_bits", 0)
    return np.ascontiguousarray(random & ((1 << bits) - 1)) if bits else _NO_RANDOM


def _through(values: Array, fmt: FloatFormat, rounding: Rounding) -> Array:
    """Round terms (R, T), or their parts (R, T, P), to a format."""
    values = terms_to_odd(values)
    return fmt.decode(fmt.encode(values, rounding, str(fmt.default_overflow)))


def _check_lifted(stage: Block, values: Array, exponents: Array) -> None:
    """Check that terms fit the window: rounding away from zero lifts tiny ones to the least value.

    Other rounding modes at most double a term, which the spec allows for.
    """
    into, away = first_sum(stage.into), (Rounding.RUP, Rounding.RDN, Rounding.RTO)
    if not isinstance(into, Aligned) or stage.convert_rounding not in away:
        return
    assert stage.convert is not None
    used = np.isfinite(values) & (values != 0) & (exponents > aligned.NO_EXPONENT)
    above = np.where(used, np.frexp(np.where(used, values, 1.0))[1] - exponents, 0)
    bits = int(above.max(initial=0)) + into.window_bits - PRODUCT_BITS
    if bits > MAX_WINDOW_BITS:
        raise FpsimError(
            f"scales: block sums rounded {stage.convert_rounding} to {stage.convert.name} lie so "
            f"far above them that windows need {bits} bits; at most {MAX_WINDOW_BITS} are allowed"
        )


def add_up(
    stage: Stage, values: Array, exponents: Array | None, c: Array, random: Array, keep: int
) -> Array:
    """Return the last accumulator codes (R, S) of a sum of rows of terms.

    Args:
        stage: a stage of one level.
        values: terms (R, T); of more than 53 bits their parts (R, T, P), as
            `fpsim.kernels.scalar.wide_terms` describes them.
        exponents: alignment exponents (R, T); None if the stage reads none or normalises terms.
        c: initial codes (R,).
        random: integers (R, roundings); any array if nothing rounds at random.
        keep: most steps to keep.

    Returns:
        Codes after each of the last S steps.

    Raises:
        FpsimError: a NaN that the format has no code for, naming the dot product; a NaN or
            infinite term of a fixed-point register.
    """
    values = np.ascontiguousarray(values)
    if isinstance(stage, Fixed):
        return _fixed(stage, values, c, random, keep)
    if isinstance(stage, Exact):
        sums = np.empty(values.shape[0])
        toward_negative = stage.rounding is Rounding.RDN
        values = in_a_row(values)
        limbs.exact_dots(
            values, np.ones(values.shape), stage.format.decode(c), toward_negative, sums
        )
        return encode_exact(stage, sums[:, None], None if random is _NO_RANDOM else random)
    if isinstance(stage, Aligned):
        if exponents is None:
            exponents = np.full(values.shape[:2], aligned.NO_EXPONENT, dtype=np.int32)
        steps = -(-values.shape[1] // stage.products)
        out = np.empty((values.shape[0], min(keep, steps)), dtype=stage.result.dtype)
        window = aligned_settings(stage, parts_of(values))
        bad = aligned.aligned_steps(in_a_row(values), exponents, c, *window, out)
    elif isinstance(stage, Tree):
        values = _leaves(stage, values)
        steps = 1 if stage.products is None else -(-values.shape[1] // stage.products)
        out = np.empty((values.shape[0], min(keep, steps)), dtype=stage.result.dtype)
        settings = tree_settings(stage, values.shape[1], parts_of(values))
        bad = tree.tree_steps(in_a_row(values), c, *settings, out)
    else:
        assert isinstance(stage, Chain)
        out = np.empty((values.shape[0], min(keep, values.shape[1])), dtype=stage.result.dtype)
        bad = _chain(stage, _leaves(stage, values), c, random, out)
    if bad >= 0:
        raise FpsimError(
            f"result: dot product {bad} is NaN, which has no code in {stage.result.name}"
        )
    return out


def _leaves(stage: Chain | Tree, values: Array) -> Array:
    """Return the terms, each rounded first if the stage has a separate multiplier."""
    if stage.product is ProductRounding.FUSED:
        return values
    values = terms_to_odd(values)
    return stage.format.decode(stage.format.encode(values, stage.rounding, str(stage.overflow)))


def _chain(stage: Chain, values: Array, c: Array, random: Array, out: Array) -> int:
    assert stage.overflow is not None
    limits = stage.format.limits(stage.rounding, stage.overflow)
    many = values.shape[0] >= COLUMNS_MINIMUM and out.shape[1] == 1
    whole = parts_of(values) == 1
    if many and whole and _chain_by_columns(stage, values, c, random, out[:, 0]):
        return -1
    mode, bits = mode_constants(stage.rounding), stage.random_bits
    settings = (stage.format.layout, limits, mode, random, bits)
    terms = values[..., None] if whole else values
    return int(chain_and_fixed.chain_steps(terms, c, *settings, out))


def _chain_by_columns(stage: Chain, values: Array, c: Array, random: Array, out: Array) -> bool:
    """Add one product of every row at a time in vector code; return whether all rows have codes."""
    fmt, codes = stage.format, c
    sums = np.empty(values.shape[0])
    for k in range(values.shape[1]):
        chain_and_fixed.sums_to_odd(
            decoded(codes, fmt), values, k, stage.rounding is Rounding.RDN, sums
        )
        bits = random[:, k] if stage.random_bits else None
        try:
            codes = fmt.encode(
                sums, stage.rounding, str(stage.overflow), random=bits,
                random_bits=stage.random_bits,
            )  # fmt: skip
        except FpsimError:
            return False
    out[:] = codes
    return True


def _fixed(stage: Fixed, values: Array, c: Array, random: Array, keep: int) -> Array:
    fmt = stage.initial
    if not np.isfinite(values).all():
        raise FpsimError(f"operands: a NaN or infinite operand or scale has no code in {fmt.name}")
    mode, bits = mode_constants(stage.rounding), stage.random_bits
    start = fmt.integers(c)
    grid = fmt.grid(stage.overflow)
    parts = parts_of(values)
    if parts > 1:
        values, parts = in_a_row(parts_on_grid(stage, values, random)), parts + 1
        mode, bits = mode_constants(Rounding.RTZ), 0
    if stage.sums_first:
        rounded = np.empty(values.shape)
        fixed_point.round_to_grid(values, grid, mode, random, bits, rounded)
        sums = np.empty(values.shape[0])
        first = np.ldexp(start.astype(np.float64), stage.lsb)
        limbs.exact_dots(rounded, np.ones(values.shape), first, False, sums)
        codes = saturated(stage, np.ldexp(sums, -stage.lsb))[:, None]
    else:
        many = values.shape[0] >= COLUMNS_MINIMUM and keep == 1 and parts == 1
        found = _fixed_by_columns(stage, values, start) if many and not bits else None
        if found is None:
            found = np.empty((values.shape[0], min(keep * parts, values.shape[1])), dtype=np.uint64)
            chain_and_fixed.fixed_steps(values, start, grid, mode, random, bits, found)
            found = found[:, parts - 1 :: parts]
        codes = found.astype(fmt.dtype)
    return codes if stage.convert is None else convert_fixed(stage, codes[:, -1:])


def _fixed_by_columns(stage: Fixed, values: Array, start: Array) -> Array | None:
    """Add one product of every row at a time in vector code; return codes (R, 1), or None."""
    fmt = stage.initial
    if fmt.width > MAX_WIDTH:
        return None
    integers = start
    for k in range(values.shape[1]):
        terms = grid_integers(values[:, k], stage.lsb, stage.rounding)
        if terms is None:
            return None
        codes = fmt.codes_of(integers + terms, stage.overflow)
        integers = fmt.integers(codes)
    return codes[:, None]


def saturated(stage: Fixed, integers: Array) -> Array:
    """Return the codes of integers (float64) clamped to the range of the stage's register."""
    fmt = stage.initial
    clipped = np.clip(integers, fmt.min_integer, fmt.max_integer).astype(np.int64)
    return (clipped & ((1 << fmt.width) - 1)).astype(fmt.dtype)


def convert_fixed(stage: Fixed, codes: Array) -> Array:
    """Return accumulator codes rounded once to the stage's float format."""
    assert stage.convert is not None
    integers = stage.initial.integers(codes)
    # An integer beyond 2^53 is rounded to odd first, two bits wider than any format's mantissa.
    coarse = np.abs(integers) >= 1 << 53
    kept = (integers >> 11) | ((integers & 0x7FF) != 0)
    values = np.where(coarse, np.ldexp(kept.astype(np.float64), 11), integers.astype(np.float64))
    scaled = np.ldexp(values, stage.lsb)
    overflow = str(stage.convert.default_overflow)
    return stage.convert.encode(scaled, stage.convert_rounding, overflow)


def encode_exact(stage: Exact, sums: Array, random: Array | None) -> Array:
    """Return the codes of exact sums, or of sums rounded to odd.

    Args:
        stage: the format to round to, and the rounding.
        sums: exact sums in float32 or float64; float64 may be rounded to odd, with at least two
            bits beyond every format's mantissa.
        random: integers for stochastic rounding, one per sum; else None.

    Returns:
        Codes in the shape of the sums.
    """
    native = stage.rounding is Rounding.RNE and stage.overflow is Overflow.INF
    if native and stage.format.name == "e8m23":
        if sums.dtype != np.float32:
            with np.errstate(over="ignore"):
                sums = sums.astype(np.float32)
        return with_nan(stage.format.nan_code, sums, sums.view(np.uint32))
    bits = None if random is None else random.reshape(sums.shape)
    return stage.format.encode(
        sums, stage.rounding, str(stage.overflow), random=bits, random_bits=stage.random_bits
    )


def with_nan(code: int | None, values: Array, codes: Array) -> Array:
    """Return codes with one NaN wherever a value is NaN.

    Args:
        code: the NaN of results; None if their format has none, so that no value is NaN.
        values: the values of the codes.
        codes: codes of the format, whose NaN may have any sign and payload.

    Returns:
        The codes.
    """
    if code is None:
        return codes
    # Faster than to look at each value, and a reduction without the arguments that `max` checks.
    if not math.isnan(np.maximum.reduce(values, axis=None, initial=-np.inf)):
        return codes
    return np.where(np.isnan(values), codes.dtype.type(code), codes)
