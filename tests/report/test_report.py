# SPDX-License-Identifier: Apache-2.0
"""The page: well formed, complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from fpsim.base.errors import FpsimError
from fpsim.report import findings
from fpsim.report import page as report
from fpsim.report.page import DemoReport, PerplexityRow, RtlRow, UnitSection
from fpsim.studies.sqnr import Scaling, SqnrRow

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" '
    '"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
    '<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" height="9pt" viewBox="0 0 9 9" '
    'xmlns="http://www.w3.org/2000/svg" version="1.1"><metadata>when</metadata>'
    '<defs><style type="text/css">*{color: red}</style><path id="mark" d="M 0 0"/>'
    '<clipPath id="clip"><rect x="0" y="0" width="9" height="9"/></clipPath></defs>'
    '<g clip-path="url(#clip)"><use xlink:href="#mark" style="fill: #0072b2"/>'
    "<text>drawn &lt;words&gt;</text></g></svg>"
)
VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr", "area", "base", "source"}


class Page(HTMLParser):
    """Elements, text and identifiers of a page; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.text = ""
        self.style = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append(tag)
        self.text += "" if tag == "code" else " "
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
        else:
            self.text += data

    @property
    def words(self) -> str:
        """The text with white space collapsed."""
        return " ".join(self.text.split())


def sqnr_rows(tensors: int = 1) -> tuple[SqnrRow, ...]:
    return tuple(
        SqnrRow(data, 4096, fmt, scaling, 0.4321, 10.0 + i + 2 * j + k / 8, tensors)
        for i, data in enumerate(["gaussian", "my weights"])
        for j, fmt in enumerate(["int4s", "e2m1"])
        for k, scaling in enumerate(Scaling)
    )


def full_report() -> DemoReport:
    unit = UnitSection(
        name="e2m1-chain-e5m10",
        description="a chain",
        equation="acc <- acc + p",
        toml='name = "x"\n',
        vectors=12_345,
        sections=(report.SectionRow("products", 256), report.SectionRow("random", 12_089)),
        files=(report.FileRow("vectors.hex", 2_345_678, "ab" * 32),),
    )
    return DemoReport(
        title="A run",
        version="9.8.7",
        created="2020-02-03 04:05 UTC",
        complete=True,
        problems=(),
        units=(unit, replace(unit, name="e2m1-fixed24q2", files=())),
        rtl=(RtlRow(unit.name, "Verilator", "5.48", "my_top", 12_345, 12_345, 0, 14.26, 3.5),),
        perplexities=(
            PerplexityRow("float32", None, None, 11.83, 8.0, 1.0, "torch", "as loaded"),
            PerplexityRow("exact", "mxfp4", "exact-unit", 49.61, 21.0, 2.625, "int8", "fits"),
            PerplexityRow("chain", "mxfp4", "chain-unit", 50.11, 61.0, 7.625, "lanes", "in order"),
        ),
        sqnr=sqnr_rows(),
        timings=(("vectors", 0.02), ("model", 90.0), ("rest", 61.5)),
        model=report.ModelInfo("SmolLM2", "cd" * 32, "Apache-2.0", "the topics", 2044),
        machine=report.MachineInfo(2, "3.11.9", ("AVX-512", "VNNI")),
        formats_svg=SVG,
        sqnr_svg=SVG,
        accumulator_svg=SVG,
        perplexity_svg=SVG,
    )


EMPTY = DemoReport("Nothing", "1", "now", complete=True)


# ------------------------------------------------------------------------------ the whole page


@pytest.mark.parametrize("name", ["full", "empty", "partial"])
def test_the_page_is_well_formed_and_stands_alone(name: str) -> None:
    full = full_report()
    partial = replace(full, complete=False, perplexities=(), model=None, machine=None, rtl=())
    html = report.render({"full": full, "empty": EMPTY, "partial": partial}[name])
    assert html.lstrip().startswith("<!DOCTYPE html>")
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    for tag, attribute, value in page.attributes:
        assert not attribute.startswith("on"), (tag, attribute)
        assert "://" not in value, (tag, attribute, value)
        assert not value.startswith("//")
        for target in re.findall(r"url\(([^)]*)\)", value):
            assert target.removeprefix("#") in page.ids
        if attribute in ("href", "src"):
            assert value.startswith("#")
            assert value[1:] in page.ids
    assert not re.search(r"url\(|@import|://", page.style)


def test_the_page_suits_phone_dark_and_paper() -> None:
    page = Page(report.render(EMPTY))
    assert ("html", "lang", "en") in page.attributes
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in page.style
    assert "@media print" in page.style


