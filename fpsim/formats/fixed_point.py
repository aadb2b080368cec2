# SPDX-License-Identifier: Apache-2.0
"""Fixed-point formats: a code is a two's complement (or unsigned) integer times a power of two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fpsim.base.compiling import announce_compiling
from fpsim.base.errors import FpsimError
from fpsim.base.hashed_once import hashed_once
from fpsim.formats.fixed_grid import MAX_WIDTH, grid_integers
from fpsim.formats.html import format_html
from fpsim.formats.inputs import (
    as_real,
    check_codes,
    check_int,
    code_dtype,
    convert_exactly,
    random_array,
)
from fpsim.formats.rounding import (
    InfPolicy,
    NanPolicy,
    Overflow,
    Rounding,
    parse_inf,
    parse_nan,
    parse_overflow,
    parse_rounding,
)

if TYPE_CHECKING:
    from fpsim.kernels.scalar import fixed_point

__all__ = ["FixedFormat"]

MAX_FIXED_BITS = 64
#: Widest codes that are decoded by a table of all values.
TABLE_WIDTH = 8


@hashed_once
@dataclass(frozen=True)
class FixedFormat:
    """Two's complement or unsigned fixed point: code ``i`` (mod 2^width) means ``i * 2^lsb``.

    Args:
        width: bits of a code, 1..64.
        lsb: exponent of the least significant bit, -512..512.
        signed: two's complement if true.
        symmetric: the most negative code is never produced (INT4 as -7..7).
    """

    width: int
    lsb: int = 0
    signed: bool = True
    symmetric: bool = False

    def __repr__(self) -> str:
        return f"<FixedFormat {self.name}>"

    def _repr_html_(self) -> str:
        return format_html(self)

    def __post_init__(self) -> None:
        check_int("width", self.width, 2 if self.signed else 1, MAX_FIXED_BITS)
        check_int("lsb", self.lsb, -512, 512)
        for name in ("signed", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise FpsimError(f"{name}: {getattr(self, name)!r} is not true or false")
        if self.symmetric and not self.signed:
            raise FpsimError("symmetric: only a signed format can be symmetric")

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.width

    @property
    def max_integer(self) -> int:
        """Largest integer a code stands for."""
        return (1 << (self.width - int(self.signed))) - 1

    @property
    def min_integer(self) -> int:
        """Smallest integer that encoding produces."""
        if not self.signed:
            return 0
        return -self.max_integer if self.symmetric else -self.max_integer - 1

    @property
    def max_value(self) -> float:
        """Largest value."""
        return float(np.ldexp(float(self.max_integer), self.lsb))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned integer type that holds a code."""
        return code_dtype(self.width)

    @property
    def name(self) -> str:
        """Canonical name, such as ``int4``, ``int4s`` (symmetric) or ``int24q2`` (LSB 2^-2)."""
        point = f"q{-self.lsb}" if self.lsb else ""
        return f"{'' if self.signed else 'u'}int{self.width}{point}{'s' if self.symmetric else ''}"

    def integers(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Return the integers of codes (int64; unsigned 64-bit codes from 2^63 on wrap)."""
        array = check_codes(codes, self, "codes").astype(np.uint64)
        unused = np.uint64(64 - self.width)
        shifted = (array << unused).view(np.int64)
        if self.signed:
            return shifted >> np.int64(unused)
        return array.view(np.int64)

    @overload
    def decode(self, codes: ArrayLike, dtype: None = None) -> NDArray[np.float64]: ...

    @overload
    def decode(self, codes: ArrayLike, dtype: DTypeLike) -> NDArray[Any]: ...

    def decode(self, codes: ArrayLike, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return values as float64: exact up to 53 significant bits, else rounded to nearest.

        With a ``dtype`` (any floating-point type) the values are exact.

        Raises:
            FpsimError: not codes of this format, or a value that ``dtype`` cannot hold.
        """
        if self.width <= TABLE_WIDTH:
            decoded = self._table.take(check_codes(codes, self, "codes"))
        else:
            decoded = self._value(self.integers(codes))
        if dtype is None:
            return decoded
        if self.width > 53:
            integers = self.integers(codes)
            as_real(integers if self.signed else integers.view(np.uint64))
        return convert_exactly(decoded, dtype)

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """The value of every code."""
        return self._value(self.integers(np.arange(1 << self.width, dtype=self.dtype)))

    def _value(self, integers: NDArray[np.int64]) -> NDArray[np.float64]:
        values = integers if self.signed else integers.view(np.uint64)
        return np.ldexp(values.astype(np.float64), self.lsb)

    @overload
    def encode(
        self,
        values: ArrayLike,
        rounding: str | None = None,
        overflow: str = "saturate",
        *,
        random: ArrayLike | None = None,
        random_bits: int = 0,
        nan: str = "error",
        inf: str = "overflow",
        flags: Literal[False] = False,
    ) -> NDArray[Any]: ...

    @overload
    def encode(
        self,
        values: ArrayLike,
        rounding: str | None = None,
        overflow: str = "saturate",
        *,
        random: ArrayLike | None = None,
        random_bits: int = 0,
        nan: str = "error",
        inf: str = "overflow",
        flags: Literal[True],
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]: ...

    def encode(
        self,
        values: ArrayLike,
        rounding: str | None = None,
        overflow: str = "saturate",
        *,
        random: ArrayLike | None = None,
        random_bits: int = 0,
        nan: str = "error",
        inf: str = "overflow",
        flags: bool = False,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return the codes of ``values``, rounded once onto the grid; -0 becomes 0.

        Args:
            values: any floating-point numpy, ml_dtypes or (on the processor) torch type, and
                integers; see `fpsim.formats.inputs.as_real`.
            rounding: one of `Rounding`; None: ``rne``.
            overflow: ``saturate``, or ``wrap``: modulo 2^width; infinities still saturate.
            random: for ``sr``: integers in 0..2^random_bits - 1, broadcast to ``values``.
            random_bits: for ``sr``: bits of each random integer, 1..32.
            nan: the code that replaces NaN, one of `NanPolicy`.
            inf: whether an infinity may become a number, one of `InfPolicy`.
            flags: whether to return the status flags of every value too.

        Returns:
            Codes in the shape of ``values``. With ``flags`` a pair (codes, flags): flags are uint8
            with the bits of `fpsim.formats.rounding.Flag`.

        Raises:
            FpsimError: NaN or an infinity that the policies call an error (naming the first
                index), ``inf`` or ``nan`` as the overflow policy, or missing or impossible random
                bits.
        """
        from fpsim.kernels.codec import flags as flag_kernel
        from fpsim.kernels.codec.rounding import mode_constants
        from fpsim.kernels.scalar import fixed_point

        announce_compiling()
        mode = Rounding.RNE if rounding is None else parse_rounding(rounding)
        policy = parse_overflow(overflow)
        nan_policy, inf_policy = parse_nan(nan), parse_inf(inf)
        if policy not in (Overflow.SATURATE, Overflow.WRAP):
            raise FpsimError(
                f"overflow: {overflow!r} is not possible in {self.name}; allowed: saturate, wrap"
            )
        array = as_real(values).astype(np.float64, copy=False)
        bits = random_array(mode, random, random_bits, array.shape).reshape(-1).astype(np.int64)
        if inf_policy is InfPolicy.ERROR:
            self._refuse(array, np.isinf(array))
        flat = array.reshape(-1)
        grid, constants = self.grid(policy), mode_constants(mode)
        integers = grid_integers(flat, self.lsb, mode) if self.width <= MAX_WIDTH else None
        if integers is not None:
            out = self.codes_of(integers, policy)
        else:
            out = np.empty(array.size, dtype=np.uint64)
            if fixed_point.encode_array(flat, out, grid, constants, bits, random_bits) >= 0:
                missing = np.isnan(array)
                if nan_policy is NanPolicy.ERROR:
                    self._refuse(array, missing)
                saturated = nan_policy is NanPolicy.SATURATE
                out[missing.reshape(-1)] = self.max_integer if saturated else 0
        codes = out.astype(self.dtype).reshape(array.shape)
        if not flags:
            return codes
        raised = np.empty(array.shape, dtype=np.uint8)
        flag_kernel.fixed_flags(flat, raised.reshape(-1), grid, constants, bits, random_bits)
        return codes, raised

    def codes_of(self, integers: NDArray[np.int64], overflow: Overflow) -> NDArray[np.uint64]:
        """Return the codes (uint64) of integers, wrapped or saturated; at most 63 bits wide."""
        if overflow is Overflow.SATURATE:
            integers = np.clip(integers, self.min_integer, self.max_integer)
        return integers.view(np.uint64) & np.uint64((1 << self.width) - 1)

    def _refuse(self, values: NDArray[np.float64], bad: NDArray[np.bool_]) -> None:
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise FpsimError(f"values: {values[where]} at index {where} has no code in {self.name}")

    def grid(self, overflow: Overflow) -> fixed_point.Grid:
        """Return the format as the record that kernels take."""
        from fpsim.kernels.scalar import fixed_point

        return fixed_point.Grid(
            width=self.width,
            lsb=self.lsb,
            low=self.min_integer,
            high=self.max_integer if self.width < 64 or self.signed else -1,
            wrap=int(overflow is Overflow.WRAP),
        )
