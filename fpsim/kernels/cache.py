# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels on disk, keyed by the whole kernel source.

Numba's own cache looks at the time stamp of the file that defines a function. Kernels are composed
from several files (inlined functions, generated vector code), so an edit to one of them would leave
stale machine code behind: for a bit-exact model, silently wrong bits. Here the stamp is a hash of
every source file that kernels are made of and of the files that a kernel names, and the key carries
the name of the generated variant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["Stored", "inner", "kernel"]

#: Directories whose code kernels are made of: this one, and the steps of lanes with their lemmas.
_SOURCES = ("kernels", "compute/lanes/steps")
#: Numba would also make a parallel loop, compiled apart, of every small array that a kernel fills
#: or sums: about half of the time that compiling takes, for nothing that running gains.
PARALLEL = dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}
#: C calls no kernel, and Python nothing that kernels call: wrappers are a fifth of compiling.
_KERNEL: dict[str, Any] = {"no_cfunc_wrapper": True}
_INNER: dict[str, Any] = _KERNEL | {"no_cpython_wrapper": True}


@cache
def _sources_hash(sources: tuple[str, ...] = ()) -> str:
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    own = sorted(path for name in _SOURCES for path in (package / name).rglob("*.py"))
    for path in [*own, *map(Path, sources)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Index(IndexDataCacheFile):
    """Numba's cache files, whose data name the sources and the key that they belong to.

    An index is on disk before its data are: a process that dies in between, or one that reads in
    between, must not take a file that an older version left under the data's name for them.
    """

    def _load_index(self) -> Any:
        """Return the index on disk; an empty one if it is unreadable or names a moved class."""
        try:
            return super()._load_index()
        except (AttributeError, EOFError, ImportError, OSError, UnpicklingError):
            return {}

    def save(self, key: Any, data: Any) -> None:
        """Write the data of a key if there is room for them."""
        with suppress(OSError):
            super().save(key, (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        """Return the data of a key, or None if there are none or they are of other sources."""
        try:
            stamp, own_key, data = super().load(key) or (None, None, None)
        except (EOFError, UnpicklingError, ValueError):
            return None
        return data if (stamp, own_key) == (self._source_stamp, key) else None


class Stored:
    """The cache on disk of one piece of compiled code; it keeps nothing where it cannot write.

    Args:
        owner: a function of the module that makes the code; the files lie in the ``__pycache__``
            beside that module, or in the user's cache directory.
        name: file name, which tells the files of one module apart.
        sources: files outside of this package that the code is made of.
    """

    def __init__(self, owner: Callable[..., Any], name: str, sources: tuple[str, ...] = ()) -> None:
        self._file = None
        # Numba finds no locator in a read-only installation without a home directory.
        with suppress(RuntimeError):
            self._file = _Index(
                cache_path=FunctionCache(owner).cache_path,
                filename_base=name,
                source_stamp=_sources_hash(sources),
            )

    def load(self, key: Any) -> Any:
        """Return the data saved under a key, None if there are none."""
        return None if self._file is None else self._file.load(key)

    def save(self, key: Any, data: Any) -> None:
        """Keep data for other processes, if there is room."""
        if self._file is not None:
            self._file.save(key, data)


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


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call; Python cannot call it."""
    return njit(**_INNER)(function)


def kernel(
    variant: str = "", *, sources: tuple[str, ...] = (), **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Compile with ``numba.njit(**options)`` and keep the machine code on disk.

    Where there is no place to write to, kernels are compiled in every process.

    Args:
        variant: names the values that a closure was specialised for; two closures of one function
            that differ must differ in it.
        sources: files outside of this package that the kernel is made of, its own first.
        options: keyword arguments of `numba.njit`.

    Returns:
        A decorator, which turns a function into its compiled form.
    """

    if options.get("parallel"):
        options["parallel"] = dict(PARALLEL)  # Numba empties it

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options, **_KERNEL)(function)
        # Numba finds no locator in a read-only installation without a home directory.
        with suppress(RuntimeError):
            dispatcher._cache = _KernelCache(function, variant, sources)
        return dispatcher

    return decorate
