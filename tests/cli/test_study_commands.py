# SPDX-License-Identifier: Apache-2.0
"""`fpsim size` and `order`: scales and blocks of a file, layers of a model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim.cli import main
from fpsim.cli.studies import _shared_path
from fpsim.studies import order, sizing

Capture = pytest.CaptureFixture[str]
SCALED, PLAIN = "e2m1-chain-e5m10", "e2m1-chain-e4m3fn"


def run_json(capsys: Capture, *argv: str) -> Any:
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *argv: str) -> str:
    capsys.readouterr()
    assert main(list(argv)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def scaled_codes() -> dict[str, Any]:
    """Codes of 7 elements along K whose scales are of 3, so that the last block is short."""
    rng = np.random.default_rng(1)
    return {
        "a": rng.integers(0, 16, (2, 7)), "b": rng.integers(0, 16, (7, 3)),
        "c": rng.integers(0, 1 << 14, (2, 3)),
        "a_scale": rng.integers(126, 130, (2, 3)), "b_scale": rng.integers(126, 130, (3, 3)),
    }  # fmt: skip


def test_scales_are_of_the_blocks_that_are_asked_for(tmp_path: Path, capsys: Capture) -> None:
    codes, path = scaled_codes(), tmp_path / "codes.npz"
    np.savez(path, **codes)
    found = run_json(capsys, "size", SCALED, str(path), "--block", "3")
    wanted = sizing.study(fpsim.get_unit(SCALED), **codes, block=3)
    assert found == json.loads(json.dumps(wanted.to_dict()))
    assert "block" in refused(capsys, "size", SCALED, str(path))


def test_options_of_a_model_are_refused_beside_a_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "codes.npz"
    np.savez(file, a=np.ones((2, 4), np.uint8), b=np.ones((4, 2), np.uint8))
    size = ("size", "e2m1-chain-e5m10", str(file))
    for name, value in (("recipe", "nvfp4"), ("window", "8"), ("layer", "x")):
        assert f"{name}: only with --from-model" in refused(capsys, *size, f"--{name}", value)
    assert "not both" in refused(capsys, *size, "--from-model", "m")


def test_order_takes_addend_and_scales_of_its_result(tmp_path: Path, capsys: Capture) -> None:
    codes, path = scaled_codes(), tmp_path / "codes.npz"
    np.savez(path, **codes)
    asked = ["order", SCALED, str(path), "--block", "3", "--random-orders", "5", "--seed", "2"]
    found = run_json(capsys, *asked, "--result", "1", "2")
    one = {
        "a": codes["a"][1], "b": codes["b"][:, 2], "c": codes["c"][1, 2],
        "a_scale": codes["a_scale"][1], "b_scale": codes["b_scale"][:, 2],
    }  # fmt: skip
    wanted = order.study(fpsim.get_unit(SCALED), **one, block=3, random_orders=5, seed=2)
    assert found == json.loads(json.dumps(wanted.to_dict()))
    assert found["exact"] != run_json(capsys, *asked, "--result", "0", "2")["exact"]


def test_operands_of_another_shape_or_name_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "codes.npz"
    codes = {"a": np.ones((2, 3), np.uint8), "b": np.ones((3, 2), np.uint8)}
    np.savez(path, a=codes["a"], b=codes["b"][:, 0])
    said = refused(capsys, "order", PLAIN, str(path))
    assert said == "fpsim: b: shape (3,) is not a matrix"
    np.savez(path, b=codes["b"])
    assert refused(capsys, "size", PLAIN, str(path)) == f"fpsim: {path}: array 'a' is missing"
    np.savez(path, **codes, d=codes["a"])
    said = refused(capsys, "size", PLAIN, str(path))
    assert said == f"fpsim: {path}: 'd' is not an operand; known: a, b, c, a_scale, b_scale"
    np.save(tmp_path / "one.npy", codes["a"])
    said = refused(capsys, "size", PLAIN, str(tmp_path / "one.npy"))
    assert said.endswith("one.npy: one array, not an .npz with arrays a and b")


# -- layers of a model ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["m.layers.0.q", "m.layers.0.k"], "m.layers.0"),
        (["m.layers.0.q", "m.layers.10.q"], "m.layers"),
        (["m.layers.0.q"], ""),
        (["a.q", "b.q"], ""),
    ],
)
def test_the_path_that_layers_share_is_left_out_of_a_table(names: list[str], shared: str) -> None:
    assert _shared_path(names) == shared


def test_each_layer_of_a_model_is_sized(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from support import tiny_models

    from fpsim.bridge import layer_operands, size_layer

    torch.manual_seed(0)
    model = tiny_models.llama().eval()
    tiny_models.behind_a_name(monkeypatch, model)
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    unit = fpsim.get_unit(SCALED)
    asked = ["size", SCALED, "--from-model", "tiny", "--text", str(text), "--window", "32",
             "--layer", "*0.self_attn.[qk]_proj", "--results", "4", "6"]  # fmt: skip
    found = run_json(capsys, *asked)
    tokens = tiny_models.Letters()(text.read_text())["input_ids"][:32]
    operands = layer_operands(
        model, {"input_ids": torch.tensor([tokens])}, "mxfp4", unit, "*0.self_attn.[qk]_proj"
    )
    assert list(found) == list(operands) == [f"model.layers.0.self_attn.{x}_proj" for x in "qk"]
    for name, pair in operands.items():
        wanted = size_layer(pair, unit, 4, 6).to_dict()
        assert found[name] == json.loads(json.dumps(wanted)), name
        assert found[name]["dots"] == 24
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"# {SCALED}, mxfp4: 4 x 6 results of each layer of model.layers.0.self_attn"
    assert lines[1].split("\t") == ["layer", "over %", "inexact %", "swamped %", "SQNR dB", "max |sum|", "bits", "LSB"]  # fmt: skip
    first = found["model.layers.0.self_attn.q_proj"]
    cells = lines[2].split("\t")
    assert cells[0] == "q_proj"
    assert cells[2] == f"{100 * first['inexact'] / first['steps']:.2g}"
    assert cells[6:] == [str(first["fixed_width"]), f"2^{first['fixed_lsb']}"]
    said = refused(capsys, *asked, "--dots")
    assert "dots: only for a file of codes; layers say it themselves" in said
