# SPDX-License-Identifier: Apache-2.0
"""Vector directories, calibration files and checkpoints that were damaged."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from support.fuzzing import fuzz

import fpsim
from fpsim import vectors
from fpsim.vectors.files.shards import Shard
from fpsim.vectors.files.writer import merge_shards

pytestmark = pytest.mark.fuzz


def test_vector_directories(tmp_path: Path) -> None:
    """A directory that passes its check says what it said before, to the byte."""
    unit = fpsim.get_unit("e2m1-chain-e4m3")
    every = ("readmemh", "jsonl", "csv", "svh", "npz")
    made = vectors.write(vectors.plan(unit, count=5, strategy="random"), tmp_path / "set", every)
    whole = {path.name: path.read_bytes() for path in sorted(made.iterdir())}
    tries = tmp_path / "tries"
    shutil.copytree(made, tries)
    # A mutant begins with the file that it replaces, so that its number alone tells all.
    corpus = [name.encode() + b"\n" + data for name, data in whole.items()]

    def feed(data: bytes) -> None:
        name, _, text = data.partition(b"\n")
        if name.decode("latin-1") not in whole:
            raise fpsim.FpsimError("the name of the file was damaged")
        file = tries / name.decode()
        try:
            file.write_bytes(text)
            vectors.check(tries)
        finally:
            file.write_bytes(whole[file.name])
        right = whole[file.name]
        if file.name == "manifest.json":
            assert json.loads(text) == json.loads(right)
        else:
            assert text == right

    fuzz(corpus, feed)


def test_shards(tmp_path: Path) -> None:
    """Shards that still join make the set that they made before."""
    plan = vectors.plan(fpsim.get_unit("e2m1-chain-e4m3"), count=5, strategy="random")
    target = tmp_path / "set"
    for i in (1, 2):
        vectors.write(plan, target, shard=Shard(i, 2))
    whole = {path.name: path.read_bytes() for path in merge_shards(target).iterdir()}
    parts = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for folder in tmp_path.iterdir()
        if folder != target
        for path in folder.iterdir()
    }
    assert len(parts) > 3

    def feed(data: bytes) -> None:
        name, _, text = data.partition(b"\n")
        if name.decode("latin-1") not in parts:
            raise fpsim.FpsimError("the name of the file was damaged")
        file = tmp_path / name.decode()
        shutil.rmtree(target, ignore_errors=True)
        try:
            file.write_bytes(text)
            merge_shards(target)
        finally:
            file.write_bytes(parts[name.decode()])
            left = [path.name for path in tmp_path.iterdir() if path.name.endswith(".merge")]
            assert not left, left
        assert {path.name: path.read_bytes() for path in target.iterdir()} == whole

    fuzz([name.encode() + b"\n" + data for name, data in parts.items()], feed)


def test_calibrations(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from fpsim.bridge.llmfp4.calibration import Calibration, LayerConstants

    fmt = fpsim.get_format("e2m1")
    made = Calibration({"bits": 4, "text": "x"}, {"layer": "ab"}, complete=True)
    made.layers["layer"] = LayerConstants(
        weight_format=fmt, weight_bias=np.ones(2, np.float32), input_format=fmt, rho=0.5,
        shifts=np.arange(2), error=0.25,
    )  # fmt: skip
    made.embeddings["embed"] = fmt, np.zeros(3, np.float32)
    file = tmp_path / "calibration.safetensors"
    made.save(file)
    assert Calibration.load(file).layers["layer"].rho == 0.5

    def feed(data: bytes) -> None:
        file.write_bytes(data)
        Calibration.load(file).check_layers({"layer": "ab"}, "calibration")

    fuzz([file.read_bytes()], feed)


@pytest.mark.parametrize("layout", ["compressed-tensors", "modelopt", "gguf"])
def test_checkpoints(layout: str, tmp_path: Path) -> None:
    """A damaged checkpoint loads, or is refused; what is damaged is what comes before its data."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    from fpsim.bridge import convert, load_checkpoint, save_checkpoint

    sizes = {
        "vocab_size": 32, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    convert(model, "nvfp4-weights", "exact")
    made = save_checkpoint(model, tmp_path / "model", layout)
    whole = {file.name: file.read_bytes() for file in made.iterdir()}
    heads, tails = {}, {}
    for name, data in whole.items():
        if name.endswith(".safetensors"):
            end = 8 + struct.unpack("<Q", data[:8])[0]
            heads[name], tails[name] = data[8:end], data[end:]
        else:
            end = 6000 if name.endswith(".gguf") else len(data)
            heads[name], tails[name] = data[:end], data[end:]
    place = next(made.glob("*.gguf"), made)

    def feed(data: bytes) -> None:
        name, _, head = data.partition(b"\n")
        name = name.decode("latin-1")
        if name not in whole:
            raise fpsim.FpsimError("the name of the file was damaged")
        length = struct.pack("<Q", len(head)) if name.endswith(".safetensors") else b""
        try:
            (made / name).write_bytes(length + head + tails[name])
            load_checkpoint(place, None)
        finally:
            (made / name).write_bytes(whole[name])

    fuzz([name.encode() + b"\n" + head for name, head in heads.items()], feed)
