# SPDX-License-Identifier: Apache-2.0
"""How a matrix product is computed, drawn: every code and number in it is computed, not typed."""

from __future__ import annotations

from fractions import Fraction
from html import escape

import numpy as np

import fpsim
from fpsim import oracle

UNIT = "e2m1-chain-e4m3fn"
A = [[6, 1.5, 0.5, -2], [1, 4, -3, 0.5]]
B = [[6, 1], [3, -2], [0.5, 4], [1, 1.5]]
LANES = 8
#: Colours: paper, ink, faint ink, highlighted, what is lost, boxes.
THEMES = {
    "light": ("#ffffff", "#1f2328", "#57606a", "#0072b2", "#b34700", "#f3f4f6"),
    "dark": ("#131416", "#e6e6e6", "#9aa4af", "#56b4e9", "#f0a05a", "#23262b"),
}
WIDTH, HEIGHT = 940, 644


def matmul_drawing(theme: str) -> str:
    """Return the drawing as SVG, in the colours of ``light`` or ``dark``."""
    paper, ink, faint, blue, orange, box = THEMES[theme]
    unit = fpsim.get_unit(UNIT)
    a, b = unit.a.encode(A), unit.b.encode(B)
    d = unit.matmul(a, b)
    shapes = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{paper}"/>']

    def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def cell(x: float, y: float, words: str, wide: float = 40, marked: bool = False) -> None:
        kind = "marked" if marked else "cell"
        shapes.append(f'<rect x="{x}" y="{y}" width="{wide}" height="26" rx="3" class="{kind}"/>')
        text(x + wide / 2, y + 18, words)

    def arrow(path: str) -> None:
        shapes.append(f'<path d="{path}" class="wire" marker-end="url(#tip)"/>')

    def matrix(x: float, y: float, codes: np.ndarray, row: int | None, column: int | None) -> None:
        for m, found in enumerate(codes.tolist()):
            for n, code in enumerate(found):
                here = row in (m, None) and column in (n, None)
                cell(x + 42 * n, y + 28 * m, f"{code:x}", marked=here)

    def line(y: float, words: str, kind: str = "faint") -> None:
        text(20, y, words, kind, "start")

    line(30, "1. Codes in, codes out: one result has a row of A and a column of B", "head")
    matrix(40, 52, a, 0, None)
    text(124, 132, f"A, {unit.a.name}", "faint")
    text(236, 82, "x")
    matrix(262, 52, b, None, 0)
    text(304, 184, f"B, {unit.b.name}", "faint")
    text(368, 82, "=")
    matrix(390, 52, d, 0, 0)
    text(432, 132, f"D, {unit.result.name}", "faint")
    text(520, 68, unit.name, "mono", "start")
    for i, part in enumerate(unit.spec.equation.split("; ")):
        text(520, 92 + 22 * i, part, "mono", "start")

    line(
        222,
        "2. Products are exact; each is added in turn, and the sum is rounded to a code",
        "head",
    )
    steps = unit.accumulate(a[0], b[:, 0]).tolist()
    acc = Fraction(0)
    left = 150
    rows = {"a": 262, "b": 296, "a b, exact": 330, "sum, exact": 384, "rounded": 418, "lost": 446}
    for name, y in rows.items():
        line(y, name)
    for k, code in enumerate(steps):
        x = left + 185 * k
        pair = [int(a[0, k]), int(b[k, 0])]
        values = [oracle.decode(c, f).value for c, f in zip(pair, (unit.a, unit.b), strict=True)]
        product = values[0] * values[1]
        exact, held = acc + product, oracle.decode(code, unit.result).value
        for value, own, y in ((values[0], pair[0], 262), (values[1], pair[1], 296)):
            cell(x, y - 18, f"{own:x}", 30)
            text(x + 44, y, _number(value), "", "start")
        text(x + 44, 330, _number(product), "blue", "start")
        sign = "+" if product >= 0 else "-"
        added = f"{_number(acc)} {sign} {_number(abs(product))} = {_number(exact)}"
        text(x, 384, added, "", "start")
        cell(x, 400, f"{code:02x}", 38, marked=k == len(steps) - 1)
        text(x + 48, 418, _number(held), "", "start")
        lost = exact - held
        said = "nothing" if not lost else _number(lost)
        said += ": the sum did not move" if lost and held == acc else ""
        text(x, 446, said, "lost" if lost else "faint", "start")
        if k + 1 < len(steps):
            arrow(f"M{x + 90} 413 H{x + 150} V380 H{x + 176}")
        acc = held
    total = sum((oracle.decode(int(p), unit.a).value * oracle.decode(int(q), unit.b).value
                 for p, q in zip(a[0], b[:, 0], strict=True)), Fraction(0))  # fmt: skip
    said = f"D[0,0] = {_number(acc)}; the exact sum is {_number(total)}."
    line(478, f"{said} Another order, or another unit, loses other bits.")

    said = "each lane has one result, D[m,n] to D[m,n+7], and K in order"
    line(520, f"3. The same bits, many at a time: {said}", "head")
    for lane in range(LANES):
        x = 20 + 62 * lane
        cell(x, 536, f"lane {lane}", 58, marked=lane == 0)
        arrow(f"M{x + 29} 562 V584")
        text(x + 29, 600, "+ a b, R", "faint")
    plan = unit.plan(a, b)
    said = f"back-end: {plan.back_end.value}, if its lemma holds; else limbs, else scalar"
    text(540, 553, said, "", "start")
    for i, part in enumerate(plan.why.split(": ", 1)):
        text(540, 575 + 20 * i, part, "mono", "start")
    said = "The oracle computes one result at a time, in exact rationals, and agrees on every bit."
    line(628, said)
    style = (
        f"text{{font:14px sans-serif;fill:{ink}}}.head{{font-weight:600}}.faint{{fill:{faint}}}"
        f".mono{{font:13px ui-monospace,monospace}}.blue{{fill:{blue}}}.lost{{fill:{orange}}}"
        f".cell{{fill:{box};stroke:{faint}}}.marked{{fill:{box};stroke:{blue};stroke-width:2.4}}"
        f".wire{{fill:none;stroke:{faint};stroke-width:1.4}}.tip{{fill:{faint}}}"
    )
    tip = (
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path d="M0 0 L6 3 L0 6 z" class="tip"/></marker></defs>'
    )
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    title = f"<title>How {unit.name} computes a matrix product</title>"
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{title}\n'
        f"<style>{style}</style>\n{tip}\n{body}\n</svg>\n"
    )


def _number(value: Fraction) -> str:
    return f"{float(value):g}"
