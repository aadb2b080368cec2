# SPDX-License-Identifier: Apache-2.0
"""`fpsim eval --checkpoint` on a small random checkpoint, as a user would type it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402
from support.checkpoint_files import Matrix, byte_tensor, others, write_folder  # noqa: E402

from fpsim.bridge import load_checkpoint, save_checkpoint  # noqa: E402
from fpsim.cli import main  # noqa: E402

LETTERS = {"?": 0, **{chr(code): code - 31 for code in range(32, 127)}}
ARGS = ["--windows", "1", "--window", "48"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An MXFP4 file of compressed-tensors with a tokenizer of letters, and a text beside it."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    tensors, rng = others(model, "_proj"), np.random.default_rng(1)
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            m = Matrix.random(rng, *module.weight.shape, 32)
            tensors[f"{name}.weight_packed"] = byte_tensor(m.packed)
            tensors[f"{name}.weight_scale"] = byte_tensor(m.scales)
    about = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}
    folder = write_folder(tmp_path / "model", model, tensors, about)
    letters = tokenizers.Tokenizer(tokenizers.models.WordLevel(LETTERS, unk_token="?"))
    letters.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="?")
    tokenizer.save_pretrained(folder)
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 4)
    return folder


def run(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    text = next(str(up / "text.txt") for up in folder.parents if (up / "text.txt").is_file())
    code = main(["eval", "--checkpoint", str(folder), "--text", text, *ARGS, *more])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_figures_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(checkpoint, capsys, "--json")
    assert code == 0
    figures = json.loads(out)
    assert math.isfinite(figures["perplexity"])
    assert 1 < figures["perplexity"] < 1e4
    code, floats, _ = run(checkpoint, capsys, "--json", "--activations", "float")
    assert code == 0
    # Inputs that stay float leave what the file's numbers give, without a unit.
    assert json.loads(floats)["perplexity"] != figures["perplexity"]
    code, lines, _ = run(checkpoint, capsys)
    assert code == 0
    assert f"{figures['perplexity']:.2f}" in lines


def test_nibbles_in_another_order(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, before, _ = run(checkpoint, capsys, "--json")
    path = checkpoint / "model.safetensors"
    state = load_file(path)
    for name in [name for name in state if name.endswith("_packed")]:
        state[name] = (state[name] >> 4) | (state[name] << 4)
    save_file(state, path)
    code, after, _ = run(checkpoint, capsys, "--json", "--nibbles", "high-first", "--no-swizzled")
    assert code == 0
    assert json.loads(after)["perplexity"] == json.loads(before)["perplexity"]


def test_a_gguf_file_with_a_tokenizer_beside_it(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    _, before, _ = run(checkpoint, capsys, "--json")
    out = checkpoint.parent / "gguf"
    save_checkpoint(load_checkpoint(checkpoint), out, "gguf")
    for path in checkpoint.glob("tokenizer*"):
        shutil.copy(path, out)
    code, after, err = run(out / "model.gguf", capsys, "--json")
    assert code == 0, err
    assert json.loads(after)["perplexity"] == json.loads(before)["perplexity"]
    code, _, err = run(out / "model.gguf", capsys, "--nibbles", "halves")
    assert code == 2
    assert "nibbles: 'halves', but a GGUF file leaves no choice" in err
    assert main(["eval", "--recipe", "mxfp4", "--swizzled"]) == 2
    assert "swizzled: it is a checkpoint's; give --checkpoint" in capsys.readouterr().err


UP = "model.layers.0.mlp.up_proj"


def edited(folder: Path, **changes: Any) -> None:
    """Replace tensors of a layer, or remove them."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for end, change in changes.items():
        tensor = state.pop(f"{UP}.{end}", torch.zeros(1, dtype=torch.uint8))
        if change is not None:
            state[f"{UP}.{end}"] = change(tensor)
    save_file(state, path)


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    owned = folder / "owned"
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {owned}'\ntR.".encode())


def hostile_header(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1 << 62], "data_offsets": [0, 1 << 62]}})
    size = len(header).to_bytes(8, "little")
    (folder / "model.safetensors").write_bytes(size + header.encode())


def own_code(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    code = {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}
    path.write_text(json.dumps(config | code))
    (folder / "evil.py").write_text(f"open({str(folder / 'owned')!r}, 'w')\nclass Config: pass\n")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "shard": (missing_shard, "shard .*model-00001-of-00002.safetensors is missing"),
    "pickle": (pickle_alone, "pytorch_model.bin may run code when it is read and is not opened"),
    "header": (hostile_header, "model.safetensors is not a whole safetensors file"),
    "code": (own_code, "config.json makes no model"),
    "NaN scale": (
        lambda f: edited(f, weight_scale=lambda t: torch.full_like(t, 255)),
        f"{UP}.weight_packed: scale code 0xff in row 0, block 0, is no number of e8m0",
    ),
    "shape": (
        lambda f: edited(f, weight_scale=lambda t: t[:100].clone()),
        rf"{UP}.weight_scale: shape \(100, 2\) is neither \(128, 2\) nor",
    ),
    "lost": (
        lambda f: edited(f, weight_scale=None),
        f"{UP}.weight_scale: the checkpoint has no such tensor",
    ),
    "mixed": (
        lambda f: edited(f, qweight=lambda t: t),
        "layout: the checkpoint mixes .*compressed-tensors.* and .*fp-quant.*; one layout is",
    ),
    "unknown": (
        lambda f: edited(f, strange=lambda t: t),
        f"{UP}.strange: LlamaForCausalLM has no parameter for it",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_says_why_and_runs_nothing(
    damage: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = DAMAGES[damage]
    spoil(checkpoint)
    code, out, err = run(checkpoint, capsys)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert re.search(message, err.strip().splitlines()[-1]), err
    assert not (checkpoint / "owned").exists()


@pytest.mark.parametrize("damage", ["truncated", "no weights", "no tokenizer", "not there"])
def test_a_checkpoint_that_cannot_be_read_is_one_sentence(
    damage: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no tokenizer":
        for file in checkpoint.glob("tokenizer*"):
            file.unlink()
    else:
        weights.unlink()
        checkpoint = checkpoint.parent / "elsewhere"
    code, out, err = run(checkpoint, capsys)
    assert code == 2
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert line.startswith("fpsim")
    assert any(str(part) in line for part in (checkpoint, weights, weights.name)), line
