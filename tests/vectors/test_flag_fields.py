# SPDX-License-Identifier: Apache-2.0
"""Status flags of vectors: against the encoder's kernels, exact sums and plain integers; in files."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.text_edits import edit, flip

from fpsim import FpsimError, get_unit, oracle, unit_names
from fpsim.cli import main
from fpsim.formats.rounding import Flag
from fpsim.vectors.catalogue import LENGTHS
from fpsim.vectors.explanation import explain
from fpsim.vectors.files.checker import check, read
from fpsim.vectors.files.file_formats import FORMATS
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.files.writer import write
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Op

pytestmark = pytest.mark.usefixtures("one_thread")


def chosen(name: str, count: int, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return dot products spread over every section, with flags."""
    k, group = LENGTHS.get(name, (None, None))
    options = {"k": k, "group": group} | options
    plan = plan_set(get_unit(name), count=count, **options)
    columns = plan.columns()
    rows = np.flatnonzero(columns["op"] == Op.DOT)
    rows = rows[:: max(1, rows.size // count)]
    record = plan_set(get_unit(name), strategy="random", flags=True, **options).record
    part = {name: column[rows] for name, column in columns.items()}
    return record, part | record.results(part)


@pytest.mark.parametrize("name", ["e2m1-chain-e5m10", "e2m1-chain-e4m3fn-rdn"])
def test_one_product_has_the_encoders_flags(name: str) -> None:
    """acc = R(c + p) is one rounding, whose flags the encoder's kernels know too."""
    record, columns = chosen(name, 700, k=1)
    spec = record.spec
    a, b, c = (spec.a.decode(columns["a"][:, 0]), spec.b.decode(columns["b"][:, 0]),
               spec.result.decode(columns["c"]))  # fmt: skip
    stage = spec.accumulate
    finite = np.isfinite(c)
    _, flags = spec.result.encode(  # a sum of so few bits is exact in float64
        (a * b + c)[finite], stage.rounding, stage.overflow, flags=True
    )
    assert np.array_equal(columns["flags"][finite], flags)
    assert len(set(flags.tolist())) >= 3


@pytest.mark.parametrize("name", ["e3m0-fixed16q4-saturate", "e2m1-fixed8q0-rna-saturate-end"])
def test_fixed_point_flags_in_plain_integers(name: str) -> None:
    record, columns = chosen(name, 800, k=2)
    spec, stage = record.spec, record.spec.accumulate
    fmt = stage.initial
    seen = set()
    for i in range(columns["op"].size):
        acc, flags = int(fmt.integers(columns["c"][i : i + 1])[0]), Flag(0)
        for a, b in zip(columns["a"][i].tolist(), columns["b"][i].tolist(), strict=True):
            exact = oracle.decode(a, spec.a).value * oracle.decode(b, spec.b).value
            scaled = exact / Fraction(2) ** fmt.lsb
            whole = int(abs(scaled) + Fraction(1, 2)) * (-1 if scaled < 0 else 1)
            flags |= Flag.INEXACT if whole != scaled else Flag(0)
            acc += whole
            if stage.overflow_at == "add" and not fmt.min_integer <= acc <= fmt.max_integer:
                flags |= Flag.INEXACT | Flag.OVERFLOW
                acc = min(max(acc, fmt.min_integer), fmt.max_integer)
        if not fmt.min_integer <= acc <= fmt.max_integer:
            flags |= Flag.INEXACT | Flag.OVERFLOW
        assert columns["flags"][i] == flags, i
        seen.add(flags)
    assert Flag(0) in seen and Flag.INEXACT | Flag.OVERFLOW in seen


def exact_sum(record: Any, row: dict[str, Any]) -> Fraction | None:
    """Return the sum of products and addend in exact arithmetic; None if something is special."""
    spec = record.spec
    scales = record.scales(row)
    total = oracle.decode(int(row["c"]), spec.initial)
    sums = [total]
    for i, (a, b) in enumerate(zip(row["a"].tolist(), row["b"].tolist(), strict=True)):
        numbers = [oracle.decode(a, spec.a), oracle.decode(b, spec.b)]
        for code, operand in ((a, "a"), (b, "b")):
            if scales:
                fmt = getattr(spec, operand)
                found = scales[f"{operand}_scale"][i // record.group]
                if spec.splits(operand):
                    found = found[code >> (fmt.bits - 1)]
                numbers.append(oracle.decode(int(found), getattr(spec, f"{operand}_scale")))
        for number in numbers[1:]:
            numbers[0] = oracle.numbers.multiply(numbers[0], number)
        sums.append(numbers[0])
    if any(n.magnitude is None for n in sums):
        return None
    return sum((n.value for n in sums), Fraction(0))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", unit_names())
def test_no_flag_means_an_exact_result(name: str) -> None:
    """Whatever the stages lose on the way raises a flag: without one, nothing was lost."""
    record, columns = chosen(name, 120)
    exact = inexact = 0
    for i in range(columns["op"].size):
        row = {name: column[i] for name, column in columns.items()}
        total = exact_sum(record, row)
        if total is None:
            continue
        result = oracle.decode(int(row["acc"]), record.spec.result)
        if row["flags"] == 0:
            assert result.magnitude is not None and result.value == total, i
            exact += 1
        else:
            inexact += result.magnitude is None or result.value != total
            assert row["flags"] & (Flag.INEXACT | Flag.INVALID), i
    assert exact and (inexact or name == "e2m1-fixed24q2")


def test_what_is_lost_early_stays_flagged() -> None:
    """6 * 6 + 2^15 loses bits; that the next sum is exact does not take the flag back."""
    unit = get_unit("e2m1-chain-e5m10")
    big = int(unit.result.encode([2.0**15])[0])
    _, early = oracle.dot_with_flags(unit, [7, 0], [7, 0], big)
    _, none = oracle.dot_with_flags(unit, [0, 0], [7, 0], big)
    assert (int(early), int(none)) == (Flag.INEXACT, 0)


@pytest.mark.parametrize(
    ("name", "a", "b", "c", "flags"),
    [
        ("e5m2.e5m2-chain-e8m23", [0x7C], [0x00], 0, Flag.INVALID),  # inf * 0
        ("e5m2.e5m2-chain-e8m23", [0x7C, 0xFC], [0x3C, 0x3C], 0, Flag.INVALID),  # inf - inf
        ("e5m2.e5m2-exact-e8m23", [0x7C, 0xFC], [0x3C, 0x3C], 0, Flag.INVALID),
        ("e5m2.e5m2-tree2-e8m23", [0x7C, 0xFC], [0x3C, 0x3C], 0, Flag.INVALID),
        ("e5m2.e5m2-aligned2f9-e8m23", [0x7C, 0xFC], [0x3C, 0x3C], 0, Flag.INVALID),
        ("e5m2.e5m2-chain-e8m23", [0x7E, 0xFC], [0x3C, 0x3C], 0, Flag(0)),  # NaN is quiet
        ("e5m2.e5m2-chain-e8m23", [0x7C, 0x7C], [0x3C, 0x3C], 0, Flag(0)),  # inf + inf
        ("e2m1-chain-e4m3fn", [7], [7], 0x7E, Flag.INEXACT | Flag.OVERFLOW),
        ("e2m1-aligned2f1-e5m10", [1, 7], [1, 7], 0, Flag.INEXACT),  # 0.25 beside 36
        ("e2m1-aligned2f9-e5m10", [1, 7], [1, 7], 0, Flag(0)),
    ],
)
def test_operations(name: str, a: list[int], b: list[int], c: int, flags: Flag) -> None:
    assert Flag(int(oracle.dot_with_flags(get_unit(name), a, b, c)[1])) == flags


def test_underflow_of_a_scaled_product() -> None:
    """2^-149 * 0.75 rounds to a subnormal it does not equal."""
    unit = get_unit("e2m1-block8-into-chain-e8m23")
    a, b = [1] + [0] * 7, [3] + [0] * 7  # 0.5 * 1.5
    scales = {"a_scale": [0], "b_scale": [127 - 22], "block": 8}
    _, flags = oracle.dot_with_flags(unit, a, b, 0, **scales)
    assert Flag(int(flags)) == Flag.INEXACT | Flag.UNDERFLOW


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    plan = plan_set(get_unit("e2m1-chain-e5m10"), strategy="random", count=120, flags=True)
    return write(plan, tmp_path / "set", FORMATS)


def test_flags_are_the_lowest_field(written: Path) -> None:
    opened = check(written)
    flags = opened.columns()["flags"]
    assert set(flags.tolist()) >= {0, 1}
    assert vars(opened.record.fields[-1]) == {"name": "flags", "lsb": 0, "width": 5, "lanes": 1}
    head = (written / "vectors.hex").read_text().splitlines()[: opened.head_lines]
    assert any("1 inexact, 2 underflow, 4 overflow, 8 infinite, 16 invalid" in h for h in head)
    lines = (written / "vectors.txt").read_text().splitlines()
    assert [int(line.split()[-1], 16) for line in lines] == flags.tolist()
    package = (written / "vectors_pkg.svh").read_text()
    assert "logic [4:0] flags;" in package and "FLAG_OVERFLOW = 5'd4" in package


def test_sets_without_flags_stay_as_they_are(tmp_path: Path) -> None:
    plan = plan_set(get_unit("e2m1-chain-e5m10"), strategy="random", count=20)
    write(plan, tmp_path / "set", FORMATS)
    for path in (tmp_path / "set").iterdir():
        assert b"flags" not in path.read_bytes() or path.suffix == ".npz", path.name


def test_wrong_flags_are_named_and_explained(written: Path) -> None:
    line = open_set(written).head_lines + 7
    edit(written / "vectors.hex", line, lambda text: flip(len(text) - 1)(text))
    with pytest.raises(FpsimError, match=rf"vectors\.hex:{line}: vector 6 .* expects flags 1?\d, "):
        check(written)
    found = explain(written, line)
    assert not found.right and "with flags" in str(found)
    assert explain(written, line + 1).right


def test_flags_of_vectors_that_accumulate(tmp_path: Path) -> None:
    for name in ("e2m1-chain-e5m10", "e2m1-fixed24q2"):
        made = plan_set(
            get_unit(name), strategy="random", count=300, group=1, flags=True, start="load"
        ).made()
        directory = write(made, tmp_path / name)
        assert np.array_equal(check(directory).columns()["flags"], made.columns["flags"])
        macs = made.columns["op"] == Op.MAC
        assert not made.columns["flags"][~macs].any()
        assert made.columns["flags"][macs].any()
        assert "flags" in json.loads((directory / "vectors.jsonl").read_text().splitlines()[1])
        made.columns["flags"][5] ^= 16
        write(made, directory)
        words = rf"vector 5 \(random-streams\) expects flags .*{name} gives"
        with pytest.raises(FpsimError, match=words):
            check(directory)
        assert read(directory).record.fields[-1].name == "flags"


def test_flag_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    command = ["vectors", "int4-fixed12q0-saturate", "--k", "4", "--flags", "--out", out]
    assert main([*command, "--strategy", "random", "--count", "100"]) == 0
    assert main(["vectors", "--check", out]) == 0
    assert main(["explain", out, "--line", str(open_set(out).head_lines + 1)]) == 0
    assert "flags" in capsys.readouterr().out
