# SPDX-License-Identifier: Apache-2.0
"""A whole search on a tiny model: the cheapest unit that keeps the budget, and its files."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")

import torch
from support import tiny_models

from fpsim.base.errors import FpsimError
from fpsim.base.executor import PointCache, executor
from fpsim.cli import main
from fpsim.explore import evaluate, search
from fpsim.explore.layers import layer_rows, sample_layers
from fpsim.explore.search import ExploreSettings, PointResult, explore
from fpsim.explore.silicon import Silicon, silicon, top_for
from fpsim.explore.space import Space
from fpsim.hdl.rtl import yosys
from fpsim.unit import get_unit

SPACE = Space(
    ["mxfp4"],
    [
        {"kind": "chain", "format": ["e3m2", "e5m10", "e8m23"]},
        {"kind": "exact", "format": "e8m23"},
    ],
)
#: Costs of the points, made up: a search does not care where they come from.
AREAS = {"e3m2": 100.0, "e5m10": 200.0, "e8m23": 400.0}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A random LLaMA behind a name, whose task is a figure made from its logits."""
    torch.manual_seed(0)
    model = tiny_models.llama().eval()
    loaded = type("Loaded", (), {"model": model, "tokenizer": None, "name": "tiny"})()

    class Task:
        name = "perplexity"

        def calibration(self) -> list[dict[str, Any]]:
            return [{"input_ids": tiny_models.TOKENS}]

        def measure(self, model: Any, progress: Any = None) -> dict[str, float]:
            with torch.no_grad():
                loss = model(input_ids=tiny_models.TOKENS, labels=tiny_models.TOKENS).loss
            return {"perplexity": float(loss.exp())}

    monkeypatch.setattr("fpsim.bridge.measure.models.load", lambda name, report=None: loaded)
    monkeypatch.setattr("fpsim.bridge.measure.tasks.task_for", lambda loaded, **options: Task())
    evaluate._loaded.cache_clear()
    evaluate._samples.cache_clear()
    return model


