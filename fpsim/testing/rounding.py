# SPDX-License-Identifier: Apache-2.0
"""`check_rounding`: a converter of values to a format, against the exact rounding of each value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Flag, Overflow, Rounding, parse_overflow, parse_rounding
from fpsim.oracle import Node
from fpsim.testing.contract import Arrays, Returns, Subject, as_codes_or_values, importable
from fpsim.testing.inputs import inputs_for
from fpsim.testing.neighbours import Neighbours, same_values
from fpsim.testing.result import (
    CheckResult,
    Counterexample,
    Mistake,
    NumberLine,
    Property,
    likely_mistakes,
    recorded,
)
from fpsim.testing.rounding_mistakes import rounding_mistakes

__all__ = ["check_rounding"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
NEAREST = (Rounding.RNE, Rounding.RNA)
SYMMETRIC = (Rounding.RNE, Rounding.RNA, Rounding.RTZ, Rounding.RTO)
#: Most inputs beyond the range of a format on which mistakes are tried.
TRIED_OUTSIDE = 4096
#: Values of the format drawn on either side of a counterexample.
DRAWN = 3


@dataclass(frozen=True)
class _Task:
    """A converter, its format and rounding, and the form of its results."""

    subject: Subject
    fmt: Format
    rounding: Rounding | None
    overflow: Overflow
    nan: str | None
    returns: Returns
    flags: bool
    signed_zero: bool

    def outputs(self, x: NDArray[Any]) -> tuple[Floats, NDArray[Any] | None]:
        """Return the function's values, and its flags or None."""
        names = f"codes or values of {self.fmt.name}" + ", flags" * self.flags
        shapes = [x.shape] * (1 + self.flags)
        found = self.subject.results([x], shapes, names)
        values, _ = as_codes_or_values(self.subject, found[0], self.fmt, self.returns)
        return values, found[1] if self.flags else None

    def expected(self, x: NDArray[Any]) -> tuple[Floats, NDArray[np.uint8] | None]:
        """Return the right values and, if requested, the right flags."""
        assert self.rounding is not None
        if not self.flags:
            codes = self.fmt.encode(x, self.rounding, self.overflow, nan=self.nan or "error")
            return self.fmt.decode(codes), None
        codes, flags = self.fmt.encode(
            x, self.rounding, self.overflow, nan=self.nan or "error", flags=True
        )
        return self.fmt.decode(codes), flags

    def same(self, x: Floats, y: Floats) -> Mask:
        """Return the mask of results that count as equal."""
        both_zero = (x == 0) & (y == 0)
        return same_values(x, y) | both_zero if not self.signed_zero else same_values(x, y)


