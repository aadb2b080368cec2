# SPDX-License-Identifier: Apache-2.0
"""Figure of training runs: losses against the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.plots.style import MUTED, SERIES, check_some, panels, style

__all__ = ["TrainingCurve", "smoothed", "training_figure"]

#: Most curves that colours and dashes can distinguish.
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
#: Share of a run that a point averages, and least relative distance of labels.
_SPAN, _APART = 0.04, 0.045


@dataclass(frozen=True)
class TrainingCurve:
    """Losses of one setting: one row per run (seed), one number per step; not finite: diverged."""

    label: str
    losses: Sequence[Sequence[float]]
    reference: bool = False  #: whether the curve is grey, behind the others


def training_figure(curves: Sequence[TrainingCurve], axes: Axes | None = None) -> Figure:
    """Draw the mean loss of each setting, with a band from its least to its largest run.

    A point is the mean of the steps before it, over a twenty-fifth of the run. Labels stand at the
    ends of the curves, in order.

    Args:
        curves: settings.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure.

    Raises:
        FpsimError: no curves, more settings than can be distinguished, or runs without steps.
    """
    check_some(curves)
    most = len(SERIES) * len(_DASHES)
    if sum(not curve.reference for curve in curves) > most:
        raise FpsimError(
            f"figure: {len(curves)} curves are more than the {most} that can be told apart"
        )
    for curve in curves:
        if not curve.losses or not all(len(run) for run in curve.losses):
            raise FpsimError(f"figure: {curve.label} has no steps")
    with style():
        figure, (area,) = panels(axes, 4.6)
        area.set_xlabel("training step")
        area.set_ylabel("loss (nats per byte)")
        area.grid(axis="y")
        number, ends = 0, []
        for curve in curves:
            colour, dashes = MUTED, "-"
            if not curve.reference:
                colour = SERIES[number % len(SERIES)]
                dashes = _DASHES[number // len(SERIES)]  # type: ignore[assignment]
                number += 1
            ends.append(_draw(area, curve, colour, dashes))
        _label(area, ends)
    return figure


def smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    """Return running means over a twenty-fifth of a run; NaN from the first loss not finite."""
    values = np.asarray(losses, dtype=np.float64)
    span = max(1, int(len(values) * _SPAN))
    total = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values, np.nan))])
    last = np.arange(1, len(total))
    first = np.maximum(last - span, 0)
    means: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return means


def _draw(axes: Axes, curve: TrainingCurve, colour: str, dashes: str) -> tuple[float, str, str]:
    length = min(len(run) for run in curve.losses)
    runs = np.array([smoothed(run[:length]) for run in curve.losses])
    steps = np.arange(length)
    skip = max(1, length // 50)  # the first means are of too few steps
    mean = runs.mean(axis=0)
    axes.plot(steps[skip:], mean[skip:], color=colour, linestyle=dashes, linewidth=1.6)
    if len(runs) > 1:
        low, high = runs.min(axis=0), runs.max(axis=0)
        axes.fill_between(steps[skip:], low[skip:], high[skip:], color=colour, alpha=0.15, lw=0)
    finite = mean[np.isfinite(mean)]
    label = curve.label if np.isfinite(mean[-1]) else f"{curve.label}: diverged"
    return (float(finite[-1]) if finite.size else np.nan), label, colour


def _label(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write labels at the ends of the curves, moved up if they would overlap."""
    low, high = axes.get_ylim()
    place = -np.inf
    for value, label, colour in sorted(ends, key=lambda end: (not np.isfinite(end[0]), end[0])):
        wanted = value if np.isfinite(value) else high
        place = max(wanted, place + _APART * (high - low))
        axes.annotate(
            label, (1, (place - low) / (high - low)), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", color=colour, fontsize=8.5,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
