# SPDX-License-Identifier: Apache-2.0
"""Names beside dots, placed so that they cover neither each other nor a dot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from fpsim.plots.style import MUTED

__all__ = ["name_points"]

#: Places of a name beside its dot, best first: points to the right, points up, alignment.
_PLACES = (
    (6, 4, "left"), (6, -9, "left"), (-6, 4, "right"), (-6, -9, "right"),
    (6, 14, "left"), (6, -19, "left"), (-6, 14, "right"), (-6, -19, "right"),
    (6, 24, "left"), (6, -29, "left"), (-6, 24, "right"), (-6, -29, "right"),
)  # fmt: skip
#: Pixels around a dot kept free of names.
_DOT = 4.0


def name_points(
    axes: Axes,
    points: Sequence[tuple[str, float, float]],
    others: Sequence[tuple[float, float]] = (),
) -> list[str]:
    """Write names beside points of a figure whose axes have their final limits.

    Earlier points have precedence; names without room are left out. A name that is not right above
    its dot gets a thin line to it.

    Args:
        axes: axes of the points.
        points: name, x and y.
        others: further dots that no name may cover.

    Returns:
        The names that were left out.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    where = [axes.transData.transform((x, y)) for _, x, y in points]
    dots = [*where, *(axes.transData.transform(point) for point in others)]
    taken = [Bbox.from_extents(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in dots]
    left_out = []
    for name, x, y in points:
        for place, (right, up, side) in enumerate(_PLACES):
            text = axes.annotate(
                name, (x, y), (right, up), textcoords="offset points", fontsize=7.5, color=MUTED,
                ha=side,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                if place:
                    _line(axes, x, y, right, up)
                break
            text.remove()
        else:
            left_out.append(name)
    return left_out


def _line(axes: Axes, x: float, y: float, right: float, up: float) -> None:
    """Draw a thin line from a dot to the start of its name."""
    style = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    line = axes.annotate("", (x, y), (right, up + 2), textcoords="offset points", arrowprops=style)
    line.set_in_layout(False)
