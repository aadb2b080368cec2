# SPDX-License-Identifier: Apache-2.0
"""The grammar of unit names as a railway diagram: follow any track from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fpsim.units.grammar import GrammarPart

#: Sizes in pixels: a character, the height of a box, the distance of tracks, of stations.
CHARACTER, BOX, ROW, GAP = 8.4, 26, 40, 46
STYLE = (
    "text{font:14px ui-monospace,monospace;fill:#222}.head{font:13px sans-serif;fill:#555}"
    "path{fill:none;stroke:#0072b2;stroke-width:2}rect{fill:#fff;stroke:#222;stroke-width:1.2}"
    ".said{fill:#fdf3d8}"
)


def railway(grammar: Sequence[GrammarPart]) -> str:
    """Return an SVG of three stations, operands, stage and settings, each with its tracks."""
    operands = [part.form for part in grammar if part.part == "operands"]
    settings = [
        " | ".join(f"-{form}" for form in p.form.split()) for p in grammar if p.part == "setting"
    ]
    stages = [p.form for p in grammar if p.part not in ("operands", "setting")]
    columns = [
        ("operands", operands),
        ("stage", stages),
        ("settings: none, one or several", settings),
    ]
    height = 84 + ROW * max(len(tracks) for _, tracks in columns)
    x, middle, shapes = 30.0, 70.0, [_dot(18, 70)]
    for number, (title, tracks) in enumerate(columns):
        wide = max(len(track) for track in tracks) * CHARACTER + 22
        loop = number == len(columns) - 1
        shapes += _station(x, middle, wide, title, tracks, loop)
        x += wide + 2 * GAP
        if number == 0:
            shapes += [_box(x, middle, 26, "-", said=True), _track(x - 6, x, middle)]
            shapes.append(_track(x + 26, x + 34, middle))
            x += 34
    shapes.append(_dot(x + 4, middle))
    size = f'width="{x + 24:.0f}" height="{height}" viewBox="0 0 {x + 24:.0f} {height}"'
    body = "\n".join(shapes)
    title = "<title>Canonical names of units: OPERANDS-STAGE[-SETTING...]</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{title}\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _station(
    x: float, middle: float, wide: float, title: str, tracks: Sequence[str], loop: bool
) -> list[str]:
    """Return the tracks between two points; with ``loop`` a way around them, and one back."""
    shapes = [f'<text class="head" x="{x + GAP:.1f}" y="26">{escape(title)}</text>']
    end = x + wide + 2 * GAP - 6
    for i, text in enumerate(tracks):
        y = middle + i * ROW
        left, right = x + GAP, x + GAP + wide
        own = len(text) * CHARACTER + 18
        shapes.append(_curve(x - 12, middle, left, y))
        shapes.append(_box(left, y, own, text, said=text.islower()))
        shapes.append(_track(left + own, right, y))
        shapes.append(_curve(end, middle, right, y))
    if loop:  # past all of them, and back
        top = middle - 28
        shapes.append(
            f'<path d="M{x - 12:.1f},{middle} C{x:.1f},{middle} {x:.1f},{top} {x + 20:.1f},{top} '
            f'H{end - 20:.1f} C{end:.1f},{top} {end - 8:.1f},{middle} {end:.1f},{middle}"/>'
        )
    shapes.append(_track(end, end + 10, middle))
    return shapes


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (x + to_x) / 2
    return (
        f'<path d="M{x:.1f},{y:.1f} C{bend:.1f},{y:.1f} {bend:.1f},{to_y:.1f} '
        f'{to_x:.1f},{to_y:.1f}"/>'
    )


def _track(x: float, to: float, y: float) -> str:
    return f'<path d="M{x:.1f},{y:.1f} H{to:.1f}"/>'


def _box(x: float, y: float, wide: float, text: str, said: bool = False) -> str:
    kind = ' class="said"' if said else ""
    return (
        f'<rect{kind} x="{x:.1f}" y="{y - BOX / 2:.1f}" width="{wide:.1f}" height="{BOX}" rx="9"/>'
        f'<text x="{x + 9:.1f}" y="{y + 5:.1f}">{escape(text)}</text>'
    )


def _dot(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="#0072b2"/>'
