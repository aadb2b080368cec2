# SPDX-License-Identifier: Apache-2.0
"""Pictures of layers and of Pareto fronts: what they show, and one sentence for bad input."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from fpsim import plots
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.explore.layers import LayerRow

POINTS = [("a", 1.0, 20.0, True), ("b", 2.0, 10.0, True), ("c", 3.0, 12.0, False), ("d", math.inf, 9.0, False)]  # fmt: skip


def layer(name: str, unit_db: float) -> LayerRow:
    return LayerRow(name, 64, "e2m1", "e2m1", 0.5, 8.0, 0.01, 0.2, 18.0, unit_db, 0.0, 0.1, 15, 11)


def test_noise_of_cast_and_unit_adds_up() -> None:
    assert layer("x", math.inf).output_db == pytest.approx(18.0)
    assert layer("x", 18.0).output_db == pytest.approx(18 - 10 * math.log10(2))
    assert layer("x", math.nan).output_db == -math.inf


def test_layers_are_drawn_in_order_with_all_their_numbers() -> None:
    rows = [layer(f"layers.{i}.up", math.inf if i % 2 else 20.0) for i in range(4)]
    figure = plots.layers_figure(rows)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "e2m1 x e2m1" in titles[0]
    assert [text.partition(",")[0] for text in titles[1:]] == ["SQNR of the output", "shares", "accumulator bits that lose nothing"]  # fmt: skip
    casts, unit, exact = figure.axes[1].lines
    assert list(casts.get_ydata()) == [18.0] * 4
    assert next(iter(unit.get_ydata())) == pytest.approx(rows[0].output_db)
    assert list(exact.get_xdata()) == [1, 3]
    assert [next(iter(line.get_ydata())) for line in figure.axes[2].lines] == [1.0, 20.0, 10.0]
    assert [next(iter(line.get_ydata())) for line in figure.axes[3].lines] == [15, 12]
    assert "0 up" in plots.to_svg(figure)
    with pytest.raises(FpsimError, match="nothing to draw"):
        plots.layers_figure([])


def test_the_front_is_a_line_and_the_winner_has_a_ring() -> None:
    figure = plots.pareto_figure(POINTS, 1, 11.0, ("area", "perplexity"))
    (axes,) = figure.axes
    front, *dots = axes.lines
    assert list(front.get_xdata()) == [1.0, 2.0]
    assert [tuple(*zip(*line.get_data(), strict=True)) for line in dots[:4]] == [(1, 20), (2, 10), (3, 12), (2, 10)]  # fmt: skip
    assert {text.get_text() for text in axes.texts} == {"a", "b", "limit 11"}
    assert axes.get_title(loc="left") == "1 of 4 points have no such cost or figure"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("area", "perplexity")


def points_file(folder: Path, **changes: Any) -> Path:
    point = {"recipe": "mxfp4", "unit": "u", "area_per_product": 3.0, "depth": 7, "figure": 12.0}
    data = {"points": [point, point | {"area_per_product": None}], "front": [0], "winner": 0,
            "settings": {"budget": "perplexity <= 2 * exact", "model": "m"}}  # fmt: skip
    path = folder / "points.json"
    path.write_text(json.dumps(data | changes))
    return path


def test_the_command_draws_a_search_again(tmp_path: Path) -> None:
    path, out = points_file(tmp_path), tmp_path / "x.svg"
    numbers = tmp_path / "x.csv"
    assert main(["plot", "pareto", str(path), "--out", str(out), "--csv", str(numbers)]) == 0
    assert "mxfp4 on u" in out.read_text()
    rows = list(csv.DictReader(numbers.open()))
    assert rows[0] == {"point": "mxfp4 on u", "area_per_product": "3", "perplexity": "12", "front": "True"}  # fmt: skip
    assert main(["plot", "pareto", str(path), "--cost", "depth", "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pareto", "missing.json"], "points: missing.json cannot be read"),
        (["pareto", "POINTS", "--cost", "price"], "has no field 'price'"),
        (["pareto", "BAD"], "is no points.json that `fpsim explore` wrote"),
        (["layers", "--recipe", "mxfp5"], "recipe: 'mxfp5' is not one of"),
        (["layers", "--unit", "e2m1-chian-e5m10"], "unit: "),
        (["layers", "--model", "smollm2-135"], "did you mean 'smollm2-135m'?"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "layers":
        pytest.importorskip("torch", reason="torch is not installed")
    good, bad = points_file(tmp_path), tmp_path / "bad.json"
    bad.write_text("[1, 2]")
    named = {"POINTS": str(good), "BAD": str(bad)}
    out = tmp_path / "x.svg"
    status = main(["plot", *(named.get(a, a) for a in arguments), "--out", str(out)])
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert "Traceback" not in error
    assert not out.exists()
