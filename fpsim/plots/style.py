# SPDX-License-Identifier: Apache-2.0
"""Style of all figures (colours, type), and output of figures as files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError

__all__ = [
    "BLUE",
    "BROWN",
    "GREEN",
    "INK",
    "MARKERS",
    "MUTED",
    "ORANGE",
    "PINK",
    "PURPLE",
    "RED",
    "RULE",
    "SERIES",
    "caption",
    "check_some",
    "check_target",
    "look",
    "minus",
    "new_figure",
    "panels",
    "save",
    "style",
    "to_svg",
]

#: Text, secondary text, and thin lines; the report's style sheet recolours them in dark mode.
INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#d9dee5"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#9467a8"
BROWN, PINK = "#7a4b2a", "#d9569b"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, BROWN, PINK)
MARKERS = "osD^vPX"
WIDTH = 8.0  #: width of every figure, in inches

#: Replacements of light-theme colours in the dark theme.
_GROUND = "#14181d"
_LIGHT_INK = "#e6e9ed"
_DARK = {
    INK: _LIGHT_INK,
    "#000000": _LIGHT_INK,
    MUTED: "#a3adb8",
    RULE: "#3a444f",
    BROWN: "#c08a5e",
    "#ffffff": _GROUND,
}
#: Suffixes of figures, with metadata to leave out, so that files of two runs are equal.
_METADATA = {
    ".svg": ("Date", "Creator", "Format", "Type"),
    ".png": ("Software",),
    ".pdf": ("CreationDate", "Creator", "Producer"),
}

_STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "fpsim",
    "savefig.dpi": 150,
}


def look(place: int) -> dict[str, Any]:
    """Return ``color`` and ``marker`` of series ``i``, unlike those of the 48 around it."""
    # Markers shift by one each time colours repeat.
    turns, colour = divmod(place, len(SERIES))
    return {"color": SERIES[colour], "marker": MARKERS[(place + turns) % len(MARKERS)]}


def minus(text: str) -> str:
    """Return a number as text with a typographic minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG document; equal figures give equal text."""
    return _rendered(figure, "svg").decode("utf-8")


def save(figure: Figure, path: str | Path, theme: str = "light") -> Path:
    """Write a figure as ``.svg``, ``.png`` or ``.pdf``, whole or not at all.

    Args:
        figure: a figure from a function of this package.
        path: the file; its suffix gives the file format.
        theme: ``light``, or ``dark`` for a dark ground.

    Returns:
        The path written.

    Raises:
        FpsimError: another suffix or theme, or a path that cannot be written.
    """
    target = check_target(path, theme)
    kind = target.suffix.lower().removeprefix(".")
    if theme == "light":
        return write_atomic(target, _rendered(figure, kind), "path")
    with _dark(figure):
        return write_atomic(target, _rendered(figure, kind), "path")


def check_target(path: str | Path, theme: str = "light") -> Path:
    """Return ``path`` as a Path; raise `FpsimError` for a suffix or theme unknown to `save`."""
    target = Path(path)
    if target.suffix.lower() not in _METADATA:
        raise FpsimError(
            f"path: {target} ends in {target.suffix!r}; allowed are {', '.join(_METADATA)}"
        )
    if theme not in ("light", "dark"):
        raise FpsimError(f"theme: {theme!r} is not light or dark")
    return target


@contextmanager
def _dark(figure: Figure) -> Iterator[None]:
    """Recolour text, lines and white fillings of a figure for the dark theme, and back."""
    with style():
        # Ticks get their artists only when they are first drawn.
        figure.draw_without_rendering()
    undo: list[tuple[Any, str, Any]] = []
    for artist in figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            getter: Any = getattr(artist, f"get_{name}", None)
            setter: Any = getattr(artist, f"set_{name}", None)
            if getter is None or setter is None:
                continue
            before: Any = getter()
            try:
                hexes = [mpl.colors.to_hex(before)]
            except (ValueError, TypeError):
                continue  # several colours, or "auto"
            if hexes[0] in _DARK:
                undo.append((setter, hexes[0], before))
                setter(_DARK[hexes[0]])
    ground = figure.get_facecolor()
    figure.set_facecolor(_GROUND)
    try:
        yield
    finally:
        figure.set_facecolor(ground)
        for setter, _, before in reversed(undo):
            setter(before)


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    absent = _METADATA[f".{kind}"]
    with style():
        # Layout runs once: a second run would start from the first one's result and differ a
        # little.
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(absent))
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw, or render, with these settings in place of the caller's."""
    with mpl.rc_context():
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams
        parameters.update(_STYLE)
        yield


def new_figure(height: float) -> Figure:
    """Return an empty figure of `WIDTH` by ``height`` inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def caption(figure: Figure, text: str) -> None:
    """Write a caption under a figure: its data, seed, unit and version."""
    figure.supxlabel(text, fontsize=7.5, color=MUTED, x=0.01, ha="left")


def panels(axes: Axes | None, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return axes to draw into: the given ones, or panels of a new figure.

    Args:
        axes: axes for one panel; None for a new figure.
        height: height of a new figure, in inches.
        columns: panels of a new figure.

    Returns:
        The figure, and its panels from left to right.

    Raises:
        FpsimError: axes for a figure of several panels.
    """
    if axes is None:
        figure = new_figure(height)
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])
    if columns > 1:
        raise FpsimError(f"axes: this figure has {columns} panels; leave axes out")
    found = axes.get_figure(root=True)
    assert found is not None
    return found, [axes]


def check_some(items: Sequence[object]) -> None:
    """Raise `FpsimError` if there is nothing to draw."""
    if not items:
        raise FpsimError("figure: there is nothing to draw")
