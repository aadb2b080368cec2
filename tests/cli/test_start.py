# SPDX-License-Identifier: Apache-2.0
"""Commands that compute nothing start without the compiler, which takes half a second to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
import sys
from fpsim.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
slow = {"numba", "scipy", "torch", "matplotlib", "transformers", "rich"} & set(sys.modules)
print("loaded:", *sorted(slow), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", "units", "units show e2m1-chain-e5m10", "units grammar", "formats",
     "formats e2m1b3", "decode e4m3fn 1 127", "schema block", "verify --help"],
)  # fmt: skip
def test_a_command_starts_without_the_compiler(words: str) -> None:
    command = [sys.executable, "-c", ASK, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "loaded:"
