# SPDX-License-Identifier: Apache-2.0
"""The values of small formats, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format
from fpsim.plots.style import MUTED, SERIES, check_some, minus, new_figure, style
from fpsim.studies.sqnr import FORMATS, format_label, levels

__all__ = ["format_figure"]


def format_figure(formats: Sequence[str | Format] = FORMATS) -> Figure:
    """Draw the values of small formats on number lines scaled to the same largest value.

    Each value is a dot in the interval of numbers that round to it, and bears its unscaled value
    where there is room; the ratio of the largest to the smallest magnitude stands under the name.

    Raises:
        FpsimError: no formats, an unknown one, or one of more than 6 bits.
    """
    check_some(formats)
    targets = [get_format(fmt) for fmt in formats]
    for fmt in targets:
        if fmt.bits > 6:
            raise FpsimError(f"format: {fmt.name} has {fmt.bits} bits; a picture takes at most 6")
    with style():
        figure = new_figure(0.75 + 0.62 * len(targets))
        axes = figure.subplots()
        for y, fmt in enumerate(targets):
            _number_line(axes, y, fmt, SERIES[y % len(SERIES)])
        axes.set_yticks(range(len(targets)), [format_label(fmt.name) for fmt in targets])
        axes.set_ylim(len(targets) - 0.55, -0.7)
        axes.set_xlim(-1.04, 1.04)
        axes.set_xlabel("value relative to the largest")
        axes.xaxis.set_major_locator(MultipleLocator(0.5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    return figure


def _number_line(axes: Axes, y: int, fmt: Format, colour: str) -> None:
    raw = levels(fmt)
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
        if taken - position < 0.055:
            continue
        taken = position
        for sign in (1,) if value == 0 or -value not in raw else (1, -1):
            axes.annotate(
                minus(f"{sign * value:g}"), (sign * position, y), (0, 9),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=MUTED,
            )  # fmt: skip
