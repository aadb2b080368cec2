# SPDX-License-Identifier: Apache-2.0
"""Plans vectors of an operation: all codes or pairs, corner classes, random inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.philox import Philox
from fpsim.blocks.scale_rules import ScaleRule
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.vectors.operations.operation import (
    FLOAT32,
    Convert,
    Operation,
    Quantize,
    TwoOperand,
    parse_operation,
)
from fpsim.vectors.sets.choices import STRATEGIES
from fpsim.vectors.sets.code_lists import all_codes, finite_codes
from fpsim.vectors.sets.record import Record
from fpsim.vectors.sets.vector_set import Job, Section
from fpsim.vectors.sets.word_layout import Columns

__all__ = ["OperationPlan", "plan_operation"]

Codes = NDArray[np.int64]
#: Most bits of a source, and of an operand pair, of which all codes are cases; codes of wider ones.
ALL_CODES, ALL_PAIRS, PALETTE = 16, 14, 96
#: Most bits of scales for which every tie between two scales is a case.
LISTED_SCALES = 8
#: Vectors of a block, and most vectors of a set: results are exact and slow.
BLOCK, MAX_COUNT = 1 << 14, 1 << 26


@dataclass(frozen=True)
class OperationPlan:
    """A set of vectors of an operation, by section; blocks get their results on demand."""

    operation: Operation
    strategy: str
    seed: int
    parts: tuple[tuple[str, Columns], ...]
    start: str = "dot"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Record:
        """The operation, which is the record of the set: its fields and results."""
        return cast(Record, self.operation)

    @property
    def count(self) -> int:
        """Number of vectors."""
        return sum(_rows(columns) for _, columns in self.parts)

    @property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        found, at = [], 0
        for name, columns in self.parts:
            found.append(Section(name, at, _rows(columns)))
            at += _rows(columns)
        return tuple(found)

    def jobs(self) -> list[Job]:
        """Return (section, first vector in it) of every block."""
        return [
            (part, start)
            for part, (_, columns) in enumerate(self.parts)
            for start in range(0, _rows(columns), BLOCK)
        ]

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in one block."""
        return min(BLOCK, _rows(self.parts[part][1]) - block)

    def with_inputs(self, change: Callable[[Columns], Columns]) -> OperationPlan:
        """Return the set with inputs changed by a function."""
        parts = tuple((name, change(columns)) for name, columns in self.parts)
        return replace(self, parts=parts)

    def block(self, part: int, block: int) -> Columns:
        """Return one block with results."""
        columns = {n: c[block : block + BLOCK] for n, c in self.parts[part][1].items()}
        return columns | self.operation.results(columns)


def _rows(columns: Columns) -> int:
    return int(next(iter(columns.values())).shape[0])


def plan_operation(
    operation: str | Operation, *, strategy: str = "mixed", count: int = 4096, seed: int = 1
) -> OperationPlan:
    """Plan vectors of an operation; equal arguments give equal sets on every computer.

    Args:
        operation: an operation, or its text (`parse_operation`), such as ``convert:e5m10:e4m3fn``.
        strategy: ``exhaustive`` (every code or pair, at most 2^16), ``directed`` (every code or
            pair if they are few, and corner classes), ``random``, or ``mixed``.
        count: number of random vectors.
        seed: of the random vectors.

    Returns:
        The plan; inputs without a result, such as NaN for a format without NaN, are left out.

    Raises:
        FpsimError: an unknown operation or strategy, a count or seed out of range, or too many
            cases for ``exhaustive``.
    """
    if strategy not in STRATEGIES:
        raise not_one_of("strategy", strategy, STRATEGIES)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
        raise FpsimError(f"count: {count!r} is not an integer in 1..{MAX_COUNT}")
    if isinstance(operation, str):
        operation = parse_operation(operation)
    every, corners, random = _KINDS[type(operation)]
    words = Philox(seed)
    parts: list[tuple[str, Columns]] = []
    if strategy != "random":
        parts += every(operation, strategy == "exhaustive")
    if strategy in ("directed", "mixed"):
        parts += corners(operation)
    if strategy in ("random", "mixed"):
        parts += random(operation, words, count)
    kept = []
    for name, columns in parts:
        typed = {n: np.asarray(c).astype(operation.dtype_of(n)) for n, c in columns.items()}
        good = operation.defined(typed)
        if good.any():
            kept.append((name, {n: c[good] for n, c in typed.items()}))
    return OperationPlan(operation, strategy, seed, tuple(kept))


