# SPDX-License-Identifier: Apache-2.0
"""What several test files need: expected codes from the oracle, and values worth encoding."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fpsim import FloatFormat, FpsimError, MacSpec, MacUnit, Overflow, Rounding, oracle
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format
from fpsim.kernels.llvm.machine import Machine
from fpsim.oracle import numbers
from fpsim.units.stages import Chain, Exact, Fixed, Stage

#: What this processor really has, before a test pretends otherwise.
HOST = Machine.host().features
#: Every rounding that needs no random bits.
DETERMINISTIC = [r for r in Rounding if r is not Rounding.SR]


def by_default(cases: Iterable[Any], quick: Container[Any], rest: str = "slow") -> list[Any]:
    """Return the cases of a parametrized test, with the marker ``rest`` on those not ``quick``."""
    mark = getattr(pytest.mark, rest)
    return [
        case
        if case in quick
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)
        for case in cases
    ]


def float_format(name: str) -> FloatFormat:
    """Return the floating-point format called ``name``."""
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


def chain(
    result: str,
    rounding: str = "rne",
    overflow: str | None = None,
    *,
    a: str = "e2m1",
    b: str | None = None,
    random_bits: int = 0,
) -> MacUnit:
    """Return a chain unit."""
    policy = None if overflow is None else Overflow(overflow)
    stage = Chain(float_format(result), Rounding(rounding), policy, random_bits)
    return MacUnit(MacSpec(get_format(a), get_format(b or a), stage))


def exact(
    result: str,
    rounding: str = "rne",
    overflow: str | None = None,
    *,
    a: str = "e2m1",
    b: str | None = None,
    random_bits: int = 0,
) -> MacUnit:
    """Return an exact unit."""
    policy = None if overflow is None else Overflow(overflow)
    stage = Exact(float_format(result), Rounding(rounding), policy, random_bits)
    return MacUnit(MacSpec(get_format(a), get_format(b or a), stage))


def fixed(
    width: int,
    lsb: int,
    overflow: str = "wrap",
    rounding: str = "rne",
    *,
    a: str = "e2m1",
    b: str | None = None,
    random_bits: int = 0,
) -> MacUnit:
    """Return a fixed-point unit."""
    stage = Fixed(width, lsb, Overflow(overflow), Rounding(rounding), random_bits)
    return MacUnit(MacSpec(get_format(a), get_format(b or a), stage))


# -- numbers -------------------------------------------------------------------------------------


def as_number(value: float) -> oracle.Number:
    """Return a float as the oracle takes it."""
    negative = bool(np.signbit(value))
    if np.isnan(value):
        return numbers.NAN
    if np.isinf(value):
        return oracle.Number(negative, None, infinite=True)
    return oracle.Number(negative, abs(Fraction(float(value))))


def as_float(number: oracle.Number) -> float:
    """Return an oracle number as a float; it must be exact."""
    if number.is_nan:
        return float("nan")
    value = float("inf") if number.magnitude is None else float(number.magnitude)
    assert number.magnitude is None or Fraction(value) == number.magnitude
    return -value if number.negative else value


def same_floats(x: NDArray[Any], y: NDArray[Any]) -> bool:
    """Return whether two arrays hold the same values: NaN equals NaN, -0 differs from +0."""
    same_sign = np.isnan(x) | (np.signbit(x) == np.signbit(y))
    return bool(np.array_equal(x, y, equal_nan=True) and same_sign.all())


def oracle_codes(
    values: Iterable[float],
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    random: Iterable[int] | None = None,
    random_bits: int = 0,
) -> list[int | None]:
    """Return the oracle's code of each value, None where it has none."""
    numbers = [as_number(v) for v in values]
    bits = [0] * len(numbers) if random is None else [int(r) for r in random]
    codes: list[int | None] = []
    for number, r in zip(numbers, bits, strict=True):
        try:
            codes.append(oracle.encode(number, fmt, rounding, overflow, r, random_bits))
        except FpsimError:
            codes.append(None)
    return codes


# -- dot products --------------------------------------------------------------------------------


def distinct_products(spec: MacSpec) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return one operand pair (a, b) for each distinct product value, -0 apart from +0."""
    a = np.arange(1 << spec.a.bits)
    b = np.arange(1 << spec.b.bits)
    a, b = (x.reshape(-1) for x in np.meshgrid(a, b))
    values = spec.a.decode(a) * spec.b.decode(b)
    _, first = np.unique(values.view(np.int64), return_index=True)
    return a[first], b[first]


def one_step_rows(spec: MacSpec, c: NDArray[Any]) -> NDArray[np.int64]:
    """Return the oracle's code after one product: (distinct products, C); -1 where it has none."""
    a, b = distinct_products(spec)
    rows = np.empty((a.size, c.size), dtype=np.int64 if spec.result.bits < 64 else object)
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        for j, code in enumerate(c.tolist()):
            try:
                rows[i, j] = oracle.steps(spec, [x], [y], code)[-1]
            except FpsimError:
                rows[i, j] = -1
    return rows


