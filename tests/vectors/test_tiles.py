# SPDX-License-Identifier: Apache-2.0
"""Tiles of matrix products: order, shared operands, matrix files; tiles of models' layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.text_edits import edit, flip

from fpsim import FpsimError, get_unit, oracle
from fpsim.cli import main
from fpsim.studies import sizing
from fpsim.vectors.explanation import explain
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.files.shards import Shard
from fpsim.vectors.files.writer import merge_shards, write
from fpsim.vectors.plans.tiles import TilePlan, TileSize, random_tiles
from fpsim.vectors.sets.record import Op, Record

pytestmark = pytest.mark.usefixtures("one_thread")

UNITS = {
    "e2m1-chain-e5m10": (4, 0),
    "e2m1-fixed24q2": (3, 0),
    "e2m1-block8-into-chain-e8m23": (8, 8),
    "e2m1.e5m2.split-block4-into-chain-e8m7": (8, 4),
    "e2m1-aligned4f5-e5m10": (4, 0),
}


def tiles(name: str = "e2m1-block8-into-chain-e8m23", count: int = 2, **given: Any) -> TilePlan:
    k, group = UNITS[name]
    record = Record(get_unit(name).spec, k, group, given.pop("flags", False))
    return random_tiles(record, TileSize(**({"m": 3, "n": 2, "k": 2 * k + 1} | given)), count, 5)


@pytest.mark.parametrize("name", list(UNITS))
def test_outputs_are_the_exact_models(name: str) -> None:
    """D[m, n] beat by beat from A's row, B's column and C, taken from the tile, not its vectors."""
    plan = tiles(name)
    record, group = plan.record, plan.record.group
    columns = plan.block(1, 0)
    tile = plan.make(1)
    m, n, k = plan.size.m, plan.size.n, plan.size.k
    results = columns["acc"].reshape(m, n, plan.beats)
    assert plan.beats == 3 and np.unique(results[..., -1]).size > 2
    for i, j in np.ndindex(m, n):
        acc = tile.c[i, j]
        for beat in range(plan.beats):
            part = slice(beat * record.k, min((beat + 1) * record.k, k))
            scales = {}
            if group:
                cut = slice(part.start // group, -(-part.stop // group))
                for operand, row in (("a", i), ("b", j)):
                    every = getattr(tile, f"{operand}_scale").reshape(
                        plan.size.m if operand == "a" else n, -1, 1 + record.spec.splits(operand)
                    )
                    found = every[row, cut]
                    scales[f"{operand}_scale"] = (
                        found if record.spec.splits(operand) else found[:, 0]
                    )
                scales["block"] = group
            acc = oracle.dot(record.spec, tile.a[i, part], tile.b[j, part], acc, **scales)
            assert results[i, j, beat] == acc, (i, j, beat)


def test_a_chain_of_beats_is_the_matrix_product() -> None:
    plan = tiles("e2m1-chain-e5m10", m=5, n=4, k=22)
    for index in (0, 1):
        tile, results = plan.make(index), plan.block(index, 0)["acc"].reshape(5, 4, plan.beats)
        whole = get_unit("e2m1-chain-e5m10").matmul(tile.a, tile.b.T, tile.c)
        assert np.array_equal(results[..., -1], whole)
    assert not plan.make(0).c.any() and plan.make(1).c.any()


def test_order_and_operations(tmp_path: Path) -> None:
    plan = tiles(count=3)
    opened = open_set(write(plan, tmp_path / "set"))
    assert opened.manifest["tiles"] == {"m": 3, "n": 2, "k": 17, "beats": 3}
    assert [s.name for s in opened.sections] == ["tile-0", "tile-1", "tile-2"]
    columns = opened.columns()
    for name, tile in enumerate(map(plan.make, range(3))):
        for i, j in np.ndindex(3, 2):
            first = name * 18 + (i * 2 + j) * 3
            assert columns["op"][first : first + 3].tolist() == [Op.DOT, Op.MAC, Op.MAC]
            assert columns["c"][first] == tile.c[i, j]
            assert np.array_equal(columns["a"][first : first + 3].reshape(-1)[:17], tile.a[i])
            assert np.array_equal(columns["b"][first : first + 3].reshape(-1)[:17], tile.b[j])
            assert not columns["a"][first + 2, 1:].any()
    assert explain(tmp_path / "set", opened.head_lines + 20).section == "tile-1"


def words(path: Path) -> list[int]:
    return [int(t, 16) for t in path.read_text().splitlines() if not t.startswith("//")]


def test_matrix_files_hold_each_operand_once(tmp_path: Path) -> None:
    plan = tiles(flags=True)
    target = write(plan, tmp_path / "set", ("matrices",))
    check(target)
    a, b, c, d = (words(target / f"{name}.hex") for name in "abcd")
    assert (len(a), len(b), len(c), len(d)) == (2 * 3 * 3, 2 * 2 * 3, 2 * 6, 2 * 6)
    for t in (0, 1):
        tile, columns = plan.make(t), plan.block(t, 0)
        for i, beat in np.ndindex(3, 3):
            word = a[(t * 3 + i) * 3 + beat]
            codes = [word >> (4 * e) & 15 for e in range(8)]
            assert codes[: 17 - beat * 8] == tile.a[i, beat * 8 :][:8].tolist()
            assert word >> 32 == tile.a_scale[i, beat]
        assert c[t * 6 : t * 6 + 6] == tile.c.reshape(-1).tolist()
        final = columns["acc"][2::3].astype(np.uint64) << np.uint64(5)
        assert d[t * 6 : t * 6 + 6] == (final | columns["flags"][2::3]).tolist()


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_edited_matrix_files_are_named(tmp_path: Path, name: str) -> None:
    target = write(tiles(), tmp_path / "set", ("matrices",))
    edit(target / f"{name}.hex", 6, lambda text: flip(2)(text))
    with pytest.raises(FpsimError, match=rf"{name}\.hex: not"):
        check(target)


def test_operands_that_are_not_shared(tmp_path: Path) -> None:
    """A vector whose operand was changed together with its result still breaks its tile."""
    plan = tiles("e2m1-fixed24q2", k=3)
    target = write(plan, tmp_path / "set", ("matrices",))
    opened = open_set(target)
    columns = opened.columns()
    columns["a"][5, 0] ^= 1
    columns |= plan.record.results(columns)
    lines = (target / "vectors.hex").read_text().splitlines(keepends=True)
    elements = plan.record.elements(columns)[5]
    word = 0
    for value, width in zip(elements.tolist(), plan.record.widths.tolist(), strict=True):
        word = word << width | value
    lines[opened.head_lines + 5] = f"{word:0{opened.digits}x}\n"
    (target / "vectors.hex").write_text("".join(lines))
    with pytest.raises(FpsimError, match="SHA-256"):
        check(target)
    from fpsim.vectors.files.tile_matrices import matrix_texts

    with pytest.raises(FpsimError, match="vector 5 has another a than its row of the tile"):
        list(matrix_texts(opened))


def test_tiles_in_shards(tmp_path: Path) -> None:
    whole = write(tiles(count=5), tmp_path / "whole", ("matrices", "npz"))
    for i in (1, 2, 3):
        write(tiles(count=5), tmp_path / "set", ("matrices", "npz"), shard=Shard(i, 3))
    joined = merge_shards(tmp_path / "set")
    for path in whole.iterdir():
        assert path.read_bytes() == (joined / path.name).read_bytes(), path.name


@pytest.mark.parametrize("text", ["", "16", "16x", "x16", "0x4", "4x4x0", "4x-4", "2000x4", "axb"])
def test_bad_tiles(text: str) -> None:
    with pytest.raises(FpsimError, match="^tile: "):
        TileSize.parse(text)


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(get_unit("e2m1-fixed16q2-to-e5m10").spec, 4)
    with pytest.raises(FpsimError, match="results of .* are no addends; give --k 9"):
        random_tiles(record, TileSize(2, 2, 9), 1, 1)
    scaled = Record(get_unit("e2m1-chain-e8m23").spec, 6, 4)
    with pytest.raises(FpsimError, match="k: 6 elements per beat is not a multiple of the 4"):
        random_tiles(scaled, TileSize(2, 2, 12), 1, 1)
    out = ["--out", str(tmp_path / "set")]
    assert main(["vectors", "e2m1-tree8-e5m10", *out, "--format", "matrices"]) == 2
    assert "format: matrices are those of tiles" in capsys.readouterr().err
    assert main(["vectors", "e2m1-tree8-e5m10", *out, "--tile", "2x2", "--tiles", "0"]) == 2
    assert "tiles: 0 is not an integer" in capsys.readouterr().err
    assert main(["vectors", "e2m1-tree8-e5m10", *out, "--tile", "2x2", "--format", "matrices"]) == 0
    assert check(tmp_path / "set").count == 4


# -- layers of models ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "unit"),
    [
        ("mxfp4", "e2m1-chain-e8m23"),
        ("mxfp4", "mxfp4-block32-e8m23"),
        ("amxfp4", "e2m1.e5m2.split-block32-into-chain-e8m23"),
        ("nvfp4", "e2m1-aligned4f20-e8m23"),
        ("rtn", "e2m1-chain-e8m7"),
    ],
)
def test_tiles_are_what_the_layer_computes(recipe: str, unit: str, tmp_path: Path) -> None:
    """The last accumulators, decoded and times the factors, are the layer's outputs."""
    import torch
    from support.tiny_models import COUNTING as TOKENS
    from support.tiny_models import tiny_llama

    from fpsim.bridge import conversion_of, convert, restore
    from fpsim.bridge.layer_operands import layer_operands
    from fpsim.bridge.tiles import model_tiles

    model, layer = tiny_llama(), "model.layers.1.mlp.gate_proj"
    batch = {"input_ids": TOKENS, "use_cache": False}
    operands = layer_operands(model, batch, recipe, unit, layer)
    plan = model_tiles(operands, unit, TileSize(4, 8), per_layer=3)
    opened = check(write(plan, tmp_path / "set", ("matrices",)))
    convert(model, recipe, unit)
    seen = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda *args: seen.append(args[2].detach().numpy()[0]))
    with torch.no_grad():
        model(**batch)
    handle.remove()
    assert layer in conversion_of(model).replaced
    restore(model)
    outputs, record = seen[0], opened.record
    factors = [1.0 if x.factor is None else x.factor for x in operands[layer]]
    found = np.full_like(outputs, np.nan)
    for section in opened.sections:
        acc = opened.rows(section.start, section.start + section.count)["acc"]
        last = record.spec.result.decode(acc.reshape(4, 8, plan.beats)[..., -1]).astype(np.float32)
        rows, columns = (range(*map(int, p.split(":"))) for p in section.name[len(layer) + 1 : -1].split(","))  # fmt: skip
        found[np.ix_(rows, columns)] = last
    if not isinstance(factors[0], float):
        found = found * factors[0]
    if not isinstance(factors[1], float):
        found = found * factors[1].T
    there = ~np.isnan(found)
    assert there.sum() == 3 * 32
    assert np.array_equal(found[there], outputs[there])


