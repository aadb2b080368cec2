# SPDX-License-Identifier: Apache-2.0
"""Presets of real GPUs against dot products recorded on them, and neighbours they reject.

The recordings (Khattak and Mikaitis, arXiv 2512.07004) are not part of this project: the folder is
found beside it or through FPSIM_SILICON, and without it these tests are skipped.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fpsim import FloatFormat, MacSpec, MacUnit, get_unit, oracle, preset_names
from fpsim.formats.rounding import Rounding
from fpsim.units.presets import VALIDATED
from fpsim.units.spec import Evidence
from fpsim.units.stages import Addend, Aligned

FOLDER = Path(
    os.environ.get("FPSIM_SILICON", Path(__file__).parents[3] / "shared" / "data" / "silicon")
)
needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no recordings: set FPSIM_SILICON to their folder"
)
RECORDED = sorted(VALIDATED)


def codes_of(float32_bits: NDArray[np.uint32], fmt: FloatFormat) -> NDArray[Any]:
    """Return codes of values that the format holds exactly (the addend is rounded to float16)."""
    return fmt.encode(float32_bits.view(np.float32), "rne", "inf" if fmt.infinity else "saturate")


def recording(gpu: str, operand: str, half: bool) -> tuple[Any, ...]:
    """Return (a, b, c, d) codes of every row, and the preset's spec."""
    data = np.load(FOLDER / f"{gpu}_{operand}.npz")
    if half and "d_fp16" not in data:
        pytest.skip(f"{gpu} {operand}: no float16 results were recorded")
    spec = get_unit(f"nvidia-{gpu}-{operand}{'-f16' * half}").spec
    a, b = codes_of(data["a"], spec.a), codes_of(data["b"], spec.b)
    assert np.array_equal(spec.a.decode(a), data["a"].view(np.float32))
    d = codes_of(data["d_fp16" if half else "d_fp32"], spec.result)
    return a, b, codes_of(data["c"], spec.initial), d, spec


def misses(spec: MacSpec, rows: tuple[Any, ...]) -> int:
    """Return how many rows a unit computes otherwise than the GPU."""
    a, b, c, d = rows
    return int((MacUnit(spec).dot(a, b, c) != d).sum())


@needs_recordings
@pytest.mark.parametrize("half", [False, True], ids=["f32", "f16"])
@pytest.mark.parametrize(("gpu", "operand"), RECORDED)
def test_every_recorded_row_is_reproduced(gpu: str, operand: str, half: bool) -> None:
    *rows, spec = recording(gpu, operand, half)
    assert len(rows[0]) == 1000
    assert misses(spec, tuple(rows)) == 0


@needs_recordings
@pytest.mark.parametrize(("gpu", "operand"), RECORDED)
def test_the_oracle_reproduces_them_too(gpu: str, operand: str) -> None:
    a, b, c, d, spec = recording(gpu, operand, False)
    part = slice(None, None, 25)
    assert np.array_equal(oracle.dot(spec, a[part], b[part], c[part]), d[part])


def neighbours(stage: Aligned) -> dict[str, Aligned]:
    """Return the stage with one parameter wrong."""
    changed: dict[str, dict[str, Any]] = {
        "N / 2": {"products": stage.products // 2},
        "F + 1": {"fraction_bits": stage.fraction_bits + 1},
        "F - 1": {"fraction_bits": stage.fraction_bits - 1},
        "align by floor": {"align": Rounding.RDN},
        "align to nearest": {"align": Rounding.RNE},
        "late addend": {"addend": Addend.LATE},
        "normalised products": {"normalised": True},
        "other result rounding": {
            "rounding": Rounding.RNE if stage.rounding is Rounding.RTZ else Rounding.RTZ
        },
    }
    if stage.format != stage.container:
        changed["all fraction bits"] = {"format": stage.container}
    return {name: replace(stage, **fields) for name, fields in changed.items()}


#: A float16 result keeps too few bits of these sums for the window to show in it.
SEEN_IN_FLOAT16 = {"N / 2", "late addend", "other result rounding"}


@pytest.mark.one_in(4)
@needs_recordings
@pytest.mark.parametrize("half", [False, True], ids=["f32", "f16"])
@pytest.mark.parametrize(("gpu", "operand"), RECORDED)
def test_neighbours_are_rejected(gpu: str, operand: str, half: bool) -> None:
    *rows, spec = recording(gpu, operand, half)
    accepted = [
        name
        for name, stage in neighbours(spec.accumulate).items()
        if (not half or name in SEEN_IN_FLOAT16)
        and misses(replace(spec, accumulate=stage), tuple(rows)) == 0
    ]
    assert not accepted


def test_only_what_is_compared_with_recordings_is_called_validated() -> None:
    validated = {n for n in preset_names() if get_unit(n).spec.evidence is Evidence.VALIDATED}
    named = {f"nvidia-{gpu}-{operand}" for gpu, operand in VALIDATED}
    assert {name.removesuffix("-f16") for name in validated} == named


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_rests_on_and_survives_toml(name: str, tmp_path: Path) -> None:
    spec = get_unit(name).spec
    assert spec.evidence is not Evidence.NONE
    assert spec.source and spec.description
    path = tmp_path / "unit.toml"
    path.write_text(spec.to_toml())
    again = MacSpec.from_toml(path)
    assert again == spec
    assert (again.name, again.evidence, again.source) == (name, spec.evidence, spec.source)
