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
from fpsim.explore.layers import LayerRow
from fpsim.formats.names import get_format
from fpsim.hdl.rtl.synthesis import Cost
from fpsim.report import findings
from fpsim.report import page as report
from fpsim.report.number_lines import number_line
from fpsim.report.page import PageData, PerplexityRow, RtlRow, UnitFacts
from fpsim.studies.accumulation import AccumulationRow, AccumulatorCounts
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
        self.script = ""
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
        elif "script" in self.open:
            self.script += data
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


def layer(name: str, cast_db: float = 20.0, unit_db: float = math.inf, bits: int = 15) -> LayerRow:
    return LayerRow(
        name, 576, "e2m1", "e2m1", 0.25, 12.0, 0.01, 0.25, cast_db, unit_db, 0.0, 0.125, bits, 12
    )


def full_report() -> PageData:
    unit = UnitFacts(
        name="e2m1-chain-e5m10",
        description="a chain",
        equation="acc <- acc + p",
        toml='name = "x"\n',
        lines=(
            number_line("a", get_format("e2m1")),
            number_line("accumulator", get_format("e5m10")),
        ),
        vectors=report.VectorFacts(
            "made here",
            12_345,
            (report.SectionRow("products", 256), report.SectionRow("random", 12_089)),
            (report.FileRow("vectors.hex", 2_345_678, "ab" * 32),),
            (report.BinRow("B1", 3), report.BinRow("B2", 0, "no NaN"), report.BinRow("B3", 0)),
            8,
            9,
        ),
        rtl=(
            RtlRow(
                "e2m1-chain-e5m10", "Verilator", "5.48", "my_top", 12_345, 12_345, 0, 14.26, 3.5
            ),
        ),
        cost=Cost("my_top", 700, 1234.5, 80.0, 31, 16),
        errors=(
            AccumulationRow("e2m1-chain-e5m10", 16, "natural", 64, 0.001, 0.002, 0, 0.0, 0.0074),
            AccumulationRow("e2m1-chain-e5m10", 1024, "natural", 64, 0.02, 0.047, 0, 0.21, None),
        ),
        binades=AccumulatorCounts(256, 1000, {-1: 100, 0: 500, 3: 300}, 100, 0),
        layers=(layer("layers.0.up", 9.0), layer("layers.1.up", 21.0, 18.0, 17)),
        layers_note="sixteen inputs of each",
    )
    other = UnitFacts("e2m1-fixed24q2", "", "acc <- acc + p", "", rtl_note="no such RTL")
    return PageData(
        title="A run",
        version="9.8.7",
        created="2020-02-03 04:05 UTC",
        units=(unit, other),
        figures=(report.PageFigure("formats", "Number lines", SVG, "what it shows"),),
        perplexities=(
            PerplexityRow("float32", None, None, 11.83, 8.0, 1.0, "torch", "as loaded"),
            PerplexityRow("exact", "mxfp4", "exact-unit", 49.61, 21.0, 2.625, "int8", "fits"),
            PerplexityRow("chain", "mxfp4", "chain-unit", 50.11, 61.0, 7.625, "lanes", "in order"),
        ),
        sqnr=sqnr_rows(),
        timings=(("vectors", 0.02), ("model", 90.0), ("rest", 61.5)),
        model=report.ModelInfo("SmolLM2", "cd" * 32, "Apache-2.0", "the topics", 2044),
        machine=report.MachineInfo(2, "3.11.9", ("AVX-512", "VNNI")),
    )


EMPTY = PageData("Nothing", "1", "now")


# ------------------------------------------------------------------------------ the whole page


@pytest.mark.parametrize("name", ["full", "empty", "partial"])
def test_the_page_is_well_formed_and_stands_alone(name: str) -> None:
    full = full_report()
    partial = replace(full, complete=False, perplexities=(), model=None, machine=None)
    html = report.render({"full": full, "empty": EMPTY, "partial": partial}[name])
    assert html.lstrip().startswith("<!DOCTYPE html>")
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags)
    assert page.tags.count("script") == 1
    for tag, attribute, value in page.attributes:
        assert not attribute.startswith("on"), (tag, attribute)
        assert tag != "script", "a script with attributes may load another"
        assert "://" not in value, (tag, attribute, value)
        assert not value.startswith("//")
        for target in re.findall(r"url\(([^)]*)\)", value):
            assert target.removeprefix("#") in page.ids
        if attribute in ("href", "src"):
            assert value.startswith("#")
            assert value[1:] in page.ids
    assert not re.search(r"url\(|@import|://", page.style)
    assert not re.search(r"://|fetch|import|XMLHttp|eval|innerHTML", page.script)


def test_the_page_suits_phone_dark_and_paper() -> None:
    page = Page(report.render(EMPTY))
    assert ("html", "lang", "en") in page.attributes
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in page.style
    assert "@media print" in page.style