# -- converters ----------------------------------------------------------------------------------


def _every_code(operation: Convert, only: bool) -> list[tuple[str, Columns]]:
    source = operation.source
    if source.bits <= ALL_CODES:
        return [("codes", {"x": np.arange(1 << source.bits)})]
    if only:
        raise FpsimError(f"strategy: {source.name} has more than 2^{ALL_CODES} codes")
    return [("codes", {"x": all_codes(source)})]


def _boundaries(operation: Convert) -> list[tuple[str, Columns]]:
    """Return the codes at and beside every value of the target, and every midpoint."""
    source, target = operation.source, operation.target
    if source.bits <= ALL_CODES:
        return []
    values = np.unique(target.decode(finite_codes(target).astype(target.dtype)))
    middles = (values[1:] + values[:-1]) / 2
    beyond = values[-1] + (values[-1] - values[-2]) / 2 * np.array([0.5, 1.0, 1.5, 2.0])
    found = np.concatenate([values, middles, beyond, -beyond])
    codes = source.encode(found, "rtz", "saturate").astype(np.int64)
    beside = np.concatenate([codes - 1, codes, codes + 1])
    beside = np.unique(beside[(beside >= 0) & (beside < 1 << source.bits)])
    return [("boundaries", {"x": beside})]


def _random_codes(operation: Convert, words: Philox, count: int) -> list[tuple[str, Columns]]:
    return [("random", {"x": words.bits(operation.source.bits, count)})]


# -- multipliers and adders ----------------------------------------------------------------------


def _palette(fmt: Format) -> Codes:
    """Return the codes of a format; of a wide one an even choice with both ends."""
    codes = all_codes(fmt)
    if codes.size <= PALETTE:
        return codes
    places = np.unique(np.linspace(0, codes.size - 1, PALETTE - 8).astype(np.int64))
    extra = []
    if isinstance(fmt, FloatFormat):
        one = fmt.encode([1.0], "rtz", "saturate").astype(np.int64)
        ends = [0, 1, fmt.max_code - 1, fmt.max_code, 1 << fmt.mantissa_bits]
        found = [*ends, *one.tolist(), fmt.inf_code, fmt.nan_code]
        extra = [c for c in found if c is not None]
        extra += [c | fmt.sign_bit for c in extra]
    return np.unique([*codes[places].tolist(), *extra])


def _every_pair(operation: TwoOperand, only: bool) -> list[tuple[str, Columns]]:
    bits = operation.a.bits + operation.b.bits
    if bits <= (ALL_CODES if only else ALL_PAIRS):
        a, b = np.arange(1 << operation.a.bits), np.arange(1 << operation.b.bits)
    elif only:
        raise FpsimError(f"strategy: there are 2^{bits} pairs of operands, more than 2^{ALL_CODES}")
    else:
        a, b = _palette(operation.a), _palette(operation.b)
    return [("pairs", {"a": np.repeat(a, b.size), "b": np.tile(b, a.size)})]


def _pair_corners(operation: TwoOperand) -> list[tuple[str, Columns]]:
    if operation.a.bits + operation.b.bits <= ALL_PAIRS:
        return []
    return [*_opposites(operation), *_ends(operation)]


