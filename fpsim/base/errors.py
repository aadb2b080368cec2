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

#: Most names that an error suggests.
MAX_NAMED = 6
#: Most allowed values that an error lists.
MAX_LISTED = 40
#: Most characters of a message, and of a word in it that a user wrote.
MAX_MESSAGE, MAX_WORD = 1500, 300
#: Most characters of the name of a format and of a unit; a unit's name holds others.
MAX_NAME, MAX_UNIT_NAME = 100, 2000


def shortened(text: str) -> str:
    """Return a message with long words cut in the middle and control characters escaped."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda m: repr(m[0])[1:-1], text)
    text = re.sub(rf"\S{{{MAX_WORD + 1},}}", lambda m: _ends(m[0], MAX_WORD), text)
    return _ends(text, MAX_MESSAGE)


def _ends(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    left = f"[{len(text) - limit} characters left out]"
    return f"{text[: 2 * limit // 3]} {left} {text[-(limit // 3) :]}"


class FpsimError(ValueError):
    """Bad input: a field, a value or a file that is not allowed."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ModelUnavailable(FpsimError):
    """A model is neither in the cache nor can it be fetched."""


class SimulatorMissing(FpsimError):
    """An HDL simulator is not installed."""


def reason_of(error: BaseException) -> str:
    """Return the reason in an error of another library, to stand in one sentence.

    Returns:
        The first line of the message, with the next after a colon; the type if there is no message.
    """
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":") and rest:
        first += " " + rest.strip().partition("\n")[0]
    return first.rstrip(" :.") or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name or one that begins ``word``."""
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
    """Return an error for a value that is none of the known ones; the caller raises it.

    The message lists up to `MAX_LISTED` known values, or their number, and suggests the nearest.

    Args:
        field: name of the field.
        value: the value.
        known: the allowed values.
        nor: further allowed values, in words.

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
