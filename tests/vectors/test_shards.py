# SPDX-License-Identifier: Apache-2.0
"""Sets made in pieces: shards joined, interrupted runs gone on with, and the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fpsim import FpsimError, get_unit
from fpsim.base.executor import executor
from fpsim.cli import main
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.file_formats import FORMATS
from fpsim.vectors.files.sharded import write_sharded
from fpsim.vectors.files.shards import Shard
from fpsim.vectors.files.writer import merge_shards, write
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.vector_set import VectorPlan

pytestmark = pytest.mark.usefixtures("one_thread")

UNIT, COUNT, K = "e2m1-fixed24q2", 20000, 32


def set_of(seed: int = 1, count: int = COUNT, strategy: str = "mixed") -> VectorPlan:
    return plan_set(get_unit(UNIT), strategy=strategy, count=count, seed=seed, k=K)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(write(set_of(), tmp_path_factory.mktemp("whole") / "set", FORMATS))


# -- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [1, 2, 5, 60])
def test_shards_join_to_the_same_bytes(of: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Made in any order, more shards than blocks among them."""
    target = tmp_path / "set"
    for i in sorted(range(1, of + 1), key=lambda i: i * 7 % of):
        write(set_of(), target, FORMATS, shard=Shard(i, of))
    if of > 1:
        assert not target.exists()
        names = {name for path in tmp_path.iterdir() for name in contents(path)}
        assert "manifest.json" not in names and "vectors.hex" not in names
        merge_shards(target)
    assert contents(target) == whole


def test_shards_are_points_of_an_executor(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """An interrupted run keeps its finished shards; damaged ones and those of others do not count."""
    made: list[Shard] = []

    class Pool:
        def run(self, work: Any, points: Any) -> Any:
            for place in reversed(range(len(points))):
                if len(made) == 3:
                    raise KeyboardInterrupt
                made.append(points[place][-1])
                yield place, work(points[place])

    target, seen = tmp_path / "set", []
    with pytest.raises(KeyboardInterrupt):
        write_sharded(set_of(), target, 5, Pool(), FORMATS)
    assert [shard.index for shard in made] == [5, 4, 3]
    (Shard(4, 5).directory(target) / "shard.json").write_text("{")
    write(set_of(seed=2), target, FORMATS, shard=Shard(5, 5))
    with executor() as pool:
        write_sharded(set_of(), target, 5, pool, FORMATS, lambda *done: seen.append(done))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert contents(target) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_workers_make_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = ["vectors", UNIT, "--count", "300", "--k", "4", "--out"]
    assert main([*begun, str(tmp_path / "a")]) == 0
    assert main([*begun, str(tmp_path / "b"), "--shards", "2", "--workers", "1"]) == 0
    assert main([*begun, str(tmp_path / "c"), "--shards", "1"]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    capsys.readouterr()
    for options, said in (
        (["--workers", "2"], "workers: they make shards; say --shards N too"),
        (["--shards", "2", "--shard", "1/2"], "shards: with --workers; neither with --shard"),
        (["--shards", "2", "--jobs", "2"], "nor with --jobs"),
        (["--shards", "0"], "shard: '1/0' is not i/n"),
        (["--shards", "2", "--workers", "-1"], "workers: -1 is not a count"),
    ):
        assert main([*begun, str(tmp_path / "d"), *options]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_shards_share_the_work() -> None:
    plan = set_of(count=200_000, strategy="random")
    shares = [sum(plan.rows(*job) for _, job in Shard(i, 4).jobs(plan)) for i in range(1, 5)]
    assert sum(shares) == plan.count
    assert max(shares) - min(shares) <= 2 * 4096


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1.0/2"])
def test_shards_are_numbered_from_one(text: str) -> None:
    with pytest.raises(FpsimError, match=f"shard: '{text}' is not i/n"):
        Shard.parse(text)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for i in (1, 2):
        write(set_of(count=9000), tmp_path / "set", ("csv",), shard=Shard(i, 2))
    return tmp_path / "set"


def second(target: Path) -> Path:
    return target.with_name(f"{target.name}.shard-2-of-2")


def change_json(key: str, value: Any) -> Callable[[Path], None]:
    def change(target: Path) -> None:
        path = second(target) / "shard.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return change


def flip_byte(target: Path) -> None:
    path = second(target) / "vectors.csv.part"
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: second(t).rename(t.with_name("x")), "shard-2-of-2 is missing"),
        (lambda t: second(t).rename(t.with_name("set.shard-2-of-3")), "shards of 2 and of 3"),
        (lambda t: write(set_of(2, 9000), t, ("csv",), shard=Shard(2, 2)), "seed is 2, not 1"),
        (lambda t: write(set_of(1, 9000), t, shard=Shard(2, 2)), "formats is .*jsonl"),
        (flip_byte, r"vectors\.csv\.part: SHA-256"),
        (lambda t: (second(t) / "vectors.hex.part").unlink(), "cannot be read"),
        (lambda t: (second(t) / "shard.json").write_text("{"), r"shard\.json: not valid JSON"),
        (lambda t: (second(t) / "shard.json").write_text("{}"), "not the description of a shard"),
        (change_json("start", 7), "starts at vector 7"),
        (change_json("count", 7), "not all"),
        (change_json("sha256", {}), "sha256 is not of the formats"),
    ],
)
def test_shards_that_do_not_fit(shards: Path, change: Callable[[Path], Any], words: str) -> None:
    change(shards)
    with pytest.raises(FpsimError, match=words):
        merge_shards(shards)
    assert not shards.exists()
    assert not [path for path in shards.parent.iterdir() if path.name.startswith(".")]


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match="there is no .*set.shard-1-of-N"):
        merge_shards(tmp_path / "set")


