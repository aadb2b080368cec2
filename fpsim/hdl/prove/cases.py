# SPDX-License-Identifier: Apache-2.0
"""The part of the input space that was covered, where the whole takes too long: case by case.

Cases of a floating-point step are cases of its adder: how far the smaller number is shifted to the
larger, and where the exact sum lies between two codes. They are read off nets of the reference RTL.
Without those nets, cases are codes of the first elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpsim.hdl.prove.steps import Deadline
from fpsim.hdl.prove.words import Algebra, Verdict, Word

__all__ = ["ADDER_NETS", "Decision", "ProvedCase", "decide"]

#: Ends of the names of nets of the reference RTL that cases are told by.
DISTANCE, GUARD, STICKY = "u_align_add.distance", "u_round_pack.guard", "u_round_pack.sticky"
ADDER_NETS = (DISTANCE, GUARD, STICKY)
#: Share of the time for everything at once, before it is cut into cases.
WHOLE = 0.35
#: Shifts that are cases of their own: beyond, everything is shifted out of every format here.
MOST_SHIFTED = 40
#: Codes of an operand that are cases of their own at most.
MOST_CODES = 256
ROUNDING = {(0, 0): "exact", (0, 1): "below half", (1, 0): "a tie", (1, 1): "above half"}


@dataclass(frozen=True)
class ProvedCase:
    """A part of the input space and whether it was decided."""

    name: str
    proved: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"case": self.name, "proved": self.proved}


@dataclass(frozen=True)
class Decision:
    """Whether a claim holds, and the cases for which that is known."""

    verdict: Verdict
    cases: tuple[ProvedCase, ...] = ()  #: empty: all at once


def decide(
    algebra: Algebra,
    wrong: Sequence[Word],
    watched: Mapping[str, Word],
    codes: Sequence[Word],
    deadline: Deadline,
) -> Decision:
    """Decide whether bits that say "something is wrong" can all be 1.

    Args:
        algebra: asks the solver.
        wrong: the bits.
        watched: nets of the reference that cases are distinguished by.
        codes: words that cases are distinguished by if there are no such nets.
        deadline: when to give up.

    Returns:
        The answer, with its cases if all inputs at once took too long.
    """
    verdict = algebra.solve(wrong, deadline.left * WHOLE)
    if verdict.holds is not None:
        return Decision(verdict)
    done: list[ProvedCase] = []
    parts = _shifts(algebra, watched) or _by_code(algebra, codes[:1])
    for i, (name, bit) in enumerate(parts):
        share = deadline.left / (len(parts) - i)
        verdict = algebra.solve([*wrong, bit], share / 2)
        if verdict.holds:
            return Decision(verdict, tuple(done))
        if verdict.holds is False:
            done.append(ProvedCase(name, True))
            continue
        inner = _roundings(algebra, watched) or _by_code(algebra, codes[1:2])
        inner = inner or [("", Word(1, 1))]
        until = Deadline(share / 2)
        for j, (more, finer) in enumerate(inner):
            verdict = algebra.solve([*wrong, bit, finer], until.left / (len(inner) - j))
            if verdict.holds:
                return Decision(verdict, tuple(done))
            done.append(ProvedCase(f"{name}, {more}" if more else name, verdict.holds is False))
    every = bool(parts) and all(case.proved for case in done)
    return Decision(Verdict(False if every else None), tuple(done))


def _shifts(algebra: Algebra, watched: Mapping[str, Word]) -> list[tuple[str, Word]]:
    """Return a case for every distance by which the adder shifts."""
    found = next((w for name, w in watched.items() if name.endswith(DISTANCE)), None)
    if found is None:
        return []
    most = min(MOST_SHIFTED, (1 << found.width) - 1)
    cases = [
        (f"exponents {n} apart", algebra.same(found, algebra.number(found.width, n)))
        for n in range(most)
    ]
    rest = algebra.apply("ugte", [found, algebra.number(found.width, most)])
    return [*cases, (f"exponents {most} or more apart, or a zero", rest)]


def _roundings(algebra: Algebra, watched: Mapping[str, Word]) -> list[tuple[str, Word]]:
    """Return a case for every place of the exact sum between two codes."""
    nets = [next((w for n, w in watched.items() if n.endswith(end)), None)
            for end in (GUARD, STICKY)]  # fmt: skip
    guard, sticky = nets
    if guard is None or sticky is None:
        return []
    return [
        (name, algebra.both([algebra.same(guard, Word(1, g)), algebra.same(sticky, Word(1, s))]))
        for (g, s), name in ROUNDING.items()
    ]


def _by_code(algebra: Algebra, codes: Sequence[Word]) -> list[tuple[str, Word]]:
    """Return cases by the high bits of a code."""
    for code in codes:
        bits = min(code.width, MOST_CODES.bit_length() - 1)
        low = code.width - bits
        high = algebra.part(code, code.width - 1, low)
        return [
            (f"element 0 {value << low:#x}" + (" and up" if low else ""),
             algebra.same(high, algebra.number(bits, value)))
            for value in range(1 << bits)
        ]  # fmt: skip
    return []
