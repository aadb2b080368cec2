# SPDX-License-Identifier: Apache-2.0
"""``fpsim plot``: each picture shows its numbers, writes them, and refuses bad input whole."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

mpl = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

import fpsim  # noqa: E402
from fpsim import plots  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.cli import main  # noqa: E402
from fpsim.plots.formats import block_maximum, format_rows  # noqa: E402
from fpsim.plots.recipes import RecipePoint  # noqa: E402
from fpsim.studies.accumulation import AccumulationRow  # noqa: E402
from fpsim.studies.error import bias_curve, measure_error, quantizers  # noqa: E402


def marks(axes: Any, marker: str = "o") -> set[tuple[float, float]]:
    return {
        (float(x), float(y))
        for line in axes.get_lines()
        if line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_every_error_is_a_mark_at_its_place() -> None:
    x = np.linspace(-3, 3, 200) ** 3
    rows = measure_error({"x": x, "y": x + 1}, quantizers(["e2m1", "mxfp4"]))
    figure = plots.error_figure(rows, earlier=rows[:1])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["X", "Y"]
    assert marks(figure.axes[0]) == {(rows[0].sqnr_db, 0.0), (rows[1].sqnr_db, 1.0)}
    assert marks(figure.axes[0], "x") == {(rows[0].sqnr_db, 0.0)}
    assert rows[0].optimum_db in [line.get_xdata()[0] for line in figure.axes[0].get_lines()]


@pytest.mark.parametrize("metric", ["sqnr", "mse", "max", "relative"])
def test_errors_against_a_number_are_curves(metric: str) -> None:
    x = {"x": np.linspace(-3, 3, 300)}
    rows = measure_error(x, quantizers(["mxfp4"], blocks=(8, 32)))
    (axes,) = plots.error_figure(rows, "block", metric).axes
    field = {"sqnr": "sqnr_db", "mse": "mse", "max": "max_error", "relative": "relative_error"}
    assert marks(axes) == {(row.block, getattr(row, field[metric])) for row in rows}


def test_a_block_format_shows_where_its_maxima_fall() -> None:
    # OCP MX, floor rule: a block's maximum over its scale is in [4, 8), of 6.
    low, high = block_maximum(fpsim.get_block_format("mxfp4"), 4097)
    assert low == pytest.approx(4 / 6)
    assert high == pytest.approx(8 / 6, rel=1e-3)
    # NVFP4's scale has three mantissa bits: half an ulp either way.
    low, high = block_maximum(fpsim.get_block_format("nvfp4"), 4097)
    assert 1 / 1.0626 < low < 1 < high < 1 / 0.93
    # A float32 scale puts the maximum on the largest value of the table, its sign bit beside it.
    assert block_maximum(fpsim.get_block_format("bof4-s")) == pytest.approx((1, 1), rel=1e-6)
    assert block_maximum(fpsim.get_block_format("nvfp4-2d"))[0] == pytest.approx(
        1 / 1.0588, rel=1e-2
    )
    assert len(format_rows(["nf4"])) == 16
    axes = plots.format_figure(["e2m1", "mxfp4"]).axes[0]
    spans = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(spans, [[4 / 6, 8 / 6]], rtol=1e-2)


def test_the_bias_picture_marks_best_and_absmax() -> None:
    curve = bias_curve(np.linspace(-1, 1, 99) ** 3, "e2m1", "cubes")
    axes = plots.bias_figure([curve], chosen={"recipe": 3.5}).axes[0]
    assert {x for x, _ in marks(axes)} == {curve.best, curve.absmax}
    assert 3.5 in [line.get_xdata()[0] for line in axes.get_lines()]


def test_a_stochastic_mode_has_its_exact_distribution() -> None:
    curve = plots.rounding_curve("e2m1", "sr", points=97, random_bits=2)  # steps of 1/8
    step = {
        x: (lo, hi, p)
        for x, lo, hi, p in zip(curve.x, curve.low, curve.high, curve.up, strict=True)
    }
    # 4.75 lies 3/8 of the way from 4 to 6: floor(3/8 * 4) = 1 of 4 integers goes up.
    assert step[4.75] == (4.0, 6.0, 0.25)
    assert step[4.5] == (4.0, 6.0, 0.25)
    assert step[5.0] == (4.0, 6.0, 0.5)
    assert step[3.0] == (3.0, 3.0, 1.0)
    figure = plots.rounding_figure([curve, plots.rounding_curve("e2m1", "rne")])
    assert len(figure.axes) == 2


def test_rounding_curves_follow_the_format() -> None:
    fmt = fpsim.get_format("e2m1")
    for mode in ("rne", "rna", "rtz", "rup", "rdn", "rto"):
        curve = plots.rounding_curve(fmt, mode, points=999)
        np.testing.assert_array_equal(curve.mean, fmt.decode(fmt.encode(curve.x, mode)))


def test_the_accumulator_picture_shows_errors_and_bounds() -> None:
    rows = [
        AccumulationRow("u", 16, "natural", 4, 0.01, 0.02, 0, 0.1, 0.5),
        AccumulationRow("u", 64, "natural", 4, math.nan, math.nan, 2, math.nan, None),
    ]
    left, right = plots.accumulation_figure(rows).axes
    assert (16.0, 0.02) in marks(left)
    assert (64.0, 1.0) in marks(left, "x")
    assert (16.0, 10.0) in marks(right)
    assert any(0.5 in line.get_ydata() for line in left.get_lines())


def test_recipes_are_dots_at_their_bits() -> None:
    points = [
        RecipePoint("mxfp4", "exact", 4.25, 4.25, 50.0),
        RecipePoint("int8", "exact", 8, 8, 12.0),
        RecipePoint("lost", "exact", 4, 4, math.inf),
    ]
    axes = plots.recipes_figure(points, reference=11.5).axes[0]
    assert marks(axes) == {(4.25, 50.0), (8.0, 12.0)}
    assert "loss not finite: lost" in axes.get_title(loc="left")
    assert {"mxfp4", "int8", "float 11.50"} <= {text.get_text() for text in axes.texts}


def test_areas_are_beside_those_that_were_published_and_by_width() -> None:
    figure = plots.area_figure(
        {"e2m1": (1.0, 1.0), "int4": (0.5, None), "e4m3": (2.5, 2.25)},
        {"fixed": [(16, 300.0), (24, 420.0)], "float": [(16, 900.0)]},
    )
    left, right = figure.axes
    assert left.get_title(loc="left") == "MAC area, e2m1 = 1"
    assert marks(left) == {(1.0, 0.0), (0.5, 1.0), (2.5, 2.0)}
    assert marks(left, "D") == {(1.0, 0.0), (2.25, 2.0)}
    assert [label.get_text() for label in left.get_yticklabels()] == ["e2m1", "int4", "e4m3"]
    assert left.yaxis_inverted()  # the first format stands on top
    assert marks(right) == {(16.0, 300.0), (24.0, 420.0), (16.0, 900.0)}
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["fixed", "float"]
    assert right.get_ylim()[0] == left.get_xlim()[0] == 0


def test_only_units_that_lost_nothing_are_diamonds() -> None:
    axes = plots.area_error_figure(
        [("x", 10.0, 1e-3), ("y", 20.0, 0.0), ("z", 30.0, math.nan)]
    ).axes[0]
    ((exact, bottom),) = marks(axes, "D")
    dots = dict(marks(axes))
    assert exact == 20.0 and dots[10.0] == 1e-3
    assert bottom < 1e-3 < dots[30.0]  # no finite results: on top
    low, high = axes.get_ylim()
    assert low < bottom and dots[30.0] < high


def test_axes_can_be_passed_in() -> None:
    figure = mpl.figure.Figure()
    left, right = figure.subplots(1, 2)
    assert plots.format_figure(["e2m1"], axes=left) is figure
    assert plots.bias_figure([bias_curve([1.0, 0.4], "e2m1")], axes=right) is figure
    assert left.get_lines() and right.get_lines()


def test_a_dark_picture_leaves_the_figure_as_it_was(tmp_path: Path) -> None:
    figure = plots.format_figure(["e2m1"])
    light = plots.save(figure, tmp_path / "a.svg").read_text()
    dark = plots.save(figure, tmp_path / "b.svg", theme="dark").read_text()
    assert "#14181d" in dark
    assert "#14181d" not in light
    assert plots.save(figure, tmp_path / "c.svg").read_text() == light
    assert plots.save(figure, tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


COMMANDS = {
    "formats": ["--formats", "e2m1", "mxfp4"],
    "error": ["--samples", "64", "--formats", "e2m1", "mxfp4"],
    "sqnr": ["--samples", "64", "--formats", "e2m1"],
    "bias": ["--samples", "64", "--formats", "e2m1"],
    "rounding": ["--modes", "rne"],
    "accumulator": ["--units", "exact", "--lengths", "4", "8", "--dots", "2"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_every_picture_writes_its_numbers(what: str, tmp_path: Path) -> None:
    out, table, data = tmp_path / "p.svg", tmp_path / "p.csv", tmp_path / "p.json"
    where = ["--out", str(out), "--csv", str(table), "--json", str(data)]
    assert main(["plot", what, *COMMANDS[what], *where]) == 0
    assert f"fpsim {fpsim.__version__}" in out.read_text()
    with table.open() as file:
        lines = list(csv.DictReader(file))
    rows = json.loads(data.read_text())
    assert len(lines) == len(rows) > 1
    assert list(lines[0]) == list(rows[0])


def test_an_earlier_run_is_laid_over(tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    common = ["plot", "error", "--samples", "64", "--formats", "e2m1", "--data", "normal"]
    assert main([*common, "--json", str(first), "--out", str(tmp_path / "a.svg")]) == 0
    assert main([*common, "--compare", str(first), "--out", str(tmp_path / "b.svg")]) == 0
    assert "crosses: first.json" in (tmp_path / "b.svg").read_text()


def test_files_of_tensors_are_data(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.arange(12.0))
    np.savez(tmp_path / "two.npz", up=np.ones(3), down=np.arange(4.0))
    numbers = tmp_path / "n.json"
    files = [str(tmp_path / "mine.npy"), str(tmp_path / "two.npz")]
    assert main(["plot", "error", "--formats", "e2m1", "--data", *files, "--tensors", "d*",
                 "--out", str(tmp_path / "p.png"), "--json", str(numbers)]) == 0  # fmt: skip
    assert [row["data"] for row in json.loads(numbers.read_text())] == ["mine", "down"]


BAD = {
    "no such picture suffix": (["formats", "--out", "x.gif"], "allowed are .svg, .png, .pdf"),
    "format": (["error", "--formats", "mxfp5", "--out", "x.svg"], "'mxfp5' is neither"),
    "block format": (["sqnr", "--formats", "nf4", "--out", "x.svg"], "`fpsim plot error` takes it"),
    "data": (["error", "--data", "cauchy", "--out", "x.svg"], "data: 'cauchy' is neither"),
    "missing file": (["bias", "--data", "no.npy", "--out", "x.svg"], "no.npy cannot be read"),
    "damaged": (["error", "--data", "bad.npz", "--out", "x.svg"], "bad.npz"),
    "objects": (["error", "--data", "obj.npy", "--out", "x.svg"], "obj.npy cannot be read"),
    "no tensor": (["error", "--data", "ok.npz", "--tensors", "q*", "--out", "x.svg"], "matches"),
    "samples": (["error", "--samples", "99999999999999", "--out", "x.svg"], "samples: 9999"),
    "metric": (["error", "--samples", "9", "--metric", "db", "--out", "x.svg"], "metric: 'db'"),
    "against": (["error", "--samples", "9", "--formats", "e2m1", "--against", "block", "--out",
                 "x.svg"], "e2m1 has no block"),
    "clip": (["error", "--clips", "tight", "--out", "x.svg"], "clip: 'tight' is not a number"),
    "compare": (["error", "--compare", "ok.npz", "--out", "x.svg"], "compare: ok.npz"),
    "bits": (["rounding", "--random-bits", "40", "--out", "x.svg"], "random_bits: 40"),
    "mode": (["rounding", "--modes", "up", "--out", "x.svg"], "mode: 'up'"),
    "unit": (["accumulator", "--units", "e2m1-chain", "--out", "x.svg"], "e2m1-chain"),
    "results": (["recipes", "ok.npz", "--out", "x.svg"], "results: ok.npz"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_no_file(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.npz").write_bytes(b"PK\x03\x04 not a zip file")
    np.save("obj.npy", np.array([object()]), allow_pickle=True)
    np.savez("ok.npz", a=np.ones(2))
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments, message = BAD[case]
    assert main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_figures_of_nothing_are_refused() -> None:
    with pytest.raises(FpsimError, match="nothing to draw"):
        plots.area_figure({}, {})
    for draw in (plots.error_figure, plots.area_error_figure, plots.bias_figure, plots.accumulation_figure,
                 plots.recipes_figure, plots.rounding_figure):  # fmt: skip
        with pytest.raises(FpsimError, match="nothing to draw"):
            draw([])
