# SPDX-License-Identifier: Apache-2.0
"""Transfer curves of rounding modes: every value between the ends of a small format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Rounding, parse_rounding
from fpsim.plots.style import INK, check_some, look, minus, panels, style
from fpsim.studies.sqnr import format_label, levels

__all__ = ["RoundingCurve", "rounding_curve", "rounding_figure"]

#: Default of random bits of stochastic rounding.
RANDOM_BITS = 8


@dataclass(frozen=True)
class RoundingCurve:
    """Results of one rounding mode for values between the ends of a format.

    Attributes:
        format: name of the format.
        mode: the rounding mode.
        x: values (n,), ascending.
        low, high: possible results at each value (n,); equal in deterministic modes.
        up: probability of ``high`` (n,), a multiple of 2^-random_bits; 1 in deterministic modes.
    """

    format: str
    mode: Rounding
    x: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    up: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean result at each value (n,)."""
        return self.low + self.up * (self.high - self.low)


def rounding_curve(
    fmt: str | Format,
    mode: str | Rounding,
    points: int = 4001,
    random_bits: int = RANDOM_BITS,
) -> RoundingCurve:
    """Return the results of encoding and decoding values between a format's ends.

    Args:
        fmt: a format of at most 8 bits.
        mode: a rounding mode; for ``sr`` every random integer of ``random_bits`` bits is tried, so
            the distribution is exact.
        points: number of values.
        random_bits: bits of each random integer, 1 to 12.

    Returns:
        The curve, with the values evenly spaced.

    Raises:
        FpsimError: an unknown format or mode, a format of more than 8 bits, or numbers out of
            range.
    """
    target, chosen = get_format(fmt), parse_rounding(mode, "mode")
    if target.bits > 8:
        raise FpsimError(f"format: {target.name} has {target.bits} bits; a picture takes at most 8")
    if points < 2:
        raise FpsimError(f"points: {points} values make no curve")
    if not 1 <= random_bits <= 12:
        raise FpsimError(f"random_bits: {random_bits} is not in 1..12")
    values = levels(target)
    x = np.linspace(values[0], values[-1], points)
    if chosen is not Rounding.SR:
        y = target.decode(target.encode(x, chosen))
        return RoundingCurve(target.name, chosen, x, y, y, np.ones_like(x))
    integers = np.arange(1 << random_bits, dtype=np.uint64)[:, None]
    results = target.decode(
        target.encode(
            np.broadcast_to(x, (integers.size, points)),
            chosen,
            random=np.broadcast_to(integers, (integers.size, points)),
            random_bits=random_bits,
        )
    )
    low, high = results.min(axis=0), results.max(axis=0)
    up = np.where(high > low, (results == high).mean(axis=0), 1.0)
    return RoundingCurve(target.name, chosen, x, low, high, up)


def rounding_figure(curves: Sequence[RoundingCurve], axes: Axes | None = None) -> Figure:
    """Draw the transfer curve of each mode, and beside it the error result - x.

    A stochastic mode is a band between its two results, with its mean as a line.

    Args:
        curves: curves of one format, as `rounding_curve` returns them.
        axes: axes for the transfer curve alone; None for a new figure with both panels.

    Raises:
        FpsimError: no curves, or curves of several formats.
    """
    check_some(curves)
    names = {curve.format for curve in curves}
    if len(names) > 1:
        raise FpsimError(f"curves: of several formats, {' and '.join(sorted(names))}")
    with style():
        figure, found = panels(axes, 3.9, 1 if axes is not None else 2)
        for i, curve in enumerate(curves):
            colour = look(i)["color"]
            line = ("solid", (0, (5, 2)), (0, (1, 1.5)))[i % 3]
            for panel, origin in zip(found, (0.0, 1.0), strict=False):
                if curve.mode is Rounding.SR:
                    low, high = (y - origin * curve.x for y in (curve.low, curve.high))
                    panel.fill_between(curve.x, low, high, color=colour, alpha=0.22, linewidth=0)
                panel.plot(
                    curve.x, curve.mean - origin * curve.x, color=colour, linestyle=line,
                    linewidth=1.5, label=curve.mode.value,
                )  # fmt: skip
        left = found[0]
        left.plot(curves[0].x, curves[0].x, color=INK, linewidth=0.7)
        left.set_title(f"{format_label(curves[0].format)}: result")
        for panel in found:
            panel.set_xlabel("value")
            panel.grid()
            panel.tick_params(length=0)
            panel.xaxis.set_major_formatter(lambda value, _: minus(f"{value:g}"))
            panel.yaxis.set_major_formatter(lambda value, _: minus(f"{value:g}"))
        left.legend(frameon=False, fontsize=8.5)
        if len(found) > 1:
            found[1].set_title("error: result \N{MINUS SIGN} value")
    return figure
