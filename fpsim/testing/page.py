# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about checks: inputs tried, properties, counterexamples drawn."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

import fpsim
from fpsim.testing.result import CheckResult, Counterexample, NumberLine

__all__ = ["page", "svg_line"]

WIDTH, HEIGHT, MARGIN = 640, 96, 40

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #1f2933; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left;
        vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.held { color: #00704f; } .failed { color: #b03a00; font-weight: 600; }
pre { background: #f4f6f8; padding: .6rem; overflow-x: auto; }
.where { color: #5f6b7a; }
svg text { font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e7eb; background: #14181d; } pre { background: #20262d; }
  .held { color: #4fc99a; } .failed { color: #ff9c66; }
  svg { filter: invert(.9) hue-rotate(180deg); }
}
"""


def page(results: Sequence[tuple[str, CheckResult]]) -> str:
    """Return the page of results, each with the name of its test."""
    held = sum(bool(result) for _, result in results)
    inputs = sum(result.tried for _, result in results)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>fpsim checks</title><style>{_STYLE}</style><h1>Checks against fpsim "
        f"{escape(fpsim.__version__)}</h1>",
        f"<p>{len(results)} checks, {held} held, {len(results) - held} did not; {inputs:,} inputs "
        "were tried.</p>"
        if results
        else "<p class=failed>No check ran.</p>",
    ]
    parts += [_section(test, result) for test, result in results]
    return "\n".join(parts) + "\n</html>\n"


def _section(test: str, result: CheckResult) -> str:
    verdict = "held" if result else "failed"
    parts = [
        f"<h2><span class={verdict}>{'held' if result else 'FAILED'}</span> "
        f"{escape(result.check)} of <code>{escape(result.subject)}</code> against "
        f"{escape(result.against)}</h2>",
        f"<p class=where>{escape(test)}</p>" if test else "",
        f"<p>{escape(result.search)}<br>{result.tried:,} inputs tried, {result.failed:,} wrong</p>",
    ]
    rows = "".join(
        f"<tr><td>{escape(p.name)}<td class=n>{p.tried:,}"
        f"<td class={'failed' if p.failed else 'held'}>"
        f"{f'{p.failed:,} wrong' if p.failed else 'held'}"
        for p in result.properties
    )
    if rows:
        parts.append(f"<table><tr><th>property<th>inputs<th>{rows}</table>")
    notes = [*result.notes, *(f"looks {mistake}" for mistake in result.mistakes)]
    if notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}" for note in notes) + "</ul>")
    if result.counterexample is not None:
        parts.append(_case(result.counterexample))
    return "\n".join(part for part in parts if part)


def _case(case: Counterexample) -> str:
    lines = "\n".join(case.explanation)
    drawn = "" if case.line is None else svg_line(case.line)
    return (
        f"<p>Simplest counterexample: {escape(case.given)}</p>{drawn}"
        f"<table><tr><td>expected<td>{escape(case.expected)}<tr><td>seen<td class=failed>"
        f"{escape(case.seen)}</table><pre>{escape(lines)}</pre>"
        f"<details><summary>to run it again</summary><pre>{escape(case.replay)}</pre></details>"
    )


def svg_line(line: NumberLine) -> str:
    """Return the number line as SVG: values of the format, input, expected and actual result.

    A result beyond the drawn values is put at the end of the line.
    """
    values = [value for value, _ in line.marks]
    points = [*values, line.x]
    finite = [p for p in points if np.isfinite(p)]
    low, high = min(finite), max(finite)
    if np.isfinite(line.seen) and low - (high - low) <= line.seen <= high + (high - low):
        low, high = min(low, line.seen), max(high, line.seen)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        if np.isnan(value):
            return WIDTH - MARGIN / 2
        clipped = min(max(value, low - 0.04 * span), high + 0.04 * span)
        return MARGIN + (clipped - low) / span * (WIDTH - 2 * MARGIN)

    y = 52
    parts = [
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role=img>",
        f"<line x1='{MARGIN / 2}' y1='{y}' x2='{WIDTH - MARGIN / 2}' y2='{y}' stroke='#9aa5b1'/>",
    ]
    for value, label in line.marks:
        x = place(value)
        parts.append(
            f"<line x1='{x:.1f}' y1='{y - 6}' x2='{x:.1f}' y2='{y + 6}' stroke='#1f2933'/>"
        )
        text = escape(label.split(" = ")[0])
        parts.append(f"<text x='{x:.1f}' y='{y + 20}' text-anchor=middle>{text}</text>")
    for value, colour, name, height in (
        (line.expected, "#00704f", "expected", y - 22), (line.seen, "#b03a00", "seen", y - 22),
        (line.x, "#0072b2", "input", y - 38),
    ):  # fmt: skip
        x = place(value)
        parts.append(f"<circle cx='{x:.1f}' cy='{y}' r='4.5' fill='{colour}'/>")
        parts.append(
            f"<text x='{x:.1f}' y='{height}' fill='{colour}' text-anchor=middle>{name}</text>"
        )
    return "".join(parts) + "</svg>"