def test_dark_mode_knows_every_colour_of_the_figures() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from fpsim import plots

    rows = full_report().perplexities
    figures = (
        plots.format_figure(),
        plots.sqnr_figure(sqnr_rows(3)),
        plots.accumulator_figure(length=200),
        plots.perplexity_figure(rows),
    )
    drawings = [plots.to_svg(figure) for figure in figures]
    names = ("formats_svg", "sqnr_svg", "accumulator_svg", "perplexity_svg")
    html = report.render(replace(full_report(), **dict(zip(names, drawings, strict=True))))
    page = Page(html)
    used = set(re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", " ".join(drawings)))
    assert used
    for paint in used:
        assert f'[style*="{paint}"]' in page.style


def test_everything_is_on_the_page() -> None:
    words = Page(report.render(full_report())).words
    for expected in (
        "A run",
        "fpsim 9.8.7 · 2020-02-03 04:05 UTC · complete",
        "24,690 golden vectors for 2 units",
        "0 mismatches in 12,345 clocks",
        "e2m1-fixed24q2",
        "a chain.",
        "acc <- acc + p",
        'name = "x"',
        "products 256",
        "12,345 vectors",
        "vectors.hex 2.3 MB " + "ab" * 32,
        "Verilator 5.48",
        "my_top",
        "14.3 s 3.5 s all match",
        "50.11 perplexity, chain; float32: 11.83",
        f"float32 float32 {DASH} 11.83 8.0 s {TIMES} 1.00",
        f"chain mxfp4 chain-unit 50.11 61.0 s {TIMES} 7.62",
        "chain: lanes: in order",
        "SmolLM2 (Apache-2.0), file SHA-256 " + "cd" * 32,
        "2,044 predicted tokens of the topics",
        "Gaussian: SQNR in dB",
        "my weights: SQNR in dB",
        "INT4 10.00 10.12 10.25 10.38 0.432",
        "2 min 32 s for all steps on 2 cores",
        "vectors 20 ms model 90.0 s rest 61.5 s",
        "2 cores, Python 3.11.9, with AVX-512, VNNI",
        "drawn <words>",
    ):
        assert expected in words, expected
    assert "Not in this run" not in words


def test_bars_are_shares_of_the_longest() -> None:
    page = Page(report.render(full_report()))
    widths = [value for tag, name, value in page.attributes if (tag, name) == ("div", "style")]
    assert widths[:2] == ["width: 2.1%", "width: 100.0%"]
    assert widths[-3:] == ["width: 0.0%", "width: 100.0%", "width: 68.3%"]


# --------------------------------------------------------------------------- what is missing


def test_what_is_missing_is_said() -> None:
    words = Page(report.render(EMPTY)).words
    assert words.count("Not in this run.") == 4
    assert "perplexity" not in words
    assert "SQNR" not in words
    without_model = replace(full_report(), perplexities=(), model=None, perplexity_svg="")
    words = Page(report.render(without_model)).words
    assert words.count("Not in this run.") == 1
    assert "No language model was evaluated" in words


def test_an_incomplete_run_says_so_and_why() -> None:
    page = Page(report.render(replace(EMPTY, complete=False, problems=("No network.", "No disk."))))
    assert "incomplete No network. No disk." in page.words
    assert "did not finish" in Page(report.render(replace(EMPTY, complete=False))).words
    assert "incomplete" not in Page(report.render(EMPTY)).words


@pytest.mark.parametrize(
    ("compared", "mismatches", "pill", "sentence"),
    [
        (12_345, 0, "all match", "All 12,345 accumulators are equal"),
        (12_345, 17, "17 differ", "17 of 12,345 accumulators differ"),
        (40, 0, "40 of 12,345 compared", "but 12,305 vectors were not compared"),
        (0, 0, "0 of 12,345 compared", "but 12,345 vectors were not compared"),
    ],
)
def test_rtl_results(compared: int, mismatches: int, pill: str, sentence: str) -> None:
    row = replace(full_report().rtl[0], compared=compared, mismatches=mismatches)
    words = Page(report.render(replace(full_report(), rtl=(row,)))).words
    assert f"3.5 s {pill}" in words
    assert sentence in words
    assert row.passed is (pill == "all match")


# ----------------------------------------------------------------------------------- findings


def test_perplexity_findings_follow_the_numbers() -> None:
    rows = full_report().perplexities
    assert findings.perplexity(rows) == [
        "The mxfp4 recipe takes perplexity from 11.83 to 49.61 (+319 %).",
        "Accumulating in chain-unit instead of exact-unit takes it from 49.61 to 50.11 (+1.01 %).",
    ]
    better = replace(rows[2], perplexity=45.0)
    assert "to 45.00 (-9.29 %)" in findings.perplexity([*rows[:2], better])[1]
    same = replace(rows[2], perplexity=49.6101)
    assert "no difference in these digits" in findings.perplexity([*rows[:2], same])[1]
    for value, text in ((math.inf, "inf"), (math.nan, "nan")):
        last = findings.perplexity([*rows[:2], replace(rows[2], perplexity=value)])[1]
        assert last.endswith(f"from 49.61 to {text}.")
    assert len(findings.perplexity(rows[1:])) == 1  # without float32 there is nothing to set off
    assert findings.number(123_456.7) == "123,457"


def test_leaders_share_a_tie() -> None:
    def row(fmt: str, value: float) -> SqnrRow:
        return SqnrRow("x", 1, fmt, Scaling.BLOCK_E8M0, None, value)

    rows = [row("int4s", 17.5), row("e2m1", 17.4), row("e1m2", 17.5)]
    assert findings.leaders(rows, "x", Scaling.BLOCK_E8M0) == ["INT4", "E1M2"]
    assert findings.leaders(rows, "x", Scaling.TENSOR_BEST) == []
    assert findings.best_db(rows, "x", Scaling.BLOCK_E8M0) == 17.5
    words = Page(report.render(replace(EMPTY, sqnr=tuple(rows)))).words
    assert f"X {DASH} {DASH} {DASH} INT4, E1M2 · 17.5" in words


def test_medians_over_tensors_are_named() -> None:
    words = Page(report.render(replace(full_report(), sqnr=sqnr_rows(210)))).words
    assert "many tensors (gaussian: 210, my weights: 210), each has scales of its own" in words
    assert "many tensors" not in Page(report.render(full_report())).words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.02, "20 ms"), (0.5, "0.5 s"), (99.4, "99.4 s"), (119.7, "2 min 00 s")],
)
def test_seconds(seconds: float, text: str) -> None:
    words = Page(report.render(replace(EMPTY, timings=(("step", seconds),)))).words
    assert f"step {text}" in words


