# SPDX-License-Identifier: Apache-2.0
"""Faults that no vector of a family's published units can show, each with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from faults.faults import Fault

__all__ = ["excuse"]


@dataclass(frozen=True)
class _Excuse:
    """Faults ``names`` of ``files`` (any if empty) in ``families`` (any if empty)."""

    why: str
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    families: tuple[str, ...] = ()


_NO_INFINITY = (
    "no operand of these units is infinite; an infinite addend read as a number is 2^(emax + 1), "
    "which products this small leave there, so it overflows to infinity again"
)
_FLOATS = ("chain", "exact", "aligned", "block", "tree", "chunked")

EXCUSES = (
    _Excuse(
        "no unit of the family truncates",
        names=("truncation rounds to nearest",),
        families=("chain", "fixed", "exact", "block", "tree"),
    ),
    _Excuse(
        "the units round to nearest or truncate, and a term this far below another, of fewer "
        "significant bits than the accumulator has, changes neither result",
        names=("a shift beyond the width forgets the value",),
    ),
    _Excuse(
        "no operand of the family is an integer",
        names=(
            "integers are one's complement",
            "integers lose their magnitude's top bit",
            "integers are twice as large",
        ),
        families=_FLOATS,
    ),
    _Excuse(
        "the last bit of every product weighs at least the accumulator's, so nothing is rounded "
        "or shifted right",
        names=(
            "ties round up",
            "ties round down",
            "ties look at the last bit alone",
            "bits shifted out are forgotten",
            "a shift drops one bit more",
            "a negative shift is a left shift",
            "right shifts are one too short",
        ),
        families=("fixed",),
    ),
    _Excuse(
        "every operand code is a number",
        names=(
            "infinity is a number",
            "NaN is a number",
            "NaN of all ones is a number",
            "infinity times zero is infinity",
            "one factor's NaN is ignored",
            "the other factor's NaN is ignored",
            "infinite factors are ignored",
        ),
        families=("fixed",),
    ),
    _Excuse(
        "no operand or scale of these units is infinite or negative",
        names=(
            "infinity times zero is infinity",
            "infinite factors are ignored",
            "an infinite scale is ignored",
            "the scales' sign is ignored",
            "infinity minus infinity is infinity",
            "infinity of a term is ignored",
        ),
        families=("chain",),
    ),
    _Excuse(
        "the second factor alone can be NaN",
        names=("the other factor's NaN is ignored",),
        families=("aligned", "tree"),
    ),
    _Excuse(
        _NO_INFINITY,
        names=(
            "infinity is a number",
            "infinity times zero is infinity",
            "infinite factors are ignored",
            "infinity minus infinity is infinity",
            "infinity in the accumulator is ignored",
            "infinity of a term is ignored",
            "infinity has the sign of the sum",
            "an infinite addend is ignored",
            "infinities of both signs are infinity",
        ),
        families=("aligned", "tree"),
    ),
    _Excuse(
        "the products of a step lie below half the last bit of the largest accumulator, so no sum "
        "overflows",
        names=("overflow wraps", "overflow stops at the largest number", "nodes saturate"),
        families=("aligned", "tree"),
    ),
    _Excuse(
        "only a late addend is added there, and no published unit has one",
        files=("fp_align_add.sv", "fp_sum.sv"),
        families=("aligned",),
    ),
    _Excuse(
        "windows are cut, and a sum below the smallest normal number is the addend alone, exact",
        names=("bits shifted out are forgotten",),
        families=("aligned",),
    ),
    _Excuse(
        "an aligned NaN is NAN_CODE",
        names=("NaN has another payload", "NaN has a sign"),
        families=("aligned",),
    ),
    _Excuse(
        "a zero sum is +0 before it is rounded, and no other sum of these units rounds to zero",
        names=("negative zero becomes positive", "zero keeps a sign"),
        families=("aligned",),
    ),
    _Excuse(
        "no planned vector has infinite terms of both signs; `test_rtl_dots.py` has its own",
        names=("infinities of both signs are infinity",),
        families=("exact",),
    ),
    _Excuse(
        "the second window has more bits than the result, so that what is cut from the sum shows "
        "in none of these results",
        names=("sums are truncated in the second window",),
    ),
    _Excuse(
        "a vector of these units is one beat",
        names=("every beat gives a result",),
        families=("aligned", "tree"),
    ),
)


def excuse(family: str, fault: Fault) -> str | None:
    """Return why no published unit of a family can show a fault; None if one can."""
    for reason in EXCUSES:
        chosen = (
            (reason.files, fault.file),
            (reason.names, fault.name),
            (reason.families, family),
        )
        if all(not allowed or value in allowed for allowed, value in chosen):
            return reason.why
    return None
