# SPDX-License-Identifier: Apache-2.0
"""A disk that is full and folders that take nothing: the state stays whole, and a run goes on."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fpsim import FpsimError, get_unit, vectors
from fpsim.base.atomic_files import write_atomic
from fpsim.cli import main

UNIT = "e2m1-chain-e4m3"


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Let files grow to ``size`` bytes only, as a quota or a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.sweep
@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_vectors_on_a_full_disk_go_on(size: int, tmp_path: Path) -> None:
    plan = vectors.plan(get_unit(UNIT), count=20_000, strategy="random")
    with full_after(size), pytest.raises(FpsimError, match=r"out: .*set cannot be written \(File"):
        vectors.write(plan, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    vectors.write(plan, tmp_path / "set")
    vectors.write(plan, tmp_path / "other")
    assert contents(tmp_path / "set") == contents(tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"set", "other"}


def test_a_file_stays_what_it_was(tmp_path: Path) -> None:
    file = write_atomic(tmp_path / "file", b"old")
    with full_after(100), pytest.raises(FpsimError, match="out: .*cannot be written"):
        write_atomic(file, b"x" * 101)
    assert contents(tmp_path) == {"file": b"old"}


def test_commands_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, picture = str(tmp_path / "mac.h"), str(tmp_path / "formats.svg")
    for command in (
        ["export-c", UNIT, "--out", model],
        ["plot", "formats", "--formats", "e2m1", "--out", picture],
    ):
        with full_after(100):
            assert main(command) == 2
        said = capsys.readouterr().err
        assert "cannot be written (File too large)" in said
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_places_that_take_nothing(tmp_path: Path) -> None:
    """A file where a folder is needed; /proc, where not even the superuser creates one."""
    (tmp_path / "file").write_text("")
    plan = vectors.plan(get_unit(UNIT), count=10, strategy="random")
    for place in (tmp_path / "file" / "set", Path("/proc/nothing/set")):
        with pytest.raises(FpsimError, match="out: "):
            vectors.write(plan, place)
        with pytest.raises(FpsimError, match="out: .*cannot be written"):
            write_atomic(place, b"x")
    assert (tmp_path / "file").read_text() == ""
