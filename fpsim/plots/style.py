# SPDX-License-Identifier: Apache-2.0
"""Style of all figures: colours, type, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "PURPLE",
    "RED",
    "RULE",
    "SERIES",
    "check_some",
    "minus",
    "new_figure",
    "save",
    "style",
    "to_svg",
]

#: Text, secondary text, and thin lines; the report's style sheet recolours them in dark mode.
INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#d9dee5"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#9467a8"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE)
WIDTH = 8.0  #: inches of every figure

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


def minus(text: str) -> str:
    """Return a number's text with a typographic minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG document, the same text whenever the figure is the same."""
    return _rendered(figure, "svg").decode("utf-8")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as ``.svg`` or ``.png``, whole or not at all, and return the path.

    Raises:
        FpsimError: another suffix, or a path that cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise FpsimError(f"path: {target} ends in {target.suffix!r}; allowed are .svg and .png")
    return write_atomic(target, _rendered(figure, kind), "path")


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    absent = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind]
    with style():
        # Laid out once: another pass would start from this one's result and differ a little.
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(absent))
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw, or render, with these settings whatever the caller's are."""
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


def check_some(items: Sequence[object]) -> None:
    """Raise `FpsimError` if there is nothing to draw."""
    if not items:
        raise FpsimError("figure: there is nothing to draw")
