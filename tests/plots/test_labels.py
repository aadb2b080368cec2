# SPDX-License-Identifier: Apache-2.0
"""Names beside dots and the looks of many series: nothing covers another thing."""

from __future__ import annotations

from itertools import combinations

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib.text import Annotation

from fpsim import plots
from fpsim.plots.style import look

CROWD = [(f"e2m1-chain-e5m{i}", 600.0 + 9 * i, 0.05 + 0.001 * i) for i in range(6)]


def test_a_series_looks_like_no_other() -> None:
    looks = [(look(i)["color"], look(i)["marker"]) for i in range(49)]
    assert len(set(looks)) == 49
    assert len({colour for colour, _ in looks[:7]}) == 7


def test_names_of_close_dots_do_not_touch() -> None:
    figure = plots.area_error_figure([*CROWD, ("alone", 100.0, 1e-4)])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = [a for a in axes.texts if isinstance(a, Annotation) and a.get_text()]
    shown = {name.get_text() for name in names}
    assert {"alone", "e2m1-chain-e5m0"} <= shown
    assert len(shown) >= 5
    boxes = [name.get_window_extent() for name in names]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    dots = [axes.transData.transform(point[1:]) for point in CROWD]
    assert not any(box.contains(x, y) for box in boxes for x, y in dots)


def test_names_on_a_front_keep_off_the_dots_behind_it() -> None:
    points = [("winner", 1.0, 2.0, True), ("behind", 1.08, 2.05, False), ("far", 3.0, 1.0, True)]
    figure = plots.pareto_figure(points)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (winner,) = (text for text in axes.texts if text.get_text() == "winner")
    assert not winner.get_window_extent().contains(*axes.transData.transform((1.08, 2.05)))


def test_steps_of_a_tree_stand_after_their_products() -> None:
    figure = plots.accumulator_figure(["e2m1-tree16-e8m23"], 40)
    exact, tree = figure.axes[0].get_lines()
    assert list(tree.get_xdata()) == [15, 31, 39]
    assert list(tree.get_ydata()) == [exact.get_ydata()[i] for i in (15, 31, 39)]


def test_units_without_error_stand_on_a_line_of_their_own() -> None:
    from fpsim.studies.accumulation import AccumulationRow

    rows = [
        AccumulationRow(unit, 16, "natural", 4, error, error, 0, 0.0, None)
        for unit, error in (("a", 1e-3), ("b", 0.0), ("c", 0.0))
    ]
    left = plots.accumulation_figure(rows).axes[0]
    hollow = [line for line in left.lines if line.get_markerfacecolor() == "none"]
    places = [(x, y) for line in hollow for x, y in zip(*line.get_data(), strict=True)]
    assert len(set(places)) == 2
    assert all(y == pytest.approx(5e-5) for _, y in places)