def _ends(operation: TwoOperand) -> list[tuple[str, Columns]]:
    """Return operands with results at and beside the smallest normal and the largest number."""
    result, fmt = operation.result, operation.b
    a = finite_codes(operation.a)
    a = a[:: max(1, a.size // 1024)]
    values = operation.a.decode(a.astype(operation.a.dtype))
    rows: list[tuple[Codes, Codes]] = []
    for target in (2.0**result.exponent_min, result.max_value):
        with np.errstate(all="ignore"):
            other = target / np.abs(values) if operation.verb == "mul" else target - np.abs(values)
        inside = np.isfinite(other) & (np.abs(other) <= fmt.max_value) & (other > 0)
        codes = fmt.encode(other[inside], "rtz", "saturate").astype(np.int64)
        rows += [(a[inside], codes + step) for step in (-1, 0, 1)]
    both = {"a": np.concatenate([x for x, _ in rows]), "b": np.concatenate([y for _, y in rows])}
    inside = (both["b"] >= 0) & (both["b"] < 1 << fmt.bits)
    return [("ends", {name: codes[inside] for name, codes in both.items()})] if inside.any() else []


def _opposites(operation: TwoOperand) -> list[tuple[str, Columns]]:
    """Return operands of sums that cancel, wholly or to a few bits, the hardest for an adder."""
    if operation.verb != "add":
        return []
    a = finite_codes(operation.a)
    a = a[:: max(1, a.size // 4096)]
    values = operation.a.decode(a.astype(operation.a.dtype))
    if not isinstance(operation.b, FloatFormat) or not operation.b.signed:
        return []
    b = operation.b.encode(-values, "rtz", "saturate").astype(np.int64)
    rows = {"a": np.tile(a, 3), "b": np.concatenate([b, np.maximum(b, 1) - 1, b + 1])}
    inside = rows["b"] < 1 << operation.b.bits
    return [("cancellations", {name: codes[inside] for name, codes in rows.items()})]


def _random_pairs(operation: TwoOperand, words: Philox, count: int) -> list[tuple[str, Columns]]:
    a = words.bits(operation.a.bits, count)
    b = words.bits(operation.b.bits, count)
    parts = [("random", {"a": a, "b": b})]
    if operation.a == operation.b and operation.verb == "add":
        # Codes that differ in low bits and the sign: sums of operands with near exponents.
        low = words.bits(operation.a.bits, count) & np.uint64((1 << (operation.a.bits // 2)) - 1)
        sign = words.bits(1, count) << np.uint64(operation.a.bits - 1)
        parts.append(("random-near", {"a": a, "b": a ^ low ^ sign}))
    return parts


# -- quantizers ----------------------------------------------------------------------------------


#: Tensor scales: with few bits, so that elements can lie on ties, and others; powers of two.
TENSOR_SCALES = (1.0, 0.5, 3 / 256, 0.0123, 5 / 1024, 3.7e-3, 2.0, 7 / 512)
#: A tensor scale with which subnormal values do not become zeros.
TINY_TENSOR_SCALE = 2.0**-140


def _blocks(
    operation: Quantize, values: NDArray[np.float64], given: NDArray[np.float64] | None = None
) -> Columns:
    """Return blocks of values (n, k) as input codes, with tensor scales if the format has them."""
    columns: Columns = {"x": operation.source.encode(values, "rne", "saturate")}
    if operation.has_tensor_scale:
        given = np.resize(TENSOR_SCALES, len(values)) if given is None else given
        columns["tensor_scale"] = get_format(FLOAT32).encode(given)
    return columns


def _no_table(operation: Quantize, only: bool) -> list[tuple[str, Columns]]:
    if only:
        raise FpsimError("strategy: blocks of values are too many to be exhausted")
    return []


def _block_corners(operation: Quantize) -> list[tuple[str, Columns]]:
    k, fmt = operation.k, operation.format
    limit = fmt.limit
    zeros = np.zeros((3, k))
    zeros[1] = -0.0
    zeros[2, ::2] = -0.0
    one = np.zeros((2 * k, k))
    one[np.arange(2 * k), np.arange(2 * k) % k] = np.repeat([limit, -1.0], k)
    # Largest magnitudes at and beside every power of two and every multiple of the limit.
    exponents = np.arange(-40, 41)
    steps = np.array([1 - 2.0**-20, 1.0, 1 + 2.0**-20, limit, limit * (1 + 2.0**-20)])
    tops = (2.0 ** exponents[:, None] * steps).reshape(-1)
    largest = np.linspace(-1, 1, k) * tops[:, None]
    largest[:, 0] = tops
    smallest = np.linspace(-1, 1, k) * 2.0 ** np.array([[-126.0], [-130.0], [-149.0]])
    huge = np.linspace(-1, 1, k) * np.array([[operation.source.max_value], [1.0e38], [2.0**127]])
    parts = [
        ("zeros", _blocks(operation, zeros)),
        ("one-element", _blocks(operation, one)),
        ("largest", _blocks(operation, largest)),
        ("midpoints", _midpoints(operation)),
        ("tiny", _blocks(operation, smallest)),
        ("huge", _blocks(operation, huge)),
    ]
    if operation.has_tensor_scale:
        given = np.full(len(smallest), TINY_TENSOR_SCALE)
        parts.append(("tiny-tensors", _blocks(operation, smallest, given)))
    ties = _scale_ties(operation)
    return parts if ties is None else [*parts, ("scale-ties", ties)]


def _midpoints(operation: Quantize) -> Columns:
    """Return blocks with a known scale, and elements at and beside every midpoint of the grid."""
    k, fmt = operation.k, operation.format
    held = np.unique(np.abs(_grid(operation)))
    middle = (held[1:] + held[:-1]) / 2
    beside = np.concatenate([middle, middle * (1 - 2.0**-10), middle * (1 + 2.0**-10), held])
    signed = np.concatenate([beside, -beside])
    rows = np.resize(signed, (-(-signed.size // max(k - 1, 1)), max(k - 1, 1)))
    rows = np.concatenate([np.full((len(rows), 1), fmt.limit), rows], axis=1)[:, :k]
    if not operation.has_tensor_scale:
        return _blocks(operation, rows)
    pairs = [(s_t, s) for s_t in TENSOR_SCALES for s in (1.0, 1.25, 0.875)]
    values = np.concatenate([rows * (s_t * s) for s_t, s in pairs])
    given = np.repeat([s_t for s_t, _ in pairs], len(rows))
    return _blocks(operation, values, given)


def _scale_ties(operation: Quantize) -> Columns | None:
    """Return blocks whose scale lies at or beside a tie of the scale format, or None."""
    fmt = operation.format
    if fmt.scale is None or fmt.scale.bits > LISTED_SCALES or fmt.rule is not ScaleRule.ABSMAX:
        return None
    scales = np.unique(fmt.scale.decode(finite_codes(fmt.scale).astype(fmt.scale.dtype)))
    scales = scales[scales >= 0]
    middle = (scales[1:] + scales[:-1]) / 2
    tops = np.concatenate([middle, middle * (1 - 2.0**-20), middle * (1 + 2.0**-20)]) * fmt.limit
    values = np.linspace(-1, 1, operation.k) * tops[:, None]
    values[:, -1] = tops
    return _blocks(operation, values, np.resize([1.0, 0.5], len(tops)))


def _grid(operation: Quantize) -> NDArray[np.float64]:
    element = operation.format.element
    codes = np.arange(1 << element.bits)
    values = element.held if hasattr(element, "held") else element.decode(codes)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _random_blocks(operation: Quantize, words: Philox, count: int) -> list[tuple[str, Columns]]:
    """Return blocks of random significands with random exponents, near each other in a block."""
    k = operation.k
    size = count * k
    significands = 1 + words.words(size).astype(np.float64) / 2.0**32
    signs = 1.0 - 2.0 * (words.words(size) & 1)
    spread = words.below(12, size).reshape(count, k)
    base = words.below(24, count)[:, None] - 12
    values = (significands * signs).reshape(count, k) * 2.0 ** (base - spread)
    return [("random", _blocks(operation, values))]


_KINDS: dict[type[Operation], tuple[Any, Any, Any]] = {
    Convert: (_every_code, _boundaries, _random_codes),
    TwoOperand: (_every_pair, _pair_corners, _random_pairs),
    Quantize: (_no_table, _block_corners, _random_blocks),
}
