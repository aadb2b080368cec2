# SPDX-License-Identifier: Apache-2.0
"""The values of small formats, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.grids import Table
from fpsim.blocks.widen import wide_scales
from fpsim.formats.floating import Format
from fpsim.plots.style import INK, MUTED, SERIES, check_some, minus, panels, style
from fpsim.studies.error import either_format
from fpsim.studies.sqnr import FORMATS, format_label, levels

__all__ = ["block_maximum", "format_figure", "format_rows"]


def format_figure(
    formats: Sequence[str | Format | BlockFormat] = FORMATS, axes: Axes | None = None
) -> Figure:
    """Draw the values of small formats on number lines of equal largest value.

    Each value is a dot in the interval of numbers that round to it, with its unscaled value if
    there is room; the ratio of the largest to the smallest magnitude stands under the name. For a
    block format the elements are drawn, with a bar above the line where its scale rule puts a
    block's largest magnitude: range that power-of-two scales leave unused (left of 1) or saturate
    (right of 1).

    Args:
        formats: element or block formats, by name, TOML path or object.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure.

    Raises:
        FpsimError: no formats, an unknown one, or elements of more than 6 bits.
    """
    check_some(formats)
    targets = [either_format(fmt) for fmt in formats]
    for fmt in targets:
        bits = _element(fmt).bits
        if bits > 6:
            raise FpsimError(f"format: {fmt.name} has {bits} bits; a picture takes at most 6")
    with style():
        figure, (axes,) = panels(axes, 0.75 + 0.62 * len(targets))
        reach = 1.0
        for y, fmt in enumerate(targets):
            _number_line(axes, y, _element(fmt), SERIES[y % len(SERIES)])
            if isinstance(fmt, BlockFormat):
                low, high = block_maximum(fmt)
                reach = max(reach, high)
                axes.plot([low, high], [y - 0.2] * 2, color=INK, linewidth=3, solid_capstyle="butt")
        axes.set_yticks(range(len(targets)), [format_label(fmt.name) for fmt in targets])
        axes.set_ylim(len(targets) - 0.55, -0.7)
        axes.set_xlim(-1.04, reach + 0.04)
        axes.set_xlabel("value relative to the largest")
        axes.xaxis.set_major_locator(MultipleLocator(0.5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    return figure


def format_rows(formats: Sequence[str | Format | BlockFormat] = FORMATS) -> list[dict[str, Any]]:
    """Return the numbers in `format_figure`: a row per value, with its rounding interval."""
    rows = []
    for given in formats:
        fmt = either_format(given)
        values = _values(_element(fmt))
        edges = [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]
        rows += [
            {"format": fmt.name, "value": float(value), "from": float(low), "to": float(high)}
            for value, (low, high) in zip(values, pairwise(edges), strict=True)
        ]
    return rows


def block_maximum(fmt: BlockFormat, points: int = 257) -> tuple[float, float]:
    """Return the least and largest place of a block's largest magnitude on the elements' line.

    The place is ``max|x| / scale`` relative to the element's largest value, over block maxima that
    sweep an octave inside one tensor.
    """
    across, block = fmt.block if isinstance(fmt.block, tuple) else (1, fmt.block)
    block = block if isinstance(block, int) else 16
    peaks = np.exp2(np.linspace(0.0, 1.0, points, endpoint=False))
    x = np.zeros((points * across, block))
    x[::across, 0] = peaks
    if isinstance(fmt.block, int):
        x = x.reshape(1, -1)
    quantized = fmt.quantize(x)
    scales = wide_scales(fmt, quantized) if fmt.is_coded else np.asarray(quantized.scales)
    values = scales if fmt.scale is None else fmt.scale.decode(scales)
    tensor = 1.0 if quantized.tensor_scale is None else float(quantized.tensor_scale)
    largest = fmt.element.max_value * float(fmt.factor)
    places = peaks / (np.abs(values.reshape(-1)) * tensor) / largest
    return float(places.min()), float(places.max())


def _element(fmt: Format | BlockFormat) -> Format | Table:
    return fmt.element if isinstance(fmt, BlockFormat) else fmt


def _values(element: Format | Table) -> NDArray[np.float64]:
    if isinstance(element, Table):
        return np.unique(element.held + 0.0)
    return levels(element)


def _number_line(axes: Axes, y: int, fmt: Format | Table, colour: str) -> None:
    raw = _values(fmt)
    magnitudes = np.abs(raw[raw != 0])
    axes.annotate(
        f"max/min {magnitudes.max() / magnitudes.min():g}", (0, y), (-3.5, -12),
        xycoords=axes.get_yaxis_transform(), textcoords="offset points", ha="right",
        va="center", fontsize=7.5, color=MUTED, annotation_clip=False,
    )  # fmt: skip
    x = raw / np.abs(raw).max()
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    for i, (left, right) in enumerate(pairwise(edges)):
        axes.barh(
            y, right - left, 0.26, left, color=colour, alpha=0.32 if i % 2 else 0.16, linewidth=0
        )
    axes.plot(
        x, np.full_like(x, y), "o", color=colour, markersize=6, markeredgecolor="white",
        markeredgewidth=0.7,
    )  # fmt: skip
    taken = np.inf
    for value, position in zip(np.flip(raw[raw >= 0]), np.flip(x[raw >= 0]), strict=True):
        if taken - position < 0.08:
            continue
        taken = position
        for sign in (1,) if value == 0 or -value not in raw else (1, -1):
            axes.annotate(
                minus(f"{sign * value:g}"), (sign * position, y), (0, 9),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=MUTED,
            )  # fmt: skip
