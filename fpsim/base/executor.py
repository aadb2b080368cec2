# SPDX-License-Identifier: Apache-2.0
"""Runs independent points of work here, in processes or on a Dask cluster, and caches results.

    with executor(workers=4) as pool:
        results = run_points(work, points, pool, cache=PointCache(folder))

Results keep the order of the points. A point is JSON data, and so is its result; further input,
such as a model, travels by name and digest, and `work`, a function of a module, loads it where it
runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError

__all__ = ["Executor", "PointCache", "Work", "executor", "run_points"]

Point = Mapping[str, Any]
Work = Callable[[Any], Any]
#: Called with points done, points in all, and the index of the point just done.
Report = Callable[[int, int, int], None]
#: Times that a point is tried again after its worker was lost.
RETRIES = 3
#: Seconds to wait for a Dask scheduler.
CONNECT_SECONDS = 10


class Executor(Protocol):
    """Runs independent points."""

    def run(self, work: Work, points: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield index and result of every point, in the order in which they finish."""


def run_points(
    work: Work,
    points: Sequence[Point],
    pool: Executor,
    cache: PointCache | None = None,
    report: Report = lambda done, total, index: None,
) -> list[Any]:
    """Run a function on all points and return the results in order.

    Args:
        work: a function of a module, from a point to a JSON result.
        points: JSON data.
        pool: runs the points.
        cache: keeps results of finished points, and gives results of earlier runs.
        report: called after each point.

    Returns:
        Results in the order of the points.

    Raises:
        FpsimError: a worker lost again and again, a lost scheduler, or any error that ``work``
            raises. Finished points are in the cache.
    """
    name = f"{work.__module__}.{getattr(work, '__qualname__', work)}"
    results: dict[int, Any] = {}
    for index, point in enumerate(points):
        found = None if cache is None else cache.get(name, point)
        if found is not None:
            results[index] = found
            report(len(results), len(points), index)
    missing = [index for index in range(len(points)) if index not in results]
    for place, result in pool.run(work, [points[index] for index in missing]):
        index = missing[place]
        results[index] = result
        if cache is not None:
            cache.put(name, points[index], result)
        report(len(results), len(points), index)
    return [results[index] for index in range(len(points))]


class PointCache:
    """A folder of results, one JSON file each, named by work, version and every datum of a point.

    ``version`` is the program's; a point of another version is computed anew.
    """

    def __init__(self, folder: str | Path, version: str = "") -> None:
        self.folder, self.version = Path(folder), version

    def get(self, work: str, point: Point) -> Any:
        """Return a result, or None if the folder has none or its file is damaged."""
        try:
            entry = json.loads(self._path(work, point).read_text(encoding="utf-8"))
            return entry["result"] if entry["point"] == _plain(point) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, work: str, point: Point, result: Any) -> None:
        """Write a result to the folder, whole or not at all.

        Args:
            work: name of the function.
            point: argument of the function.
            result: JSON data.
        """
        data = {"work": work, "version": self.version, "point": _plain(point), "result": result}
        write_atomic(self._path(work, point), json.dumps(data).encode(), "cache")

    def _path(self, work: str, point: Point) -> Path:
        text = json.dumps([work, self.version, _plain(point)], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _plain(point: Point) -> Any:
    return json.loads(json.dumps(point))


@contextmanager
def executor(
    workers: int = 0, scheduler: str | None = None, dask: bool = False
) -> Iterator[Executor]:
    """Yield an executor, and close it at the end.

    Args:
        workers: processes on this computer; 0: this process.
        scheduler: address of a Dask scheduler, such as ``tcp://host:8786``; overrides ``workers``.
        dask: whether the processes are a local Dask cluster.

    Yields:
        The executor.

    Raises:
        FpsimError: a negative ``workers``, no Dask installed, or a scheduler that does not answer.
    """
    if workers < 0:
        raise FpsimError(f"workers: {workers} is not a count; 0 runs everything in this process")
    if scheduler is None and not dask:
        yield _Processes(workers) if workers else _Here()
        return
    with _dask_client(workers, scheduler) as client:
        yield _Dask(client)


class _Here:
    """Runs points one after the other in this process."""

    def run(self, work: Work, points: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, point in enumerate(points):
            yield index, work(point)


class _Processes:
    """Runs points in new processes of this computer, which are not forked because of threads."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Work, points: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        left = dict(enumerate(points))
        lost = 0
        while left:
            done = len(left)
            try:
                for index, result in self._once(work, left):
                    del left[index]
                    yield index, result
            except BrokenProcessPool:
                # The pool does not say which point the lost process had.
                lost = lost + 1 if len(left) == done else 1
                if lost > RETRIES:
                    raise FpsimError(
                        f"workers: processes were lost {lost} times in a row with {len(left)} of "
                        f"{len(points)} points left, the last time without finishing any"
                    ) from None

    def _once(self, work: Work, left: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(self.workers, len(left)), mp_context=context)
        clean = False
        try:
            futures: dict[Future[Any], int] = {
                pool.submit(work, point): index for index, point in left.items()
            }
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                # A lost process breaks every waiting future: take finished results first.
                for future in sorted(finished, key=lambda one: one.exception() is not None):
                    yield futures[future], future.result()
            clean = True
        finally:
            if not clean:
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


class _Dask:
    """Runs points on a Dask cluster, which moves a lost worker's points to another worker."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, work: Work, points: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError

        # Keys keep points with equal data apart.
        token = hashlib.sha256(repr((work, list(points))).encode()).hexdigest()[:16]
        futures = [
            self.client.submit(work, point, key=f"fpsim-{token}-{index}", pure=False)
            for index, point in enumerate(points)
        ]
        places = {future.key: index for index, future in enumerate(futures)}
        try:
            for future in as_completed(futures):  # type: ignore[no-untyped-call]
                yield places[future.key], future.result()
        except KilledWorker as error:
            raise FpsimError(f"workers: lost again and again at one point ({error})") from None
        except (CommClosedError, CancelledError, OSError) as error:
            raise FpsimError(f"scheduler: lost ({type(error).__name__})") from None
        finally:
            for future in futures:
                if not future.done():
                    future.cancel()


@contextmanager
def _dask_client(workers: int, scheduler: str | None) -> Iterator[Any]:
    if importlib.util.find_spec("distributed") is None:
        raise FpsimError("scheduler: Dask is not installed; pip install 'fpsim[explore]'")
    from distributed import Client, LocalCluster

    if scheduler is None:
        with (
            LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=max(workers, 1), threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,  # type: ignore[no-untyped-call]
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FpsimError(f"scheduler: {scheduler!r} does not answer ({reason})") from None
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]
