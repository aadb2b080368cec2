# SPDX-License-Identifier: Apache-2.0
"""Block formats to test, data that reaches their corners, and the comparison with the oracle."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpsim import BlockFormat, Quantized
from fpsim.blocks.block_format import BLOCK_FORMATS, Span
from fpsim.blocks.quantized import Tiles
from fpsim.oracle.block_formats import fl, quantize_block, tensor_scale

#: Formats of one grid, and adaptive ones; others are in `test_grids`.
ADAPTIVE = ("fouroversix", "if4", "nvif4")
NAMES = [
    name
    for name, fmt in BLOCK_FORMATS.items()
    if (not fmt.is_coded or name.startswith(ADAPTIVE))
    and fmt.macro is None
    and not isinstance(fmt.block, tuple)
]
VARIANTS = [
    *NAMES,
    *(f"mxfp4-{rule}" for rule in ("rceil", "ceil", "even")),
    *(f"amxfp4-pot-{rule}" for rule in ("rceil", "ceil")),
]
#: One of each kind; the others differ from one of these in a number.
KINDS = [
    "mxfp4", "mxfp4-even", "mxfp8-e4m3", "nvfp4", "nvfp4-torchao", "amxfp4", "amxfp4-rne",
    "amxfp4-pot-r", "amxint4", "amxint4-pot-r", "fouroversix", "fouroversix-mae", "fouroversix-abs-max", "if4",
    "llmfp4-e2m1-tensor", "llmfp4-e3m0-row", "qrazor-w4-g8", "qrazor-a4-g16",
]  # fmt: skip
F32 = np.finfo(np.float32)
#: Ends of ranges, ties, powers of two and their neighbours.
EDGES = [0.0, -0.0, 1e-45, -1e-45, 2.0**-126, 4.6e-5, F32.max, -F32.max, 6.0, 7.0, -7.0, 448 * 6.0]
EDGES += [np.nextafter(np.float32(8), np.float32(0)), 0.25, 0.75, 1.25, -1.75, 2.5, -3.5, 5.0]


def check_against_oracle(fmt: BlockFormat, x: NDArray[Any], **given: Any) -> None:
    """Compare codes, scales and the rest of finite rows with the oracle, block by block."""
    q = fmt.quantize(x, **given)
    static = Fraction(float(given["tensor_scale"])) if given else None
    if isinstance(fmt.block, tuple):
        tiles = Tiles(x.shape, fmt.block)
        rows, codes, size = tiles.rows(x), tiles.rows(q.codes), fmt.block[0] * fmt.block[1]
    else:
        rows = x.reshape(1, -1) if fmt.block is Span.TENSOR else x
        size = rows.shape[1] if isinstance(fmt.block, Span) else fmt.block
        codes = q.codes.reshape(rows.shape)
    if fmt.macro is not None:
        rows = divided(fmt, x, q)
    values = np.abs(rows.astype(np.float64))
    for r, row in enumerate(rows):
        largest = Fraction(float(values[r].max() if fmt.outer is Span.ROW else values.max()))
        if q.tensor_scale is not None:
            own = float(np.ravel(q.tensor_scale)[r if fmt.outer is Span.ROW else 0])
            assert own == float(tensor_scale(fmt, largest) if static is None else static)
        for g, start in enumerate(range(0, len(row), size)):
            block = [float(v) for v in row[start : start + size]]
            expected = quantize_block(fmt, block, largest, static, r)
            where = (fmt.name, block)
            assert codes[r, start : start + size].tolist() == expected.codes[: len(block)], where
            if fmt.scale is not None:
                assert int(q.scales.reshape(len(rows), -1)[r, g]) == expected.scale, where
            else:
                top = max(abs(Fraction(v)) for v in block)
                scale = float(top / Fraction(fmt.limit)) if top else 1.0
                assert float(q.scales.reshape(len(rows), -1)[r, g]) == scale, where
            if q.negative_scales is not None:
                assert int(q.negative_scales[r, g]) == expected.negative_scale, where
            if q.zero_points is not None:
                assert int(q.zero_points[r, g]) == expected.zero_point, where
            if q.variants is not None:
                assert int(q.variants.reshape(len(rows), -1)[r, g]) == expected.variant, where
            for part, wanted in ((q.ratios, expected.ratios), (q.tops, expected.tops)):
                if part is not None:
                    count = len(wanted)
                    got = part.reshape(len(rows), -1)[r, g * count : (g + 1) * count]
                    assert tuple(got.tolist()) == wanted, where


def divided(fmt: BlockFormat, x: NDArray[Any], q: Quantized) -> NDArray[np.float32]:
    """Return rows divided by their macro scales, which are checked against exact ones."""
    macro = fmt.macro
    assert macro is not None
    assert q.macros is not None
    out = np.empty(x.shape, np.float32)
    for r, row in enumerate(x):
        for g, start in enumerate(range(0, len(row), macro.block)):
            part = row[start : start + macro.block]
            top = fl(max(abs(Fraction(float(v))) for v in part) / Fraction(macro.target))
            m = 0
            if top:
                exponent = 0
                while Fraction(2) ** exponent > top:
                    exponent -= 1
                while Fraction(2) ** (exponent + 1) <= top:
                    exponent += 1
                exact = (Fraction(top) / Fraction(2) ** exponent - 1) * 2**macro.bits
                m = min(round(exact), 2**macro.bits - 1)
            assert int(q.macros[r, g]) == m
            factor = 1 + Fraction(m, 2**macro.bits)
            out[r, start : start + macro.block] = [
                math.copysign(float(fl(Fraction(float(v)) / factor)), float(v)) for v in part
            ]
    return out


def wide_values(seed: int, shape: tuple[int, ...], spread: int = 12) -> NDArray[np.float32]:
    """Return values of many magnitudes, many of them on few bits so that ties occur."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-96, 97, shape) / 8.0
    fine = rng.standard_normal(shape) * 3
    x = np.where(rng.random(shape) < 0.5, coarse, fine)
    blocks = np.exp2(rng.integers(-spread, spread + 1, (*shape[:-1], 1)))
    return np.asarray(x * blocks, dtype=np.float32)


def mixed_rows(seed: int, rows: int, length: int, narrow: bool) -> NDArray[np.float32]:
    """Return finite float32 bit patterns, sixteenths and edges, mixed or (``narrow``) without ends.

    Drawn from a seed: Hypothesis takes milliseconds per element to draw floats one by one.
    """
    rng = np.random.default_rng(seed)
    shape = (rows, length)
    bits = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
    bits = np.where(np.isfinite(bits), bits, np.float32(1))
    sixteenths = (rng.integers(-200, 201, shape) / 16).astype(np.float32)
    edges = rng.choice(np.array(EDGES, np.float32), shape)
    kind = rng.integers(0, 3, shape)
    normal = rng.standard_normal(shape).astype(np.float32)
    ends = (normal, normal) if narrow else (bits, edges)
    return np.asarray(np.select([kind == 0, kind == 1], [sixteenths, ends[0]], ends[1]))


arrays = st.builds(
    mixed_rows, st.integers(0, 1 << 32), st.integers(1, 2), st.integers(1, 50), st.booleans()
)