def test_tiles_of_layers_draw_the_random_integers_of_their_seed(tmp_path: Path) -> None:
    import torch
    from support.tiny_models import COUNTING as TOKENS
    from support.tiny_models import tiny_llama

    from fpsim.bridge.layer_operands import layer_operands
    from fpsim.bridge.tiles import model_tiles

    unit, layer = "e2m1-chain-e4m3fn-sr6", "model.layers.0.mlp.up_proj"
    batch = {"input_ids": torch.as_tensor(TOKENS)}
    operands = layer_operands(tiny_llama(), batch, "mxfp4", unit, layer)
    plans = [model_tiles(operands, unit, TileSize(2, 2), seed=seed) for seed in (0, 7, 7)]
    random = [plan.block(0, 0)["random"] for plan in plans]
    assert not np.array_equal(random[0], random[1]) and np.array_equal(random[1], random[2])
    assert check(write(plans[1], tmp_path / "set", ("readmemh",))).header["seed"] == 7
    plain = model_tiles(operands, "e2m1-chain-e4m3fn", TileSize(2, 2), seed=7)
    assert plain.seed == 0  # nothing is drawn


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layer": "*.nothing"}, "layer: '.*nothing' matches none of 14"),
        ({"recipe": "mxfp4-weights"}, "leaves inputs in float"),
        ({"size": TileSize(64, 4)}, "tile: M is 64, but .* has 40"),
        ({"size": TileSize(4, 4, 65)}, "tile: K is 65, but .* has 64"),
        ({"per_layer": 0}, "tiles: 0 is not a positive integer"),
        ({"size": TileSize(40, 64), "per_layer": 2}, "more than a layer has"),
        ({"k": 8}, "k: 8 elements per beat is not a multiple of the 32"),
    ],
    ids=str,
)
def test_layers_that_do_not_fit(given: dict[str, Any], words: str) -> None:
    from support.tiny_models import COUNTING as TOKENS
    from support.tiny_models import tiny_llama

    from fpsim.bridge.layer_operands import layer_operands
    from fpsim.bridge.tiles import model_tiles

    given = {"layer": "*0*q_proj", "recipe": "mxfp4", "size": TileSize(4, 4)} | given
    model, unit = tiny_llama(), "e2m1-chain-e8m23"
    with pytest.raises(FpsimError, match=words):
        operands = layer_operands(
            model, {"input_ids": TOKENS}, given.pop("recipe"), unit, given.pop("layer")
        )
        model_tiles(operands, unit, **given)
    assert not hasattr(model, "_fpsim_conversion")


