# SPDX-License-Identifier: Apache-2.0
"""`fpsim vectors` and `golden`: tiles, models, interruption, mutants, and what is checked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fpsim
from fpsim import vectors
from fpsim.base.resources import golden_dir
from fpsim.cli import main
from fpsim.vectors import catalogue
from fpsim.vectors.plans.tiles import TileSize, random_tiles
from fpsim.vectors.sets.record import Record

Capture = pytest.CaptureFixture[str]
UNIT, RELEASED = "e2m1-chain-e5m10", "int4-fixed12q0-saturate"


def test_tiles_are_those_of_size_count_and_seed(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "tiles"
    asked = ["vectors", UNIT, "--tile", "2x3x5", "--tiles", "4", "--seed", "9", "--k", "1"]
    assert main([*asked, "--group", "0", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    record = Record.of(fpsim.get_unit(UNIT).spec, 1, 0)
    wanted = random_tiles(record, TileSize(2, 3, 5), 4, 9)
    assert said["count"] == wanted.count == 4 * 2 * 3 * 5
    assert said["sections"] == {f"tile-{i}": 30 for i in range(4)}
    vectors.write(wanted, tmp_path / "wanted", "readmemh")
    assert (out / "vectors.hex").read_bytes() == (tmp_path / "wanted/vectors.hex").read_bytes()


def test_tiles_of_a_model_are_of_the_layers_that_the_pattern_matches(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from support import tiny_models

    torch.manual_seed(0)
    model = tiny_models.llama().eval()
    tiny_models.behind_a_name(monkeypatch, model)
    out, text = tmp_path / "tiles", tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    asked = ["vectors", UNIT, "--from-model", "tiny", "--text", str(text), "--window", "32",
             "--layer", "*1.self_attn.q_proj", "--tile", "2x2", "--out", str(out)]  # fmt: skip
    assert main([*asked, "--group", "32"]) == 2
    said = capsys.readouterr().err
    assert "group: a model's recipe says how many elements a scale has" in said
    assert not out.exists()
    assert main(asked) == 0
    source = json.loads((out / "manifest.json").read_text())["source"]
    assert (source["model"], source["recipe"], source["tokens"]) == ("tiny", "mxfp4", 32)
    assert vectors.check(out).count == 2 * 2 * 64 // 32  # all of K, a block at a time
    (section,) = vectors.read(out).sections
    assert section.name.startswith("model.layers.1.self_attn.q_proj")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([UNIT, "--tile", "2x2", "--start", "load"], "start: 'load' is not for tiles, whose outputs start with a dot"),
        (["--op", "convert:e5m10:e2m1", "--start", "load"], "start: 'load' accumulates; vectors of an operation do not"),
        (["--op", "convert:e5m10:e2m1", "--tile", "2x2"], "tile: not for vectors of an operation"),
        (["--op", "convert:e5m10:e2m1", "--from-model", "m"], "from-model: not for vectors of an operation"),
        ([UNIT, "--tile", "2"], "tile: '2' is not"),
        ([UNIT, "--tile", "2x2", "--tiles", "0"], "tiles: 0 is not an integer in 1..1048576"),
        ([UNIT, "--shards", "2", "--jobs", "3"], "shards: with --workers; neither with --shard nor with --jobs"),
        ([UNIT, "--recipe", "nvfp4"], "recipe: only with --from-model"),
        ([UNIT, "--tile", "2x2", "--text", "a.txt"], "text: only with --from-model"),
        ([UNIT, "--layer", "*q*"], "layer: only with --from-model or --from-training"),
        ([UNIT, "--tiles", "3"], "tiles: only with --tile, --from-model or --from-training"),
        ([UNIT, "--step", "3"], "step: only with --from-training"),
        (["--from-model", "m", "--from-training", "run"], "from-training: not with --from-model"),
        ([UNIT, "--tile", "2x2", "--count", "9"], "count: not for tiles; --tiles says"),
        (["--check", "set"], "out: not with --check"),
        (["--merge", "set", "--jobs", "2"], "jobs: not with --merge"),
        ([UNIT, "--workers", "2"], "workers: they make shards; say --shards N too, or --jobs N instead"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_one_sentence(
    argv: list[str], said: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["vectors", *argv, "--out", str(tmp_path / "set")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "set").exists()


def test_pairs_in_place_of_every_case_are_said(tmp_path: Path, capsys: Capture) -> None:
    said = "a vector has more than 2^24 cases: all pairs of operand codes onto 0"
    for start, unit, wanted in (
        ("dot", "e2m1-chain-e8m23", True), ("clear", "e2m1-chain-e8m23", False),
        ("dot", "e2m1-fixed4q2", False),
    ):  # fmt: skip
        argv = ["vectors", unit, "--strategy", "exhaustive", "--start", start]
        assert main([*argv, "--out", str(tmp_path / f"{unit}-{start}")]) == 0
        assert (said in capsys.readouterr().err) is wanted


def test_an_interrupted_set_says_that_it_goes_on(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fpsim.vectors.files.writer.write", stop)
    assert main(["vectors", UNIT, "--count", "9", "--out", str(tmp_path / "set")]) == 130
    assert (
        "what is done is kept beside the directory; the same command goes on"
        in capsys.readouterr().err
    )


def test_mutants_of_a_set_decide_the_exit_status(tmp_path: Path, capsys: Capture) -> None:
    released = golden_dir() / RELEASED
    assert main(["coverage", str(released), "--mutants"]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads((golden_dir() / "reports" / f"{RELEASED}.json").read_text())["mutants"]
    assert lines[0] == f"{RELEASED}: {len(report)} mutants, 0 alive"
    for line, mutant in zip(lines[1:], report, strict=True):
        assert line.startswith(f"  {mutant['mutant']}")
        killed = f"killed by vector {mutant['vector']}"
        assert line.endswith(
            f"equivalent: {mutant['equivalent']}" if mutant["equivalent"] else killed
        )
    few = tmp_path / "few"
    source = catalogue.plan_of(RELEASED, "random", 2)
    vectors.write(source, few, "readmemh")
    assert main(["coverage", str(few), "--mutants"]) == 1
    out = capsys.readouterr().out
    assert f"{RELEASED}: {len(report)} mutants, 0 alive" not in out
    assert any(
        line.startswith("  overflow wrap") and line.endswith(" ALIVE") for line in out.splitlines()
    )


# -- golden --------------------------------------------------------------------------------------


def test_released_sets_are_checked_by_name(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        catalogue, "check_release", lambda name, large: checked.append((name, large)) or 100 + large
    )
    assert main(["golden", RELEASED, "--released"]) == 0
    out, err = capsys.readouterr()
    assert out == "1 units\n" and f"{RELEASED}: 100 vectors, bit for bit" in err
    assert main(["golden", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(fpsim.unit_names(), 101)
    assert checked == [(RELEASED, False), *((name, True) for name in fpsim.unit_names())]
    assert main(["golden", RELEASED, "e2m1"]) == 2
    assert "unit: 'e2m1' is not published; known: " in capsys.readouterr().err


def test_a_released_set_is_written_by_name(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = type("Made", (), {"selection": type("Set", (), {"count": 97})})

    def release(name: str, say: Any) -> Any:
        say(f"{name}: made")
        return made

    monkeypatch.setattr(catalogue, "release", release)
    monkeypatch.setattr(catalogue, "check_release", lambda *_, **__: pytest.fail("was checked"))
    assert main(["golden", "--write", RELEASED, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {RELEASED: 97}
    assert f"{RELEASED}: made" in err