def check_rounding(
    function: Callable[..., Any],
    format: str | Format,
    rounding: str | None = "rne",
    *,
    overflow: str | None = None,
    nan: str | None = None,
    inputs: str = "float32",
    returns: Returns = "either",
    arrays: Arrays = "numpy",
    flags: bool = False,
    signed_zero: bool = True,
) -> CheckResult:
    """Check a converter: any callable on an array of values that returns codes or values.

    Every result is compared, bit for bit, with the value rounded once. The report has the verdict,
    its parts (rounding within the range, overflow, infinities, NaN, zeros), and properties that
    need no reference: monotone (within the range, if overflow wraps), idempotent, symmetric in
        sign, never
    farther than half a step (to nearest), never across the value (directed), never past a
    neighbour.

    Args:
        function: takes one array (n,) of floating-point numbers, returns one of the same shape:
            integers are codes (bit patterns), floating-point numbers are values.
        format: a format or its name.
        rounding: a mode of `Rounding` except ``sr`` (see `check_stochastic`); None: check only
            properties that hold in every mode.
        overflow: a policy of `Overflow`; absent: ``inf`` if the format has infinities, else
            ``saturate``.
        nan: the result for NaN in a format without NaN: ``zero`` or ``saturate``; absent: NaN is
            not tried there.
        inputs: ``float32`` or ``float64`` (every boundary), or a format of at most 24 bits of which
            every value is tried: ``float16``, ``bfloat16``, ``e4m3fn``, ...
        returns: form of the results: ``codes``, ``values`` or ``either``.
        arrays: ``numpy`` or ``torch``.
        flags: the function returns (codes, flags) with the bits of `Flag`.
        signed_zero: whether the sign of a zero result counts.

    Returns:
        The result, true only if every comparison and property held.

    Raises:
        FpsimError: an argument out of range, or a policy for which the format has no code.
        ContractError: the function raises, changes its input, or returns a result of a wrong type
            or shape.
    """
    fmt = get_format(format)
    mode = None if rounding is None else parse_rounding(rounding)
    if mode is Rounding.SR:
        raise FpsimError("rounding: 'sr' takes random integers; check_stochastic checks it")
    if overflow is None:
        policy = fmt.default_overflow if isinstance(fmt, FloatFormat) else Overflow.SATURATE
    else:
        policy = parse_overflow(overflow)
    task = _Task(Subject(function, arrays), fmt, mode, policy, nan, returns, flags, signed_zero)
    fmt.encode(np.zeros(1), mode or "rne", policy)  # refuses a policy without a code
    has_nan = isinstance(fmt, FloatFormat) and fmt.nan_code is not None
    given = inputs_for(fmt, inputs, nan=has_nan or nan is not None)
    x = given.values
    seen, seen_flags = task.outputs(x)
    near = Neighbours.of(fmt, x)
    against = f"{fmt.name}, {mode or 'any rounding'}, {policy}"
    notes = [] if has_nan or nan is not None else ["NaN was not tried: the format has none"]
    general = [*_general(task, near, x, seen)]
    if mode is None:
        wrong = np.zeros(x.size, dtype=bool)
        for _, mask in general:
            wrong |= mask
        expected = near.rounded(near.upward(Rounding.RNE), policy)
        properties = tuple(Property(name, x.size, int(mask.sum())) for name, mask in general)
        mistakes: tuple[Mistake, ...] = ()
    else:
        expected, right_flags = task.expected(x)
        wrong = ~task.same(expected, seen)
        properties = _parts(near, expected, wrong, mode)
        properties += tuple(Property(n, x.size, int(mask.sum())) for n, mask in general)
        if seen_flags is not None and right_flags is not None:
            differ = seen_flags.astype(np.int64) != right_flags
            properties += (Property("status flags", x.size, int(differ.sum())),)
            if differ.any() and not wrong.any():
                notes.append(_flag_note(x, differ, seen_flags, right_flags))
            wrong_flags = differ
        else:
            wrong_flags = np.zeros(x.size, dtype=bool)
        mistakes = _named(task, near, x, expected, seen) if wrong.any() else ()
        wrong = wrong | wrong_flags
    case = None
    if wrong.any():
        case = _counterexample(task, near, x, expected, seen, wrong, against)
    return recorded(
        CheckResult(
            "rounding", task.subject.name, against, given.search, int(x.size), int(wrong.sum()),
            properties, mistakes, case, tuple(notes),
        )
    )  # fmt: skip


def _named(
    task: _Task, near: Neighbours, x: NDArray[Any], expected: Floats, seen: Floats
) -> tuple[Mistake, ...]:
    """Return the likely mistakes, tried on inputs within the range and some beyond it."""
    assert task.rounding is not None
    inside = near.finite & (near.low <= near.limits + 4) & (near.x != 0)
    inside &= (near.low > 0) | (near.relation >= 0) | (np.abs(near.x) > near.above / 8)
    rest = np.flatnonzero(~inside)
    if rest.size > TRIED_OUTSIDE:
        special = rest[~near.finite[rest] | (near.x[rest] == 0)][:TRIED_OUTSIDE]
        rest = rest[np.linspace(0, rest.size - 1, TRIED_OUTSIDE).astype(np.int64)]
        rest = np.union1d(rest, special)
    rows = np.union1d(np.flatnonzero(inside), rest)
    x, expected, seen = x[rows], expected[rows], seen[rows]

    def example(chosen: Mask) -> str:
        i = simplest(x, chosen)
        given, got = text_of(float(x[i])), text_of(seen[i])
        return f"such as {given}: {got} instead of {text_of(expected[i])}"

    candidates = rounding_mistakes(
        Neighbours.of(task.fmt, x), expected, task.rounding, task.overflow
    )
    return likely_mistakes(expected, seen, task.same, candidates, example)


# -- properties ----------------------------------------------------------------------------------


def _parts(near: Neighbours, expected: Floats, wrong: Mask, mode: Rounding) -> tuple[Property, ...]:
    """Return the results of comparison as properties, by kind of input."""
    over = near.finite & (near.low + near.upward(mode) > near.limits)
    zero = near.finite & (expected == 0)
    kinds = (
        (f"rounded as {mode}", near.finite & ~over & ~zero),
        ("ties", near.tie & ~over & ~zero),
        ("zero results, and their sign", zero),
        ("overflow", over),
        ("infinities", np.isinf(near.x)),
        ("NaN", np.isnan(near.x)),
    )
    return tuple(
        Property(name, int(mask.sum()), int((wrong & mask).sum()))
        for name, mask in kinds
        if mask.any()
    )


