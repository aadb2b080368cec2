# SPDX-License-Identifier: Apache-2.0
"""The grammar of unit names: its examples are units, and a faulty name is told which part is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.units.grammar import GRAMMAR, name_fault
from fpsim.units.spec import MacSpec
from fpsim.units.stages import STAGES


@pytest.mark.parametrize("part", GRAMMAR, ids=lambda part: part.form)
def test_every_example_is_a_unit_of_that_name(part: object) -> None:
    spec = MacSpec.from_name(part.example)  # type: ignore[attr-defined]
    assert spec is not None
    assert spec.canonical_name == part.example  # type: ignore[attr-defined]


def test_every_kind_of_stage_has_a_line() -> None:
    assert set(STAGES) <= {part.part for part in GRAMMAR}


FAULTS = {
    "e2m1-fixed14": "a fixed register needs an LSB: e2m1-fixed14q6",
    "e2m1b3-fixed14": "a fixed register needs an LSB: e2m1b3-fixed14q6",
    "e2m1-fixed": "a fixed register needs a width and an LSB: e2m1-fixed14q6",
    "e2m1": "a stage is missing, as in e2m1-chain-e5m10",
    "e2m1-chain": "a chain stage needs the format of its results: e2m1-chain-e5m10",
    "e2m1-tree8": "a tree stage needs the format of its results: e2m1-tree8-e5m10",
    "e2m1-exact": "an exact stage needs the format of its results: e2m1-exact-e5m10",
    "e2m1-aligned32": "its number of products and fraction bits: e2m1-aligned32f13-e8m13",
    "e2m1-aligned32f13": "an aligned stage needs the format of its results",
    "e2m1-block32": "a block stage needs a stage that adds its sums: e2m1-block32-into-chain-e8m23",
    "e2m1-block32-into-chian-e8m23": "'chian' is no stage; .*did you mean 'chain'",
    "e2m1-chunked-of-x": "chunked needs a number: e2m1-chunked32",
    "e2m1-chunked128-of-chain-e5m10": "a chunked stage needs a stage for its chunks and one for",
    "e2m1-chunked128-of-chain-into-chain-e8m23": "a chain stage needs the format of its results",
    "e2m1-chian-e5m10": "'chian' is no stage; .*did you mean 'chain'",
    "e2m1-chain-e5m10-rtx": "'rtx' is no setting of chain-e5m10; .*did you mean 'rtz'",
    "e2m1-chain-e5m10-nanzero": "'nanzero' is no setting of chain-e5m10",
    "e2m1-block32-rtx-into-chain-e8m23": "'rtx' is no setting of block32; allowed: nannan, nanzero, to and a format",
    "e2m1-fixed24q2-up": "'up' is no setting of fixed24q2",
    "e2m1.e4m3fn.both-chain-e5m10": "after the scale format only .split may stand",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_name_is_told_which_part_is_wrong(name: str) -> None:
    with pytest.raises(FpsimError, match=FAULTS[name]) as caught:
        fpsim.get_unit(name)
    assert str(caught.value).startswith(f"unit: {name!r}: ")
    assert str(caught.value).endswith("see `fpsim units grammar`")


@pytest.mark.parametrize("suggestion", [text for text in FAULTS.values() if ": e2m1" in text])
def test_a_suggested_name_is_a_unit_or_one_part_nearer_to_one(suggestion: str) -> None:
    name = suggestion.rpartition(": ")[2]
    try:
        fpsim.get_unit(name)
    except FpsimError as error:
        assert "needs" in str(error)


def test_other_words_get_the_nearest_unit() -> None:
    with pytest.raises(FpsimError, match="neither a published unit.*did you mean 'nvidia-h100-"):
        fpsim.get_unit("nvidia-h100")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "e2m1",
                "e2m1b3",
                "int4",
                "e2m1.e5m2",
                "x",
                "chain",
                "exact",
                "fixed14",
                "fixed14q2",
                "aligned8f3",
                "tree4",
                "block8",
                "into",
                "of",
                "chunked4",
                "split2",
                "to",
                "rne",
                "sr8",
                "sr",
                "end",
                "radix4",
                "e5m10",
                "e8m23",
                "-",
                "b-3",
                "q",
            ]
        ),
        min_size=1,
        max_size=9,
    )
)
def test_no_name_ends_in_a_traceback(words: list[str]) -> None:
    name = "-".join(words)
    try:
        if MacSpec.from_name(name) is None:
            fault = name_fault(name)
            assert fault is None or len(fault) < 400
    except FpsimError:
        pass


def test_the_command_prints_the_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["units", "grammar", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(GRAMMAR)
    assert main(["units", "grammar"]) == 0
    assert "fixedWIDTHqBITS" in capsys.readouterr().out
