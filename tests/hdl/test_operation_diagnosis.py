# SPDX-License-Identifier: Apache-2.0
"""Wrong results of an operation's design: explained, and the mistake behind them named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fpsim.hdl.bench.operation_beats import OperationSerialiser
from fpsim.hdl.bench.replay import Mismatch
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.verify.diagnosis import Diagnosis
from fpsim.hdl.verify.operation_diagnosis import diagnose_operation
from fpsim.hdl.verify.vector_source import made_for_operation
from fpsim.vectors.operations.operation import Operation, parse_operation
from fpsim.vectors.operations.operation_mutants import mutants_of_operation
from fpsim.vectors.sets.word_layout import Columns

TEXT = """
top = "q"
sources = ["q.sv"]
[clock]
port = "clk"
[[input.beats]]
elements = 1
x = "x"
[output]
y = "y"
latency = 1
"""
CONVERT = "convert:e5m10:e4m3fn"
#: Takes an operation and its vectors, right results included; returns the codes that it answers.
Design = Callable[[Operation, Columns], Any]


def mutant(name: str) -> Design:
    def answers(operation: Operation, columns: Columns) -> Any:
        (found,) = (m for m in mutants_of_operation(operation, ["y"]) if m.name == name)
        return found.run(columns)["y"]

    return answers


def diagnosed(design: Design, directory: Path, known: bool = True) -> Diagnosis:
    """Diagnose a converter whose answers are made up, whether its bits are known or not."""
    (directory / "q.sv").write_text("")
    (directory / "dut.toml").write_text(TEXT)
    dut, operation = read_dut(directory / "dut.toml"), parse_operation(CONVERT)
    source = made_for_operation(dut, operation, count=300)
    blocks = [columns for _, columns in source.blocks()]
    columns = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    seen, kept = design(operation, columns), []
    for i in np.flatnonzero(seen != columns["y"]).tolist():
        fields = {n: int(columns[n][i]) for n in ("x", "y", "flags") if n in columns}
        code = int(seen[i]) if known else None
        kept.append(
            Mismatch(i, None, fields, f"{fields['y']:02x}", f"{int(seen[i]):02x}", code,
                     before=i - 1 if i else None, answers=("y",))
        )  # fmt: skip
    result: Any = SimpleNamespace(kept=tuple(kept), mismatch_count=len(kept))
    return diagnose_operation(source, OperationSerialiser(dut, operation), result)


@pytest.mark.parametrize("name", ["rounding: rtz", "rounding: rna", "subnormal results flushed", "-0 lost"])  # fmt: skip
def test_a_planted_mistake_is_guessed_whole(name: str, tmp_path: Path) -> None:
    found = diagnosed(mutant(name), tmp_path)
    best = found.guesses[0]
    assert best.fits
    assert name in {guess.mistake for guess in found.guesses if guess.fits}
    assert best.explained == best.mismatches > 0 and best.contradicted == 0 < best.matches


def test_the_first_wrong_result_is_explained_by_values(tmp_path: Path) -> None:
    """One code too high everywhere between 1 and 2."""

    def design(operation: Operation, columns: Columns) -> Any:
        y = columns["y"]
        return y + ((y >= 0x38) & (y < 0x40)).astype(y.dtype)

    found = diagnosed(design, tmp_path)
    first = found.mismatch
    code = first.fields["y"]
    assert 0x38 <= code < 0x40 and first.code == code + 1
    values = {0x38 + i: str(1 + i / 8) for i in range(9)}
    assert (found.expected_value, found.seen_value) == (values[code], values[code + 1])
    assert found.ulps == 1
    assert not [guess for guess in found.guesses if guess.fits]


def test_a_mistake_that_right_results_contradict_does_not_fit(tmp_path: Path) -> None:
    """Every second vector is truncated: truncation explains all that is wrong, but not the rest."""

    def design(operation: Operation, columns: Columns) -> Any:
        truncated = mutant("rounding: rtz")(operation, columns)
        return np.where(np.arange(truncated.size) % 2 == 0, truncated, columns["y"])

    found = diagnosed(design, tmp_path)
    (guess,) = (g for g in found.guesses if g.mistake == "rounding: rtz")
    assert guess.explained == guess.mismatches and guess.contradicted > 0
    assert not guess.fits


def test_results_that_come_one_vector_late_are_named(tmp_path: Path) -> None:
    def design(operation: Operation, columns: Columns) -> Any:
        return np.concatenate([columns["y"][:1], columns["y"][:-1]])

    found = diagnosed(design, tmp_path)
    assert found.guesses[0].mistake == "the result of the vector before"
    assert found.guesses[0].fits


def test_bits_that_are_not_known_are_no_number_and_no_mistake(tmp_path: Path) -> None:
    found = diagnosed(mutant("rounding: rtz"), tmp_path, known=False)
    assert found.seen_value == "unknown bits"
    assert found.ulps is None
    assert found.guesses == ()
