# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels on disk, keyed by the whole kernel source.

Numba's own cache looks at the time stamp of the file that defines a function. Kernels are composed
from several files (inlined functions, generated vector code), so an edit to one of them would leave
stale machine code behind: for a bit-exact model, silently wrong bits. Here the stamp is a hash of
every source file that kernels are made of and of those that a kernel names, and the key carries
the name of the generated variant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["kernel"]


#: Where the code that kernels are made of is: here, and the steps of lanes with their lemmas.
_SOURCES = ("kernels", "compute/lanes/steps")
#: Numba would also make a parallel loop, compiled apart, of every small array that a kernel fills
#: or sums: about half of the time that compiling takes, for nothing that running gains.
PARALLEL = dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}


@cache
def _sources_hash(sources: tuple[str, ...] = ()) -> str:
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    own = sorted(path for name in _SOURCES for path in (package / name).rglob("*.py"))
    for path in [*own, *map(Path, sources)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Index(IndexDataCacheFile):
    def _load_index(self) -> Any:
        """Return what is on disk; nothing where it names a class that has moved since."""
        try:
            return super()._load_index()
        except (AttributeError, ImportError):
            return {}


class _KernelCache(FunctionCache):
    def __init__(
        self, function: Callable[..., Any], variant: str, sources: tuple[str, ...]
    ) -> None:
        super().__init__(function)
        self._variant = variant
        tag = hashlib.sha256(variant.encode()).hexdigest()[:8]
        self._cache_file = _Index(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}-{tag}",
            source_stamp=_sources_hash(sources),
        )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (sig, codegen.magic_tuple(), self._variant)


def kernel(
    variant: str = "", *, sources: tuple[str, ...] = (), **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Compile with ``numba.njit(**options)`` and keep the machine code on disk.

    Where there is no place to write to, kernels are compiled in every process.

    Args:
        variant: what a closure was specialised for; two closures of one function that differ must
            differ in it.
        sources: files outside of this package that the kernel is made of, its own first.
        options: as `numba.njit` takes them.
    """

    if options.get("parallel"):
        options["parallel"] = dict(PARALLEL)  # Numba empties it

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        # Numba finds no locator in a read-only installation without a home directory.
        with suppress(RuntimeError):
            dispatcher._cache = _KernelCache(function, variant, sources)
        return dispatcher

    return decorate
