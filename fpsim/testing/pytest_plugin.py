# SPDX-License-Identifier: Apache-2.0
"""pytest plugin: ``--fpsim-report=out.html`` writes a page about every check of a run.

    def test_my_round(fpsim_check):
        fpsim_check.rounding(my_round, "e2m1", "rne")

The fixture's methods are the functions of `fpsim.testing`, and fail the test if the check fails;
the page lists checks that tests call directly too. Tests that use the fixture have the marker
``fpsim``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fpsim.testing.result import CheckResult

__all__ = ["Checks", "fpsim_check"]

_KEY = pytest.StashKey[list[tuple[str, "CheckResult"]]]()
#: Key of the results that workers of pytest-xdist send.
_OUTPUT = "fpsim_results"


class Checks:
    """Checks that fail the test if they do not hold; they return their results."""

    def __getattr__(self, name: str) -> Callable[..., CheckResult]:
        from fpsim import testing

        check = getattr(testing, f"check_{name}", None)
        if check is None:
            raise AttributeError(f"fpsim_check has no check {name!r}")

        def run(*arguments: Any, **options: Any) -> CheckResult:
            __tracebackhide__ = True
            result: CheckResult = check(*arguments, **options)
            if not result:
                pytest.fail(str(result), pytrace=False)
            return result

        return run


@pytest.fixture
def fpsim_check() -> Checks:
    """The checks of `fpsim.testing`, as methods: rounding, block_cast, dot, stochastic, c."""
    return Checks()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--fpsim-report``."""
    group = parser.getgroup("fpsim")
    group.addoption(
        "--fpsim-report", metavar="HTML", default=None, help="write a page about fpsim's checks"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and a place for results."""
    config.addinivalue_line("markers", "fpsim: checks a function against fpsim")
    config.stash[_KEY] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the fixture."""
    for item in items:
        if "fpsim_check" in getattr(item, "fixturenames", ()):
            item.add_marker("fpsim")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Collect the results of every check in a test."""
    if item.config.getoption("--fpsim-report") is None:
        return (yield)
    from fpsim.testing.result import observers

    kept = item.config.stash[_KEY]

    def keep(result: CheckResult) -> None:
        kept.append((item.nodeid, result))

    observers.append(keep)
    try:
        return (yield)
    finally:
        observers.remove(keep)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page; a worker of pytest-xdist sends its results instead."""
    target = session.config.getoption("--fpsim-report")
    if target is None:
        return
    results = session.config.stash[_KEY]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        import base64
        import pickle

        output[_OUTPUT] = base64.b64encode(pickle.dumps(results)).decode()
        return
    from fpsim.base.atomic_files import write_atomic
    from fpsim.testing.page import page

    write_atomic(Path(target), page(sorted(results, key=lambda r: r[0])).encode(), "fpsim-report")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the results of a worker of pytest-xdist."""
    sent = getattr(node, "workeroutput", {}).get(_OUTPUT)
    if sent:
        import base64
        import pickle

        node.config.stash[_KEY].extend(pickle.loads(base64.b64decode(sent)))
