# SPDX-License-Identifier: Apache-2.0
"""Blocks at boundaries of scale rules, with elements at rounding boundaries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.philox import numpy_generator
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.meaning import has_row_tables
from fpsim.blocks.scale_rules import POWER_RULES, element_exponent
from fpsim.formats.floating import FixedFormat, FloatFormat, Format

__all__ = ["BlockInputs", "block_inputs", "block_size"]

Tensor = NDArray[np.float32]
#: Elements of a row that is one block, for a format of one block per row.
SPAN_LENGTH = 64
#: Exponents of float32 largest magnitudes to try, and largest magnitudes of whole tensors.
EXPONENTS = (-140, 127)
TENSOR_TOPS = (1.0, 6.0, 448.0, 2688.0, 3.7, 0.0137, 1e-6, 1.0e6)
BLOCKS_PER_ROW = 4


class BlockInputs(NamedTuple):
    """Tensors (rows, K) to quantize one by one, with a description."""

    tensors: list[Tensor]
    search: str


def block_size(fmt: BlockFormat) -> int:
    """Return the elements per block of the tensors.

    Raises:
        FpsimError: tiles, which no single row holds, or a code table per row.
    """
    if isinstance(fmt.block, tuple):
        raise FpsimError(f"format: {fmt.name} has tiles; only blocks along one axis are checked")
    if has_row_tables(fmt):
        raise FpsimError(f"format: {fmt.name} has a table per row; allowed: one for all rows")
    return SPAN_LENGTH if isinstance(fmt.block, Span) else fmt.block


def block_inputs(fmt: BlockFormat, seed: int) -> BlockInputs:
    """Return tensors to quantize to a block format.

    Largest magnitudes of blocks: for power-of-two scales, every exponent of float32 times every
    boundary of the scale rules; for other scales, every scale code, every midpoint between two, and
    the float32 numbers beside them. Elements: values and midpoints of the element format at the
    block's scale and the float32 numbers beside them, zeros, and random ones.
    """
    rng = numpy_generator(seed)
    if fmt.rule in POWER_RULES:
        tops = _power_tops(fmt)
        units = 2.0 ** (np.floor(np.log2(tops.astype(np.float64))) - element_exponent(fmt.element))
        blocks = _blocks(fmt, tops, units, rng)
        text = f"every float32 exponent from {EXPONENTS[0]} at every boundary of a scale rule"
        return BlockInputs([_rows(fmt, blocks)], _search(fmt, blocks.shape[0], text))
    tensors = []
    count = 0
    for top in TENSOR_TOPS if fmt.tensor_range else (0.0,):
        tops, units = _float_tops(fmt, top)
        blocks = _blocks(fmt, tops, units, rng)
        if top:
            blocks = np.minimum(np.maximum(blocks, -np.float32(top)), np.float32(top))
            blocks[0] = 0
            blocks[0, 0] = top
        tensors.append(_rows(fmt, blocks))
        count += blocks.shape[0]
    text = "every scale code, midpoint between two, and the float32 numbers beside them"
    return BlockInputs(tensors, _search(fmt, count, text))


def _search(fmt: BlockFormat, count: int, text: str) -> str:
    return (
        f"boundaries: {count} blocks of {block_size(fmt)}; largest magnitudes: {text}; elements: "
        f"values and midpoints of {fmt.element.name} and their float32 neighbours, zeros, random"
    )


def _power_tops(fmt: BlockFormat) -> Tensor:
    power = 2.0 ** element_exponent(fmt.element)
    ratios = [1.0, 1.25, 1.5, 1.75, fmt.limit / power]
    if isinstance(fmt.element, FloatFormat):
        ratios.append(2.0 - 2.0 ** -(fmt.element.mantissa_bits + 1))
    single = np.array([r for r in np.unique(ratios) if 1.0 <= r < 2.0])
    exponents = np.arange(EXPONENTS[0], EXPONENTS[1] + 1)
    points = np.ldexp(single[None, :], exponents[:, None]).astype(np.float32).reshape(-1)
    near = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(0))]
    tops = np.unique(np.concatenate(near))
    return np.asarray(tops[(tops > 0) & np.isfinite(tops)])


def _float_tops(fmt: BlockFormat, top: float) -> tuple[Tensor, NDArray[np.float64]]:
    """Return largest magnitudes at boundaries of the scale format, and the values of scales."""
    if fmt.scale is None:
        tops = np.geomspace(1e-6, 1e6, 200).astype(np.float32)
        return tops, np.asarray(tops / fmt.limit, dtype=np.float64)
    if fmt.scale.max_code < 1 << 12:
        codes = np.arange(fmt.scale.max_code + 1)
    else:
        codes = np.linspace(1, fmt.scale.max_code, 1 << 10).astype(np.int64)
    values = fmt.scale.decode(codes)
    middle = (values[1:] + values[:-1]) / 2
    s_t = top / (fmt.limit * fmt.tensor_range) if top else 1.0
    with np.errstate(over="ignore", under="ignore"):
        scales = np.concatenate([values, middle])
        points = (scales * fmt.limit * s_t).astype(np.float32)
        near = [points, *(np.nextafter(points, np.float32(to)) for to in (np.inf, 0))]
        tops = np.concatenate(near)
        units = np.concatenate([np.concatenate([values, values[:-1]]) * s_t] * 3)
    usable = (tops > 0) & (tops < 2.0**120) & (units > 0) & ((tops <= top) | (top == 0))
    return tops[usable], units[usable]


def _blocks(
    fmt: BlockFormat, tops: Tensor, units: NDArray[np.float64], rng: np.random.Generator
) -> Tensor:
    """Return blocks (n, size), two for each largest magnitude, with elements in ``units``."""
    size = block_size(fmt)
    inside = _boundaries(fmt.element)
    tops, units = np.repeat(tops, 2), np.repeat(units, 2)
    n = tops.size
    drawn = inside[rng.integers(0, inside.size, (n, size))] * units[:, None]
    with np.errstate(over="ignore", under="ignore"):
        exact = drawn.astype(np.float32)
    step = rng.integers(-1, 2, (n, size))
    toward = np.where(step > 0, np.float32(np.inf), np.float32(0))
    blocks = np.where(step == 0, exact, np.nextafter(exact, toward)).astype(np.float32)
    anything = (rng.uniform(-1, 1, (n, size)) * tops[:, None]).astype(np.float32)
    blocks = np.where(rng.random((n, size)) < 0.2, anything, blocks)
    blocks *= rng.choice(np.array([-1, 1], dtype=np.float32), (n, size))
    blocks[rng.random((n, size)) < 0.05] = 0.0
    blocks[rng.random((n, size)) < 0.02] = -0.0
    blocks = np.clip(blocks, -tops[:, None], tops[:, None])
    place = np.arange(n) % size
    blocks[np.arange(n), place] = tops * np.where(np.arange(n) % 3 == 0, -1, 1)
    ends = np.zeros((3, size), dtype=np.float32)
    ends[1] = -0.0
    ends[2, -1] = np.float32(2.0**-149)
    return np.concatenate([blocks, ends])


def _boundaries(element: Format | Table) -> NDArray[np.float64]:
    """Return positive values and midpoints of an element format."""
    if isinstance(element, Table):
        values = np.unique(np.abs([0.0, *element.values]))
    elif isinstance(element, FixedFormat):
        values = np.ldexp(np.arange(min(element.max_integer, 1 << 10) + 1.0), element.lsb)
    else:
        top = min(element.max_code, 1 << 10)
        values = np.unique(np.concatenate([[0.0], element.decode(np.arange(top + 1))]))
    return np.concatenate([values, (values[1:] + values[:-1]) / 2])


def _rows(fmt: BlockFormat, blocks: Tensor) -> Tensor:
    """Return blocks as rows of a tensor; one row for a format with one scale per tensor."""
    size = block_size(fmt)
    if isinstance(fmt.block, Span):
        return blocks
    missing = -blocks.shape[0] % BLOCKS_PER_ROW
    padded = np.concatenate([blocks, np.zeros((missing, size), dtype=np.float32)])
    return padded.reshape(-1, size * BLOCKS_PER_ROW)
