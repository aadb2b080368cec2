# SPDX-License-Identifier: Apache-2.0
"""Files of Verilator's own library are compiled once; all others, and failures, as they come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fpsim.hdl.bench import simulator

# A compiler that copies the file and every header beside it, and notes that it was called.
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then cat "$(dirname "$0")/version"; exit; fi
for source; do :; done
echo "$source" >> "$(dirname "$0")/calls"
grep -q broken "$source" && exit 3
cat "$source" "$(dirname "$source")"/*.h > "$2"
"""


class Place:
    """A library, a compiler, and what was compiled."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, folder / "include"
        self.library.mkdir()
        (folder / "cc").write_text(COMPILER)
        (folder / "cc").chmod(0o755)
        (folder / "version").write_text("1")
        for name, text in (("verilated.mk", ""), ("verilated.h", "header"), ("verilated.cpp", "a")):
            (self.library / name).write_text(text)

    def compiled(self, source: Path, *flags: str) -> tuple[int, str]:
        """Return the status and the object file of one compilation."""
        output = self.folder / "x.o"
        output.unlink(missing_ok=True)
        command = [str(self.folder / "cc"), "-o", str(output), *flags, str(source)]
        launch = [sys.executable, str(simulator._OBJECTS), str(self.folder / "kept"), *command]
        status = subprocess.run(launch, check=False).returncode
        return status, output.read_text() if output.exists() else ""

    @property
    def calls(self) -> int:
        """How often the compiler compiled."""
        return len((self.folder / "calls").read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_library_is_compiled_once(place: Place) -> None:
    source = place.library / "verilated.cpp"
    assert [place.compiled(source) for _ in range(3)] == [(0, "aheader")] * 3
    assert place.calls == 1


def test_what_an_object_depends_on_makes_another(place: Place) -> None:
    source = place.library / "verilated.cpp"
    place.compiled(source)
    place.compiled(source, "-O1")
    assert place.calls == 2
    (place.library / "verilated.h").write_text("newer")
    assert place.compiled(source) == (0, "anewer")
    source.write_text("b")
    assert place.compiled(source) == (0, "bnewer")
    (place.folder / "version").write_text("2")
    place.compiled(source)
    assert place.calls == 5


def test_a_design_and_a_failure_are_not_kept(place: Place) -> None:
    design = place.folder / "verilated_design.cpp"
    (place.folder / "design.h").write_text("")
    design.write_text("d")
    assert [place.compiled(design) for _ in range(2)] == [(0, "d")] * 2
    source = place.library / "verilated.cpp"
    source.write_text("broken")
    assert [place.compiled(source) for _ in range(2)] == [(3, "")] * 2
    assert place.calls == 4


def test_without_a_place_to_keep_it_is_compiled(place: Place) -> None:
    (place.folder / "kept").touch()
    source = place.library / "verilated.cpp"
    assert [place.compiled(source) for _ in range(2)] == [(0, "aheader")] * 2
    assert place.calls == 2
