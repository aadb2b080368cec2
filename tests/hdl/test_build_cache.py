# SPDX-License-Identifier: Apache-2.0
"""Compiled designs that are kept: found by content, whole, safe beside others, and not too many."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench import build_cache
from fpsim.hdl.bench.build_cache import BuildCache
from fpsim.hdl.bench.build_dir import Work
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut import Beats, Dut, Input, Output, Place, Wires
from fpsim.hdl.dut.source_digest import source_digest


def built(cache: BuildCache, digest: str, size: int = 10) -> Path:
    scratch = cache.scratch()
    assert scratch is not None
    (scratch / "bench").write_bytes(b"x" * size)
    (scratch / "bench.o").write_bytes(b"x" * size)
    return cache.kept(digest, scratch)


def test_a_build_is_found_again_without_what_it_was_made_of(tmp_path: Path) -> None:
    assert BuildCache(tmp_path).found("abc") is None
    place = built(BuildCache(tmp_path), "abc")
    assert place == tmp_path / "abc" == BuildCache(tmp_path).found("abc")
    assert sorted(path.name for path in place.iterdir()) == ["bench", "in_use"]


def test_the_first_of_two_processes_is_used_by_both(tmp_path: Path) -> None:
    first, second = BuildCache(tmp_path), BuildCache(tmp_path)
    place = built(first, "abc", 10)
    assert built(second, "abc", 20) == place
    assert (place / "bench").stat().st_size == 10
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_builds_in_use_stay_and_the_others_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_cache, "MOST_BUILDS", 2)
    held = BuildCache(tmp_path)
    built(held, "held")
    for name in ("one", "two", "three"):
        other = BuildCache(tmp_path)
        built(other, name)
        other.release()
    assert {path.name for path in tmp_path.iterdir()} == {"held", "two", "three"}
    monkeypatch.setattr(build_cache, "MOST_BYTES", 25)
    held.release()
    last = BuildCache(tmp_path)
    built(last, "four", 20)
    assert [path.name for path in tmp_path.iterdir()] == ["four"]


def test_nothing_stays_of_a_build_that_failed_or_whose_process_is_gone(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path)
    scratch = cache.scratch()
    assert scratch is not None
    cache.dropped(scratch)
    left = tmp_path / ".999999999.abcd"
    left.mkdir()
    (left / "half").write_bytes(b"x" * 10)
    build_cache._remove(left)
    assert not list(tmp_path.iterdir())


def test_without_a_place_to_write_there_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert BuildCache(tmp_path / "file" / "builds").scratch() is None


def design(folder: Path, **more: object) -> Dut:
    folder.mkdir(exist_ok=True)
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "mac.sv").write_text('`include "part.svh"\nmodule mac; endmodule\n')
    (folder / "part.svh").write_text('`include "deep.svh"\n')
    (folder / "lib" / "deep.svh").write_text("// nothing\n")
    (folder / "waive.vlt").write_text("`verilator_config\n")
    fields = {name: Wires((Place(name),)) for name in "ab"}
    dut = Dut(
        top="mac", sources=(folder / "mac.sv",), input=Input((Beats(fields, 1),)),
        output=Output(Wires((Place("y"),))), include=(folder / "lib",),
        arguments={"verilator": (str(folder / "waive.vlt"),)},
    )  # fmt: skip
    return replace(dut, **more)  # type: ignore[arg-type]


def test_contents_count_and_the_folder_does_not(tmp_path: Path) -> None:
    dut = design(tmp_path / "a")
    digest = source_digest(dut, "verilator")
    moved = design(tmp_path / "b", arguments=dut.arguments)
    assert source_digest(moved, "verilator") == digest
    others = [
        replace(dut, parameters={"N": 2}),
        replace(dut, defines={"FAST": 1}),
        replace(dut, top="other"),
    ]
    assert len({digest, *(source_digest(other, "verilator") for other in others)}) == 4


@pytest.mark.parametrize("name", ["mac.sv", "part.svh", "lib/deep.svh", "waive.vlt"])
def test_every_file_that_a_compiler_reads_counts(name: str, tmp_path: Path) -> None:
    dut = design(tmp_path)
    digest = source_digest(dut, "verilator")
    file = tmp_path / name
    file.write_text(file.read_text() + "// more\n")
    assert source_digest(dut, "verilator") != digest


def test_where_a_macro_names_the_file_every_file_counts(tmp_path: Path) -> None:
    dut = design(tmp_path)
    (tmp_path / "mac.sv").write_text("`include `WHICH\nmodule mac; endmodule\n")
    (tmp_path / "any.txt").write_text("one\n")
    digest = source_digest(dut, "verilator")
    (tmp_path / "any.txt").write_text("two\n")
    assert source_digest(dut, "verilator") != digest


def test_one_process_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    tool = Simulator("icarus", "11.0")
    first = Work(tool, design(tmp_path / "rtl"), tmp_path / "build", waves=False)
    with pytest.raises(FpsimError, match="another run works in .*build; give another one"):
        Work(tool, first.dut, tmp_path / "build", waves=False)
    first.close()
    Work(tool, first.dut, tmp_path / "build", waves=False).close()


def test_who_comes_second_waits_for_a_build_of_the_same(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fpsim.hdl.bench.build_cache import BuildCache

cache = BuildCache(Path(sys.argv[1]))
with cache.building(sys.argv[2]):
    print("begun", flush=True)
    sys.stdin.readline()
    cache.kept(sys.argv[2], cache.scratch())
"""
    digest, other = "a" * 64, "b" * 64
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), digest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        cache = BuildCache(tmp_path)
        with cache.building(other):  # of something else nobody waits
            assert cache.found(digest) is None
        threading.Timer(0.3, process.stdin.close).start()
        with cache.building(digest):
            assert cache.found(digest) is not None


def test_a_file_system_without_locks_is_built_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr("fpsim.hdl.bench.build_cache.fcntl.lockf", refuse)
    with BuildCache(tmp_path / "builds").building("0" * 64):
        pass
