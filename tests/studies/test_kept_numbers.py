# SPDX-License-Identifier: Apache-2.0
"""Studies in `analysis/`: every one has numbers, a picture, a page and a line in the index."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("numba")

ANALYSIS = Path(__file__).parents[2] / "analysis"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script of `analysis/`, which see each other as scripts in one folder do."""
    monkeypatch.syspath_prepend(str(ANALYSIS))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ANALYSIS)):
            del sys.modules[name]


def test_every_study_has_numbers_a_picture_and_a_page(module: Any) -> None:
    index = (ANALYSIS / "README.md").read_text(encoding="utf-8")
    for study in module("figures").STUDIES:
        kept = json.loads((ANALYSIS / "results" / f"{study.NAME}.json").read_text())
        assert kept, study.NAME
        assert f"(results/{study.NAME}.svg)" in index, study.NAME
        assert f"({study.NAME}.md)" in index, study.NAME
        page = (ANALYSIS / f"{study.NAME}.md").read_text(encoding="utf-8")
        assert f"(results/{study.NAME}.svg)" in page, study.NAME


@pytest.mark.sweep
def test_every_picture_is_drawn_from_kept_numbers(module: Any) -> None:
    from fpsim import plots

    for study in module("figures").STUDIES:
        kept = json.loads((ANALYSIS / "results" / f"{study.NAME}.json").read_text())
        assert plots.to_svg(study.draw(kept)).startswith("<?xml"), study.NAME


def test_changes_of_perplexity_come_with_their_error(module: Any) -> None:
    study = module("study")
    base = {"nll": [1.0, 3.0, 2.0, 2.0]}
    same = {"nll": [1.1, 3.1, 2.1, 2.1]}
    percent, error = study.change(same, base)
    assert percent == pytest.approx(100 * (math.exp(0.1) - 1))
    assert error == pytest.approx(0, abs=1e-9)
    percent, error = study.change({"nll": [1.0, 3.0, 2.0, 2.4]}, base)
    assert percent == pytest.approx(100 * (math.exp(0.1) - 1))
    assert error == pytest.approx(100 * math.exp(0.1) * 0.1)  # 0.2 over the root of 4
    assert study.change({"error": "infinite"}, base) == (math.inf, 0.0)


def test_noise_of_layers_is_a_mean_of_powers(module: Any) -> None:
    noise = module("study").noise
    assert noise({"cast_db": [10.0, 10.0], "unit_db": [None, None]}) == -math.inf
    assert noise({"cast_db": [10.0, 20.0], "unit_db": [10.0, 20.0]}) == pytest.approx(0)
    half = noise({"cast_db": [10.0, 10.0], "unit_db": [10.0, None]})
    assert half == pytest.approx(-10 * math.log10(2))
    assert math.isnan(noise({"error": "overflow"}))


def test_kept_numbers_are_json_whose_lowest_lists_stand_in_a_line(module: Any) -> None:
    data = {"rows": [{"a": [1.5, 2], "b": {"c": "[x, y]  z"}}, {"a": [], "b": None}], "n": 1}
    text = module("study").dumps(data)
    assert json.loads(text) == data
    assert max(len(line) - len(line.lstrip()) for line in text.splitlines()) <= 3


def test_ranks_of_the_papers_methods(module: Any) -> None:
    papers = module("papers")
    rows = [{"published": p, "ours": o, "model": "smollm2-135m"} for p, o in ((1, 9), (2, 5), (3, 5), (4, 1))]  # fmt: skip
    # Ranks 1 2 3 4 against 1 2.5 2.5 4.
    assert papers.rank_correlation(rows) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_agreement_is_a_mean_over_users(module: Any) -> None:
    agreement = module("conversations").agreement
    rows = [
        {"recipe": "r", "tokens": [4, 10], "same": [2, 10]},
        {"recipe": "r", "tokens": [4, 20], "same": [4, 20]},
        {"recipe": "other", "tokens": [1, 1], "same": [0, 0]},
    ]
    assert agreement(rows, "r", 0) == pytest.approx((75.0, 25.0))
    share = (100 * 12 / 14 + 100) / 2
    assert agreement(rows, "r", None)[0] == pytest.approx(share)