@pytest.fixture
def areas(monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(unit: Any, operands: Any, scaled: bool) -> Silicon:
        stage = unit.spec.accumulate
        if stage.kind == "exact":
            return Silicon(why="no RTL of exact stages")
        area = AREAS[stage.format.name]
        return Silicon("mac", 1, area, 10, 20, None, "not switched")

    monkeypatch.setattr(evaluate, "silicon", made_up)


def searched(budget: str, **changes: Any) -> search.ExploreResult:
    settings = ExploreSettings("tiny", budget, layers=3, energy=False, **changes)
    with executor() as pool:
        return explore(SPACE, settings, pool)


@pytest.mark.usefixtures("tiny", "areas")
def test_the_cheapest_point_that_keeps_the_budget_wins() -> None:
    result = searched("perplexity <= 1.0000001 * exact")
    by_unit = {point.unit: point for point in result.points}
    assert list(by_unit) == ["e2m1-chain-e3m2", "e2m1-chain-e5m10", "e2m1-chain-e8m23", "e2m1-exact-e8m23"]  # fmt: skip
    assert by_unit["e2m1-exact-e8m23"].figure == result.references["mxfp4"]
    assert by_unit["e2m1-exact-e8m23"].area is None
    assert by_unit["e2m1-exact-e8m23"].met
    assert [note for note in result.notes if "are of 510 tokens: on so few" in note]
    coarse = by_unit["e2m1-chain-e3m2"]
    assert not coarse.met
    assert coarse.why.startswith("hopeless: layer model.layers.0.mlp.down_proj has -0.1 dB")
    assert (coarse.figure, coarse.area) == (None, None)
    assert result.winner is not None
    best = result.points[result.winner]
    kept = [p for p in result.points if p.met and p.area is not None]
    assert best.area == min(p.area or math.inf for p in kept)
    figures = [result.points[i].figure or 0 for i in result.front]
    costs = [result.points[i].area or 0 for i in result.front]
    assert costs == sorted(costs)
    assert [abs(f) for f in figures] == sorted(figures, reverse=True)
    assert (
        2.0 < by_unit["e2m1-chain-e5m10"].bits < 4.3 if by_unit["e2m1-chain-e5m10"].bits else False
    )


@pytest.mark.usefixtures("tiny", "areas")
def test_a_budget_nobody_keeps_says_how_close_the_best_came() -> None:
    result = searched("perplexity <= 0.5 * float")
    assert result.winner is None
    assert "the best came to perplexity" in result.closest()
    assert f"where {0.5 * result.references['float']:.6g} is the limit" in result.closest()


@pytest.mark.usefixtures("tiny", "areas")
def test_bad_settings_are_one_sentence_before_any_work() -> None:
    with pytest.raises(
        FpsimError, match="budget: tiny has no figure 'accuracy'; it has perplexity"
    ):
        searched("accuracy >= 0.5")
    with pytest.raises(FpsimError, match="minimize: 'price' is not one of area, depth"):
        searched("perplexity <= 2", minimize="price")
    for name, value in (("windows", 0), ("window", 1), ("layers", 0), ("exhaust", -1), ("trials", 0), ("scored", 0)):  # fmt: skip
        with pytest.raises(FpsimError, match=f"{name}: {value} is too few; at least"):
            ExploreSettings("tiny", "perplexity <= 2", **{name: value})
    for recipe, said in (("llm-fp4", "needs a calibration"), ("mxfp4-weights", "leaves inputs in float"), ("mxfp5", "is not one of")):  # fmt: skip
        with executor() as pool, pytest.raises(FpsimError, match=said):
            explore(Space([recipe], [{"kind": "exact", "format": "e8m23"}]), ExploreSettings("tiny", "perplexity <= 2"), pool)  # fmt: skip


@pytest.mark.usefixtures("tiny", "areas")
def test_points_are_kept_and_a_large_space_is_sampled(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed")
    settings = ExploreSettings("tiny", "perplexity <= 2 * exact", layers=2, energy=False)
    small = replace(settings, exhaust=2, trials=6, scored=2)
    with executor() as pool:
        first = explore(SPACE, small, pool, PointCache(tmp_path))
        assert 1 <= len(first.points) <= 4
        assert "Optuna's TPE sampler chose" in " ".join(first.notes)
        count = len(list(tmp_path.iterdir()))
        assert explore(SPACE, small, pool, PointCache(tmp_path)) == first
    assert len(list(tmp_path.iterdir())) == count


@pytest.mark.usefixtures("areas")
def test_the_command_writes_everything_or_one_sentence(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(
        'recipes = ["mxfp4"]\n[[stage]]\nkind = "chain"\nformat = ["e5m10", "e8m23"]\n'
    )
    out = tmp_path / "out"
    call = ["explore", str(space), "--model", "tiny", "--no-energy", "--layers", "2", "--out", str(out)]  # fmt: skip
    assert main([*call, "--budget", "perplexity <= 1.5 * exact"]) == 0
    assert "winner: mxfp4 on e2m1-chain-e5m10" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "points.csv").open()))
    assert [row["area"] for row in rows] == ["200", "400"]
    data = json.loads((out / "points.json").read_text())
    assert data["winner"] == 0
    page = (out / "front.html").read_text()
    assert "mxfp4 on e2m1-chain-e5m10: p_i = " in page
    assert (out / "front.svg").read_text().startswith("<?xml")
    winner = out / "winner"
    unit = get_unit(winner / "unit.toml")
    assert unit.spec.canonical_name == "e2m1-chain-e5m10"
    assert main(["vectors", "--check", str(winner / "vectors")]) == 0
    assert "module mac_chain" in (winner / "rtl" / "mac_chain.sv").read_text()
    assert "fpsim verify unit.toml" in (winner / "verify.sh").read_text()
    capsys.readouterr()
    assert main([*call, "--budget", "perplexity <= 0.01 * exact"]) == 1
    assert "no point keeps perplexity <= 0.01 * exact: the best came to" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    bad = [*call[:-1], str(tmp_path / "file" / "x"), "--budget", "perplexity <= 2"]
    assert main(bad) == 2
    assert "out: " in capsys.readouterr().err


