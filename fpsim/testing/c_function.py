# SPDX-License-Identifier: Apache-2.0
"""`check_c`: a C function, compiled and run in a separate process, against a unit or a format.

The function runs beside the checker: a crash, a sanitizer's report or an endless loop ends only its
process. The arguments of the failing call are known, because finished calls are counted in memory
that both processes share.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format
from fpsim.testing.contract import ContractError
from fpsim.testing.dot import check_dot
from fpsim.testing.result import CheckResult
from fpsim.testing.rounding import check_rounding
from fpsim.unit import MacUnit, get_unit

__all__ = ["check_c"]

Sanitizer = Literal["address", "undefined"]
COMPILERS = ("cc", "gcc", "clang")
#: Most characters of a compiler's or a sanitizer's message in an error.
MAX_QUOTE = 200
#: Layout of the shared memory: the number of finished calls, the kind of result, then the results.
HEAD = 16
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_DRIVER = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "@SOURCE@"

static void *map(const char *path, long bytes, int write) {
  int file = open(path, write ? O_RDWR : O_RDONLY);
  if (file < 0) return NULL;
  void *at = mmap(NULL, (size_t)bytes, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, file, 0);
  return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv) {
  if (argc != 5) return 90;
  long count = atol(argv[1]), bytes = atol(argv[2]);
  const @WORD@ *in = map(argv[3], bytes, 0);
  volatile uint64_t *shared = map(argv[4], @HEAD@ + 8 * count, 1);
  if (in == NULL || shared == NULL) return 91;
  shared[1] = _Generic((@CALL0@), float: 1, double: 1, default: 0);
  for (long i = 0; i < count; i++) {
    shared[0] = (uint64_t)i;
    const @WORD@ *x = in + i * @LANES@;
    (void)x;
    union { double value; uint64_t bits; } out;
    @RESULT@
    shared[2 + i] = out.bits;
  }
  shared[0] = (uint64_t)count;
  return 0;
}
"""
_STORE = """if (shared[1]) out.value = (double)(@CALL@);
    else out.bits = (uint64_t)(@CALL@);"""


