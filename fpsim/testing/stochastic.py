# SPDX-License-Identifier: Apache-2.0
"""`check_stochastic`: how often a converter rounds up, exactly or with a stated confidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.philox import numpy_generator
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.inputs import check_int
from fpsim.formats.names import get_format
from fpsim.testing.contract import Arrays, ContractError, Subject, as_codes_or_values, importable
from fpsim.testing.neighbours import Neighbours
from fpsim.testing.result import (
    CheckResult,
    Counterexample,
    Property,
    likely_mistakes,
    recorded,
)
from fpsim.testing.rounding import text_of

__all__ = ["check_stochastic"]

#: Most bits of random integers that are all tried.
MAX_EXHAUSTIVE_BITS = 16
#: Conversions per call, and the probability that a right generator fails the check.
CALL, RISK = 1 << 20, 1e-6
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class _Points:
    """Values between two neighbours, with the fraction of the step below each."""

    x: NDArray[np.float32]
    below: NDArray[np.float64]
    above: NDArray[np.float64]

    @property
    def fraction(self) -> NDArray[np.float64]:
        """Exact place of the magnitude between the neighbours, 0 to 1."""
        gap = self.above - self.below
        return (np.abs(self.x.astype(np.float64)) - self.below) / gap


def check_stochastic(
    function: Callable[..., Any],
    format: str | Format,
    random_bits: int | None = None,
    *,
    trials: int = 1 << 16,
    arrays: Arrays = "numpy",
    seed: int = 1,
) -> CheckResult:
    """Check stochastic rounding: the number of random integers that round a value away from zero.

    With ``random_bits`` = n the function takes values (m,) and random integers (m,) of n bits, and
    all 2^n integers are tried on every value: if f is the fraction of the step below the magnitude,
    exactly floor(f 2^n) of them must round away from zero. Whether each integer decides as in
    fpsim's ``sr`` (floor(f 2^n) + r >= 2^n) is reported, but does not count.

    Without ``random_bits`` the function takes values alone and draws its own random numbers. Each
    value is converted ``trials`` times; a right generator fails the check with a probability below
    1e-6 (Hoeffding's inequality over all values), and the report states the bias that the check can
    find.

    Args:
        function: the converter; it returns codes or values.
        format: a format, or the name of one, of at most 16 bits.
        random_bits: 1 to 16; None: the function draws its own random numbers.
        trials: conversions of each value, if the function draws its own random numbers.
        arrays: ``numpy`` or ``torch``.
        seed: seed of the values between neighbours.

    Returns:
        The result, true only if every count was right; inputs are conversions.

    Raises:
        FpsimError: an argument out of range.
        ContractError: the function raises, changes its input, or returns a result of a wrong type
            or shape.
    """
    fmt = get_format(format)
    if fmt.bits > 16:
        raise FpsimError(f"format: {fmt.name} has {fmt.bits} bits; at most 16 are allowed")
    if random_bits is not None:
        check_int("random_bits", random_bits, 1, MAX_EXHAUSTIVE_BITS)
    check_int("trials", trials, 100, 1 << 24)
    subject = Subject(function, arrays)
    bits = 10 if random_bits is None else random_bits
    points = _points(fmt, bits, seed)
    if random_bits is None:
        return recorded(_unknown(subject, fmt, points, trials))
    return recorded(_exact(subject, fmt, points, random_bits))


def _points(fmt: Format, bits: int, seed: int) -> _Points:
    """Return values of both signs: in every step (or many), at and beside 0, ends and halves."""
    if isinstance(fmt, FixedFormat):
        top = min(fmt.max_integer, -fmt.min_integer or fmt.max_integer)
        steps = np.unique(np.linspace(0, top, min(top, 64) + 1).astype(np.int64))
        values = np.ldexp(steps.astype(np.float64), fmt.lsb)
    else:
        codes = np.unique(np.linspace(0, fmt.max_code, min(fmt.max_code, 64) + 1).astype(np.int64))
        codes = np.union1d(codes[:-1], codes[:-1] + 1)
        values = fmt.decode(codes)
    near = Neighbours.of(fmt, values[:-1])
    low, high = near.below, near.above
    rng = numpy_generator(seed)
    grid = 2.0**-bits
    parts = np.array([0.0, grid, grid / 2, 1.5 * grid, 0.5, 0.5 - grid / 4, 0.75, 1 - grid])
    drawn = rng.uniform(0, 1, (low.size, 2))
    fractions = np.concatenate([np.tile(parts, (low.size, 1)), drawn], axis=1)
    x = (low[:, None] + fractions * (high - low)[:, None]).astype(np.float32).reshape(-1)
    signed = fmt.signed
    x = np.unique(np.concatenate([x, -x]) if signed else x)
    limit = np.float32(values[-1])
    x = x[(np.abs(x) < limit) & (x != 0)]
    found = Neighbours.of(fmt, x)
    return _Points(x, found.below, found.above)


def _ups(
    subject: Subject, fmt: Format, points: _Points, which: NDArray[np.int64], *random: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return the mask of conversions that rounded away from zero.

    Raises:
        ContractError: a result that is not one of the two neighbours.
    """
    x = points.x[which]
    (array,) = subject.results([x, *random], [x.shape], f"codes or values of {fmt.name}")
    values, _ = as_codes_or_values(subject, array, fmt, "either")
    magnitude = np.abs(values)
    up = magnitude == points.above[which]
    # A value of the format has no neighbour above to round to.
    neither = ~up & (magnitude != points.below[which]) | (np.sign(values) * np.sign(x) < 0)
    if neither.any():
        i = int(np.flatnonzero(neither)[0])
        raise ContractError(
            f"function: {subject.name} returned {text_of(values[i])} for {text_of(x[i])}; a "
            "stochastic rounding returns one of the two neighbours"
        )
    return np.asarray(up)


def _exact(subject: Subject, fmt: Format, points: _Points, bits: int) -> CheckResult:
    total = 1 << bits
    n = points.x.size
    counts = np.zeros(n, dtype=np.int64)
    differ = 0
    per_call = max(1, CALL // total)
    every = np.arange(total, dtype=np.int64)
    wanted = np.floor(points.fraction * total).astype(np.int64)
    for start in range(0, n, per_call):
        rows = np.arange(start, min(n, start + per_call))
        which = np.repeat(rows, total)
        random = np.tile(every, rows.size)
        up = _ups(subject, fmt, points, which, random.astype(np.uint32).astype(np.int64))
        counts[rows] = up.reshape(rows.size, total).sum(axis=1)
        differ += int((up != (wanted[which] + random >= total)).sum())
    wrong = counts != wanted
    notes = []
    if not wrong.any():
        notes.append(
            "each random integer decides as fpsim's sr does"
            if not differ
            else f"{differ} of {n * total} single decisions differ from fpsim's sr, though every "
            "count is right: the integers are used in another order"
        )

    def same(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(x == y)

    def example(rows: NDArray[np.bool_]) -> str:
        i = int(np.flatnonzero(rows)[0])
        return (
            f"such as {text_of(points.x[i])}: {counts[i]} of {total} away from zero instead of "
            f"{wanted[i]}"
        )

    candidates = _mistakes(points, total)
    mistakes = likely_mistakes(wanted, counts, same, candidates, example) if wrong.any() else ()
    case = None
    if wrong.any():
        i = int(np.flatnonzero(wrong)[np.argmin(np.abs(points.fraction[wrong] - 0.5))])
        case = Counterexample(
            f"float32 {text_of(points.x[i])}, {text_of(points.fraction[i])} of the step from "
            f"{text_of(points.below[i])} to {text_of(points.above[i])}",
            f"{wanted[i]} of {total} random integers go away from zero",
            f"{counts[i]} do",
            (f"floor(f 2^{bits}) = {wanted[i]}",),
            f"import numpy as np\n{importable(subject.function)}\n"
            f"r = np.arange({total})\nx = np.full(r.size, float.fromhex("
            f"{float(points.x[i]).hex()!r}), dtype=np.float32)\n"
            "print(np.unique(function(x, r), return_counts=True))",
        )
    return CheckResult(
        "stochastic rounding", subject.name, f"{fmt.name}, {bits} random bits",
        f"exhaustive: all {total} random integers on {n} values between neighbours",
        n * total, int(wrong.sum()),
        (Property("count of random integers that round away from zero", n, int(wrong.sum())),),
        mistakes, case, tuple(notes),
    )  # fmt: skip


def _mistakes(points: _Points, total: int) -> Iterator[tuple[str, Counts]]:
    """Yield, for each mistake, the number of random integers that round away from zero."""
    scaled = points.fraction * total
    low = np.floor(scaled)
    negative = points.x < 0
    exact = scaled == low

    def counted(values: NDArray[np.float64]) -> Counts:
        return np.clip(values, 0, total).astype(np.int64)

    yield "the part of the step were rounded up to the random bits", counted(np.ceil(scaled))
    yield "the part of the step were rounded to nearest", counted(np.rint(scaled))
    yield "half were added to the part of the step", counted(np.floor(scaled + 0.5))
    yield "sums were compared with > instead of >=", counted(np.maximum(low - 1, 0))
    yield (
        "an integer equal to the part of the step rounded up (<= for <)",
        counted(np.where(exact & (low == 0), 1, low + 1)),
    )
    yield "one were added to the random integers", counted(np.where(low > 0, low + 1, 0))
    yield "there were one random bit fewer", counted(2 * np.floor(scaled / 2))
    yield (
        "negative numbers were rounded the other way",
        counted(np.where(negative, total - low, low)),
    )
    yield (
        "negative numbers were rounded toward zero by the part that is left",
        counted(np.where(negative, np.floor(total - scaled), low)),
    )
    yield (
        "values were rounded to nearest, not stochastically",
        counted(np.where(points.fraction > 0.5, total, np.where(points.fraction == 0.5, low, 0))),
    )
    yield (
        "values were rounded to nearest, ties away",
        counted(np.where(points.fraction >= 0.5, total, 0)),
    )
    yield (
        "every step were a coin toss",
        counted(np.where(exact & (low == 0), 0, total // 2 + 0 * low)),
    )
    yield "values were truncated", counted(0 * low)


def _unknown(subject: Subject, fmt: Format, points: _Points, trials: int) -> CheckResult:
    if isinstance(fmt, FloatFormat) and points.x.size > 512:
        keep = np.linspace(0, points.x.size - 1, 512).astype(np.int64)
        points = _Points(points.x[keep], points.below[keep], points.above[keep])
    n = points.x.size
    counts = np.zeros(n, dtype=np.int64)
    per_call = max(1, CALL // n)
    done = 0
    repeated = []
    while done < trials:
        now = min(per_call, trials - done)
        up = _ups(subject, fmt, points, np.tile(np.arange(n), now)).reshape(now, n)
        counts += up.sum(axis=0)
        repeated.append(up[0])
        done += now
    bound = float(np.sqrt(np.log(2 * n / RISK) / (2 * trials)))
    share = counts / trials
    bias = share - points.fraction
    wrong = np.abs(bias) > bound
    frozen = len({u.tobytes() for u in repeated}) == 1 and bool(
        np.all((counts == 0) | (counts == trials))
    )
    notes = [
        f"{trials} conversions of each value; a right generator fails with a probability below "
        f"{RISK:g}, and a bias above {2 * bound:.4f} of a step is found as surely"
    ]
    if frozen and wrong.any():
        notes.append("every conversion of a value gave the same result: nothing is random")
    case = None
    if wrong.any():
        i = int(np.flatnonzero(wrong)[np.argmax(np.abs(bias[wrong]))])
        case = Counterexample(
            f"float32 {text_of(points.x[i])}",
            f"away from zero in {points.fraction[i]:.6f} of all conversions",
            f"in {share[i]:.6f} ({counts[i]} of {trials})",
            (f"the difference may be {bound:.6f}",),
            f"import numpy as np\n{importable(subject.function)}\nx = np.full({trials}, "
            f"float.fromhex({float(points.x[i]).hex()!r}), dtype=np.float32)\n"
            "print(np.unique(function(x), return_counts=True))",
        )
    return CheckResult(
        "stochastic rounding", subject.name, f"{fmt.name}, an unknown generator",
        f"statistical: {n} values between neighbours, {trials} conversions each, confidence "
        f"1 - {RISK:g}",
        n * trials, int(wrong.sum()), (Property("mean rounding", n, int(wrong.sum())),),
        (), case, tuple(notes),
    )  # fmt: skip
