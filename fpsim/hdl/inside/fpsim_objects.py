# SPDX-License-Identifier: Apache-2.0
"""The compiler as Verilator's make calls it: files of Verilator's own library are compiled once.

    python fpsim_objects.py FOLDER COMPILER ARGUMENTS

Most of a build is the same library again. Its object files are kept in FOLDER under a digest of the
command, the compiler's version, the file and all headers of the library; builds that run at the
same time wait for one another. Everything else goes to the compiler as it is. Like `fpsim_launch`
beside it, it imports nothing of fpsim.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Compile one file; the exit status is the compiler's."""
    folder, command = Path(arguments[0]), arguments[1:]
    source = Path(command[-1])
    if "-o" in command and source.suffix == ".cpp" and _of_the_library(source):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _once(folder, command, source)
        except OSError:  # nowhere to keep it
            pass
    return subprocess.run(command, check=False).returncode


def _of_the_library(source: Path) -> bool:
    return source.name.startswith("verilated") and (source.parent / "verilated.mk").exists()


def _once(folder: Path, command: list[str], source: Path) -> int:
    place = command.index("-o") + 1
    output = Path(command[place])
    digest = _digest([*command[:place], *command[place + 1 :]], source)
    kept = folder / f"{digest}.o"
    with (folder / "compiling").open("wb") as lock:
        # A byte of the file for each digest.
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, int(digest[:15], 16))
        if not kept.exists():
            status = subprocess.run(command, check=False).returncode
            if status:
                return status
            whole = folder / f".{os.getpid()}.o"
            shutil.copyfile(output, whole)
            whole.replace(kept)
            return 0
    shutil.copyfile(kept, output)
    return 0


def _digest(command: list[str], source: Path) -> str:
    version = subprocess.run([command[0], "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(repr((command, version)).encode())
    for path in sorted(source.parent.rglob("*.h*")):
        digest.update(path.read_bytes())
    digest.update(source.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