# ----------------------------------------------------------------------------------- escaping

HOSTILE = """<script>alert("1")</script>&amp;'"><b>"""


def poisoned(value: Any, name: str = "") -> Any:
    """Return the same data with every text made hostile."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: poisoned(getattr(value, f.name), f.name) for f in fields(value)}
        )
    if isinstance(value, tuple):
        return tuple(poisoned(item, name) for item in value)
    if isinstance(value, str) and not name.endswith("_svg") and not isinstance(value, Scaling):
        return HOSTILE + value
    return value


def test_every_text_is_escaped() -> None:
    clean, dirty = Page(report.render(full_report())), Page(report.render(poisoned(full_report())))
    assert dirty.tags == clean.tags
    texts = len(re.findall(re.escape(HOSTILE), dirty.text))
    assert texts >= 40


# ------------------------------------------------------------------------------------ figures


def test_a_figure_becomes_part_of_the_page() -> None:
    html = report.render(replace(EMPTY, formats_svg=SVG, accumulator_svg=SVG))
    page = Page(html)
    assert {"formats-mark", "formats-clip", "accumulator-mark"} <= set(page.ids)
    assert ("use", "href", "#formats-mark") in page.attributes
    assert ("g", "clip-path", "url(#accumulator-clip)") in page.attributes
    assert ("svg", "viewbox", "0 0 9 9") in page.attributes
    assert sum(attribute == ("svg", "role", "img") for attribute in page.attributes) == 2
    assert not [a for a in page.attributes if a[0] == "svg" and a[1] in ("width", "height")]
    assert "when" not in page.words.split()
    assert page.tags.count("style") == 1


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<g onload="alert(1)"/>',
        '<use xlink:href="http://elsewhere/x.svg#a"/>',
        '<use href="//elsewhere/x.svg#a"/>',
        '<rect style="fill: url(http://elsewhere/x)"/>',
        '<image href="#x"/>',
        "<foreignObject><p>x</p></foreignObject>",
        "<g>",
    ],
)
def test_what_is_no_drawing_is_refused(inside: str) -> None:
    svg = SVG.replace("<text>", f"{inside}<text>")
    with pytest.raises(FpsimError, match="figure formats: "):
        report.render(replace(EMPTY, formats_svg=svg))


# ------------------------------------------------------------------------------------ writing


def test_write_makes_the_directory_and_replaces_the_page(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out" / "report.html"
    assert report.write(EMPTY, path) == path
    assert report.write(full_report(), str(path)) == path
    assert path.read_text(encoding="utf-8") == report.render(full_report())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "report.html").mkdir(parents=True)
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder" / "report.html"):
        with pytest.raises(
            FpsimError, match=r"^out: .*report\.html cannot be written \("
        ) as caught:
            report.write(EMPTY, path)
        assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "report.html"]


def test_a_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report.write(EMPTY, tmp_path / "report.html")
    old = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(FpsimError, match="No space left on device"):
        report.write(full_report(), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