def _general(
    task: _Task, near: Neighbours, x: NDArray[Any], seen: Floats
) -> list[tuple[str, Mask]]:
    """Return properties that need no reference, with masks of the inputs where they fail."""
    mode, value = task.rounding, near.x
    found: list[tuple[str, Mask]] = []
    inside = near.finite & (near.low + 1 <= near.limits)
    # A wrapped result rightly falls back to the other end.
    ordered = inside if task.overflow is Overflow.WRAP else ~np.isnan(value)
    numbers = np.flatnonzero(ordered & ~np.isnan(seen))
    order = numbers[np.argsort(value[numbers], kind="stable")]
    falls = np.zeros(x.size, dtype=bool)
    falls[order[1:]] = seen[order[1:]] < seen[order[:-1]]
    found.append(("monotone", falls))
    magnitude = np.abs(seen)
    apart = inside & (magnitude != near.below) & (magnitude != near.above)
    crosses_zero = inside & (np.sign(seen) * np.sign(value) < 0)
    found.append(("one of the two neighbours", apart | crosses_zero))
    if mode in NEAREST:
        with np.errstate(invalid="ignore"):  # infinities
            error = np.abs(magnitude - np.abs(value))
            half = (near.above - near.below) / 2
        found.append(("within half a step", inside & (error > half)))
    if mode in (Rounding.RUP, Rounding.RDN, Rounding.RTZ):
        crossed = {
            Rounding.RUP: seen < value, Rounding.RDN: seen > value, Rounding.RTZ:
            magnitude > np.abs(value),
        }[mode]  # fmt: skip
        found.append(("never across the value", inside & crossed))
    found.append(("idempotent", _changed_again(task, x, seen)))
    signed = isinstance(task.fmt, FloatFormat) and task.fmt.signed
    if signed and mode in SYMMETRIC:
        mirrored, _ = task.outputs(-x)
        found.append(("symmetric in sign", ~task.same(mirrored, -seen) & ~np.isnan(value)))
    return found


def _changed_again(task: _Task, x: NDArray[Any], seen: Floats) -> Mask:
    """Return where a result, converted again, changes; only results that the input type holds."""
    with np.errstate(over="ignore", invalid="ignore"):
        again = seen.astype(x.dtype)
    known = np.isfinite(seen) & (again == seen)
    changed = np.zeros(x.size, dtype=bool)
    if known.any():
        twice, _ = task.outputs(again[known])
        changed[known] = ~task.same(twice, seen[known])
    return changed


def _flag_note(x: NDArray[Any], differ: Mask, seen: NDArray[Any], right: NDArray[np.uint8]) -> str:
    first = int(np.flatnonzero(differ)[0])

    def names(flags: int) -> str:
        return ", ".join(str(f.name).lower() for f in Flag if f & flags) or "none"

    return (
        f"flags of {x[first]!r}: seen {names(int(seen[first]))}, expected "
        f"{names(int(right[first]))}"
    )


# -- the counterexample --------------------------------------------------------------------------


def simplest(x: NDArray[Any], wrong: Mask) -> int:
    """Return the index of the wrong input with fewest significant bits, near one, positive."""
    index = np.flatnonzero(wrong)
    with np.errstate(invalid="ignore"):  # signalling NaN
        value = x[index].astype(np.float64)
    fraction, exponent = np.frexp(np.where(np.isfinite(value), value, 0.0))
    integer = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    lowest = np.where(integer != 0, integer & -integer, 1 << 52)
    significant = 53 - np.log2(lowest.astype(np.float64))
    keys = (np.signbit(value), np.abs(exponent), significant, ~np.isfinite(value))
    return int(index[np.lexsort(keys)[0]])


def text_of(value: float) -> str:
    """Return a value as exact text: decimal or, if long, hexadecimal."""
    value = float(value)
    if not np.isfinite(value):
        return repr(value)
    short = repr(value).removesuffix(".0")
    return short if len(short) < 12 else f"{short} = {value.hex()}"


