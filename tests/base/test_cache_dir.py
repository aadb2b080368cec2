# SPDX-License-Identifier: Apache-2.0
"""Where fpsim keeps what it can make or fetch again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpsim.base.cache_dir import cache_dir


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"FPSIM_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/fpsim"),
        ({"HOME": "/home/me"}, "/home/me/.cache/fpsim"),
        ({"FPSIM_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/fpsim"),
    ],
)
def test_cache_dir(env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FPSIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)
