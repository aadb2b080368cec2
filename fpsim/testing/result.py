# SPDX-License-Identifier: Apache-2.0
"""Results of checks: inputs tried, properties, a counterexample, and likely mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CheckResult",
    "Counterexample",
    "Mistake",
    "NumberLine",
    "Property",
    "likely_mistakes",
    "observers",
    "recorded",
]

#: Functions called with every result; pytest's plugin collects results with one.
observers: list[Callable[[CheckResult], None]] = []
#: Most mistakes named; least share of the inputs a mistake affects on which it must give the result
#: seen; and largest share of wrong results that may stay unexplained.
MAX_MISTAKES, LEAST_SHOWN, MOST_LEFT = 4, 0.9, 0.5


@dataclass(frozen=True)
class Property:
    """A property that should hold, the number of inputs, and the number of failures."""

    name: str
    tried: int
    failed: int


@dataclass(frozen=True)
class Mistake:
    """A mistake of real libraries that gives the results seen."""

    name: str  #: continues a sentence after "as if"
    explained: int  #: wrong results that the mistake gives, bit for bit
    shown: int  #: inputs on which the mistake differs from the right result
    example: str = ""  #: the simplest input among the explained

    def __str__(self) -> str:
        example = f"; {self.example}" if self.example else ""
        return (
            f"as if {self.name} ({self.explained} of the {self.shown} inputs where that would show "
            f"came out so{example})"
        )


@dataclass(frozen=True)
class NumberLine:
    """A number line: a result's neighbours, the input, the right and the actual result."""

    marks: tuple[tuple[float, str], ...]  #: values of the format with labels
    x: float
    expected: float
    seen: float


@dataclass(frozen=True)
class Counterexample:
    """The simplest input with a wrong result."""

    given: str  #: the input, decoded
    expected: str
    seen: str
    explanation: tuple[str, ...]  #: why the right result is right, line by line
    replay: str  #: Python text that repeats the call
    line: NumberLine | None = None


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; true only if inputs were tried and all results were right."""

    check: str  #: such as ``rounding``
    subject: str  #: name of the function
    against: str  #: such as ``e2m1, rne, saturate``
    search: str  #: description of the inputs
    tried: int
    failed: int
    properties: tuple[Property, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    counterexample: Counterexample | None = None
    notes: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return self.tried > 0 and self.failed == 0 and not any(p.failed for p in self.properties)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data; ``held`` is the truth value of the result."""
        data = asdict(self)
        if self.counterexample is not None and self.counterexample.line is not None:
            line = self.counterexample.line
            data["counterexample"]["line"] = {
                "marks": [[repr(value), label] for value, label in line.marks],
                **{name: repr(getattr(line, name)) for name in ("x", "expected", "seen")},
            }
        return {"held": bool(self), **data}

    def __str__(self) -> str:
        verdict = "held" if self else "nothing was tried" if not self.tried else "FAILED"
        lines = [
            f"{self.check} of {self.subject} against {self.against}: {verdict}",
            f"  searched  {self.search}",
            f"  inputs    {self.tried} tried, {self.failed} wrong",
        ]
        lines += [
            f"  {'held' if not p.failed else 'FAILED':8s}  {p.name} ({p.tried} inputs"
            f"{f', {p.failed} wrong' if p.failed else ''})"
            for p in self.properties
        ]
        lines += [f"  note      {note}" for note in self.notes]
        lines += [f"  looks     {mistake}" for mistake in self.mistakes]
        case = self.counterexample
        if case is not None:
            lines += [
                "  simplest counterexample",
                f"    given     {case.given}",
                *(f"    {line}" for line in case.explanation),
                f"    expected  {case.expected}",
                f"    seen      {case.seen}",
                "  to run it again",
                *(f"    {line}" for line in case.replay.splitlines()),
            ]
        return "\n".join(lines)


def recorded(result: CheckResult) -> CheckResult:
    """Call the observers with a result, and return it."""
    for observer in observers:
        observer(result)
    return result


def likely_mistakes(
    expected: NDArray[Any],
    seen: NDArray[Any],
    same: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]],
    candidates: Iterable[tuple[str, NDArray[Any]]],
    example: Callable[[NDArray[np.bool_]], str],
) -> tuple[Mistake, ...]:
    """Return the mistakes that explain wrong results, best first.

    A mistake fits if it gives the results seen on nearly all inputs that it affects. Each further
    mistake explains wrong results left by the earlier ones.

    Args:
        expected: right results, one row each.
        seen: results of the function.
        same: gives the mask of equal rows of two arrays of results.
        candidates: names of mistakes, and the results of a function with each; the first of equal
            ones counts.
        example: describes the simplest of the rows given to it.

    Returns:
        The mistakes, at most `MAX_MISTAKES`; none if most wrong results stay unexplained.
    """
    wrong = ~same(expected, seen)
    fitting = []
    for name, predicted in candidates:
        shows = ~same(predicted, expected)
        hits = shows & same(predicted, seen)
        if hits.any() and hits.sum() >= LEAST_SHOWN * shows.sum():
            fitting.append((name, hits, int(shows.sum())))
    found: list[Mistake] = []
    left = wrong.copy()
    while fitting and left.any() and len(found) < MAX_MISTAKES:
        gains = [int((hits & left).sum()) for _, hits, _ in fitting]
        best = max(range(len(fitting)), key=lambda i: (gains[i], -fitting[i][2], -i))
        if not gains[best]:
            break
        name, hits, shown = fitting.pop(best)
        found.append(Mistake(name, int(hits.sum()), shown, example(hits)))
        left &= ~hits
    # A mistake that affects hardly any input fits many results by chance.
    return tuple(found) if left.sum() <= MOST_LEFT * wrong.sum() else ()