def one_step_table(spec: MacSpec, c: NDArray[Any]) -> NDArray[np.int64]:
    """Return the oracle's code after one product for every (a, b) and ``c``: (A, B, C).

    The oracle runs once for each distinct product.
    """
    a = spec.a.decode(np.arange(1 << spec.a.bits))
    b = spec.b.decode(np.arange(1 << spec.b.bits))
    bits = (a[:, None] * b[None, :]).reshape(-1).view(np.int64)
    _, which = np.unique(bits, return_inverse=True)
    return one_step_rows(spec, c)[which.reshape(-1)].reshape(a.size, b.size, c.size)


def oracle_matmul(
    unit: MacUnit,
    a: NDArray[Any],
    b: NDArray[Any],
    c: NDArray[Any] | None = None,
    a_scale: NDArray[Any] | None = None,
    b_scale: NDArray[Any] | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Return what `MacUnit.matmul` must return."""
    return oracle.dot(
        unit,
        a[:, None, :],
        b.T[None, :, :],
        c,
        None if a_scale is None else a_scale[:, None],
        None if b_scale is None else np.moveaxis(b_scale, 1, 0)[None],
        **options,
    )


#: Arrays at least this long take the vector kernels, shorter ones the scalar code.
LONG = 1 << 10


def encodings(
    values: NDArray[Any], fmt: Format, *arguments: Any, random: Any = None, **options: Any
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.bool_]]]:
    """Encode in every way there is: yield a name, the codes and the mask of values they are of.

    Long and short arrays and float32 take different kernels; a tail that fills no vector counts.
    """

    def encode(x: NDArray[Any], mask: NDArray[np.bool_], start: int, stop: int) -> NDArray[Any]:
        part = {} if random is None else {"random": np.resize(random[mask], x.size)[start:stop]}
        return fmt.encode(x[start:stop], *arguments, **part, **options)

    everything = np.ones(values.size, dtype=bool)
    if not values.size:
        return
    pieces = [encode(values, everything, i, i + LONG - 1) for i in range(0, values.size, LONG - 1)]
    yield "short", np.concatenate(pieces), everything
    size = max(values.size, LONG + 5)
    yield "long", encode(np.resize(values, size), everything, 0, size)[: values.size], everything
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
    exact = (single == values) | np.isnan(values)
    if exact.any():
        size = max(int(exact.sum()), LONG + 7)
        codes = encode(np.resize(single[exact], size), exact, 0, size)
        yield "float32", codes[: exact.sum()], exact


# -- dot products by hand ------------------------------------------------------------------------


def unit_of(stage: Stage, a: str = "e2m1", b: str | None = None, **more: Any) -> MacUnit:
    """Return a unit of any stage; ``more`` may have scale formats and a sign split."""
    for name in ("a_scale", "b_scale"):
        if name in more:
            more[name] = get_format(more[name])
    return MacUnit(MacSpec(get_format(a), get_format(b or a), stage, **more))


def codes_of(fmt: Format, values: Any) -> NDArray[Any]:
    """Return the codes of values that a format holds exactly."""
    overflow = "inf" if isinstance(fmt, FloatFormat) and fmt.infinity else "saturate"
    codes = fmt.encode(np.asarray(values, dtype=np.float64), "rtz", overflow)
    assert same_floats(fmt.decode(codes), np.asarray(values, dtype=np.float64))
    return codes


def dot_code(unit: MacUnit, a: Any, b: Any = None, c: float = 0.0, **scales: Any) -> int:
    """Return the code of a dot product of values (``b`` all ones), by kernel and oracle alike."""
    x = codes_of(unit.a, a)
    y = codes_of(unit.b, np.ones(len(a)) if b is None else b)
    start = codes_of(unit.spec.initial, c)
    code = int(unit.dot(x, y, start, **scales))
    assert code == int(oracle.dot(unit, x, y, start, **scales))
    assert code == unit.trace(x, y, start, **scales).code
    return code


def dot_value(unit: MacUnit, a: Any, b: Any = None, c: float = 0.0, **scales: Any) -> float:
    """Return the value of `dot_code`."""
    return float(unit.result.decode([dot_code(unit, a, b, c, **scales)])[0])
