# SPDX-License-Identifier: Apache-2.0
"""The command line: what a user types, what comes back, and one sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_vectors_write_and_check(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "v"
    made = run_json(capsys, "vectors", "e2m1-fixed24q2", "--out", str(out), "--count", "100")
    assert made["count"] > 4000
    assert main(["vectors", "--check", str(out)]) == 0
    text = (out / "vectors.hex").read_text().splitlines()
    text[-1] = f"{int(text[-1], 16) ^ 1:0{len(text[-1])}x}"
    (out / "vectors.hex").write_text("\n".join(text) + "\n")
    assert main(["vectors", "--check", str(out)]) == 2
    assert "vectors.hex: SHA-256" in capsys.readouterr().err


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
        (["units", "e2m1-chian-e5m10"], "did you mean 'e2m1-chain-e5m10'"),
        (["vectors", "e2m1-chain-e5m10"], "--out DIR"),
        (["vectors", "exact", "--out", "x"], "accumulate.kind: 'exact' has no accumulator"),
        (["vectors", "e2m1-fixed24q2", "--out", "{file}/x"], "cannot be written"),
        (["vectors", "e2m1-fixed24q2", "--out", "{file}"], "is a file, not a directory"),
        (["vectors", "e2m1-fixed24q2", "--out", "x", "--count", "0"], "count: 0 is not"),
        (["vectors", "e2m1-fixed24q2", "--out", "x", "--seed", "-1"], "seed: -1 is not"),
        (["vectors", "--check", "{file}"], "cannot be read"),
        (["rtl", "exact"], "exact"),
        (["eval", "--unit", "nonsense"], "unit: 'nonsense'"),
        (["eval", "--recipe", "nonsense"], "recipe: 'nonsense'"),
        (["eval", "--text", "{file}/x"], "cannot be read"),
        (["plot", "formats", "--out", "{file}/x.svg"], "cannot be written"),
        (["demo", "--out", "{file}/x", "--no-model"], "cannot be written"),
        (["units", "{file}"], "not valid TOML"),
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
