# SPDX-License-Identifier: Apache-2.0
"""Everything that a page says of a unit is measured, on a model too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("torch", reason="torch is not installed")

import torch
from support import tiny_models

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.report import gather
from fpsim.report.findings import sentences
from fpsim.report.gather import ModelRun


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = tiny_models.llama().eval()
    loaded = tiny_models.loaded(model)
    monkeypatch.setattr("fpsim.bridge.measure.models.load", lambda name, report=None: loaded)
    monkeypatch.setattr(gather, "LENGTHS", (16, 1024))


@pytest.mark.usefixtures("tiny")
def test_a_unit_is_measured_on_its_own_and_in_a_model() -> None:
    run = ModelRun("tiny", windows=1, window=32, layer="*layers.1.mlp*")
    page = gather.gather(["e2m1-chain-e5m10"], run=run, rtl=False)
    (unit,) = page.units
    assert page.complete
    assert page.title == unit.name == "e2m1-chain-e5m10"
    assert [line.role for line in unit.lines] == ["a", "accumulator"]
    assert unit.vectors is not None
    assert unit.vectors.source == "released as golden/e2m1-chain-e5m10"
    assert unit.vectors.hit == unit.vectors.possible > 100
    assert unit.vectors.killed == unit.vectors.mutants > 30
    assert [row.length for row in unit.errors] == [16, 1024]
    assert unit.errors[1].swamped > 0.1
    assert unit.binades is not None
    assert sum(unit.binades.counts.values()) + unit.binades.zeros == unit.binades.steps == 64 * 256
    assert [row.layer.rsplit(".", 1)[1] for row in unit.layers] == ["gate_proj", "up_proj", "down_proj"]  # fmt: skip
    assert [row.unit for row in page.perplexities] == [None, "exact", "e2m1-chain-e5m10"]
    assert {figure.name for figure in page.figures} == {"perplexity", "errors", "accumulator"}
    said = " ".join(sentences(page))
    assert "Of 3 layers on e2m1-chain-e5m10" in said
    assert "Accumulating in e2m1-chain-e5m10 instead of exact" in said


@pytest.mark.parametrize(("compared", "wrong", "said"), [(7, 0, ""), (5, 0, "but 2 results were not compared"), (7, 1, "1 of 7 accumulators differ")])  # fmt: skip
def test_a_replay_is_complete_when_every_result_that_was_due_was_compared(
    monkeypatch: pytest.MonkeyPatch, compared: int, wrong: int, said: str
) -> None:
    # Ten vectors, of which three only load: no result is due after those.
    result = SimpleNamespace(
        simulator="Verilator 5.0", vectors=10, due=7, compared=compared, mismatch_count=wrong,
        build_seconds=1.0, run_seconds=1.0,
    )  # fmt: skip
    monkeypatch.setattr(gather, "available", lambda: [SimpleNamespace(name="verilator")])
    monkeypatch.setattr(gather, "verify_design", lambda *_: SimpleNamespace(result=result))
    unit, problems = fpsim.get_unit("e2m1-chain-e5m10"), []
    facts = gather.replayed(gather.UnitFacts(unit.name, "", "", ""), unit, problems)
    assert facts.rtl[0].passed == (not said)
    assert len(problems) == bool(said)
    assert said in "".join(problems)


def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "unit_facts", lambda unit: pytest.fail("work was begun"))
    out = str(tmp_path / "x.html")
    (tmp_path / "file").write_text("")
    other = str(Path(__file__).parents[2] / "golden" / "e2m1-fixed24q2")
    for arguments, said in (
        (["nobody-chain", "--out", out], "unit: 'nobody-chain'"),
        (["exact", "--out", str(tmp_path / "file" / "x.html")], "file/x.html cannot be written"),
        (["exact", "--out", str(tmp_path)], "is a folder, not a file"),
        (["exact", "--vectors", str(tmp_path), "--out", out], "manifest"),
        (["exact", "--vectors", other, "--out", out], "which is none of the units"),
        (["exact", "--model", "x/y", "--windows", "0", "--out", out], "windows is 0"),
        (["exact", "--model", "x/y", "--recipe", "mxfp5", "--out", out], "recipe: 'mxfp5'"),
    ):
        assert main(["report", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert said in error, arguments
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    with pytest.raises(FpsimError, match="units: none given"):
        gather.gather([])