def test_dark_mode_knows_every_colour_of_the_figures() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from fpsim import plots

    full = full_report()
    drawn = (
        plots.format_figure(),
        plots.sqnr_figure(sqnr_rows(3)),
        plots.accumulation_figure(full.units[0].errors),
        plots.area_error_figure([("x", 100.0, 0.1), ("y", 200.0, 0.0), ("z", 300.0, math.nan)]),
        plots.perplexity_figure(full.perplexities),
    )
    figures = tuple(
        report.PageFigure(f"f{i}", "", plots.to_svg(figure), "") for i, figure in enumerate(drawn)
    )
    page = Page(report.render(replace(full, figures=figures)))
    used = set(re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", " ".join(f.svg for f in figures)))
    assert len(used) > 5
    for paint in used:
        assert f'[style*="{paint}"]' in page.style


def test_findings_come_first_and_details_are_folded() -> None:
    words = Page(report.render(full_report())).words
    order = ["A run", "What was found", "layers.0.up suffers most", "area, NAND2", "Number lines",
             "in detail", "What it computes", "Its numbers", "Golden vectors", "numbers behind"]  # fmt: skip
    places = [words.index(text) for text in order]
    assert places == sorted(places)
    html = report.render(full_report())
    assert '<details class="unit" id="unit-1">' in html
    assert '<details class="unit" id="unit-1" open>' in report.render(
        replace(full_report(), units=full_report().units[:1])
    )


def test_everything_is_on_the_page() -> None:
    words = Page(report.render(full_report())).words
    for expected in (
        "A run",
        "fpsim 9.8.7 · 2020-02-03 04:05 UTC · complete",
        "12,345 golden vectors for 1 unit, which hit 1 of 2 coverage bins that can be hit and find 8 of 9 deliberate mistakes",
        "All 12,345 accumulators are equal".lower(),
        f"e2m1-chain-e5m10 1,234 31 16 all match 12,345 0.047 21.0 % {DASH}",
        f"e2m1-fixed24q2 {DASH} {DASH} {DASH} {DASH} {DASH} {DASH} {DASH}",
        "a chain",
        "acc <- acc + p",
        'name = "x"',
        "products 256",
        "12,345 vectors, made here",
        "vectors.hex 2.3 MB " + "ab" * 32,
        "B2 0 no NaN",
        "B3 0 empty",
        "Verilator 5.48 my_top 12,345 14.3 s 3.5 s all match",
        "1,234 NAND2 equivalents of generic cells (80 of them in 16 flip-flops), 700 cells, 31 cells deep",
        "no such RTL",
        f"1024 0.02 0.047 {DASH} 21.0 % 0",
        "1,000 steps of dot products of 256",
        "layers.1.up 576 21.0 18.0 1.00 % 25.0 % 0.00 % 12.5 % 17",
        f"float32 float32 {DASH} 11.83 8.0 s {TIMES} 1.00",
        f"chain mxfp4 chain-unit 50.11 61.0 s {TIMES} 7.62",
        "chain: lanes: in order",
        "SmolLM2 (Apache-2.0), file SHA-256 " + "cd" * 32,
        "2,044 predicted tokens of the topics",
        "Gaussian: SQNR in dB",
        "my weights: SQNR in dB",
        "INT4 10.00 10.12 10.25 10.38 0.432",
        "How long it took: 2 min 32 s",
        "vectors 20 ms model 90.0 s rest 61.5 s",
        "2 cores, Python 3.11.9, with AVX-512, VNNI",
        "drawn <words>",
    ):
        assert expected in words, expected


def test_bars_are_shares_of_the_longest() -> None:
    page = Page(report.render(full_report()))
    widths = [value for tag, name, value in page.attributes if (tag, name) == ("div", "style")]
    assert widths[:2] == ["width: 2.1%", "width: 100.0%"]
    assert widths[-3:] == ["width: 0.0%", "width: 100.0%", "width: 68.3%"]


# ------------------------------------------------------------------------------- number lines


def test_every_code_of_a_format_is_on_its_line() -> None:
    line = number_line("a", get_format("e2m1"))
    assert line.values
    assert [mark.words.partition(";")[0] for mark in line.marks][6:9] == [
        "0x9 (1001) is -0.5",
        "0x0 (0000) and 0x8 (1000) is 0",
        "0x1 (0001) is 0.5",
    ]
    assert line.marks[-1].words == "0x7 (0111) is 6; step down 2; nearest for 5 to inf"
    assert (line.marks[0].x, line.marks[7].x, line.marks[-1].x) == (0.0, 0.5, 1.0)
    assert "0x7f (01111111) is NaN" in number_line("b", get_format("e4m3fn")).note


def test_wide_formats_are_drawn_by_binades() -> None:
    line = number_line("accumulator", get_format("e5m10"))
    assert len(line.marks) == 1 + 30
    assert line.marks[0].words == "below 2^-14: steps of 2^-24 (subnormal)"
    assert line.marks[-1].words == "2^15 to 2^16: steps of 2^5"
    assert sum(mark.width for mark in line.marks) == pytest.approx(1)
    (mark,) = number_line("accumulator", get_format("int24q2")).marks
    assert mark.words == "every multiple of 2^-2 from -2.09715e+06 to 2.09715e+06"


# --------------------------------------------------------------------------- what is missing


def test_what_is_missing_is_said() -> None:
    words = Page(report.render(EMPTY)).words
    assert "Not here. Nothing was measured." in words
    bare = UnitFacts("a-unit", "", "e", "")
    words = Page(report.render(replace(EMPTY, units=(bare,)))).words
    assert words.count("Not here.") == 4  # findings, vectors, RTL, errors
    assert "fpsim vectors a-unit --out DIR" in words
    assert "NAND2" not in words
    assert "perplexity" not in words


def test_an_incomplete_run_says_so_and_why() -> None:
    page = Page(report.render(replace(EMPTY, complete=False, problems=("No network.", "No disk."))))
    assert "incomplete No network. No disk." in page.words
    assert "did not finish" in Page(report.render(replace(EMPTY, complete=False))).words
    assert "incomplete" not in Page(report.render(EMPTY)).words


@pytest.mark.parametrize(
    ("compared", "mismatches", "pill", "sentence"),
    [
        (12_345, 0, "all match", "all 12,345 accumulators are equal"),
        (12_345, 17, "17 differ", "17 of 12,345 accumulators differ"),
        (40, 0, "40 of 12,345 compared", "but 12,305 results were not compared"),
        (0, 0, "0 of 12,345 compared", "but 12,345 results were not compared"),
    ],
)
def test_rtl_results(compared: int, mismatches: int, pill: str, sentence: str) -> None:
    full = full_report()
    row = replace(full.units[0].rtl[0], compared=compared, mismatches=mismatches)
    unit = replace(full.units[0], rtl=(row,))
    words = Page(report.render(replace(full, units=(unit,)))).words
    assert f"3.5 s {pill}" in words
    assert sentence in words
    assert row.passed is (pill == "all match")


# ----------------------------------------------------------------------------------- findings


def test_sums_that_overflow_are_words_in_tables() -> None:
    full = full_report()
    lost = AccumulationRow("a", 1024, "natural", 64, math.nan, math.nan, 64, math.nan, None)
    words = Page(
        report.render(replace(full, units=(replace(full.units[0], errors=(lost,)),)))
    ).words
    assert "overflows \N{EN DASH}" in words  # in the table of units
    assert "1024 overflows overflows \N{EN DASH} \N{EN DASH} 64" in words
    assert "nan" not in words.split()


def test_few_tokens_are_said() -> None:
    full = full_report()
    assert full.model is not None
    said = "Perplexities are of 510 tokens: on so few, differences of some per cent are chance."
    few, many = (replace(full, model=replace(full.model, tokens=n)) for n in (510, 10_000))
    assert said in findings.sentences(few)
    assert "chance" not in " ".join(findings.sentences(many))


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
    assert findings.sentences(replace(EMPTY, sqnr=tuple(rows))) == [
        "In power-of-two blocks of 32, INT4 and E1M2 lose least of X data: 17.5 dB."
    ]
    words = Page(report.render(replace(EMPTY, sqnr=tuple(rows)))).words
    assert f"X {DASH} {DASH} {DASH} INT4, E1M2 · 17.5" in words


def test_unit_findings_follow_the_numbers() -> None:
    full = full_report()
    (text,) = findings.layers(full.units[0])
    assert "Of 2 layers on e2m1-chain-e5m10, layers.0.up suffers most: 9.0 dB" in text
    assert (
        "loses nothing in 1 of them; a lossless register would need 17 bits (layers.1.up)" in text
    )
    one, two = full.units[0], replace(full.units[0], name="two", cost=Cost("t", 1, 2469.0, 0, 1, 1))
    said = " ".join(findings.sentences(replace(full, units=(one, two))))
    assert "two is 2.00 times as large" in said
    assert "up to 4.7 % of the sum of magnitudes; 21 % of its steps move nothing" in said
    exact = replace(one, errors=(replace(one.errors[1], max_error=0.0),))
    assert (
        "No error at all in sums of 1024 random products: e2m1-chain-e5m10."
        in findings.sentences(replace(full, units=(exact,)))
    )
    lost = replace(one, errors=(replace(one.errors[1], not_finite=5),))
    assert "e2m1-chain-e5m10 overflows in 5 of 64 sums of 1024 products." in findings.sentences(
        replace(full, units=(lost,))
    )


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
    if isinstance(value, str) and name != "svg" and not isinstance(value, Scaling):
        return HOSTILE + value if value else value
    return value


def test_every_text_is_escaped() -> None:
    clean, dirty = Page(report.render(full_report())), Page(report.render(poisoned(full_report())))
    assert dirty.tags == clean.tags
    texts = len(re.findall(re.escape(HOSTILE), dirty.text))
    assert texts >= 40


# ------------------------------------------------------------------------------------ figures


def test_a_figure_becomes_part_of_the_page() -> None:
    figures = [report.PageFigure(name, name, SVG, "") for name in ("formats", "accumulator")]
    html = report.render(replace(EMPTY, figures=tuple(figures)))
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
        report.render(replace(EMPTY, figures=(report.PageFigure("formats", "", svg, ""),)))


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
