# SPDX-License-Identifier: Apache-2.0
"""Prints a line on standard error when kernels are compiled for long, which looks like a stop."""

from __future__ import annotations

import threading
from functools import cache

from fpsim.base.progress import say

__all__ = ["announce_compiling"]

#: Seconds of compilation before the line is printed.
PATIENCE = 1.0


class _Compiling:
    """Says once per process that kernels are being compiled, if compilation takes long.

    Numba compiles functions called by a kernel within the kernel's compilation.
    """

    def __init__(self) -> None:
        self.depth, self.said, self.lock = 0, False, threading.Lock()
        self.passes = False  #: whether code is compiled, not loaded from disk
        self.timer: threading.Timer | None = None

    def begin(self) -> None:
        """Note the start of a compilation."""
        with self.lock:
            self.depth += 1
            if self.depth == 1 and not self.said:
                self.passes = False
                self.timer = threading.Timer(PATIENCE, self.tell)
                self.timer.daemon = True
                self.timer.start()

    def end(self) -> None:
        """Note the end of a compilation."""
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.timer is not None:
                self.timer.cancel()

    def work(self) -> None:
        """Note a compiler pass: the kernel is not merely loaded from disk."""
        self.passes = True

    def tell(self) -> None:
        """Print the line."""
        with self.lock:
            if self.said or not self.depth or not self.passes:
                return
            self.said = True
        say("compiling a kernel, once; the machine code is kept")


@cache
def announce_compiling() -> None:
    """Begin to watch Numba's compilations; further calls do nothing."""
    from numba.core.event import Listener, register

    seen = _Compiling()
    hooks = {"on_start": lambda *_: seen.begin(), "on_end": lambda *_: seen.end()}
    passes = {"on_start": lambda *_: seen.work(), "on_end": lambda *_: None}
    register("numba:compile", type("Compilations", (Listener,), hooks)())  # type: ignore[no-untyped-call]
    register("numba:run_pass", type("Passes", (Listener,), passes)())  # type: ignore[no-untyped-call]
