# SPDX-License-Identifier: Apache-2.0
"""Work for executors; workers import it by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError

__all__ = ["die_once", "fail", "sleep", "square"]


def square(point: dict[str, Any]) -> dict[str, Any]:
    if point.get("seconds"):
        time.sleep(point["seconds"])
    return {"square": point["x"] ** 2}


def die_once(point: dict[str, Any]) -> dict[str, Any]:
    """Kill the worker the first time that a marked point runs; ``always`` kills it every time."""
    mark = Path(point["folder"]) / str(point["x"])
    if point.get("deadly") and (point.get("always") or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": point["x"] ** 2, "pid": os.getpid()}


def fail(point: dict[str, Any]) -> dict[str, Any]:
    if point["x"] == 2:
        raise FpsimError("x: 2 is not allowed")
    return square(point)


def sleep(point: dict[str, Any]) -> dict[str, Any]:
    (Path(point["folder"]) / f"pid-{os.getpid()}").touch()
    time.sleep(60)
    return {}
