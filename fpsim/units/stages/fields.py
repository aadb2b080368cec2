# SPDX-License-Identifier: Apache-2.0
"""Checks that stages share; errors name the field, to which the spec adds its table's path."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.rounding import (
    MAX_RANDOM_BITS,
    Overflow,
    Rounding,
    parse_overflow,
    parse_rounding,
)

__all__ = ["Stage", "random_bits_of", "stages_of"]

# Float64 lanes compute a float accumulator and must hold its values with room to spare.
MAX_EXPONENT = 400


Member = TypeVar("Member", bound=StrEnum)


class Stage(Protocol):
    """A part of a datapath as data: its formats, name, equation and count of roundings."""

    kind: ClassVar[str]

    @property
    def result(self) -> Format:
        """Format of result codes."""
        ...

    @property
    def initial(self) -> Format:
        """Format of the codes of the addend ``c``."""
        ...

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        ...

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line; its terms are called ``p_i``."""
        ...

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers that a sum of ``terms`` terms takes.

        ``quadrants`` is the number of sums per block (`fpsim.units.spec.MacSpec.quadrants`).
        """
        ...


def stages_of(stage: Stage) -> list[Any]:
    """Return a stage and all stages inside it."""
    stages: list[Any] = [stage]
    for outer in stages:
        stages += [getattr(outer, n) for n in ("inner", "outer", "into") if hasattr(outer, n)]
    return stages


def random_bits_of(stage: Stage) -> int:
    """Return the bits of the widest random integer that a stage takes; 0 if it takes none."""
    return max(getattr(inside, "random_bits", 0) for inside in stages_of(stage))


def float_format(fmt: object, kind: str, field: str = "format") -> FloatFormat:
    """Check that a float stage can round to a format.

    Args:
        fmt: the candidate, of any type.
        kind: words for the stage in an error, such as ``a chain stage``.
        field: name of the field in an error.

    Returns:
        ``fmt``: signed, with a zero and exponents within 2^+-`MAX_EXPONENT`.

    Raises:
        FpsimError: a fixed-point or unsigned format, one without zero, or with larger exponents.
    """
    if not isinstance(fmt, FloatFormat):
        raise FpsimError(
            f"{field}: {getattr(fmt, 'name', repr(fmt))} is not a floating-point format"
        )
    if not fmt.signed or not fmt.has_zero:
        raise FpsimError(f"{field}: {fmt.name} has no sign or no zero; {kind} needs both")
    if fmt.exponent_max > MAX_EXPONENT or fmt.exponent_min < -MAX_EXPONENT:
        raise FpsimError(
            f"{field}: {fmt.name} reaches beyond 2^+-{MAX_EXPONENT}; choose another bias"
        )
    return fmt


def set_float(stage: object, stochastic: bool = False) -> None:
    """Validate ``format``, ``rounding`` and ``overflow`` of a frozen stage, filling defaults."""
    fmt = float_format(stage.format, f"a {stage.kind} stage")  # type: ignore[attr-defined]
    given = stage.overflow  # type: ignore[attr-defined]
    overflow = parse_overflow(fmt.default_overflow if given is None else given)
    object.__setattr__(stage, "overflow", overflow)
    object.__setattr__(stage, "rounding", parse_rounding(stage.rounding))  # type: ignore[attr-defined]
    rounding: Rounding = stage.rounding  # type: ignore[attr-defined]
    if not stochastic:
        deterministic(rounding, "rounding", stage.kind)  # type: ignore[attr-defined]
    fmt.limits(rounding, overflow)


def deterministic(rounding: Rounding, field: str, kind: str) -> Rounding:
    """Check that a rounding takes no random bits.

    Args:
        rounding: the candidate.
        field: name of the field in an error.
        kind: kind of the stage in an error.

    Returns:
        ``rounding``, which is not ``sr``.

    Raises:
        FpsimError: stochastic rounding.
    """
    if rounding is Rounding.SR:
        allowed = ", ".join(r for r in Rounding if r is not Rounding.SR)
        raise FpsimError(
            f"{field}: 'sr' is for chain, fixed and exact stages; {kind} takes {allowed}"
        )
    return rounding


def stage(value: object, field: str, kinds: tuple[type, ...], does: str) -> None:
    """Check that a stage is of an allowed kind.

    Args:
        value: the candidate, of any type.
        field: name of the field in an error.
        kinds: stage classes allowed.
        does: ability shared by the kinds, for an error, such as ``adds terms``.

    Raises:
        FpsimError: a stage of another kind, or no stage; the message lists the kinds.
    """
    if not isinstance(value, kinds):
        name = getattr(value, "kind", repr(value))
        allowed = ", ".join(kind.kind for kind in kinds)  # type: ignore[attr-defined]
        raise FpsimError(f"{field}: {name} is not a stage that {does}; allowed: {allowed}")


def count(value: object, field: str, low: int, high: int) -> int:
    """Check an integer field.

    Args:
        value: the candidate; a bool is no integer.
        field: name of the field in an error.
        low, high: smallest and largest value allowed.

    Returns:
        ``value``.

    Raises:
        FpsimError: no integer, or one outside ``low..high``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FpsimError(f"{field}: {value!r} is not an integer in {low}..{high}")
    return value


def choice(value: object, kind: type[Member], field: str) -> Member:
    """Parse a field that has a few names to choose from.

    Args:
        value: a member of ``kind`` or its text.
        kind: the StrEnum.
        field: name of the field in an error.

    Returns:
        The member.

    Raises:
        FpsimError: no member; the message lists the names allowed.
    """
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        raise not_one_of(field, value, kind) from None


def random_bits(rounding: Rounding, bits: object, most: int = MAX_RANDOM_BITS) -> None:
    """Check the random bits of a stage: some with ``sr``, none without.

    Args:
        rounding: rounding of the stage.
        bits: bits of a random integer, the candidate.
        most: largest number the stage can take.

    Raises:
        FpsimError: bits that are no integer or above ``most``, bits without ``sr``, or ``sr``
            without bits.
    """
    most = min(most, MAX_RANDOM_BITS)
    allowed = range(1, most + 1) if rounding is Rounding.SR else range(1)
    if not isinstance(bits, int) or isinstance(bits, bool) or bits not in allowed:
        raise FpsimError(
            f"random_bits: {bits!r} with rounding {rounding.value!r}; allowed: "
            f"{allowed.start}..{allowed.stop - 1}"
        )


def suffixes(*parts: tuple[object, object, str]) -> list[str]:
    """Return the name part of every (value, default, text) whose value is not the default."""
    return [text for value, default, text in parts if value != default]


def rounding_name(rounding: Rounding, random_bits: int = 0) -> str:
    """Return a rounding as names spell it: ``sr8`` is sr with 8 random bits."""
    return f"sr{random_bits}" if rounding is Rounding.SR else str(rounding)


def overflow_suffix(fmt: FloatFormat, overflow: Overflow | None) -> list[str]:
    """Return the overflow as a name part, if it is not the format's default."""
    return [] if overflow is fmt.default_overflow else [str(overflow)]
