# SPDX-License-Identifier: Apache-2.0
"""The errors a user can cause.

Every one carries a single sentence that names the field, the value and what is allowed. The
command line prints that sentence and exits with status 2; library callers catch `FpsimError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["FpsimError", "ModelUnavailable", "SimulatorMissing", "nearest"]


#: Names that an error suggests.
MAX_NAMED = 6


class FpsimError(ValueError):
    """Bad input: a field, a value, or a file that cannot be what it claims."""


class ModelUnavailable(FpsimError):
    """A model that is neither in the cache nor can be fetched."""


class SimulatorMissing(FpsimError):
    """An HDL simulator that is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for what ``word`` begins or is closest to, or ``""``."""
    names, lower = list(known), word.lower()
    close = [name for name in names if lower and name.startswith(lower)][:MAX_NAMED]
    close = close or difflib.get_close_matches(lower, names, n=1, cutoff=0.5)
    if not close:
        return ""
    *others, last = map(repr, close)
    return f"; did you mean {', '.join(others)}{' or ' * bool(others)}{last}?"
