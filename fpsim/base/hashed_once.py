# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses that compute their hash once: keys of the caches that every product asks."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["hashed_once"]

T = TypeVar("T")


def hashed_once(cls: type[T]) -> type[T]:
    """Let the instances of a frozen dataclass keep their hash, but for copies and pickles.

    Another process has other hashes, since those of strings are salted.
    """
    compute: Any = cls.__hash__

    def hash_of(self: Any) -> int:
        try:
            found: int = self._hash
        except AttributeError:
            found = self.__dict__["_hash"] = compute(self)
        return found

    def state(self: Any) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    cls.__hash__, cls.__getstate__ = hash_of, state  # type: ignore[method-assign]
    return cls
