# SPDX-License-Identifier: Apache-2.0
"""The errors a user can cause.

Every one carries a single sentence that names the field, the value and what is allowed. The
command line prints that sentence and exits with status 2; library callers catch `FpsimError`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "FpsimError",
    "ModelUnavailable",
    "SimulatorMissing",
    "nearest",
    "not_one_of",
    "shortened",
]

#: Names that an error suggests.
MAX_NAMED = 6
#: Allowed values that an error lists.
MAX_LISTED = 40
#: Characters of a message, and of one that a user wrote without a space in it.
MAX_MESSAGE, MAX_WORD = 1500, 300
#: Characters of a name, of a format or of a unit; a unit nests others.
MAX_NAME, MAX_UNIT_NAME = 100, 2000


def shortened(text: str) -> str:
    """Return a message that quotes long input by its two ends, and no character of control."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda m: repr(m[0])[1:-1], text)
    text = re.sub(rf"\S{{{MAX_WORD + 1},}}", lambda m: _ends(m[0], MAX_WORD), text)
    return _ends(text, MAX_MESSAGE)


def _ends(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    left = f"[{len(text) - limit} characters left out]"
    return f"{text[: 2 * limit // 3]} {left} {text[-(limit // 3) :]}"


class FpsimError(ValueError):
    """Bad input: a field, a value, or a file that cannot be what it claims."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ModelUnavailable(FpsimError):
    """A model that is neither in the cache nor can be fetched."""


class SimulatorMissing(FpsimError):
    """An HDL simulator that is not installed."""


def reason_of(error: BaseException) -> str:
    """Return the reason that an error of another library gives, to stand in one sentence.

    Returns:
        Its first line, and the next where the first ends in a colon; its type if it says nothing.
    """
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":") and rest:
        first += " " + rest.strip().partition("\n")[0]
    return first.rstrip(" :.") or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for what ``word`` begins or is closest to, or ``""``."""
    if len(word) > MAX_NAME:
        return ""
    names, lower = list(known), word.lower()
    close = [name for name in names if lower and name.startswith(lower)][:MAX_NAMED]
    close = close or difflib.get_close_matches(lower, names, n=1, cutoff=0.5)
    if not close:
        return ""
    *others, last = map(repr, close)
    return f"; did you mean {', '.join(others)}{' or ' * bool(others)}{last}?"


def not_one_of(field: str, value: object, known: Iterable[object], nor: str = "") -> FpsimError:
    """Return the error of a value that none of the known ones is; the caller raises it.

    Up to `MAX_LISTED` known values are listed, of more the number; the nearest one is suggested.

    Args:
        field: what has the value.
        value: the value.
        known: the values that are allowed.
        nor: what else is allowed.

    Returns:
        The error, in one sentence.
    """
    names = [str(name) for name in known]
    few = len(names) <= MAX_LISTED
    allowed = ", ".join(names) if few else f"the {len(names)} known, from {names[0]} to {names[-1]}"
    nor = f", nor {nor}" if nor else ""
    return FpsimError(
        f"{field}: {value!r} is not one of {allowed}{nor}{nearest(str(value), names)}"
    )