def test_shard_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["vectors", UNIT, "--k", "2", "--count", "300", "--out", str(tmp_path / "set")]
    for part in ("2/2", "1/2"):
        assert main([*command, "--shard", part]) == 0
    assert main(["vectors", "--merge", str(tmp_path / "set")]) == 0
    assert main(["vectors", "--check", str(tmp_path / "set"), "--jobs", "2"]) == 0
    assert main([*command, "--shard", "3/2"]) == 2
    assert "shard: '3/2' is not i/n" in capsys.readouterr().err


# -- interrupted runs ----------------------------------------------------------------------------


class Stopped(VectorPlan):
    """A set whose making is interrupted at a block."""

    stop: Any = None
    made = 0

    def block(self, part: int, block: int) -> Any:
        if type(self).made == type(self).stop:
            raise KeyboardInterrupt
        type(self).made += 1
        return super().block(part, block)


def stopped(plan: VectorPlan, after: int | None) -> VectorPlan:
    """Return a set that can be made ``after`` blocks far."""
    Stopped.stop, Stopped.made = after, 0
    return Stopped(plan.record, plan.strategy, plan.seed, plan.parts, plan.start)


def interrupt(tmp_path: Path, after: int) -> Path:
    with pytest.raises(KeyboardInterrupt):
        write(stopped(set_of(), after), tmp_path / "set", FORMATS)
    return tmp_path / ".set.partial"