@pytest.mark.parametrize("recipe", ["mxfp4", "amxfp4", "int4"])
def test_a_layer_is_sized_by_some_of_its_results(recipe: str) -> None:
    """Rows 0, 19 and 39 of 40 and channels 0 and 63 of 64, with their scales."""
    from support.tiny_models import COUNTING as TOKENS
    from support.tiny_models import tiny_llama

    from fpsim.bridge.layer_operands import layer_operands, size_layer
    from fpsim.bridge.product import derived_unit

    layer, unit = "model.layers.1.mlp.down_proj", "e2m1-chain-e4m3fn"
    batch = {"input_ids": TOKENS, "use_cache": False}
    a, b = layer_operands(tiny_llama(), batch, recipe, unit, layer)[layer]
    found = size_layer((a, b), unit, rows=3, columns=2)
    rows, columns = [0, 19, 39], [0, b.codes.shape[0] - 1]
    more = {}
    if a.scales is not None:
        more = {
            "a_scale": a.scales.given[rows],
            "b_scale": b.scales.given[columns].swapaxes(0, 1),
        }
        more["block"] = a.block
    mac = derived_unit(get_unit(unit), a, b)
    assert found == sizing.study(mac, a.codes[rows], b.codes[columns].T, **more)
    assert found.dots == 6 and found.inexact > 0
    assert size_layer((a, b), unit, 1000, 1000).dots == a.codes.shape[0] * b.codes.shape[0]
    with pytest.raises(FpsimError, match="columns: 0 is not a positive integer"):
        size_layer((a, b), unit, 4, 0)


