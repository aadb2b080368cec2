# SPDX-License-Identifier: Apache-2.0
"""Vectors of converters, multipliers, adders and quantizers, held to the oracle and to numpy."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import fpsim
from fpsim import FpsimError, oracle, vectors
from fpsim.cli import main
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle import numbers
from fpsim.oracle.block_formats import quantize_block
from fpsim.vectors.operations.operation import OPERATIONS, Quantize, parse_operation
from fpsim.vectors.operations.operation_plan import OperationPlan, plan_operation
from fpsim.vectors.sets.word_layout import Columns

Capture = pytest.CaptureFixture[str]


def columns_of(plan: OperationPlan) -> Columns:
    blocks = [plan.block(*job) for job in plan.jobs()]
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def made(text: str, **options: object) -> tuple[OperationPlan, Columns]:
    plan = plan_operation(parse_operation(text), **options)
    return plan, columns_of(plan)


@pytest.mark.parametrize("text", ["convert:e5m10:e4m3fn:rtz:nan", "convert:e8m23:e2m1:rna"])
def test_a_converter_is_the_oracles(text: str) -> None:
    plan, columns = made(text, count=64)
    operation = plan.operation
    rows = np.unique(np.linspace(0, plan.count - 1, 700).astype(int))
    for i in rows.tolist():
        number = oracle.decode(int(columns["x"][i]), operation.source)
        settings = (operation.target, operation.rounding, operation.overflow)
        assert columns["y"][i] == numbers.encode(number, *settings)
        if not number.is_nan:
            assert columns["flags"][i] == int(numbers.flags(number, *settings))


@pytest.mark.parametrize("verb", ["add", "mul"])
def test_half_precision_is_numpys(verb: str) -> None:
    """Rounding a float32 result again is innocuous: it has more than 2 * 11 + 1 bits."""
    _, columns = made(f"{verb}:e5m10:e5m10:e5m10", strategy="random", count=4000)
    a, b = (columns[name].astype(np.uint16).view(np.float16) for name in "ab")
    with np.errstate(all="ignore"):
        wanted = a + b if verb == "add" else a * b
    found = columns["y"].astype(np.uint16).view(np.float16)
    nan = np.isnan(wanted)
    assert np.array_equal(np.isnan(found), nan)
    assert np.array_equal(found[~nan].view(np.uint16), wanted[~nan].view(np.uint16))
    assert nan.any() and np.isinf(wanted).any()


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "amxfp4", "nf4"])
def test_a_quantizer_is_the_oracles(name: str) -> None:
    plan, columns = made(f"quantize:{name}", count=40)
    operation = plan.operation
    assert isinstance(operation, Quantize)
    values = operation.source.decode(columns["x"])
    for i in np.unique(np.linspace(0, plan.count - 1, 60).astype(int)).tolist():
        row = [float(v) for v in values[i]]
        given = None
        if operation.has_tensor_scale:
            given = Fraction(float(fpsim.get_format("e8m23").decode(columns["tensor_scale"])[i]))
        largest = max(abs(Fraction(v)) for v in row)
        block = quantize_block(operation.format, row, largest, given)
        assert columns["codes"][i].tolist() == list(block.codes), (name, i)
        assert int(columns["scales"][i][0]) == block.scale, (name, i)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("convert:e4m3fn:e2m1", {"codes", "random"}),
        ("convert:e8m23:e2m1", {"codes", "boundaries", "random"}),
        ("mul:e2m1:e4m3fn:e8m7", {"pairs", "random"}),
        ("add:e3m4:e3m4:e3m4", {"pairs", "cancellations", "ends", "random", "random-near"}),
        ("quantize:mxfp4:e8m7",
         {"zeros", "one-element", "largest", "midpoints", "tiny", "huge", "random"}),
    ],
)  # fmt: skip
def test_sections_and_files(text: str, sections: set[str], tmp_path: Path) -> None:
    plan = plan_operation(parse_operation(text), count=50)
    assert {s.name for s in plan.sections} == sections
    folder = vectors.write(plan, tmp_path / "v", ("readmemh", "jsonl", "csv", "npz", "svh"))
    assert vectors.check(folder).count == plan.count
    held, first = vectors.read(folder).columns, plan.block(*plan.jobs()[0])
    assert all(np.array_equal(held[name][: c.shape[0]], c) for name, c in first.items())
    word = (folder / "vectors.hex").read_text().splitlines()[-1]
    (folder / "vectors.hex").write_text(
        (folder / "vectors.hex").read_text()[: -len(word) - 1]
        + f"{int(word, 16) ^ 1:0{len(word)}x}\n"
    )
    with pytest.raises(FpsimError, match=r"vectors\.hex:\d+: vector \d+ \(random.* expects"):
        vectors.check(folder)


def test_every_code_and_every_pair_are_there() -> None:
    _, columns = made("convert:e4m3:e2m1", strategy="exhaustive")
    assert columns["x"].size == 256 - 14  # without the NaNs, which E2M1 has no code for
    _, columns = made("mul:e2m1:e4m3fn:e5m10", strategy="exhaustive")
    assert len(set(zip(columns["a"].tolist(), columns["b"].tolist(), strict=True))) == 16 * 256


def test_a_unit_says_the_formats_of_mul_and_add() -> None:
    unit = fpsim.get_unit("e2m1xe4m3fn-chain-e5m10-rtz")
    assert parse_operation("mul", unit).title == "mul:e2m1:e4m3fn:e5m10:rtz:inf"
    assert parse_operation("add", unit).title == "add:e5m10:e5m10:e5m10:rtz:inf"
    assert parse_operation("convert:e5m10:e2m1").overflow is Overflow.SATURATE
    assert parse_operation("convert:e2m1:e5m10:rup").rounding is Rounding.RUP


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in "ab":
        plan = vectors.plan_operation("quantize:mxfp4", count=30, seed=7)
        folder = vectors.write(plan, tmp_path / name)
        digests.append(hashlib.sha256((folder / "vectors.hex").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_the_command_and_one_vector_explained(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "v")
    assert main(["vectors", "--op", "quantize:nvfp4", "--out", out, "--count", "20"]) == 0
    assert "largest" in capsys.readouterr().out
    assert main(["vectors", "--check", out]) == 0
    assert "quantize:nvfp4:e8m23, each as it gives it" in capsys.readouterr().out
    assert main(["explain", out, "--line", "40"]) == 0
    shown = capsys.readouterr().out
    assert "tensor_scale" in shown and "as expected" in shown
    assert "under the tensor scale " in shown and "maps to 6" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--op", "quantise:mxfp4", "--out", "x"], "op: 'quantise' is not one of quantize, convert"),
        (["--op", "convert:e5m10", "--out", "x"], "op: 'convert:e5m10' is not convert:SOURCE"),
        (["--op", "mul", "--out", "x"], "op: 'mul' is not mul:A:B:RESULT"),
        (["--op", "add:e2m1:e2m1:int8", "--out", "x"], "add rounds into a floating-point format"),
        (["--op", "convert:e5m10:e2m1:sr", "--out", "x"], "rounding: 'sr' takes random integers"),
        (["--op", "convert:e5m10:e2m1:rne:inf", "--out", "x"], "overflow: 'inf' is not possible"),
        (["--op", "quantize:mxfp4", "--out", "x", "--k", "4"], "k: not for vectors of an operation"),
        (["--op", "quantize:mxfp4"], "give --out DIR with --op"),
        (["--op", "add:e8m23:int64:e8m23", "--out", "x"], "op: int64 has 64 bits"),
        (["--op", "quantize:nvfp4-2d", "--out", "x"], "op: nvfp4-2d has real scales, tiles, or"),
        (["--op", "convert:e8m23:e2m1", "--strategy", "exhaustive", "--out", "x"], "more than 2^16"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(
    argv: list[str], message: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["vectors", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert set(OPERATIONS) == {"quantize", "convert", "mul", "add"}
