# SPDX-License-Identifier: Apache-2.0
"""Names of a package that are imported when they are first used.

A package calls `lazy_names` where a type checker does not look, and imports the same names where
only a type checker looks: editors then know their types, and importing the package costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, places: Mapping[str, str], shown: Collection[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: its ``__name__``.
        places: the module that each name comes from; a submodule comes from itself.
        shown: what ``dir`` lists.

    Returns:
        Both functions.

    Raises:
        AttributeError: from the first of them, for a name that has no place.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(places[name])
        found = module if places[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return find, lambda: sorted(shown)
