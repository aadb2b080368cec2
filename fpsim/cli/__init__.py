# SPDX-License-Identifier: Apache-2.0
"""The ``fpsim`` command: parses, calls, prints. A module per group of commands.

Exit status: 0 done; 1 a comparison failed or the demonstration is incomplete; 2 bad input, said in
one sentence on standard error; 3 a proof was not decided.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

import fpsim
from fpsim.base.errors import FpsimError, shortened
from fpsim.cli import (
    check,
    explore,
    formats,
    models,
    plot,
    prove,
    recipes,
    report,
    rtl,
    schema,
    shell,
    studies,
    testbench,
    train,
    units,
    vectors,
)
from fpsim.cli.output import BAD_INPUT, Commands, Parser, missing_package

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    made = Parser(prog="fpsim", description=(fpsim.__doc__ or "").splitlines()[0])
    made.add_argument("--version", action="version", version=f"fpsim {fpsim.__version__}")
    commands = Commands(made)
    for group in (
        formats, units, schema, studies, vectors, rtl, testbench, prove, recipes, models, train,
        plot, report, explore, check, shell,
    ):  # fmt: skip
        group.register(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    for word in words:
        fault = "has a line break" if any(c in word for c in "\0\r\n") else ""
        # A byte of a file name that is not UTF-8 could be written into no file.
        if any("\ud800" <= character <= "\udfff" for character in word):
            fault = "is not UTF-8"
        if fault:
            print(f"fpsim: argument {word[:80]!r} {fault}", file=sys.stderr)
            return BAD_INPUT
    args = parser().parse_args(words)
    before = signal.signal(signal.SIGTERM, _stop) if _in_main_thread() else None
    try:
        status: int = args.run(args)
    except FpsimError as error:
        print(f"fpsim: {error}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        sentence = missing_package(error)
        if sentence is None:
            raise
        print(f"fpsim: {sentence}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("fpsim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        print(f"fpsim: {shortened(about + str(error.strerror or error))}", file=sys.stderr)
        return BAD_INPUT
    except MemoryError as error:
        print(
            f"fpsim: {shortened(f'more memory is needed than there is ({error})')}", file=sys.stderr
        )
        return BAD_INPUT
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return status


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _stop(number: int, _: object) -> None:
    """Exit as after an error, so that child processes and partial files are cleared away."""
    raise SystemExit(128 + number)
