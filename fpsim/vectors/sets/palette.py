# SPDX-License-Identifier: Apache-2.0
"""Codes for vectors of a unit: operands, products, scales and addends of every type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.units.stages import Chunked, Stage
from fpsim.vectors.sets.code_lists import Codes, all_codes, finite_codes
from fpsim.vectors.sets.record import Record, takes_nan

__all__ = ["MAX_PRODUCTS", "Codes", "Palette"]

#: Most products that a class pairs with every addend; all products of 4-bit operands.
MAX_PRODUCTS = 24


def _last_sum(stage: Stage) -> Stage:
    """Return the stage that an addend meets: of chunks, the one that adds their results."""
    return _last_sum(stage.outer) if isinstance(stage, Chunked) else stage


@lru_cache(maxsize=64)
def _nearest(fmt: Format, value: float) -> int:
    codes = finite_codes(fmt)
    return int(codes[np.abs(fmt.decode(codes) - value).argmin()])


class Palette:
    """Codes for vectors: operands, their products, scales and addends.

    ``allowed`` are the codes that operands ``a`` and ``b`` may have, ascending; all codes of an
    operand that is not in it.
    """

    def __init__(self, record: Record, allowed: Mapping[str, Codes] | None = None) -> None:
        self.record, self.spec, self.allowed = record, record.spec, allowed or {}
        self.nan = takes_nan(record.spec)
        met = replace(record.spec, accumulate=_last_sum(record.spec.accumulate))
        self.nan_addend = self.nan or takes_nan(met)  #: whether an addend may be NaN or infinite

    @cached_property
    def a(self) -> Codes:
        """Finite codes of ``a``."""
        return self._told("a", finite_codes(self.spec.a))

    @cached_property
    def b(self) -> Codes:
        """Finite codes of ``b``."""
        return self._told("b", finite_codes(self.spec.b))

    def _told(self, operand: str, codes: Codes) -> Codes:
        """Return the codes among ``codes`` that the operand may have."""
        allowed = self.allowed.get(operand)
        return codes if allowed is None else codes[np.isin(codes, allowed)]

    def special(self, operand: str) -> Codes:
        """Return up to four codes without a finite value."""
        fmt: Format = getattr(self.spec, operand)
        codes = all_codes(fmt)
        codes = self._told(operand, codes[~np.isfinite(fmt.decode(codes))])
        return codes if codes.size <= 4 else codes[[0, 1, codes.size // 2, -1]]

    def corner_codes(self, operand: str) -> Codes:
        """Return zeros, subnormals, ones and the largest codes of an operand."""
        fmt: Format = getattr(self.spec, operand)
        if isinstance(fmt, FixedFormat):
            half = 1 << (fmt.bits - 1)
            picks = {0, 1, 2, half - 1, half, half + 1, (1 << fmt.bits) - 1}
        else:
            row = 1 << fmt.mantissa_bits
            picks = {0, 1, row - 1, row, row + 1, fmt.max_code - 1, fmt.max_code, fmt.max_code >> 1}
            picks |= {code + fmt.sign_bit for code in picks if 0 <= code <= fmt.max_code}
        codes: Codes = getattr(self, operand)
        chosen = codes[np.isin(codes, sorted(picks))]
        return (chosen if chosen.size else codes[[0, -1]]).astype(np.int64)

    @cached_property
    def products(self) -> tuple[Codes, Codes, NDArray[np.float64]]:
        """One operand pair per distinct product (or an even choice), by value: a, b, value."""
        a, b = (self.a, self.b) if self.a.size <= 256 else self._wide()
        if b.size > 256:
            b = self._wide()[1]
        pairs = [x.reshape(-1) for x in np.meshgrid(a, b)]
        values = self.spec.a.decode(pairs[0]) * self.spec.b.decode(pairs[1])
        _, first = np.unique(values.view(np.int64), return_index=True)
        order = first[np.argsort(values[first], kind="stable")]
        return pairs[0][order], pairs[1][order], values[order]

    def _wide(self) -> tuple[Codes, Codes]:
        """Return a choice of codes of wide operands: few significands in every row, 1 and -1."""
        chosen = []
        for name in ("a", "b"):
            codes: Codes = getattr(self, name)
            if codes.size > 256:
                step = codes.size // 96
                fmt: Format = getattr(self.spec, name)
                ones = codes[np.abs(fmt.decode(codes)) == 1.0]
                codes = np.union1d(codes[::step], np.union1d(self.corner_codes(name), ones))
            chosen.append(codes)
        return chosen[0], chosen[1]

    def few(self, count: int = MAX_PRODUCTS, sign: int = 0) -> tuple[Codes, Codes]:
        """Return some products, with smallest and largest; ``sign`` +1 or -1: only of that sign."""
        a, b, values = self.products
        keep = np.flatnonzero(values * sign > 0) if sign else np.flatnonzero(values != 0)
        if keep.size > count:
            keep = keep[np.unique(np.linspace(0, keep.size - 1, count).astype(np.int64))]
        return a[keep], b[keep]

    def product(self, which: str) -> tuple[int, int]:
        """Return the operand pair of a product: ``largest``, ``smallest`` (most negative), ``tiny``
        (least positive), ``zero`` or ``one`` (nearest to 1)."""
        a, b, values = self.products
        positive = np.where(values > 0, values, np.inf)
        index = {
            "largest": int(values.argmax()),
            "smallest": int(values.argmin()),
            "tiny": int(positive.argmin()),
            "zero": int(np.abs(values).argmin()),
            "one": int(np.abs(values - 1).argmin()),
        }[which]
        return int(a[index]), int(b[index])

    def zero(self, operand: str) -> int:
        """Return the code nearest to zero, +0 if the operand has it."""
        fmt: Format = getattr(self.spec, operand)
        if operand not in self.allowed:
            return _nearest(fmt, 0.0)
        codes: Codes = getattr(self, operand)
        return int(codes[np.abs(fmt.decode(codes)).argmin()])

    def one(self, operand: str) -> int:
        """Return the scale code nearest to 1."""
        return _nearest(getattr(self.spec, f"{operand}_scale"), 1.0)

    def scale_corners(self, operand: str) -> Codes:
        """Return scale codes at both ends, around one, subnormal, of both signs, and special."""
        fmt: FloatFormat = getattr(self.spec, f"{operand}_scale")
        row = 1 << fmt.mantissa_bits
        one, top = self.one(operand), fmt.max_code
        codes = {
            0,
            1,
            2,
            row - 1,
            row,
            row + 1,
            one - 1,
            one,
            one + 1,
            one + 9,
            one - 9,
            top - 1,
            top,
        }
        if self.nan:
            codes |= {top + 1, (1 << fmt.magnitude_bits) - 1}
        if fmt.signed:
            codes |= {c + fmt.sign_bit for c in codes}
        found = np.array([c for c in sorted(codes) if 0 <= c < 1 << fmt.bits], dtype=np.int64)
        return found if self.nan else found[np.isfinite(fmt.decode(found))]

    def encode_addend(self, values: NDArray[np.float64]) -> Codes:
        """Return addend codes of real values, rounded toward zero and saturated."""
        fmt = self.spec.initial
        values = np.nan_to_num(np.asarray(values, dtype=np.float64))
        return fmt.encode(values, "rtz", "saturate").astype(np.int64)
