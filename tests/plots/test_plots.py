# SPDX-License-Identifier: Apache-2.0
"""Figures: what they show is the data, and their files are the same every time."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

mpl = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

import fpsim  # noqa: E402
from fpsim import plots  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.studies import sqnr  # noqa: E402
from fpsim.studies.sqnr import Scaling, SqnrRow  # noqa: E402

MINUS = "\N{MINUS SIGN}"
SVG = "{http://www.w3.org/2000/svg}"


def texts(figure: Any) -> list[str]:
    """Every text that is drawn, the tick labels included."""
    return [found.get_text() for found in figure.findobj(mpl.text.Text) if found.get_text()]


def sqnr_rows() -> list[SqnrRow]:
    return [
        SqnrRow(data, 100, fmt, scaling, 1.0, 10.0 + 3 * i + 2 * j + k, tensors)
        for i, (data, tensors) in enumerate([("gaussian", 1), ("my layers", 7)])
        for j, fmt in enumerate(["int4s", "e2m1"])
        for k, scaling in enumerate(Scaling)
    ]


def ppl_row(label: str, recipe: str | None, value: float) -> Any:
    return SimpleNamespace(label=label, recipe=recipe, perplexity=value)


# ------------------------------------------------------------------------------------ files


def test_svg_is_well_formed_text_stays_text_and_nothing_is_dated() -> None:
    svg = plots.to_svg(plots.format_figure())
    root = ElementTree.fromstring(svg)
    words = {"".join(element.itertext()) for element in root.iter(f"{SVG}text")}
    assert {"INT4", "E1M2", "E2M1", "E3M0", MINUS + "16", "3.5"} <= words
    assert "<metadata" not in svg
    assert "Matplotlib" not in svg


def test_svg_is_a_function_of_the_data_alone() -> None:
    first = plots.to_svg(plots.sqnr_figure(sqnr_rows()))
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 31, "svg.fonttype": "path", "axes.grid": True}):
        inside = dict(mpl.rcParams)
        assert plots.to_svg(plots.sqnr_figure(sqnr_rows())) == first
        assert dict(mpl.rcParams) == inside
    assert dict(mpl.rcParams) == before
    changed = sqnr_rows()
    changed[3] = SqnrRow("gaussian", 100, "int4s", changed[3].scaling, 1.0, 12.5)
    assert plots.to_svg(plots.sqnr_figure(changed)) != first


def test_the_global_state_of_pyplot_is_not_touched() -> None:
    code = (
        "import sys; from fpsim import plots; plots.format_figure(); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_save_writes_by_suffix(tmp_path: Path) -> None:
    figure = plots.format_figure(["e2m1"])
    assert plots.save(figure, tmp_path / "new" / "a.svg").read_text(encoding="utf-8") == (
        plots.to_svg(figure)
    )
    png = plots.save(figure, str(tmp_path / "a.PNG")).read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert plots.save(plots.format_figure(["e2m1"]), tmp_path / "b.png").read_bytes() == png


@pytest.mark.parametrize("name", ["a.eps", "a", "a.svg.gz"])
def test_save_refuses_other_suffixes(tmp_path: Path, name: str) -> None:
    with pytest.raises(FpsimError, match=r"allowed are \.svg, \.png, \.pdf"):
        plots.save(plots.format_figure(["e2m1"]), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_save_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FpsimError, match=r"path: .*a\.svg cannot be written"):
        plots.save(plots.format_figure(["e2m1"]), tmp_path / "file" / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------------ SQNR


def test_sqnr_figure_has_a_mark_for_every_row() -> None:
    rows = sqnr_rows()
    figure = plots.sqnr_figure(rows)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["Gaussian", "my layers"]
    assert [axes.get_title(loc="right") for axes in panels] == ["", "median of 7 tensors"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["INT4", "E2M1"]
    for axes, name in zip(panels, ["gaussian", "my layers"], strict=True):
        marks = [
            (float(line.get_xdata()[0]), round(float(line.get_ydata()[0])))
            for line in axes.get_lines()
            if line.get_marker() not in ("None", None)
        ]
        order = ["int4s", "e2m1"]
        expected = [(r.sqnr_db, order.index(r.format)) for r in rows if r.data == name]
        assert sorted(marks) == sorted(expected)
        best = [max(r.sqnr_db for r in rows if (r.data, r.format) == (name, f)) for f in order]
        assert [text.get_text() for text in axes.texts] == [f"{value:.1f}" for value in best]
    assert {scaling.label for scaling in Scaling} <= set(texts(figure))


def test_a_hollow_mark_is_not_a_filled_one() -> None:
    axes = plots.sqnr_figure(sqnr_rows()[:4]).axes[0]
    lines = [line for line in axes.get_lines() if line.get_marker() not in ("None", None)]
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in lines}
    assert len(looks) == len(Scaling)


def test_sqnr_figure_leaves_out_what_has_no_error() -> None:
    rows = [SqnrRow("x", 1, "e2m1", scaling, None, math.inf) for scaling in Scaling]
    plots.to_svg(plots.sqnr_figure(rows))
    figure = plots.sqnr_figure([*sqnr_rows()[:4], *rows])
    plots.to_svg(figure)
    assert not figure.axes[1].texts


# ------------------------------------------------------------------------------ perplexity


def test_perplexities_are_drawn_where_they_are() -> None:
    rows = [ppl_row("float32", None, 11.83), ppl_row("MXFP4", "mxfp4", 49.61)]
    axes = plots.perplexity_figure(rows).axes[0]
    points = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.get_lines()
        if line.get_marker() == "o"
    ]
    assert points == [(11.83, 0.0), (49.61, 1.0)]
    assert {"11.83", "49.61"} <= set(texts(axes.figure))
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] == 0


def test_perplexities_far_apart_share_a_log_axis_and_infinity_is_named() -> None:
    rows = [
        ppl_row("float32", None, 11.83),
        ppl_row("bad", "x", 81234.4),
        ppl_row("worse", "x", math.inf),
        ppl_row("worst", "x", math.nan),
    ]
    figure = plots.perplexity_figure(rows)
    assert figure.axes[0].get_xscale() == "log"
    shown = texts(figure)
    assert {"81,234", "inf: the loss is not finite", "nan: the loss is not finite"} <= set(shown)
    plots.to_svg(figure)
    plots.to_svg(plots.perplexity_figure(rows[2:]))  # nothing finite, no float32


# --------------------------------------------------------------------------------- formats


def test_format_figure_shades_what_rounds_to_each_value() -> None:
    figure = plots.format_figure(["e2m1"])
    axes = figure.axes[0]
    cells = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    values = [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]
    middles = [(a + b) / 2 / 6 for a, b in pairwise(values)]
    np.testing.assert_allclose([right for _, right in cells], [*middles, 1.0])
    np.testing.assert_allclose([left for left, _ in cells], [-1.0, *middles])
    dots = axes.get_lines()[0].get_xdata()
    np.testing.assert_allclose(dots, np.array(values) / 6)
    assert {"6", MINUS + "4", "0.5", "0", "max/min 12"} <= set(texts(figure))


def test_format_figure_refuses_formats_it_cannot_show() -> None:
    with pytest.raises(FpsimError, match="e4m3fn has 8 bits"):
        plots.format_figure(["e2m1", "e4m3fn"])
    for draw in (plots.format_figure, plots.sqnr_figure, plots.perplexity_figure):
        with pytest.raises(FpsimError, match="nothing to draw"):
            draw([])


# ----------------------------------------------------------------------------- accumulator


def test_accumulator_curves_are_what_half_precision_does() -> None:
    length = 700
    figure = plots.accumulator_figure(["e2m1-chain-e5m10", "exact"], length, seed=3)
    e2m1 = fpsim.get_format("e2m1")
    products = e2m1.decode(e2m1.encode(2 * sqnr.gaussian(length, 3))) ** 2
    exact, half, acc = np.cumsum(products), [], np.float16(0)
    for p in products:
        acc = np.float16(float(acc) + p)  # the sum is exact in float64
        half.append(float(acc))
    assert half[-1] != exact[-1]
    curves = [line.get_ydata() for line in figure.axes[0].get_lines()]
    np.testing.assert_array_equal(curves[0], exact)
    np.testing.assert_array_equal(curves[1], half)
    assert figure.axes[0].get_lines()[2].get_marker() == "o"
    error = f"{half[-1] / exact[-1] - 1:+.1%}".replace("-", MINUS)
    labels = texts(figure)
    assert f"e2m1-chain-e5m10\n{half[-1]:,.10g} ({error})" in labels
    assert f"exact sum\n{exact[-1]:,.10g}" in labels


def test_accumulator_overflow_is_named_with_its_product() -> None:
    figure = plots.accumulator_figure(["e2m1-chain-e4m3"], 300, seed=0)
    e2m1 = fpsim.get_format("e2m1")
    codes = e2m1.encode(2 * sqnr.gaussian(300, 0))
    unit = fpsim.get_unit("e2m1-chain-e4m3")
    values = unit.result.decode(unit.accumulate(codes, codes))
    first = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
    assert f"e2m1-chain-e4m3:\noverflows at product {first}" in texts(figure)
    plots.to_svg(figure)


@pytest.mark.parametrize(
    ("accumulators", "length"),
    [(["e8m10", "e8m11", "e8m12", "e8m13"], 256), (["e5m2", "e4m3f", "e8m2"], 4096)],
)
def test_accumulator_labels_do_not_touch(accumulators: list[str], length: int) -> None:
    figure = plots.accumulator_figure([f"e2m1-chain-{name}" for name in accumulators], length)
    figure.canvas.draw()
    marked = [t for t in figure.axes[0].texts if "\n" in t.get_text()]
    boxes = sorted(t.get_window_extent().extents.tolist()[1::2] for t in marked)
    assert len(boxes) == 1 + len(accumulators)
    assert boxes[0][0] >= figure.axes[0].get_window_extent().y0 - 1
    assert all(low[1] < high[0] for low, high in pairwise(boxes))


def test_accumulators_of_different_operands_do_not_share_a_figure() -> None:
    with pytest.raises(FpsimError, match="different operands"):
        plots.accumulator_figure(["e2m1-chain-e5m10", "e3m0-chain-e5m10"])
