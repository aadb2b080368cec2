# SPDX-License-Identifier: Apache-2.0
"""Training runs in folders: resumed, replayed as vectors, drawn, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import fpsim  # noqa: E402
from fpsim import vectors  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge.training.replay import training_operands  # noqa: E402
from fpsim.bridge.training.run import TrainingRun, TrainingSettings, open_run  # noqa: E402
from fpsim.cli import main  # noqa: E402

TINY = {
    "layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "batch": 2, "window": 32,
    "steps": 6, "learning_rate": 0.01,
}  # fmt: skip
UNIT = "exact"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after four steps and went on."""
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = TrainingSettings(unit=UNIT, **TINY)

    def stop(row: object) -> None:
        if getattr(row, "step") == 3:  # noqa: B009
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_run(out, settings, 2, stop)
    assert sorted(path.name for path in out.glob("*.pt")) == ["state-000002.pt", "state-000004.pt"]
    open_run(out, settings, 2)
    return out


def test_a_resumed_run_is_the_run_in_one_go(folder: Path, tmp_path: Path) -> None:
    whole = open_run(tmp_path / "whole", TrainingSettings(unit=UNIT, **TINY), 100)
    there = json.loads((folder / "summary.json").read_text())
    for key in ("steps", "final_loss", "validation_loss", "parameters", "skipped"):
        assert there[key] == whole[key], key
    assert whole["steps"] == 6
    assert whole["seconds"]["wgrad sums"] > 0
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in text.splitlines()
        ]
        for text in ((f / "log.jsonl").read_text() for f in (folder, tmp_path / "whole"))
    ]
    assert logs[0] == logs[1]
    states = [
        torch.load(f / "state-000006.pt", weights_only=True) for f in (folder, tmp_path / "whole")
    ]
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name]), name


def test_operands_of_a_step_are_those_that_the_run_multiplied(folder: Path) -> None:
    settings = TrainingSettings(unit=UNIT, **TINY)
    run = TrainingRun(settings)
    layer = "model.layers.0.mlp.up_proj"
    from fpsim.bridge.linear import simulated_layers

    for _ in range(5):
        run.step()
    seen: dict[tuple[str, str], tuple[object, object]] = {}
    simulated_layers(run.model)[layer].recorded = seen  # type: ignore[attr-defined]
    run.step()
    for product in ("forward", "dgrad", "wgrad"):
        found, unit, source = training_operands(folder, 5, "*up_proj", product)
        assert unit.name == f"e2m1-{UNIT}-e8m23"
        assert source["product"] == product
        for ours, theirs in zip(found[layer], seen[layer, product], strict=True):
            assert np.array_equal(ours.codes, theirs.codes)  # type: ignore[attr-defined]
            assert np.array_equal(ours.scales.codes, theirs.scales.codes)  # type: ignore[attr-defined]


def test_gradients_become_golden_vectors(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors"
    command = ["vectors", "--from-training", str(folder), "--step", "3", "--layer", "*q_proj"]
    assert main([*command, "--tile", "4x4", "--out", str(out)]) == 0
    assert main(["vectors", "--check", str(out)]) == 0
    found = vectors.read(out)
    (operands,) = training_operands(folder, 3, "*q_proj")[0].values()
    unit = found.record.spec
    assert unit.accumulate.result.name == "e8m23"
    manifest = (out / "manifest.json").read_text()
    assert '"step": 3' in manifest
    assert operands[0].codes.shape == (32, 64)  # e^T of 32 channels and 64 tokens


def test_the_command_trains_draws_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    out = tmp_path / "run"
    options = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    command = ["train", "--recipe", "none", *options, "--out", str(out), "--json"]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["steps"] == 6
    assert (out / "loss.svg").read_text().startswith("<?xml")
    numbers = tmp_path / "loss.json"
    plot = [
        "plot",
        "training",
        str(out),
        "--out",
        str(tmp_path / "loss.svg"),
        "--json",
        str(numbers),
    ]
    assert main(plot) == 0
    rows = json.loads(numbers.read_text())
    assert [row["step"] for row in rows] == list(range(6))
    assert rows[0]["label"] == "none on exact"
    assert 5 < rows[0]["loss"] < 6  # 256 bytes: 5.5 nats
    assert main([*command[:-1], "--seed", "2"]) == 2
    assert "seed: 2 is not the 1 of the run in" in capsys.readouterr().err


def test_a_step_that_overflows_is_skipped_or_stops_the_run() -> None:
    settings = {**TINY, "unit": "exact", "wgrad": "e2m1-chain-e5m10"}
    with pytest.raises(FpsimError, match=r"wgrad of training step 0, pass 1: the accumulator of"):
        TrainingRun(TrainingSettings("nvfp4-train", **settings)).step()  # type: ignore[arg-type]
    run = TrainingRun(TrainingSettings("nvfp4-train:overflow=skip", **settings))  # type: ignore[arg-type]
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    assert run.step().skipped
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "steps: 0 is not a positive integer"),
        ({"seed": -1}, "seed: -1 is not a whole number from 0 on"),
        ({"hidden": 33}, r"hidden: 33 is not a multiple of 2 \* heads = 4"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not a number"),
        ({"recipe": "nvfp5-train"}, "recipe: 'nvfp5-train' is not one of"),
        ({"recipe": "none", "wgrad": "exact"}, "recipe none has no product on a unit"),
        ({"dgrad": "e2m1-chain"}, "unit"),
    ],
)
def test_bad_settings_are_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(FpsimError, match=sentence):
        TrainingSettings(**{**TINY, **change})  # type: ignore[arg-type]


def test_replays_of_what_is_not_there_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    for more, sentence in (
        ({"step": 6}, "step: 6 is not in 0..5"),
        ({"step": 0, "product": "sgrad"}, "product: 'sgrad' is not one of forward, dgrad, wgrad"),
        ({"step": 0, "layer": "*conv*"}, "layer: .* matches none of 7"),
    ):
        with pytest.raises(FpsimError, match=sentence):
            training_operands(folder, **more)  # type: ignore[arg-type]
    with pytest.raises(FpsimError, match="holds no run"):
        training_operands(tmp_path, 0)
    log = folder / "log.jsonl"
    rows = log.read_text()
    try:
        log.write_text(rows.replace('"step": 2, "loss": ', '"step": 2, "loss": 1'))
        with pytest.raises(FpsimError, match="the loss of step 2 is"):
            training_operands(folder, 2)
    finally:
        log.write_text(rows)
    assert fpsim.__version__


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x02garbage", b"PK\x03\x04"])
def test_a_damaged_state_is_one_sentence(data: bytes, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes((folder / "settings.json").read_bytes())
    state = tmp_path / "state-000004.pt"
    state.write_bytes(data)
    with pytest.raises(FpsimError, match=f"^state: {state} is not a state of this run ") as caught:
        open_run(tmp_path, TrainingSettings(unit=UNIT, **TINY), 2)
    assert "\n" not in str(caught.value)
    assert state.read_bytes() == data
