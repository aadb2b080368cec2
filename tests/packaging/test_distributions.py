# SPDX-License-Identifier: Apache-2.0
"""Wheel and sdist, installed into fresh environments and used from outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import fpsim

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
USE = """
import numpy as np
import fpsim
from fpsim import vectors
unit = fpsim.get_unit("e2m1-chain-e5m10")
assert "site-packages" in fpsim.__file__, fpsim.__file__
a = np.ones((4, 8), np.uint8)
assert (unit.matmul(a, a.T) == unit.dot(a[0], a[0])).all()
assert int(fpsim.oracle.dot(unit, a[0], a[0])) == int(unit.dot(a[0], a[0]))
folder = vectors.write(vectors.plan(unit, strategy="random", count=50), "made")
assert vectors.check(folder).count == 50
assert len(fpsim.unit_names()) > 10
print("used")
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command outside of the checkout and return what it prints."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_NO"))}
    found = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=kept | environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, f"{command}\n{found.stdout}\n{found.stderr}"
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build both from a copy of what git tracks; return the paths by kind."""
    source = tmp_path_factory.mktemp("source")
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("dist")
    tools = tmp_path_factory.mktemp("tools")
    venv.create(tools, with_pip=True)
    run(tools / "bin" / "python", "-m", "pip", "install", "-q", "hatchling", cwd=tools)
    run(tools / "bin" / "python", "-m", "hatchling", "build", "-d", out, cwd=source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_both_carry_the_version_and_the_data(built: dict[str, Path]) -> None:
    assert f"fpsim-{fpsim.__version__}" in built["wheel"].name
    assert f"fpsim-{fpsim.__version__}" in built["sdist"].name
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert "fpsim/py.typed" in names
    assert any(name.startswith("fpsim/_data/golden/") for name in names)
    assert "fpsim/_data/rtl/mac_chain.sv" in names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)
    with tarfile.open(built["sdist"]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "golden/README.md"} <= inside


def interpreters() -> list[str]:
    """Return the Pythons of this machine that run, one a version."""
    found = []
    for version in VERSIONS:
        path = shutil.which(f"python{version}")
        if path is None and sys.version_info[:2] == tuple(map(int, version.split("."))):
            path = sys.executable
        if path is None:
            continue
        asked = subprocess.run([path, "-c", "import venv, sys; print(sys.executable)"],
                               capture_output=True, text=True, check=False)  # fmt: skip
        if asked.returncode == 0:
            found.append(asked.stdout.strip())
    return found


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("python", interpreters())
def test_it_works_from_outside_the_checkout(
    kind: str, python: str, built: dict[str, Path], tmp_path: Path
) -> None:
    if kind == "sdist" and python != interpreters()[0]:
        pytest.skip("an sdist makes the same wheel on every Python")
    run(python, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    own = tmp_path / "env" / "bin"
    run(own / "python", "-m", "pip", "install", "-q", built[kind], cwd=tmp_path)
    assert fpsim.__version__ in run(own / "fpsim", "--version", cwd=tmp_path)
    assert "used" in run(own / "python", "-c", USE, cwd=tmp_path)
    assert "e2m1" in run(own / "fpsim", "formats", cwd=tmp_path)
    # No extra is installed: one sentence says how to get it.
    failed = subprocess.run(
        [own / "fpsim", "eval"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "pip install 'fpsim[torch]'" in failed.stderr
    assert failed.stderr.count("\n") == 1