@pytest.mark.slow
@pytest.mark.model
def test_a_layer_of_a_language_model(tmp_path: Path) -> None:
    out = str(tmp_path / "set")
    command = ["vectors", "mxfp4-block32-e8m23", "--from-model", "smollm2-135m", "--out", out]
    assert main([*command, "--layer", "*layers.3.*", "--tile", "8x8", "--window", "32"]) == 0
    assert main(["vectors", "--check", out]) == 0
    opened = open_set(out)
    assert len(opened.sections) == 7 and opened.manifest["source"]["recipe"] == "mxfp4"
    assert np.unique(opened.columns()["acc"]).size > 1000


@pytest.mark.slow
@pytest.mark.model
def test_sizes_of_layers_of_a_language_model(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["size", "e2m1-chain-e5m10", "--from-model", "smollm2-135m", "--window", "32"]
    command += ["--results", "8", "8"]
    assert main([*command, "--layer", "*layers.3.*"]) == 0
    shown = capsys.readouterr().out
    assert "8 x 8 results of each layer of model.layers.3" in shown and "mlp.down_proj" in shown
    assert main([*command, "--layer", "*layers.3.*.q_proj", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["model.layers.3.self_attn.q_proj"]
    assert data["dots"] == 64 and data["steps"] == 64 * 576
