# SPDX-License-Identifier: Apache-2.0
"""Executors give the same results in the same order, and lose nothing when a worker is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from support.points import die_once, fail, sleep, square

from fpsim.base.errors import FpsimError
from fpsim.base.executor import PointCache, executor, run_points

POINTS = [{"x": x, "seconds": 0.05 * (x == 0)} for x in range(6)]
WANTED = [{"square": x * x} for x in range(6)]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_results_in_the_same_order(workers: int) -> None:
    seen: list[tuple[int, int, int]] = []
    with executor(workers) as pool:
        assert run_points(square, POINTS, pool, report=lambda *a: seen.append(a)) == WANTED
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in seen} == {6}
    assert sorted(index for _, _, index in seen) == list(range(6))


def test_finished_points_are_kept_by_content(tmp_path: Path) -> None:
    cache = PointCache(tmp_path, "1")
    with executor() as pool:
        run_points(square, POINTS[:3], pool, cache)
        for path in tmp_path.iterdir():  # so that one can see which results were computed
            entry = json.loads(path.read_text())
            path.write_text(json.dumps(entry | {"result": "kept"}))
        assert run_points(square, POINTS[:4], pool, cache) == ["kept"] * 3 + WANTED[3:4]
        other = [{**POINTS[0], "x": 7}]
        assert run_points(square, other, pool, cache) == [{"square": 49}]
        assert run_points(square, POINTS[:1], pool, PointCache(tmp_path, "2")) == WANTED[:1]
        assert run_points(fail, POINTS[:1], pool, cache) == WANTED[:1]
        for path in tmp_path.iterdir():
            path.write_text("{")
        assert run_points(square, POINTS[:2], pool, cache) == WANTED[:2]


def test_what_was_finished_before_an_error_is_kept(tmp_path: Path) -> None:
    with executor() as pool, pytest.raises(FpsimError, match="x: 2 is not allowed"):
        run_points(fail, POINTS, pool, PointCache(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lost_process_costs_no_point(tmp_path: Path) -> None:
    points = [{"x": x, "folder": str(tmp_path), "deadly": x == 1} for x in range(4)]
    with executor(2) as pool:
        results = run_points(die_once, points, pool)
    assert [result["square"] for result in results] == [0, 1, 4, 9]
    assert os.getpid() not in {result["pid"] for result in results}
    assert (tmp_path / "1").exists()


def test_a_point_that_always_kills_is_given_up(tmp_path: Path) -> None:
    points = [{"x": 0, "folder": str(tmp_path), "deadly": True, "always": True}]
    with executor(1) as pool, pytest.raises(FpsimError, match="lost 4 times in a row with 1 of 1"):
        run_points(die_once, points, pool)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise, which workers of pytest-xdist ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_cancellation_leaves_no_process(tmp_path: Path) -> None:
    """A caller that stops reading ends the processes at once, not after their minute of sleep."""
    points = [{"folder": str(tmp_path), "x": x} for x in range(2)]
    started = time.monotonic()

    def impatient() -> None:
        with executor(2) as pool:
            results = pool.run(sleep, points)

            def stop() -> None:
                while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < started + 40:
                    time.sleep(0.05)
                os.kill(os.getpid(), 2)

            threading.Thread(target=stop).start()
            next(results)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert pids
    assert time.monotonic() - started < 45
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_bad_workers_and_schedulers_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FpsimError, match="workers: -1 is not a count"), executor(-1):
        pass
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FpsimError, match=r"pip install 'fpsim\[explore\]'"), executor(dask=True):
        pass


# -- Dask ----------------------------------------------------------------------------------------


class Lost(Exception):
    """What a cluster raises that is made up."""


class FakeFuture:
    """A point that a made-up cluster has: done once it was yielded."""

    def __init__(self, key: str, result: Any) -> None:
        self.key, self.value, self.cancelled, self.yielded = key, result, False, False

    def done(self) -> bool:
        return self.yielded

    def result(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def cancel(self) -> None:
        self.cancelled = True


class FakeClient:
    """A client whose futures end in the opposite order."""

    made: ClassVar[list[FakeClient]] = []

    def __init__(self, address: Any, timeout: float = 0) -> None:
        if address == "tcp://nobody":
            raise OSError("no answer\nand more")
        self.address, self.timeout, self.closed = address, timeout, False
        self.futures: list[FakeFuture] = []
        FakeClient.made.append(self)

    def submit(self, work: Any, point: Any, *, key: str, pure: bool) -> FakeFuture:
        assert not pure
        try:
            self.futures.append(FakeFuture(key, work(point)))
        except Exception as error:
            self.futures.append(FakeFuture(key, error))
        return self.futures[-1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[FakeClient]:
    """Stand in for the package of Dask; return the clients that are made."""
    killed, closed = type("KilledWorker", (Lost,), {}), type("CommClosedError", (Lost,), {})

    def as_completed(futures: list[FakeFuture]) -> Iterator[FakeFuture]:
        for future in reversed(futures):
            future.yielded = True
            yield future

    modules: dict[str, dict[str, Any]] = {
        "distributed": {
            "CancelledError": type("CancelledError", (Lost,), {}), "KilledWorker": killed,
            "as_completed": as_completed, "Client": FakeClient, "LocalCluster": None,
        },
        "distributed.comm": {},
        "distributed.comm.core": {"CommClosedError": closed},
    }  # fmt: skip
    for name, members in modules.items():
        made = ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(FakeClient, "made", [])
    return FakeClient.made


def test_results_of_a_cluster_find_their_points(cluster: list[FakeClient]) -> None:
    equal = [*POINTS, POINTS[2], POINTS[2]]  # equal points are points of their own
    with executor(2, scheduler="tcp://somebody") as pool:
        assert run_points(square, equal, pool) == [*WANTED, WANTED[2], WANTED[2]]
        (client,) = cluster
        assert client.address == "tcp://somebody" and client.timeout > 0
        assert len({future.key for future in client.futures}) == len(equal)
        assert not client.closed
    assert client.closed


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("KilledWorker", "distributed", "workers: lost again and again at one point (at 3)"),
        ("CommClosedError", "distributed.comm.core", "scheduler: lost (CommClosedError)"),
        ("CancelledError", "distributed", "scheduler: lost (CancelledError)"),
    ],
)
def test_a_cluster_that_is_lost_is_one_sentence(
    name: str, module: str, said: str, cluster: list[FakeClient]
) -> None:
    def work(point: dict[str, Any]) -> Any:
        if point["x"] == 3:
            raise getattr(sys.modules[module], name)("at 3")
        return point

    with (
        pytest.raises(FpsimError, match=re.escape(said)),
        executor(scheduler="tcp://somebody") as pool,
    ):
        run_points(work, POINTS, pool)
    (client,) = cluster
    assert client.closed
    # What was not done is not computed any more.
    assert [future.cancelled for future in client.futures] == [True] * 3 + [False] * 3


def test_a_scheduler_that_does_not_answer_is_named(cluster: list[FakeClient]) -> None:
    wanted = r"^scheduler: 'tcp://nobody' does not answer \(no answer\)$"
    with pytest.raises(FpsimError, match=wanted), executor(scheduler="tcp://nobody"):
        pass
    assert cluster == []


@pytest.mark.sweep
def test_dask_gives_the_same_and_survives_a_lost_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed")
    points: list[dict[str, Any]] = [
        {"x": x, "folder": str(tmp_path), "deadly": x == 2} for x in range(6)
    ]
    with executor(2, dask=True) as pool:
        assert run_points(square, POINTS, pool) == WANTED
        results = run_points(die_once, points, pool)
        with pytest.raises(FpsimError, match="x: 2 is not allowed"):
            run_points(fail, POINTS, pool)
    assert [result["square"] for result in results] == [x * x for x in range(6)]
    assert (tmp_path / "2").exists()


@pytest.mark.sweep
def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr("fpsim.base.executor.CONNECT_SECONDS", 1)
    with (
        pytest.raises(FpsimError, match="scheduler: 'tcp://127.0.0.1:9' does not answer") as caught,
        executor(scheduler="tcp://127.0.0.1:9"),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.sweep
def test_a_scheduler_lost_in_the_middle_is_one_sentence(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    points = [{"x": x, "folder": str(tmp_path)} for x in range(2)]
    with executor(scheduler=cluster.scheduler_address) as pool:
        results = pool.run(sleep, points)

        def stop() -> None:
            while not list(tmp_path.glob("pid-*")):
                time.sleep(0.05)
            cluster.close(timeout=5)

        threading.Thread(target=stop).start()
        with pytest.raises(FpsimError, match="scheduler: lost"):
            next(results)
