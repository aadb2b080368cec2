# SPDX-License-Identifier: Apache-2.0
"""The command line: what a user types, what comes back, and one sentence for every mistake."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fpsim.cli import main

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *argv: str) -> object:
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_formats_lists_and_shows_one(capsys: Capture) -> None:
    names = [row["name"] for row in run_json(capsys, "formats")]
    assert names[:2] == ["e2m1", "e1m2"]
    rows = run_json(capsys, "formats", "e2m1b3")
    assert rows[7] == {"code": 7, "bits": "0111", "value": 1.5, "next_ulp": None}
    assert rows[1]["next_ulp"] == 0.125
    assert main(["formats", "e2m1"]) == 0
    assert "0111" in capsys.readouterr().out


def test_encode_and_decode(capsys: Capture) -> None:
    row = run_json(capsys, "encode", "e2m1", "2.5", "-0.0", "1e9", "--rounding", "rna")
    assert [r["code"] for r in row] == [5, 8, 7]
    assert [r["value"] for r in run_json(capsys, "decode", "e2m1", "0xF", "3", "0b1000")] == [
        -6.0,
        1.5,
        -0.0,
    ]
    row = run_json(capsys, "encode", "e2m1", "1.125", "--rounding", "sr", "--random", "192")
    assert row[0]["decoded"] == 1.5


def test_units(capsys: Capture) -> None:
    names = [row["name"] for row in run_json(capsys, "units")]
    assert {"e2m1-chain-e5m10", "e2m1-fixed24q2"} <= set(names)
    assert main(["units", "e2m1-chain-e5m10"]) == 0
    out = capsys.readouterr().out
    assert "acc <- rne[e5m10](acc + p_i)" in out
    assert 'kind = "chain"' in out


def test_units_have_their_evidence(capsys: Capture) -> None:
    rows = {row["name"]: row for row in run_json(capsys, "units")}
    assert rows["nvidia-v100-fp16"]["evidence"] == "validated"
    assert rows["nvidia-b200-nvf4"]["evidence"] == "single source"
    assert rows["intel-amx-bf16"]["evidence"] == "modelled"
    assert all(row["source"] for row in rows.values() if row["evidence"])
    assert main(["units"]) == 0
    assert "nvidia-v100-fp16" in capsys.readouterr().out


@pytest.mark.parametrize("how", [["show"], []])
def test_units_show_prints_equation_evidence_and_toml(how: list[str], capsys: Capture) -> None:
    assert main(["units", *how, "nvidia-a100-fp16"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("p_i = e5m10(a_i) * e5m10(b_i)")
    assert "E = max(e_i, e(c), -132)" in lines[0]
    assert lines[1] == "evidence: validated"
    assert lines[2].startswith("source: ") and "arXiv 2512.07004" in lines[2]
    (row,) = run_json(capsys, "units", *how, "nvidia-a100-fp16")
    assert row["toml"] in out
    assert tomllib.loads(row["toml"])["accumulate"]["fraction_bits"] == 24


def test_recipes_are_listed_and_shown_with_their_options(capsys: Capture) -> None:
    pytest.importorskip("torch")
    rows = {row["name"]: row for row in run_json(capsys, "recipes")}
    assert {"mxfp4", "llm-fp4", "gptq", "nvfp4-train"} <= set(rows)
    assert "block-format" not in rows  # it stands for formats that have no recipe of their own
    assert all(row["summary"].endswith(".") for row in rows.values())
    assert rows["gptq"]["needs_calibration"] and not rows["mxfp4"]["needs_calibration"]
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [name for line in lines[2:] for name in line.split("\t")[0].split(", ")]
    assert sorted(named) == sorted(rows)
    assert main(["recipes", "gptq:group=64"]) == 0
    out = capsys.readouterr().out
    assert "It needs a calibration" in out and "group\t64" in out and "search\tfalse" in out
    (row,) = run_json(capsys, "recipes", "rtn:element=e3m0,block=32")
    assert row["options"]["element"] == "e3m0" and row["options"]["integer"] is False
    assert main(["recipes", "gptk"]) == 2
    assert "did you mean 'gptq'" in capsys.readouterr().err


def test_trace_shows_every_node(capsys: Capture) -> None:
    command = ["trace", "nvidia-h100-e4m3", "--a", "0x38", "0x40", "--b", "0x38", "0xB8"]
    assert main([*command, "--c", "0x3f800000"]) == 0
    out = capsys.readouterr().out
    for words in ("p[1]", "-2", "t[c]", "4096", "e8m23 0x0"):
        assert words in out
    data = run_json(capsys, *command)
    assert data["code"] == 0xBF800000
    assert data["value"] == -1.0
    assert data["nodes"][1] == {"step": 0, "name": "p[1]", "value": "-2", "exponent": 1}


def test_trace_takes_scales_pairs_and_random_bits(capsys: Capture) -> None:
    scaled = ["trace", "e2m1-block2-into-exact-e8m23", "--a", "2", "2", "2", "--b", "2", "2", "2"]
    data = run_json(capsys, *scaled, "--a-scale", "128", "126", "--block", "2")
    assert data["value"] == 4.5
    split = ["trace", "e2m1.e5m2.splitxe2m1-exact-e8m23", "--a", "2", "10", "--b", "2", "2"]
    data = run_json(capsys, *split, "--a-scale", "0x3c", "0x40")
    assert data["value"] == 1.0 - 2.0
    data = run_json(capsys, "trace", "e2m1-chain-e4m3-sr2", "--a", "1", "--b", "1", "--random", "3")
    assert data["value"] == 0.25
    data = run_json(capsys, "trace", "e5m2-chain-e8m23", "--a", "0x7c", "--b", "0x3c")
    assert data["value"] == "inf"


def test_order_tells_whether_it_matters(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "layer.npz"
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 16, (2, 64)).astype(np.uint8), rng.integers(0, 16, (64, 3))
    np.savez(path, a=a, b=b.astype(np.uint8), c=np.zeros((2, 3), np.uint8))
    found = run_json(capsys, "order", "e2m1-chain-e4m3fn", str(path), "--result", "1", "2")
    assert found["depends"] and len(found["outcomes"]) == 106
    assert main(["order", "e2m1-chain-e4m3fn", str(path), "--random-orders", "20"]) == 0
    shown = capsys.readouterr().out
    assert "depends on the order" in shown and "8 more random orders" in shown
    assert not run_json(capsys, "order", "e2m1-fixed24q2", str(path))["depends"]
    assert main(["order", "e2m1-fixed24q2", str(path), "--result", "2", "0"]) == 2
    assert "result: (2, 0) is not in the product of shape (2, 3)" in capsys.readouterr().err


def test_size_reads_codes_from_a_file(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "layer.npz"
    np.savez(path, a=[[7, 2, 2]], b=[[7], [2], [2]], c=[[0]], a_scale=[[127]])
    data = run_json(capsys, "size", "e2m1-chain-e5m2", str(path))
    assert (data["steps"], data["inexact"], data["swamped"]) == (3, 3, 2)
    assert data["largest"] == 38.0
    assert (data["fixed_width"], data["fixed_lsb"]) == (7, 0)
    assert main(["size", "e2m1-chain-e5m2", str(path)]) == 0
    assert "7 bits, LSB 2^0" in capsys.readouterr().out
    np.savez(path, a=[7, 2], b=[[7, 2], [2, 2]])
    assert run_json(capsys, "size", "e2m1-chain-e5m2", str(path), "--dots")["dots"] == 2


def test_size_takes_the_seed_of_a_stochastic_unit(capsys: Capture, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 16, (2, 8, 64))
    np.savez(tmp_path / "codes.npz", a=a, b=b.T)
    found = []
    for seed in ("1", "1", "2"):
        command = ["size", "e2m1-chain-e4m3fn-sr6", str(tmp_path / "codes.npz"), "--json"]
        assert main([*command, "--seed", seed]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] != found[2]


def test_vectors_write_and_check(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "v"
    made = run_json(capsys, "vectors", "e2m1-fixed24q2", "--out", str(out), "--count", "100")
    assert made["count"] > 4000
    assert main(["vectors", "--check", str(out)]) == 0
    text = (out / "vectors.hex").read_text().splitlines()
    text[-1] = f"{int(text[-1], 16) ^ 1:0{len(text[-1])}x}"
    (out / "vectors.hex").write_text("\n".join(text) + "\n")
    assert main(["vectors", "--check", str(out)]) == 2
    assert re.search(r"vectors\.hex:\d+: vector \d+ \(random", capsys.readouterr().err)


def test_rtl_prints_an_instantiation(capsys: Capture) -> None:
    assert main(["rtl", "e2m1-chain-e5m10"]) == 0
    assert "mac_chain #(" in capsys.readouterr().out


def test_plot(tmp_path: Path, capsys: Capture) -> None:
    for what in ("formats", "sqnr"):
        path = tmp_path / f"{what}.svg"
        assert main(["plot", what, "--out", str(path), *SMALL.get(what, [])]) == 0
        assert path.read_text().lstrip().startswith("<?xml")


SMALL = {"sqnr": ["--samples", "4096"]}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["formats", "e2n1"], "format: 'e2n1' is not a format name"),
        (["formats", "e8m23"], "tables are for up to 16"),
        (["encode", "e2m1", "nan"], "values: nan at index (0,) has no code in e2m1"),
        (["encode", "e2m1", "1", "--overflow", "inf"], "overflow: 'inf' is not possible in e2m1"),
        (["decode", "e2m1", "16"], "codes: 16 is not a code of e2m1 (0..15)"),
        (["decode", "e2m1", "-1"], "codes: -1 is not a code of e2m1 (0..15)"),
        (["units", "e2m1-chian-e5m10"], "'chian' is no stage; allowed are chain, exact"),
        (["vectors", "e2m1-chain-e5m10"], "--out DIR"),
        (["rtl", "e2m1-fixed12q0-sr8"], "rounding: 'sr' in fixed point has no"),
        (["vectors", "e2m1-fixed16q2-to-e5m10", "--out", "x", "--start", "load"], "start: 'load'"),
        (["vectors", "e2m1-fixed24q2", "--out", "{file}/x"], "cannot be written"),
        (["vectors", "e2m1-fixed24q2", "--out", "{file}"], "is a file, not a directory"),
        (["vectors", "e2m1-fixed24q2", "--out", "x", "--count", "0"], "count: 0 is not"),
        (["vectors", "e2m1-fixed24q2", "--out", "x", "--seed", "-1"], "seed: -1 is not"),
        (["vectors", "--check", "{file}"], "cannot be read"),
        (["rtl", "e2m1-split4-of-chain-e5m10-into-chain-e8m23"], "parts: 4 has no reference RTL"),
        (["eval", "--unit", "nonsense"], "unit: 'nonsense'"),
        (["eval", "--recipe", "nonsense"], "recipe: 'nonsense'"),
        (["eval", "--text", "{file}/x"], "does not exist"),
        (["eval", "--windows", "0"], "windows is 0, but must be at least 1"),
        (["eval", "--window", "1"], "window is 1, but must be at least 2"),
        (["eval", "--stride", "0"], "stride is 0, but must be at least 1"),
        (["eval", "--calibration-tokens", "0"], "calibration-tokens is 0, but must be at least 1"),
        (["calibrate", "--out", "x.safetensors", "--windows", "0"], "windows is 0, but must be"),
        (["calibrate", "--out", "cal.txt"], "out: cal.txt does not end in .safetensors"),
        (["size", "exact", "--from-model", "x", "--window", "1"], "window is 1, but must be at"),
        (["plot", "formats", "--out", "{file}/x.svg"], "cannot be written"),
        (["demo", "--out", "{file}/x", "--no-model"], "cannot be written"),
        (["units", "{file}"], "not valid TOML"),
        (["units", "show"], "units: show needs the name of a unit"),
        (["units", "exact", "exact"], "units: 'exact' after 'exact'"),
        (["units", "show", "nvidia-h10-fp16"], "did you mean 'nvidia-h100-fp16'"),
        (["trace", "exact", "--a", "16", "--b", "1"], "a: 16 is not a code of e2m1"),
        (["trace", "exact", "--a", "1", "--b", "1", "2"], "b: K is 2"),
        (["trace", "exact", "--a", "1", "--b", "1", "--c", "-1"], "c: -1"),
        (
            ["trace", "e2m1.e5m2.split-exact-e8m23", "--a", "1", "--b", "1", "--a-scale", "1"],
            "a_scale: 1 codes; e2m1.e5m2.split-exact-e8m23 takes pairs",
        ),
        (["size", "exact", "{file}"], "is not an .npz file of arrays"),
        (["size", "exact", "{file}.no"], "cannot be read"),
        (["size", "exact"], "operands: give a file of codes, or --from-model MODEL"),
        (["size", "exact", "{file}", "--from-model", "x"], "operands: give a file of codes, or"),
        (["size", "exact", "--from-model", "x", "--block", "4"], "block: only for a file of codes"),
        (["size", "exact", "--from-model", "x", "--results", "4", "0"], "results: [4, 0] are not"),
        (["size", "nonsense", "{file}"], "unit: 'nonsense'"),
    ],
)
def test_mistakes_get_one_sentence(
    argv: list[str], message: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.toml"
    file.write_text("this is = not [toml")
    before = sorted(tmp_path.rglob("*"))
    assert main([arg.replace("{file}", str(file)) for arg in argv]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("fpsim: ")
    assert "\n" not in error
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_usage_errors_exit_with_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["encode", "e2m1", "1", "--rounding", "up"])
    assert stopped.value.code == 2


def test_rtl_as_data(capsys: Capture) -> None:
    data = run_json(capsys, "rtl", "e2m1-chain-e5m10")
    assert data["top"] == "mac_chain" and data["parameters"]["ACC_MAN"] == 10
    assert data["inputs"]["a_i"] == 4 and data["outputs"]["acc_o"] == 16
    assert "mac_chain" in data["text"] and data["sources"][-1].endswith("mac_chain.sv")
    assert run_json(capsys, "rtl", "quantize:mxfp4")["unit"] == "quantize:mxfp4:e8m23"


def test_training_says_how_long_the_rest_takes(capsys: Capture) -> None:
    from fpsim.cli.train import _shown

    row = {"loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 1.0, "skipped": False}
    with _shown(20) as report:
        for step in range(10):
            report(SimpleNamespace(step=step, seconds=1.0 + step, **row))
    assert "about 55 s left" in capsys.readouterr().err.splitlines()[-1]
