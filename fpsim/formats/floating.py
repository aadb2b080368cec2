# SPDX-License-Identifier: Apache-2.0
"""Floating-point formats as frozen data: the values of codes, and the codes of values.

A floating-point code is, from the most significant bit, sign (if signed), exponent field ``E``,
mantissa field ``T`` of ``m`` bits. With bias ``b`` the finite codes mean

    E = 0:  (-1)^s * T / 2^m       * 2^(1 - b)      (subnormals; see `Subnormals` for the others)
    E > 0:  (-1)^s * (1 + T / 2^m) * 2^(E - b)

Fixed-point formats are in `fpsim.formats.fixed_point`; both kinds together are a `Format`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fpsim.base.compiling import announce_compiling
from fpsim.base.errors import FpsimError
from fpsim.base.hashed_once import hashed_once
from fpsim.formats.fixed_point import FixedFormat
from fpsim.formats.floating_fields import (
    BORROWED_NAMES,
    SPECIAL_SUFFIXES,
    SUBNORMAL_SUFFIXES,
    NanCodes,
    Subnormals,
    check_float_fields,
    default_bias,
    default_specials,
    read_enum,
)
from fpsim.formats.html import format_html
from fpsim.formats.inputs import as_real, check_codes, code_dtype, convert_exactly, random_array
from fpsim.formats.plain_decode import decode_plainly
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
from fpsim.kernels.codec.layout import Layout, Limits

__all__ = ["FixedFormat", "FloatFormat", "Format", "NanCodes", "Subnormals", "check_codes"]

#: Up to so many codes are decoded without compiled code, whose threads take longer to wake; more
#: while the compiler is not loaded, which takes half a second.
FEW, MOST_PLAIN = 1 << 9, 1 << 16
_KERNELS = "fpsim.kernels.codec.codec"


@hashed_once
@dataclass(frozen=True)
class FloatFormat:
    """Any ``ExMy`` format of up to 32 bits: split, bias, signedness and special codes.

    Raises:
        FpsimError: a width, bias or combination that no code can have; the message names the field.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    signed: bool = True
    nan: NanCodes = NanCodes.NONE
    infinity: bool = False  #: one code per sign just above the largest finite one
    subnormals: Subnormals = Subnormals.GRADUAL
    alias: str = field(default="", compare=False)  #: a second name, such as ``e8m0``

    def __post_init__(self) -> None:
        object.__setattr__(self, "nan", read_enum("nan", NanCodes, self.nan))
        object.__setattr__(self, "subnormals", read_enum("subnormals", Subnormals, self.subnormals))
        check_float_fields(self)

    def __repr__(self) -> str:
        return f"<FloatFormat {self.name}>"

    def _repr_html_(self) -> str:
        return format_html(self)

    # -- what the fields imply -----------------------------------------------------------------

    @property
    def magnitude_bits(self) -> int:
        """Bits of a code without its sign."""
        return self.exponent_bits + self.mantissa_bits

    @cached_property
    def bits(self) -> int:
        """Bits of a code."""
        return self.magnitude_bits + int(self.signed)

    @property
    def exponent_min(self) -> int:
        """Exponent of the lowest row of codes: 1 - bias, or -bias if that row has no subnormals."""
        return -self.bias if self.subnormals is Subnormals.NONE else 1 - self.bias

    @property
    def exponent_max(self) -> int:
        """floor(log2) of the largest finite value."""
        top = self.max_code
        if self.subnormals is Subnormals.NONE:
            return (top >> self.mantissa_bits) + self.exponent_min
        row = top >> self.mantissa_bits
        if row:
            return row - 1 + self.exponent_min
        return top.bit_length() - 1 + self.exponent_min - self.mantissa_bits

    @cached_property
    def max_code(self) -> int:
        """Largest finite magnitude code."""
        if self.nan is NanCodes.IEEE:
            return (((1 << self.exponent_bits) - 1) << self.mantissa_bits) - 1
        return (1 << self.magnitude_bits) - 1 - int(self.nan is NanCodes.TOP) - int(self.infinity)

    @property
    def inf_code(self) -> int | None:
        """Code of +infinity, or None."""
        return self.max_code + 1 if self.infinity else None

    @cached_property
    def nan_code(self) -> int | None:
        """The NaN that results carry, or None.

        IEEE layouts: positive, quiet, no payload (as RISC-V); elsewhere the positive NaN code.
        """
        if self.nan is NanCodes.NONE:
            return None
        if self.nan is NanCodes.IEEE:
            return (self.max_code + 1) | (1 << (self.mantissa_bits - 1))
        return (
            self.sign_bit if self.nan is NanCodes.NEGATIVE_ZERO else (1 << self.magnitude_bits) - 1
        )

    @property
    def sign_bit(self) -> int:
        """Weight of the sign bit, 0 for an unsigned format."""
        return (1 << self.magnitude_bits) if self.signed else 0

    @property
    def has_negative_zero(self) -> bool:
        """Whether the sign bit alone is -0."""
        return (
            self.signed
            and self.nan is not NanCodes.NEGATIVE_ZERO
            and self.subnormals is not Subnormals.NONE
        )

    @property
    def has_zero(self) -> bool:
        """Whether any code is zero."""
        return self.subnormals is not Subnormals.NONE

    @cached_property
    def max_value(self) -> float:
        """Largest finite value."""
        return float(self.decode(np.array([self.max_code], dtype=self.dtype))[0])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned integer type that holds a code."""
        return code_dtype(self.bits)

    @cached_property
    def name(self) -> str:
        """Canonical name; `fpsim.get_format` reads it."""
        if self.alias:
            return self.alias
        bias = "" if self.bias == default_bias(self.exponent_bits) else f"b{self.bias}"
        special = (self.nan, self.infinity)
        suffix = "" if special == default_specials(self.bits) else SPECIAL_SUFFIXES[special]
        unsigned = "" if self.signed else "u"
        row = SUBNORMAL_SUFFIXES[self.subnormals]
        split = f"{unsigned}e{self.exponent_bits}m{self.mantissa_bits}"
        if f"{split}{bias}{suffix}{row}" in BORROWED_NAMES:
            bias = f"b{self.bias}"
        return f"{split}{bias}{suffix}{row}"

    @cached_property
    def layout(self) -> Layout:
        """The format as the record that kernels take."""
        rows = {Subnormals.GRADUAL: 0, Subnormals.NONE: 1, Subnormals.FLUSH: 2}
        return Layout(
            mantissa_bits=self.mantissa_bits,
            exponent_min=self.exponent_min,
            hidden_row=rows[self.subnormals],
            max_code=self.max_code,
            inf_code=-1 if self.inf_code is None else self.inf_code,
            sign_bit=self.sign_bit,
            negative_zero=int(self.signed and self.nan is not NanCodes.NEGATIVE_ZERO),
        )

    # -- codes and values ----------------------------------------------------------------------

    @overload
    def decode(
        self, codes: ArrayLike, dtype: None = None, *, daz: bool = False
    ) -> NDArray[np.float64]: ...

    @overload
    def decode(self, codes: ArrayLike, dtype: DTypeLike, *, daz: bool = False) -> NDArray[Any]: ...

    def decode(
        self, codes: ArrayLike, dtype: DTypeLike | None = None, *, daz: bool = False
    ) -> NDArray[Any]:
        """Return the exact values of ``codes`` (any shape, integers) as float64, or as ``dtype``.

        Infinities and NaN codes give IEEE infinities and NaN; -0 gives -0.0.

        Args:
            codes: integers of any type from 0 on.
            dtype: a floating-point type (float16, float32, one of ml_dtypes) to return instead.
            daz: denormals are zero: codes with exponent field 0 read as a zero of their sign, as
                in the format with `Subnormals.FLUSH`.

        Returns:
            Values in the shape of ``codes``.

        Raises:
            FpsimError: a code that is negative or wider than the format, a value that ``dtype``
                does not hold exactly, or ``daz`` in a format without an exponent field.
        """
        array = check_codes(codes, self, "codes")
        layout = self._flushing("daz") if daz else self.layout
        if array.size <= (FEW if _KERNELS in sys.modules else MOST_PLAIN):
            few = decode_plainly(array, layout)
            return few if dtype is None else convert_exactly(few, dtype)

        from fpsim.kernels.codec import codec

        announce_compiling()
        if self.bits <= 16 and array.size > 1 << self.bits:
            every = self.decode(np.arange(1 << self.bits), daz=daz)
            out = np.empty(array.shape, dtype=np.float64 if dtype is None else np.float32)
            if dtype is None or (np.dtype(dtype) == np.float32 and self._in_float32):
                table = every.astype(out.dtype)
                codec.look_up(array.reshape(-1), table, out.reshape(-1))
                return out
        out = np.empty(array.shape, dtype=np.float64)
        codec.decode_array(array.reshape(-1), out.reshape(-1), layout)
        return out if dtype is None else convert_exactly(out, dtype)

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
        ftz: bool = False,
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
        ftz: bool = False,
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
        ftz: bool = False,
        flags: bool = False,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return the codes of ``values`` (any shape, floating point), rounded once.

        -0 keeps its sign where the format has -0. NaN becomes `nan_code`. An unsigned format
        treats negative values that do not round to zero as overflow below (saturate: code 0).
        A format without zero gives its smallest code for anything below it.

        Args:
            values: any floating-point numpy, ml_dtypes or (on the processor) torch type, and
                integers; see `fpsim.formats.inputs.as_real`.
            rounding: one of `Rounding`; None: `default_rounding`.
            overflow: ``saturate``, ``inf`` or ``nan``, as far as the format has such codes.
            random: for ``sr``: integers in 0..2^random_bits - 1, broadcast to ``values``.
            random_bits: for ``sr``: bits of each random integer, 1..32.
            nan: the code that replaces NaN in a format without NaN, one of `NanPolicy`.
            inf: whether an infinity may become a number, one of `InfPolicy`.
            ftz: flush to zero: results with exponent field 0 become a zero of their sign, as in
                the format with `Subnormals.FLUSH`. A format without zero has no such results.
            flags: whether to return the status flags of every value too.

        Returns:
            Codes in the shape of ``values``. With ``flags`` a pair (codes, flags): flags are uint8
            with the bits of `fpsim.formats.rounding.Flag`.

        Raises:
            FpsimError: NaN or an infinity that the policies call an error (naming the first
                index), a policy the format has no code for, missing or impossible random bits, or
                ``ftz`` in a format without an exponent field.
        """
        from fpsim.kernels.codec import encode

        announce_compiling()
        mode = self.default_rounding if rounding is None else parse_rounding(rounding)
        policy = parse_overflow(overflow)
        limits = self._input_limits(self.limits(mode, policy), policy, nan, inf)
        layout = self._flushing("ftz") if ftz else self.layout
        array = as_real(values)
        bits = random_array(mode, random, random_bits, array.shape).reshape(-1)
        codes = np.empty(array.shape, dtype=self.dtype)
        flat, out = array.reshape(-1), codes.reshape(-1)
        raised = np.empty(array.size, dtype=np.uint8) if flags else None
        bad = encode.encode(flat, out, raised, layout, limits, mode, bits, random_bits)
        if bad >= 0:
            where = tuple(int(i) for i in np.unravel_index(bad, array.shape))
            raise FpsimError(
                f"values: {flat[bad]} at index {where} has no code in {self.name} "
                f"under overflow={overflow!r}, nan={nan!r}, inf={inf!r}"
            )
        return codes if raised is None else (codes, raised.reshape(array.shape))

    @property
    def _in_float32(self) -> bool:
        """Whether float32 holds every value of the format."""
        return self.exponent_min - self.mantissa_bits >= -149 and self.exponent_max <= 127

    def _flushing(self, option: str) -> Layout:
        """Return the layout with exponent field 0 read as zero, if the format has subnormals."""
        if not self.exponent_bits:
            raise FpsimError(
                f"{option}: {self.name} has no exponent field; every code is subnormal"
            )
        return self.layout._replace(hidden_row=2) if self.has_zero else self.layout

    def _input_limits(self, limits: Limits, overflow: Overflow, nan: str, inf: str) -> Limits:
        """Return ``limits`` with the policies for NaN and infinite input applied."""
        nan_policy, inf_policy = parse_nan(nan), parse_inf(inf)
        if inf_policy is InfPolicy.ERROR and overflow is Overflow.SATURATE:
            limits = limits._replace(inf_positive=-1, inf_negative=-1)
        if self.nan_code is not None or nan_policy is NanPolicy.ERROR:
            return limits
        if nan_policy is NanPolicy.SATURATE:
            return limits._replace(nan=self.max_code)
        if not self.has_zero:
            raise FpsimError(f"nan: 'zero' is not possible in {self.name}, which has no zero")
        return limits._replace(nan=0)

    def limits(self, rounding: Rounding, overflow: Overflow) -> Limits:
        """Return the codes that replace NaN and values beyond the largest finite one.

        Raises:
            FpsimError: the format has no code that the policy needs.
        """
        top = self.max_code
        low = self.sign_bit + top if self.signed else 0
        nan = -1 if self.nan_code is None else self.nan_code
        if overflow is Overflow.SATURATE:
            return Limits(top, low, top, low, nan)
        if overflow is Overflow.NAN and self.nan_code is not None:
            return Limits(nan, nan, nan, nan, nan)
        if overflow is Overflow.INF and self.inf_code is not None:
            inf = self.inf_code
            minus_inf = self.sign_bit + inf if self.signed else nan
            inward = rounding in (Rounding.RTZ, Rounding.RTO)
            over_positive = top if inward or rounding is Rounding.RDN else inf
            keeps_low = self.signed and (inward or rounding is Rounding.RUP)
            over_negative = low if keeps_low else minus_inf
            return Limits(over_positive, over_negative, inf, minus_inf, nan)
        has = ["saturate"] + ["inf"] * self.infinity + ["nan"] * (self.nan_code is not None)
        raise FpsimError(
            f"overflow: {overflow.value!r} is not possible in {self.name}; "
            f"allowed: {', '.join(has)}"
        )

    @property
    def default_rounding(self) -> Rounding:
        """``rne``; for e8m0 ``rna``, as torch and ml_dtypes round to ``float8_e8m0fnu``.

        Both take the implicit one as the last bit, which is odd, so every tie goes up: 3 becomes 4.
        IEEE P3109 looks at the code's parity instead: under ``rne`` 3 becomes 2.
        """
        return Rounding.RNA if self.alias == "e8m0" else Rounding.RNE

    @property
    def default_overflow(self) -> Overflow:
        """``inf`` where the format has infinities, else ``saturate``."""
        return Overflow.INF if self.infinity else Overflow.SATURATE


Format = FloatFormat | FixedFormat
