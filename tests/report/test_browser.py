# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: it hovers, sorts, folds, prints and asks the network for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from support import chromium
from support.chromium import Browser

from fpsim.formats.names import get_format
from fpsim.report import page as report
from fpsim.report.number_lines import number_line
from fpsim.report.page import PageData, UnitFacts, VectorFacts
from fpsim.studies.accumulation import AccumulatorCounts

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="Chromium is not installed (apt-get install chromium)"
)

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def unit(name: str, vectors: int) -> UnitFacts:
    return UnitFacts(
        name,
        HOSTILE,
        "acc <- acc + p",
        HOSTILE,
        lines=(
            number_line("a", get_format("e2m1")),
            number_line("accumulator", get_format("e5m10")),
        ),
        vectors=VectorFacts("made", vectors) if vectors else None,
        binades=AccumulatorCounts(256, 1000, {-1: 100, 0: 500, 3: 300}, 100, 0),
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    data = PageData(
        HOSTILE, "1", "now", units=(unit("b-900", 900), unit("c-none", 0), unit("a-12345", 12_345))
    )
    path = report.write(data, tmp_path_factory.mktemp("page") / "page.html")
    with chromium.browser() as found:
        found.open(path)
        yield found


def names(shown: Browser) -> list[str]:
    return str(shown.run("[...document.querySelectorAll('#units tbody th')].map(x => x.textContent.trim()).join()")).split(",")  # fmt: skip


def test_hostile_texts_stay_texts_and_nothing_is_fetched(shown: Browser) -> None:
    assert shown.run("document.title") == HOSTILE
    assert shown.run("document.querySelectorAll('img, script').length") == 1
    assert [url for url in shown.requests if not url.startswith("file:")] == []
    assert shown.errors == []


def test_pointing_at_a_mark_says_its_code_and_value(shown: Browser) -> None:
    shown.run("document.querySelectorAll('details.unit').forEach(x => { x.open = true; })")
    words = "document.getElementById('words')"
    assert shown.run(f"{words}.hidden") is True
    for _ in range(20):  # the details may not be laid out yet
        shown.hover("#unit-1 .marks g", 8)
        if shown.run(f"{words}.hidden") is False:
            break
        time.sleep(0.1)
    assert shown.run(f"{words}.hidden") is False
    assert shown.run(f"{words}.textContent").startswith("0x1 (0001) is 0.5; step down 0.5")
    shown.hover("#unit-1 .marks g", 15 + 1)
    assert shown.run(f"{words}.textContent") == "2^-14 to 2^-13: steps of 2^-24"
    box = shown.run(f"{words}.getBoundingClientRect().toJSON()")
    assert 0 <= box["left"] <= box["right"] <= 1000
    shown.hover("h1")
    assert shown.run(f"{words}.hidden") is True
    shown.run("document.querySelectorAll('#unit-1 .marks g')[0].focus()")
    assert shown.run(f"{words}.textContent").startswith("0xf (1111) is -6")


def test_tables_sort_by_numbers_and_names(shown: Browser) -> None:
    assert names(shown) == ["b-900", "c-none", "a-12345"]
    shown.click("#units th button", 1)
    assert names(shown) == ["b-900", "a-12345", "c-none"]  # 900 before 12 345; none last
    shown.click("#units th button", 1)
    assert names(shown) == ["a-12345", "b-900", "c-none"]
    assert (
        shown.run("document.querySelector('#units th[aria-sort]').getAttribute('aria-sort')")
        == "descending"
    )
    shown.click("#units th button", 0)
    assert names(shown) == ["a-12345", "b-900", "c-none"]


def test_a_link_unfolds_its_unit(shown: Browser) -> None:
    shown.run("document.querySelectorAll('details.unit').forEach(x => { x.open = false; })")
    shown.click("#units tbody a", names(shown).index("c-none"))
    for _ in range(100):
        if shown.run("document.getElementById('unit-2').open"):
            break
    assert (
        shown.run("[...document.querySelectorAll('details.unit')].map(x => x.open).join()")
        == "false,true,false"
    )
    shown.click("#unit-2 > summary")
    assert shown.run("document.getElementById('unit-2').open") is False


def test_dark_and_paper(shown: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    shown.media("dark")
    assert shown.run(ground) == "rgb(20, 24, 29)"
    shown.media("light")
    assert shown.run(ground) == "rgb(255, 255, 255)"
    shown.media("light", "print")
    shown.run("document.querySelectorAll('details').forEach(x => { x.open = false; })")
    assert shown.run("getComputedStyle(document.getElementById('unit-1')).display") == "none"
    shown.media("light")
