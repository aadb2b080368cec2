# SPDX-License-Identifier: Apache-2.0
"""Machine code on disk: never older than its source, never another variant's."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

import fpsim
from fpsim.kernels import cache

KERNELS = Path(cache.__file__).parent

MODULE = """
from fpsim.kernels.cache import kernel

def make(number):
    @kernel(f"add {number}")
    def add(x):
        return x + number
    return add

@kernel()
def plain(x):
    return x * 10

if __name__ == "__main__":
    adders = [make(n) for n in (1, 2, 3, 2)]
    print([add(100) for add in adders], plain(4))
    print(sum(sum(add.stats.cache_hits.values()) for add in [*adders, plain]))
"""


def run(program: Path | str, *arguments: str, path: Path | None = None) -> list[str]:
    """Run Python in a new process and return the lines it prints."""
    source = [str(program)] if isinstance(program, Path) else ["-c", program]
    root = Path(fpsim.__file__).parent.parent if path is None else path
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, *source, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_variants_of_one_function_do_not_collide(tmp_path: Path) -> None:
    """Closures share a name and a line; a new process must load the machine code of each."""
    program = tmp_path / "adders.py"
    program.write_text(MODULE)
    first = run(program)
    assert first == ["[101, 102, 103, 102] 40", "1"]  # the second "add 2" found the first's
    second = run(program)
    assert second == ["[101, 102, 103, 102] 40", "5"]


@pytest.mark.sweep
def test_an_edited_helper_is_never_stale(tmp_path: Path) -> None:
    """Change a function that kernels of another file inline: the new bits must appear.

    Numba alone watches only the file that defines the compiled function.
    """
    package = tmp_path / "fpsim"
    shutil.copytree(
        Path(fpsim.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    program = (
        "import fpsim; from fpsim.kernels.codec import codec; f = fpsim.get_format('e2m1')\n"
        "print(f.encode([0.25, 0.75, 5.0]).tolist(), fpsim.__file__)\n"
        "print(sum(codec.encode_array.stats.cache_hits.values()))"
    )
    assert run(program, path=tmp_path) == [f"[0, 2, 6] {package / '__init__.py'}", "0"]
    assert run(program, path=tmp_path)[1] == "1"
    helper = package / "kernels" / "codec" / "rounding.py"
    text = helper.read_text()
    line = "    half = (one << shift) >> one\n"
    assert line in text
    stat = helper.stat()
    helper.write_text(text.replace(line, "    half = (one << shift)\n"))  # every tie goes up
    os.utime(helper, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = run(program, path=tmp_path)
    assert changed[0] != f"[0, 2, 6] {package / '__init__.py'}"
    assert changed[1] == "0"
    helper.write_text(text)
    assert run(program, path=tmp_path)[0] == f"[0, 2, 6] {package / '__init__.py'}"


@pytest.fixture
def adder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Return ``make`` of the module above, cached below tmp_path."""
    (tmp_path / "cached_adders.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("cached_adders")
    yield module.make
    del sys.modules["cached_adders"]


def hits(dispatcher: Any) -> int:
    assert dispatcher(100) > 100
    return sum(dispatcher.stats.cache_hits.values())


def test_the_stamp_is_a_hash_of_all_kernel_sources(
    adder: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hits(adder(1)) == 0
    assert hits(adder(1)) == 1
    monkeypatch.setattr(cache, "_sources_hash", lambda *_: "something else")
    assert hits(adder(1)) == 0
    assert hits(adder(1)) == 1


def test_the_hash_reads_every_source_file() -> None:
    """Kernels and lane steps count, as their bytes are now; nothing else does."""
    import hashlib

    digest, package = hashlib.sha256(), Path(fpsim.__file__).parent
    paths = [*KERNELS.rglob("*.py"), *(package / "compute/lanes/steps").rglob("*.py")]
    assert {"vector.py", "tile_loop.py", "codec.py", "chain.py"} <= {path.name for path in paths}
    for path in sorted(paths):
        digest.update(path.read_bytes())
    assert cache._sources_hash() == digest.hexdigest()


def test_the_processor_is_part_of_the_key(adder: Callable[[int], Any]) -> None:
    """Machine code made for AVX-512 must not be loaded on a processor without it."""
    dispatcher = adder(1)
    dispatcher(1)
    codegen = dispatcher.targetctx.codegen()
    signature = dispatcher.signatures[0]
    key = dispatcher._cache._index_key(signature, codegen)
    assert codegen.magic_tuple() in key

    class Elsewhere:
        def magic_tuple(self) -> tuple[str, ...]:
            return ("another processor",)

    assert dispatcher._cache._index_key(signature, Elsewhere()) != key
    assert adder(2)._cache._index_key(signature, codegen) != key


TILES = """
import numpy as np
from numba.core import event
import fpsim

class Compiled(event.Listener):
    def on_start(self, event): print("compiled", event.data.get("variant", "")[:4])
    def on_end(self, event): pass

event.register("numba:compile", Compiled())
unit = fpsim.get_unit("e2m1-chain-e5m10")
print(unit.matmul(np.full((4, 2), 3, np.uint8), np.full((2, 4), 4, np.uint8))[0, 0])
"""


def test_the_code_of_a_tile_is_loaded_where_it_lies() -> None:
    """1.5 * 2 + 1.5 * 2 = 6; a second process compiles nothing, whatever the first one did."""
    run(TILES)
    assert run(TILES) == ["17920"]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cache.Stored:
    (tmp_path / "cached_adders.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("cached_adders")
    yield cache.Stored(module.make, "code")
    del sys.modules["cached_adders"]


def test_data_of_an_older_source_are_not_taken_for_those_of_the_index(
    stored: cache.Stored, tmp_path: Path
) -> None:
    """A process that dies after it wrote an index leaves the data of another version there."""
    stored.save("key", "old")
    assert stored.load("key") == "old"
    assert stored.load("another") is None
    (old,) = tmp_path.rglob("code.1.nbc")
    kept = old.read_bytes()
    stored._file._source_stamp = "newer sources"
    assert stored.load("key") is None
    stored.save("key", "new")
    assert stored.load("key") == "new"
    old.write_bytes(kept)
    assert stored.load("key") is None


def test_files_that_were_cut_short_are_no_code(stored: cache.Stored, tmp_path: Path) -> None:
    for pattern in ("code.1.nbc", "code.nbi"):
        stored.save("key", "data")
        (path,) = tmp_path.rglob(pattern)
        path.write_bytes(path.read_bytes()[:-3])
        assert stored.load("key") is None
        path.write_bytes(b"")
        assert stored.load("key") is None


def test_a_full_disk_keeps_nothing_and_breaks_nothing(
    stored: cache.Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.IndexDataCacheFile, "_save_data", full)
    stored.save("key", "data")
    assert stored.load("key") is None


def test_no_kernel_uses_numbas_own_cache() -> None:
    """``njit(cache=True)`` would bring back stale code for whatever it inlines."""
    for path in KERNELS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "cache", path.name
    for module in (
        "codec.mx_blocks",
        "codec.codec",
        "scalar.limbs",
        "scalar.fixed_point",
        "llvm.matmul_driver",
        "scalar.chain_and_fixed",
    ):
        namespace = vars(__import__(f"fpsim.kernels.{module}", fromlist=["x"]))
        for value in namespace.values():
            if isinstance(value, Dispatcher) and isinstance(value._cache, FunctionCache):
                assert isinstance(value._cache, cache._KernelCache)


def test_without_a_place_to_write_kernels_still_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read-only installation and no home directory: compile every time, but work."""
    impl = FunctionCache._impl_class
    monkeypatch.setattr(impl, "_locator_classes", [])

    @cache.kernel("nowhere")
    def triple(x: Any) -> Any:
        return 3 * x

    assert triple(14) == 42
