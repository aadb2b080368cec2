# SPDX-License-Identifier: Apache-2.0
"""Vectors of units with wide scales and operands: a choice of codes, not lists of 2^32 of them."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fpsim import get_unit
from fpsim.cli import main
from fpsim.formats.names import get_format
from fpsim.vectors.coverage.set_coverage import coverage
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.code_lists import all_codes, finite_codes

pytestmark = pytest.mark.usefixtures("one_thread")

UNIT = "e2m1.e8m23xe2m1-block32-into-chain-e8m23"
CHAIN = "e2m1.e8m23-chain-e8m23"
#: Bytes of address space beyond what is taken already: a list of 2^32 codes has 32 GiB.
ALLOWED = 4 << 30


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Fail an allocation of gigabytes before it takes the machine down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ALLOWED, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_choice_has_what_finds_errors() -> None:
    fmt = get_format("e8m23")
    codes = finite_codes(fmt)
    values = fmt.decode(codes)
    assert np.isfinite(values).all() and codes.size < 1 << 14
    magnitudes = set((codes[codes < fmt.sign_bit]).tolist())
    assert {0, 1, (1 << 23) - 1, 1 << 23, fmt.max_code} <= magnitudes  # subnormals and both ends
    assert set((codes >> 23 & 255).tolist()) == set(range(255))  # every row
    one = fmt.encode(np.array([1.0])).astype(np.int64)[0]
    assert {one - 1, one, one + 1, one + (1 << 22)} <= magnitudes
    assert len({c & 0x7FFFFF for c in magnitudes}) > 1000  # and significands without a pattern
    special = fmt.decode(np.setdiff1d(all_codes(fmt), codes))
    assert np.isnan(special).any() and (special == np.inf).any() and (special == -np.inf).any()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("strategy", ["random", "directed", "mixed", "exhaustive"])
@pytest.mark.parametrize("name", [UNIT, CHAIN])
def test_written_and_checked(name: str, strategy: str, tmp_path: Path) -> None:
    out = str(tmp_path / "set")
    options = ["--k", "32"] if name == CHAIN else []
    assert main(["vectors", name, "--out", out, "--count", "50", "--strategy", strategy,
                 *options]) == 0  # fmt: skip
    assert main(["vectors", "--check", out]) == 0
    assert main(["explain", out, "--line", "60"]) == 0


@pytest.mark.parametrize("strategy", ["directed", "exhaustive", "mixed"])
def test_streams_of_wide_operands(strategy: str, tmp_path: Path) -> None:
    """Bfloat16 operands have 2^32 pairs: a choice of them."""
    out = str(tmp_path / "set")
    assert main(["vectors", "e8m7-chain-e8m23", "--out", out, "--count", "50", "--strategy",
                 strategy]) == 0  # fmt: skip
    assert main(["vectors", "--check", out]) == 0
    sections = {s.name: s.count for s in open_set(out).sections}
    if strategy != "directed":
        assert 1000 < sections["products"] < 1 << 18


def test_random_scales_are_many() -> None:
    columns = plan_set(get_unit(UNIT), strategy="random", count=5000).columns()
    values = get_format("e8m23").decode(columns["a_scale"])
    assert np.unique(columns["a_scale"]).size > 1000
    assert np.isnan(values).any()
    near = np.abs(values[np.isfinite(values)])
    assert np.mean((near >= 2.0**-6) & (near <= 2.0**6)) > 0.6


@pytest.mark.slow
def test_coverage_is_complete(tmp_path: Path) -> None:
    out = str(tmp_path / "set")
    assert main(["vectors", UNIT, "--out", out, "--count", "50"]) == 0
    found = coverage(out)
    assert found.complete, [b.name for b in found.bins if b.missing]


def test_the_c_model_gives_the_same(tmp_path: Path) -> None:
    out, header = tmp_path / "set", tmp_path / "mac.h"
    assert main(["vectors", UNIT, "--out", str(out), "--count", "50"]) == 0
    assert main(["export-c", UNIT, "--out", str(header)]) == 0
    program = tmp_path / "check"
    subprocess.run(["gcc", str(tmp_path / "mac_check.c"), "-o", str(program)], check=True)
    done = subprocess.run(
        [str(program), str(out / "vectors.hex")], check=True, capture_output=True, text=True
    )
    assert "vectors match" in done.stdout
