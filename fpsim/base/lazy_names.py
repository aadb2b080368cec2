# SPDX-License-Identifier: Apache-2.0
"""Names of a package that are imported at their first use.

A package calls `lazy_names` at run time and imports the names under ``TYPE_CHECKING``: editors
know the types, and importing the package costs nothing.
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
        package: ``__name__`` of the package.
        places: module of each name; a submodule is its own.
        shown: names that ``dir`` lists.

    Returns:
        Both functions.

    Raises:
        AttributeError: raised by ``__getattr__`` for a name that is not in ``places``.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(places[name])
        found = module if places[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return find, lambda: sorted(shown)
