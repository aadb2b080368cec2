# SPDX-License-Identifier: Apache-2.0
"""A line on standard error where kernels are compiled and nobody would know why nothing happens."""

from __future__ import annotations

import threading
from functools import cache

from fpsim.base.progress import say

__all__ = ["announce_compiling"]

#: Seconds of compiling after which it is said.
PATIENCE = 1.0


class _Compiling:
    """Says once in a process that something is being compiled, if that takes long.

    Numba compiles the functions that a kernel calls inside the compilation of the kernel.
    """

    def __init__(self) -> None:
        self.depth, self.said, self.lock = 0, False, threading.Lock()
        self.passes = False  #: whether there is work: what is on disk is only loaded
        self.timer: threading.Timer | None = None

    def begin(self) -> None:
        """Note that a compilation starts."""
        with self.lock:
            self.depth += 1
            if self.depth == 1 and not self.said:
                self.passes = False
                self.timer = threading.Timer(PATIENCE, self.tell)
                self.timer.daemon = True
                self.timer.start()

    def end(self) -> None:
        """Note that a compilation is over."""
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.timer is not None:
                self.timer.cancel()

    def work(self) -> None:
        """Note that a part of a compilation starts."""
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
    """Begin to watch Numba, the first time that this is called."""
    from numba.core.event import Listener, register

    seen = _Compiling()
    hooks = {"on_start": lambda *_: seen.begin(), "on_end": lambda *_: seen.end()}
    passes = {"on_start": lambda *_: seen.work(), "on_end": lambda *_: None}
    register("numba:compile", type("Compilations", (Listener,), hooks)())  # type: ignore[no-untyped-call]
    register("numba:run_pass", type("Passes", (Listener,), passes)())  # type: ignore[no-untyped-call]
