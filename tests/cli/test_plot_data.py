# SPDX-License-Identifier: Apache-2.0
"""``fpsim plot`` on tensors of files, of models and of results: which ones, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import save_file  # noqa: E402
from support import tiny_models  # noqa: E402

from fpsim.bridge.measure.tasks import task_for  # noqa: E402
from fpsim.cli import main  # noqa: E402
from fpsim.explore.layers import layer_rows, sample_layers  # noqa: E402
from fpsim.studies.error import measure_error, quantizers  # noqa: E402
from fpsim.unit import get_unit  # noqa: E402

Capture = pytest.CaptureFixture[str]
NARROW = "e2m1-chain-e3m2"  # loses something on every layer
WIDE = torch.arange(-40, 40).reshape(8, 10) / 7


def drawn(tmp_path: Path, *argv: str) -> tuple[list[dict[str, Any]], str]:
    """Return the numbers and the text of a picture."""
    out, numbers = tmp_path / "p.svg", tmp_path / "p.json"
    assert main(["plot", *argv, "--out", str(out), "--json", str(numbers)]) == 0
    return json.loads(numbers.read_text()), out.read_text()


def refused(capsys: Capture, tmp_path: Path, *argv: str) -> str:
    """Return the sentence of a picture that is not drawn."""
    out = tmp_path / "p.svg"
    capsys.readouterr()
    assert main(["plot", *argv, "--out", str(out)]) == 2
    assert not out.exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


# -- files of tensors and models -----------------------------------------------------------------


def test_tensors_of_a_file_are_those_of_floats_that_the_pattern_matches(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(
        {"q.a": WIDE, "q.b": WIDE.bfloat16(), "q.codes": torch.arange(4), "k": WIDE + 1}, path
    )
    common = ["error", "--formats", "e2m1", "--data", str(path)]
    rows, text = drawn(tmp_path, *common, "--tensors", "q.*")
    assert [row["data"] for row in rows] == ["q.a", "q.b"]
    wanted = measure_error(
        {"a": WIDE.numpy(), "b": WIDE.bfloat16().float().numpy()}, quantizers(["e2m1"])
    )
    assert [row["mse"] for row in rows] == [row.mse for row in wanted]
    assert rows[0]["mse"] != rows[1]["mse"]
    assert "w.safetensors; fpsim" in text and "samples, seed" not in text
    (tmp_path / "p.svg").unlink()
    said = refused(capsys, tmp_path, *common, "--tensors", "v*")
    assert said == f"fpsim: tensors: nothing in {path} matches 'v*'"
    path.write_bytes(path.read_bytes()[:-7])
    assert f"data: {path} is damaged (" in refused(capsys, tmp_path, *common)


def test_files_and_distributions_can_stand_side_by_side(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", WIDE.numpy())
    data = ["--data", "normal", str(tmp_path / "mine.npy"), "--samples", "64", "--seed", "5"]
    rows, text = drawn(tmp_path, "bias", "--formats", "e2m1", *data)
    assert list(dict.fromkeys(row["data"] for row in rows)) == ["gaussian", "mine"]
    assert "mine.npy, 64 samples, seed 5; fpsim" in text


def test_arrays_of_one_name_in_two_files_are_both_drawn(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("one.npz", "two.npz")]
    for i, file in enumerate(files):
        np.savez(file, w=WIDE.numpy() * (1 + i))
    rows, _ = drawn(tmp_path, "error", "--formats", "e2m1", "--data", *files)
    assert [row["data"] for row in rows] == ["w", f"{files[1]}: w"]
    assert rows[0]["mse"] != rows[1]["mse"]


def test_matrices_of_a_model_are_data(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.copy_(WIDE)
    tiny_models.behind_a_name(monkeypatch, model.bfloat16())
    common = ["error", "--formats", "e2m1", "--from-model", "tiny"]
    rows, text = drawn(tmp_path, *common)
    assert [row["data"] for row in rows] == ["0.weight", "1.weight"]  # no bias, no distribution
    (wanted,) = measure_error({"w": WIDE.bfloat16().float().numpy()}, quantizers(["e2m1"]))
    assert rows[0]["mse"] == wanted.mse
    assert "weights of tiny; fpsim" in text
    rows, text = drawn(tmp_path, *common, "--tensors", "1.*", "--data", "laplace", "--samples", "9")
    assert [row["data"] for row in rows] == ["laplace", "1.weight"]
    assert "9 samples, seed 1, weights of tiny; fpsim" in text
    (tmp_path / "p.svg").unlink()
    said = refused(capsys, tmp_path, *common, "--tensors", "*.bias")
    assert said.endswith("tensors: nothing in tiny matches '*.bias'")


def test_an_earlier_run_that_is_not_there_is_named(tmp_path: Path, capsys: Capture) -> None:
    missing = str(tmp_path / "no.json")
    said = refused(capsys, tmp_path, "error", "--samples", "9", "--compare", missing)
    assert said == f"fpsim: compare: {missing} cannot be read (No such file or directory)"


def test_an_earlier_run_keeps_numbers_that_json_has_not(tmp_path: Path) -> None:
    np.save(tmp_path / "exact.npy", np.array([6.0, -3.0, 1.0]))
    common = ["error", "--formats", "e2m1", "--data", str(tmp_path / "exact.npy")]
    rows, _ = drawn(tmp_path, *common)
    assert (rows[0]["mse"], rows[0]["sqnr_db"]) == (0.0, None)
    (tmp_path / "p.json").rename(tmp_path / "first.json")
    again, text = drawn(tmp_path, *common, "--compare", str(tmp_path / "first.json"))
    assert again == rows
    assert "crosses: first.json" in text


# -- results of studies --------------------------------------------------------------------------


def cell(recipe: str | None, unit: str, perplexity: float) -> dict[str, Any]:
    return {"recipe": recipe, "unit": unit, "perplexity": perplexity}


def test_recipes_are_read_from_results(tmp_path: Path) -> None:
    cells = {
        "float": cell("float32", "float", 11.25),
        "one": cell("mxfp4", "exact", 15.0),
        "two": cell("mxfp4", "e2m1-chain-e5m10", 16.5),
        "three": {"recipe": "nvfp4", "unit": "exact", "error": "out of memory"},
    }
    (tmp_path / "a.json").write_text(json.dumps({"cells": cells}))
    (tmp_path / "b.json").write_text(json.dumps({"cells": {"x": cell("nvfp4", "exact", 14.0)}}))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    rows, text = drawn(tmp_path, "recipes", *files)
    assert [(r["recipe"], r["unit"], r["perplexity"]) for r in rows] == [
        ("mxfp4", "exact", 15.0), ("mxfp4", "e2m1-chain-e5m10", 16.5), ("nvfp4", "exact", 14.0),
    ]  # fmt: skip
    assert [(r["weight_bits"], r["activation_bits"]) for r in rows] == [(4.25, 4.25)] * 2 + [(4.5, 4.5)]  # fmt: skip
    assert "float 11.25" in text
    assert "a.json, b.json; fpsim" in text
    rows, text = drawn(tmp_path, "recipes", *files, "--units", "e2m1-chain-e5m10")
    assert [row["unit"] for row in rows] == ["e2m1-chain-e5m10"]
    assert "float 11.25" in text  # of no unit, so it stays


@pytest.mark.parametrize(
    "text",
    ["[]", '{"cells": {"x": {"recipe": "mxfp4"}}}', '{"cells": {"x": 1}}', '{"cells": [1]}', "{"],
)
def test_results_of_another_kind_are_one_sentence(
    text: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "r.json").write_text(text)
    said = refused(capsys, tmp_path, "recipes", str(tmp_path / "r.json"))
    assert f"results: {tmp_path / 'r.json'} is no file of cells with recipe, unit and perp" in said
    said = refused(capsys, tmp_path, "recipes", str(tmp_path / "no.json"))
    assert f"results: {tmp_path / 'no.json'} cannot be read (No such file" in said


POINT = {"recipe": "mxfp4", "unit": "u", "area_per_product": 3.0, "figure": 12.0}
FRONT: dict[str, Any] = {
    "points": [POINT], "front": [0], "winner": 0,
    "settings": {"budget": "perplexity <= 2 * exact", "model": "m"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"budget": "x <= 1"}}, "has no field 'model'"),
        ({"winner": 1}, "is no points.json that `fpsim explore` wrote"),
        ({"winner": "first"}, "is no points.json that `fpsim explore` wrote"),
        ({"front": 0}, "is no points.json that `fpsim explore` wrote"),
        ({"points": [{"recipe": "mxfp4"}]}, "has no field 'area_per_product'"),
    ],
)
def test_points_of_another_kind_are_one_sentence(
    change: dict[str, Any], said: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "points.json").write_text(json.dumps(FRONT | change))
    assert said in refused(capsys, tmp_path, "pareto", str(tmp_path / "points.json"))


# -- layers of a model ---------------------------------------------------------------------------


def test_layers_are_those_of_the_model_that_the_pattern_matches(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = tiny_models.llama().eval()
    tiny_models.behind_a_name(monkeypatch, model)
    asked = ["layers", "--model", "tiny", "--unit", NARROW, "--window", "32"]
    rows, text = drawn(tmp_path, *asked, "--layer", "*0.self_attn.q_proj")
    batches = task_for(tiny_models.loaded(model), count=1, length=32).calibration()
    samples = sample_layers(model, batches, "*0.self_attn.q_proj")
    (wanted,) = layer_rows(samples, "mxfp4", get_unit(NARROW))
    assert [row["layer"] for row in rows] == ["model.layers.0.self_attn.q_proj"]
    assert rows[0]["cast_db"] == wanted.cast_db
    assert rows[0]["output_db"] == wanted.output_db < wanted.cast_db
    assert f"tiny, mxfp4 on {NARROW}, 16 inputs and 32 outputs of each layer" in text
    (tmp_path / "p.svg").unlink()
    said = refused(capsys, tmp_path, *asked, "--layer", "*.conv")
    assert "layer: '*.conv' matches none of the model's" in said