@pytest.mark.parametrize("after", [0, 1, 9, 15])
def test_an_interrupted_run_goes_on(after: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Only what is missing is made, and the bytes are those of one run."""
    interrupt(tmp_path, after)
    assert [path.name for path in tmp_path.iterdir()] == [".set.partial"]
    seen: list[tuple[int, int]] = []
    plan = stopped(set_of(), None)
    write(plan, tmp_path / "set", FORMATS, progress=lambda *done: seen.append(done))
    assert Stopped.made == len(plan.jobs()) - after
    assert seen[-1] == (plan.count, plan.count)
    assert contents(tmp_path / "set") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda partial: (partial / name).write_bytes(change((partial / name).read_bytes())) and None  # fmt: skip


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (edited("vectors.hex.part", lambda data: data[:-100]), 7),
        (edited("vectors.hex.part", lambda data: data[:-100] + b"5" * 100), 7),
        (edited("vectors.csv.part", lambda data: data + b"half a block"), 8),
        (edited("vectors.csv.part", lambda data: b"x" + data[1:]), 0),
        (edited("journal", lambda data: data[:-1]), 7),
        (edited("journal", lambda data: data.replace(b"\n", b" ", 1)), 0),
        (edited("journal", lambda data: data + b"99999999 0 0 0 0\n"), 8),
        (edited("journal", lambda data: b""), 0),
        (edited("set.json", lambda data: data[:40]), 0),
        (lambda partial: (partial / "vectors.jsonl.part").unlink(), 0),
    ],
)
def test_what_is_kept_is_verified(
    change: Callable[[Path], None], most: int, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """A crash may leave anything behind: blocks count only as far as their digests hold."""
    change(interrupt(tmp_path, 8))
    plan = stopped(set_of(), None)
    write(plan, tmp_path / "set", FORMATS)
    assert Stopped.made == len(plan.jobs()) - most
    assert contents(tmp_path / "set") == whole


def test_another_set_is_not_mixed_in(tmp_path: Path) -> None:
    partial = interrupt(tmp_path, 3)
    before = contents(partial)
    for other, formats, words in (
        (set_of(seed=2), FORMATS, "seed is 1, not 2"),
        (set_of(count=5000), FORMATS, f"count is {set_of().count}, not"),
        (set_of(), ("csv",), "formats is"),
    ):
        with pytest.raises(FpsimError, match=f"{words}.*finish that run or delete"):
            write(other, tmp_path / "set", formats)
    assert contents(partial) == before
    (partial / "set.json").write_text("mine")
    with pytest.raises(FpsimError, match="holds no unfinished set of vectors"):
        write(set_of(), tmp_path / "set", FORMATS)


def test_two_runs_at_once(tmp_path: Path) -> None:
    plan = set_of(count=9000)

    def other(*_: int) -> None:
        with pytest.raises(FpsimError, match="another run is writing"):
            write(plan, tmp_path / "set")

    write(plan, tmp_path / "set", progress=other)
    assert check(tmp_path / "set").count == plan.count


def test_a_set_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    class Refused(VectorPlan):
        def block(self, part: int, block: int) -> Any:
            raise FpsimError("result: NaN has no code")

    plan = set_of()
    with pytest.raises(FpsimError, match="no code"):
        write(Refused(plan.record, plan.strategy, plan.seed, plan.parts), tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.sweep
def test_a_killed_process(tmp_path: Path) -> None:
    """SIGKILL while blocks are written; a second run of the same command ends in the same bytes."""
    arguments = [UNIT, "--k", str(K), "--count", "400000", "--format", "csv"]
    command = [sys.executable, "-m", "fpsim", "vectors", *arguments]
    journal = tmp_path / ".set.partial" / "journal"
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "set")], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 20):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    plan = plan_set(get_unit(UNIT), count=400000, k=K)
    again = write(plan, tmp_path / "set", ("csv",))
    assert contents(again) == contents(write(plan, tmp_path / "other", ("csv",)))


# -- sums that start with a load -----------------------------------------------------------------

STREAM = 150_000


def stream_of(count: int = STREAM) -> VectorPlan:
    return plan_set(get_unit("e2m1-chain-e5m10"), count=count, seed=3, group=1, start="load")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(write(stream_of(), tmp_path_factory.mktemp("stream") / "set"))


def test_blocks_join_to_the_set_in_memory(stream: dict[str, bytes], tmp_path: Path) -> None:
    made = stream_of()
    assert made.parts[-1].blocks == 2
    assert contents(write(made.made(), tmp_path / "set")) == stream


@pytest.mark.parametrize("of", [2, 7])
def test_shards_of_a_stream(of: int, tmp_path: Path, stream: dict[str, bytes]) -> None:
    for i in range(of, 0, -1):
        write(stream_of(), tmp_path / "set", shard=Shard(i, of))
    merge_shards(tmp_path / "set")
    assert contents(tmp_path / "set") == stream


@pytest.mark.parametrize("after", [0, 3, 12])
def test_an_interrupted_stream_goes_on(
    after: int, tmp_path: Path, stream: dict[str, bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(stopped(stream_of(), after), tmp_path / "set")
    plan = stopped(stream_of(), None)
    write(plan, tmp_path / "set")
    assert Stopped.made == len(plan.jobs()) - after
    assert contents(tmp_path / "set") == stream
    assert check(tmp_path / "set").count == plan.count


@pytest.mark.sweep
def test_stream_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["vectors", UNIT, "--count", "300", "--out", str(tmp_path / "set")]
    assert main([*command[:-1], str(tmp_path / "whole"), "--jobs", "2"]) == 0
    for part in ("2/2", "1/2"):
        assert main([*command, "--shard", part]) == 0
    assert main(["vectors", "--merge", str(tmp_path / "set")]) == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert main(["vectors", "--check", str(tmp_path / "set")]) == 0
    assert "each as the unit gives it" in capsys.readouterr().out