def coded(fmt: Format, value: float) -> str:
    """Return a value as text with its code, or with a note that it has none."""
    has_nan = isinstance(fmt, FloatFormat) and fmt.nan_code is not None
    if np.isnan(value):
        return "nan" + ("" if has_nan else f", which {fmt.name} does not have")
    policy = "inf" if isinstance(fmt, FloatFormat) and fmt.infinity else "saturate"
    code = fmt.encode(np.array([value]), "rtz", policy)
    if not same_values(fmt.decode(code), np.array([value + 0.0 if code == 0 else value]))[0]:
        return f"{text_of(value)}, which is no value of {fmt.name}"
    return f"{text_of(value)} (code {int(code[0]):#x})"


def _counterexample(
    task: _Task, near: Neighbours, x: NDArray[Any], expected: Floats, seen: Floats, wrong: Mask,
    against: str,
) -> Counterexample:  # fmt: skip
    differs = wrong & ~task.same(expected, seen)
    i = simplest(x, differs if differs.any() else wrong)
    fmt = task.fmt
    value = x[i]
    lines = []
    if near.finite[i]:
        lines.append(_where(near, i))
    if task.rounding is not None and near.finite[i]:
        number = oracle.encode(
            _number(near.x[i]), fmt, task.rounding, task.overflow, ieee=True
        )  # the oracle's exact result, as a second opinion
        wanted = Node(0, "", oracle.decode(number, fmt)).text
        lines.append(f"{task.rounding} with {task.overflow} gives {wanted} (code {number:#x})")
    alone, _ = task.outputs(x[i : i + 1])
    if not task.same(alone, seen[i : i + 1])[0]:
        lines.append(
            f"alone in an array it gives {text_of(alone[0])}: the result depends on what else "
            "is in the array"
        )
    literal = f"float.fromhex({float(value).hex()!r})" if np.isfinite(value) else f"np.{value}"
    tensor = "torch.tensor" if task.subject.arrays == "torch" else "np.array"
    modules = "import numpy as np\n" + "import torch\n" * (task.subject.arrays == "torch")
    replay = (
        f"{modules}from fpsim import get_format\n{importable(task.subject.function)}\n"
        f"x = {tensor}([{literal}], dtype={tensor.split('.')[0]}.{x.dtype})\n"
        f"print(function(x), get_format({fmt.name!r}).encode(x, "
        f"{str(task.rounding or 'rne')!r}, {str(task.overflow)!r}"
        f"{f', nan={task.nan!r}' if task.nan else ''}))"
    )
    return Counterexample(
        f"{x.dtype} {text_of(float(value))}",
        coded(fmt, float(expected[i])) if task.rounding else "either neighbour",
        coded(fmt, float(seen[i])),
        tuple(lines),
        replay,
        number_line(near, i, float(expected[i]), float(seen[i])) if near.finite[i] else None,
    )


def _number(value: float) -> oracle.Number:
    from fractions import Fraction

    return oracle.Number(bool(np.signbit(value)), abs(Fraction(float(value))))


def _where(near: Neighbours, i: int) -> str:
    """Return a sentence on the two values of the format around a number."""
    sign = "-" if near.negative[i] else ""
    low, high = text_of(near.below[i]), text_of(near.above[i])
    if near.low[i] >= near.limits[i]:
        top = text_of(near.value(near.limit(bool(near.negative[i]))))
        if near.exact[i] and near.low[i] == near.limits[i]:
            return f"it is the largest value, {sign}{top}"
        return f"it lies beyond the largest value, {sign}{top}"
    if near.exact[i]:
        return f"it is a value of {near.fmt.name}"
    where = {-1: "below the middle", 0: "exactly in the middle", 1: "above the middle"}
    return (
        f"it lies between {sign}{low} (code {int(near.low[i]):#x}) and {sign}{high} (code "
        f"{int(near.low[i]) + 1:#x}), {where[int(near.relation[i])]}"
    )


def number_line(near: Neighbours, i: int, expected: float, seen: float) -> NumberLine:
    """Return the values of the format around a number, for a drawing with two results.

    Args:
        near: numbers and their neighbours.
        i: index of the number.
        expected: the right result.
        seen: the function's result.

    Returns:
        The number line: number, both results, and the values of the format beside them.
    """
    top = near.limit(bool(near.negative[i]))
    low = int(min(near.low[i], top))
    steps = np.arange(max(low - DRAWN + 1, 0), min(low + DRAWN, top) + 1)
    values = np.array([near.value(int(step)) for step in steps])
    sign = -1.0 if near.negative[i] else 1.0
    marks = tuple((sign * float(v), text_of(sign * v)) for v in values)
    return NumberLine(marks, float(near.x[i]), expected, seen)