# -- layers and silicon --------------------------------------------------------------------------


def test_layer_rows_are_what_numpy_says(tiny: Any) -> None:
    samples = sample_layers(tiny, [{"input_ids": tiny_models.TOKENS}], "*layers.1.mlp*", 8, 8)
    assert [name.rsplit(".", 1)[1] for name in samples] == ["gate_proj", "up_proj", "down_proj"]
    rows = layer_rows(samples, "mxfp4", "exact")
    fine = layer_rows(samples, "mxfp8-e4m3", "exact")
    coarse = layer_rows(samples, "mxfp4", "e2m1-chain-e3m2")
    for row, better, worse, sample in zip(rows, fine, coarse, samples.values(), strict=True):
        assert row.length == sample.inputs.shape[1]
        assert row.channel_high == pytest.approx(float(sample.maxima.max()))
        assert better.cast_db > row.cast_db + 8
        assert worse.unit_db < row.unit_db
        assert worse.output_db < row.output_db
        assert 0 < row.flushed < 0.5
        assert 0 <= row.saturated < 0.5
    with pytest.raises(FpsimError, match="layer: 'x' matches none of the model's 14 layers"):
        sample_layers(tiny, [{"input_ids": tiny_models.TOKENS}], "x")
    with pytest.raises(FpsimError, match="leaves inputs in float"):
        layer_rows(samples, "mxfp4-weights", "exact")


def test_tops_fit_the_scales() -> None:
    spec = get_unit("e2m1-chain-e5m10").spec
    top, lanes = top_for(spec, scaled=False)
    assert (top.name, top.parameters["SCALE_W"], lanes) == ("mac_chain", 0, 1)
    assert top_for(spec, scaled=True)[0].parameters["SCALE_W"] > 0
    scaled = replace(spec, name="", a_scale=get_unit("nvfp4-block16-e8m23").spec.a_scale)
    assert top_for(scaled, scaled=True)[0].name == "dot"
    assert top_for(get_unit("mxfp4-block32-e8m23").spec, True)[1] == 32
    with pytest.raises(FpsimError):
        top_for(get_unit("e2m1-split4-of-chain-e5m10-into-chain-e8m23").spec, True)
    rounded = get_unit("e2m1-chain-e5m10-rounded").spec
    assert top_for(rounded, scaled=False)[0].name == "dot"


@pytest.mark.sweep  # Yosys compiles itself for a minute when it first runs
@pytest.mark.skipif(not yosys.available(), reason="Yosys is not installed")
@pytest.mark.parametrize("name", ["e2m1-chain-e4m3-rtz", "e2m1-chain-e5m10", "e2m1-fixed24q2"])
def test_the_netlist_computes_what_the_unit_does(tiny: Any, name: str) -> None:
    """`silicon` compares every result of the switched netlist with the unit's, scales included."""
    samples = sample_layers(tiny, [{"input_ids": tiny_models.TOKENS}], "*layers.1.mlp.up*", 8, 8)
    from fpsim.bridge.product import derived_unit
    from fpsim.bridge.recipe import get_recipe

    (sample,) = samples.values()
    energies = []
    for recipe, scaled in (("mxfp4", True), ("rtn:element=e2m1", False)):
        casts = get_recipe(recipe)
        a = casts.activation(sample.name).quantize(sample.inputs)  # type: ignore[union-attr]
        b = casts.weight(sample.name).quantize(sample.weight)  # type: ignore[union-attr]
        unit = derived_unit(get_unit(name), a, b)
        found = silicon(unit, (a, b), scaled)
        assert found.energy is not None
        assert found.energy > 0
        energies.append(found.energy)
        zeros = replace(a, codes=np.zeros_like(a.codes))
        idle = silicon(unit, (zeros, b), scaled).energy
        assert idle is not None
        assert idle < 0.8 * found.energy
    assert energies[0] != energies[1]


def test_results_are_named_and_costed() -> None:
    point = PointResult("mxfp4", "u", {}, area_per_product=3.0)
    assert point.name == "mxfp4 on u"
    assert point.cost("area") == 3.0
    assert point.cost("energy") == math.inf