@dataclass(frozen=True)
class _Program:
    """A compiled driver, which runs the function on rows of words."""

    path: Path
    function: str
    lanes: int
    dtype: Any
    timeout: float
    folder: Path

    def run(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return results for rows (n, lanes): uint64 codes, or float64 values.

        Raises:
            ContractError: the function crashed, was stopped by a sanitizer, or did not return.
        """
        count = rows.shape[0]
        source, target = self.folder / "in.bin", self.folder / "out.bin"
        source.write_bytes(np.ascontiguousarray(rows, dtype=self.dtype).tobytes() or b"\0")
        target.write_bytes(bytes(HEAD + 8 * count))
        command = [self.path, count, max(1, source.stat().st_size), source, target]
        failure = ""
        with (self.folder / "messages").open("wb") as messages:
            try:
                done = subprocess.run(
                    [str(part) for part in command], stdout=messages, stderr=messages,
                    stdin=subprocess.DEVNULL, timeout=self.timeout, check=False,
                )  # fmt: skip
                if done.returncode < 0:
                    failure = f"crashed (signal {-done.returncode})"
                elif done.returncode:
                    failure = f"ended the process with status {done.returncode}"
            except subprocess.TimeoutExpired:
                failure = f"did not end within {self.timeout:g} s"
        with target.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as at:
            words = np.frombuffer(at[:], dtype=np.uint64)
        if failure:
            said = _first_line((self.folder / "messages").read_bytes())
            i = min(int(words[0]), count - 1)
            shown = ", ".join(f"{v:g}" if rows.dtype.kind == "f" else hex(v) for v in rows[i][:8])
            raise ContractError(
                f"function: {self.function}({shown}) {failure}{f': {said}' if said else ''}"
            )
        results = words[2:]
        return results.view(np.float64) if words[1] else results


@dataclass(frozen=True)
class _Source:
    """A C file and the way to compile it."""

    path: Path
    function: str
    sanitize: tuple[str, ...]
    timeout: float
    stack: ExitStack = field(default_factory=ExitStack)

    def program(self, arguments: str, lanes: int, dtype: Any) -> _Program:
        """Compile the file with a driver that calls ``function(arguments)``.

        Raises:
            FpsimError: no C compiler, or a file that does not compile.
        """
        compiler = next((c for c in map(shutil.which, COMPILERS) if c), None)
        if compiler is None:
            raise FpsimError(f"compiler: none of {', '.join(COMPILERS)} is installed")
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="fpsim-c-")))
        word = {"f4": "float", "f8": "double"}.get(np.dtype(dtype).str[1:], "uint64_t")
        call = f"{self.function}({arguments})"
        text = _DRIVER
        for name, value in (
            ("@RESULT@", _STORE), ("@CALL0@", call.replace("x[", "in[")), ("@CALL@", call),
            ("@SOURCE@", str(self.path.resolve())), ("@WORD@", word), ("@LANES@", str(lanes)),
            ("@HEAD@", str(HEAD)),
        ):  # fmt: skip
            text = text.replace(name, value)
        (folder / "driver.c").write_text(text, encoding="utf-8")
        flags = ["-std=gnu11", "-O1", "-g", "-w"]
        if self.sanitize:
            flags += [f"-fsanitize={','.join(self.sanitize)}", "-fno-sanitize-recover=all"]
        command = [compiler, *flags, "driver.c", "-o", "driver", "-lm"]
        english = {**os.environ, "LC_ALL": "C"}
        made = subprocess.run(command, cwd=folder, capture_output=True, check=False, env=english)
        if made.returncode:
            # The linker's own error only counts what stands before it.
            undefined = b"undefined reference" in made.stderr
            said = _first_line(made.stderr, "undefined reference" if undefined else "error:")
            raise FpsimError(f"file: {self.path} does not compile with {self.function}: {said}")
        return _Program(folder / "driver", self.function, lanes, dtype, self.timeout, folder)


def _first_line(text: bytes, wanted: str = "") -> str:
    """Return the first line of a tool's messages with content, or the one with a given word."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    found = [line for line in lines if wanted in line] if wanted else []
    found = found or [line for line in lines if "rror" in line] or lines
    return found[0][:MAX_QUOTE] if found else ""


def check_c(
    path: str | Path,
    function: str,
    *,
    unit: str | Path | MacUnit | None = None,
    format: str | Format | None = None,
    rounding: str = "rne",
    sanitize: tuple[Sanitizer, ...] = (),
    timeout: float = 120.0,
    **options: Any,
) -> CheckResult:
    """Check a C function: compile it and run it in a separate process.

    With ``unit`` the function is a multiply-add on codes, ``f(a, b, c)`` of integers, and returns
    the accumulator's code; all cases are tried if there are at most 2^24. With ``format`` it is a
    converter, ``f(x)`` of a float (or double, with ``inputs="float64"``), and returns a code (an
    integer type) or a value (float or double). C converts arguments to the function's types.

    Args:
        path: the C file; it is included, so it needs no header and may have static functions.
        function: the name of the function.
        unit: the unit that a multiply-add must equal: a unit, a name, or a path to its TOML.
        format: the format that a converter must round to: a format or its name.
        rounding: rounding mode of a converter.
        sanitize: sanitizers of the compiler: ``address``, ``undefined``.
        timeout: time limit of one run, in seconds.
        **options: further arguments of `check_dot` or `check_rounding`.

    Returns:
        The result of `check_dot` or `check_rounding`.

    Raises:
        FpsimError: an argument out of range, no compiler, or a file that does not compile.
        ContractError: a crash, a sanitizer's report or an endless loop, with the arguments.
    """
    file = Path(path)
    if not file.is_file():
        raise FpsimError(f"file: {file} does not exist")
    if (unit is None) == (format is None):
        raise FpsimError("unit: give either a unit (a multiply-add) or a format (a converter)")
    if not isinstance(function, str) or not _NAME.fullmatch(function):
        raise FpsimError(f"function: {function!r} is not a C name")
    for watched in sanitize:
        if watched not in ("address", "undefined"):
            raise not_one_of("sanitize", watched, ("address", "undefined"))
    for name in ("form", "k", "operands", "arrays", "addend", "scales"):
        if name in options:
            raise FpsimError(f"{name}: not an option of check_c")
    with ExitStack() as stack:
        source = _Source(file, function, tuple(sanitize), timeout, stack)
        if unit is not None:
            made = get_unit(unit)
            program = source.program("x[0], x[1], x[2]", 3, np.uint64)
            call = _named(_multiply_add(program), f"{file.name}:{function}")
            return check_dot(call, made, form="dot", k=1, addend=True, **options)
        assert format is not None
        dtype = np.float64 if options.get("inputs") == "float64" else np.float32
        program = source.program("x[0]", 1, dtype)

        def convert(x: NDArray[Any]) -> NDArray[Any]:
            return program.run(x.astype(dtype)[:, None])

        named = _named(convert, f"{file.name}:{function}")
        return check_rounding(named, get_format(format), rounding, **options)


def _multiply_add(program: _Program) -> Callable[..., NDArray[Any]]:
    def call(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
        rows = np.stack([a[:, 0].astype(np.uint64), b[:, 0].astype(np.uint64), c.astype(np.uint64)])
        return program.run(np.ascontiguousarray(rows.T))

    return call


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__qualname__ = name
    function.__module__ = ""
    return function
