# SPDX-License-Identifier: Apache-2.0
"""What a code means: floating-point and fixed-point formats as frozen data.

A floating-point code is, from the most significant bit, sign (if signed), exponent field ``E``,
mantissa field ``T`` of ``m`` bits. With bias ``b`` the finite codes mean

    E = 0:  (-1)^s * T / 2^m       * 2^(1 - b)      (subnormals; see `Subnormals` for the others)
    E > 0:  (-1)^s * (1 + T / 2^m) * 2^(E - b)

A fixed-point code is a two's complement (or unsigned) integer ``i`` that means ``i * 2^lsb``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.errors import FpsimError
from fpsim.kernels import codec, encode, fixedpoint
from fpsim.kernels.rounding import mode_constants
from fpsim.rounding import (
    MAX_RANDOM_BITS,
    Overflow,
    Rounding,
    parse_overflow,
    parse_rounding,
)

__all__ = ["FixedFormat", "FloatFormat", "Format", "NanCodes", "Subnormals", "check_codes"]

#: Widest floating-point code (E8M23).
MAX_FLOAT_BITS = 32
MAX_FIXED_BITS = 64
# Every value and every midpoint must be an exact, normal float64.
F64_EXPONENT_MIN = -1022
F64_EXPONENT_MAX = 1023


class NanCodes(StrEnum):
    """Which codes are NaN."""

    NONE = "none"  #: no code
    IEEE = "ieee"  #: exponent field all ones, mantissa not zero (mantissa zero is infinity)
    TOP = "top"  #: all magnitude bits one, with either sign
    NEGATIVE_ZERO = "negative-zero"  #: the sign bit alone; the format has no -0


class Subnormals(StrEnum):
    """What the codes with exponent field 0 mean."""

    GRADUAL = "gradual"  #: T / 2^m * 2^(1-b)
    FLUSH = "flush"  #: zero, whatever T is; results that round into this row become zero
    NONE = "none"  #: (1 + T / 2^m) * 2^(-b): the format has no zero, the smallest code stands in


#: Name suffix of each set of special codes; `default_specials` says when it is left out.
SPECIAL_SUFFIXES: dict[tuple[NanCodes, bool], str] = {
    (NanCodes.NONE, False): "f",
    (NanCodes.NONE, True): "fi",
    (NanCodes.IEEE, True): "i",
    (NanCodes.TOP, False): "fn",
    (NanCodes.TOP, True): "fni",
    (NanCodes.NEGATIVE_ZERO, False): "fnuz",
    (NanCodes.NEGATIVE_ZERO, True): "fnuzi",
}
SUBNORMAL_SUFFIXES: dict[Subnormals, str] = {
    Subnormals.GRADUAL: "",
    Subnormals.FLUSH: "_flush",
    Subnormals.NONE: "_nozero",
}


def default_bias(exponent_bits: int) -> int:
    """Return 2^(e-1) - 1, the bias of a name that states none (0 if there is no exponent field)."""
    return (1 << (exponent_bits - 1)) - 1 if exponent_bits else 0


def default_specials(bits: int) -> tuple[NanCodes, bool]:
    """Return the special codes of a name that states none: none up to 6 bits, else IEEE 754's."""
    return (NanCodes.NONE, False) if bits <= 6 else (NanCodes.IEEE, True)


@dataclass(frozen=True)
class FloatFormat:
    """Any ``ExMy`` of up to 32 bits: split, bias, signedness and special codes.

    Raises:
        FpsimError: a width, bias or combination that no code could have, naming the field.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    signed: bool = True
    nan: NanCodes = NanCodes.NONE
    infinity: bool = False  #: one code per sign just above the largest finite one
    subnormals: Subnormals = Subnormals.GRADUAL
    alias: str = field(default="", compare=False)  #: a name of its own, such as ``e8m0``

    def __post_init__(self) -> None:
        _check_int("exponent_bits", self.exponent_bits, 0, 11)
        _check_int("mantissa_bits", self.mantissa_bits, 0, 23)
        _check_int("bias", self.bias, -2000, 2000)
        if not self.magnitude_bits >= 1 or self.bits > MAX_FLOAT_BITS:
            raise FpsimError(
                f"format: E{self.exponent_bits}M{self.mantissa_bits} has {self.bits} bits; "
                f"allowed are 1 magnitude bit up to {MAX_FLOAT_BITS} bits in all"
            )
        if self.nan is NanCodes.IEEE and not (self.infinity and self.mantissa_bits):
            raise FpsimError("nan: 'ieee' needs infinity=True and at least one mantissa bit")
        if self.nan is NanCodes.IEEE and not self.exponent_bits:
            raise FpsimError("nan: 'ieee' needs an exponent field")
        if self.nan is NanCodes.NEGATIVE_ZERO and not self.signed:
            raise FpsimError("nan: 'negative-zero' needs a signed format")
        if self.subnormals is not Subnormals.GRADUAL and not self.exponent_bits:
            raise FpsimError(
                f"subnormals: {self.subnormals.value!r} needs an exponent field; "
                "with none every code is subnormal"
            )
        if self.max_code < 1:
            raise FpsimError(f"format: {self.name} has no finite code above zero")
        if self.exponent_min - self.mantissa_bits < F64_EXPONENT_MIN:
            raise FpsimError(
                f"bias: {self.bias} puts the smallest value of {self.name} below 2^-1022"
            )
        if self.exponent_max > F64_EXPONENT_MAX:
            raise FpsimError(
                f"bias: {self.bias} puts the largest value of {self.name} above 2^1024"
            )

    # -- what the fields imply -----------------------------------------------------------------

    @property
    def magnitude_bits(self) -> int:
        """Bits of a code without its sign."""
        return self.exponent_bits + self.mantissa_bits

    @property
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

    @property
    def max_code(self) -> int:
        """Largest finite magnitude code."""
        if self.nan is NanCodes.IEEE:
            return (((1 << self.exponent_bits) - 1) << self.mantissa_bits) - 1
        return (1 << self.magnitude_bits) - 1 - int(self.nan is NanCodes.TOP) - int(self.infinity)

    @property
    def inf_code(self) -> int | None:
        """Code of +infinity, or None."""
        return self.max_code + 1 if self.infinity else None

    @property
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

    @property
    def max_value(self) -> float:
        """Largest finite value."""
        return float(self.decode(np.array([self.max_code], dtype=self.dtype))[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned integer type that holds a code."""
        return _code_dtype(self.bits)

    @property
    def name(self) -> str:
        """Canonical name; `fpsim.get_format` reads it back."""
        if self.alias:
            return self.alias
        bias = "" if self.bias == default_bias(self.exponent_bits) else f"b{self.bias}"
        special = (self.nan, self.infinity)
        suffix = "" if special == default_specials(self.bits) else SPECIAL_SUFFIXES[special]
        unsigned = "" if self.signed else "u"
        row = SUBNORMAL_SUFFIXES[self.subnormals]
        return f"{unsigned}e{self.exponent_bits}m{self.mantissa_bits}{bias}{suffix}{row}"

    @cached_property
    def layout(self) -> codec.Layout:
        """The format as the kernels take it."""
        rows = {Subnormals.GRADUAL: 0, Subnormals.NONE: 1, Subnormals.FLUSH: 2}
        return codec.Layout(
            mantissa_bits=self.mantissa_bits,
            exponent_min=self.exponent_min,
            hidden_row=rows[self.subnormals],
            max_code=self.max_code,
            inf_code=-1 if self.inf_code is None else self.inf_code,
            sign_bit=self.sign_bit,
            negative_zero=int(self.has_negative_zero),
        )

    # -- codes and values ----------------------------------------------------------------------

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return the exact values of ``codes`` (any shape, integers) as float64.

        Infinities and NaN codes give IEEE infinities and NaN; -0 gives -0.0.

        Raises:
            FpsimError: a code that is negative or wider than the format.
        """
        array = check_codes(codes, self, "codes")
        out = np.empty(array.shape, dtype=np.float64)
        codec.decode_array(array.reshape(-1), out.reshape(-1), self.layout)
        return out

    def encode(
        self,
        values: ArrayLike,
        rounding: str = "rne",
        overflow: str = "saturate",
        *,
        random: ArrayLike | None = None,
        random_bits: int = 0,
    ) -> NDArray[Any]:
        """Return the codes of ``values`` (any shape, floating point), rounded once.

        -0 keeps its sign where the format has -0. NaN becomes `nan_code`. An unsigned format
        treats negative values that do not round to zero as overflow below (saturate: code 0).
        A format without zero gives its smallest code for anything below it.

        Args:
            values: float16, float32 or float64; integers are taken as float64.
            rounding: one of `Rounding`.
            overflow: ``saturate``, ``inf`` or ``nan``, as far as the format has such codes.
            random: for ``sr``: integers in 0..2^random_bits - 1, broadcast to ``values``.
            random_bits: for ``sr``: how many bits each of them has, 1..32.

        Raises:
            FpsimError: NaN into a format without NaN (naming the first index), a policy the format
                has no code for, or missing or impossible random bits.
        """
        mode = parse_rounding(rounding)
        limits = self.limits(mode, parse_overflow(overflow))
        array = _as_real(values)
        bits = _random_array(mode, random, random_bits, array.shape)
        out = np.empty(array.shape, dtype=self.dtype)
        flat = array.reshape(-1)
        bad = encode.encode(
            flat, out.reshape(-1), self.layout, limits, mode, bits.reshape(-1), random_bits
        )
        if bad >= 0:
            where = tuple(int(i) for i in np.unravel_index(bad, array.shape))
            raise FpsimError(
                f"values: {flat[bad]} at index {where} has no code in {self.name} "
                f"under overflow={overflow!r}"
            )
        return out

    def limits(self, rounding: Rounding, overflow: Overflow) -> codec.Limits:
        """Return the whole codes that replace values beyond the largest finite one, and NaN.

        Raises:
            FpsimError: the format has no code that the policy needs.
        """
        top = self.max_code
        low = self.sign_bit + top if self.signed else 0
        nan = -1 if self.nan_code is None else self.nan_code
        if overflow is Overflow.SATURATE:
            return codec.Limits(top, low, top, low, nan)
        if overflow is Overflow.NAN and self.nan_code is not None:
            return codec.Limits(nan, nan, nan, nan, nan)
        if overflow is Overflow.INF and self.inf_code is not None:
            inf = self.inf_code
            minus_inf = self.sign_bit + inf if self.signed else nan
            inward = rounding in (Rounding.RTZ, Rounding.RTO)
            over_positive = top if inward or rounding is Rounding.RDN else inf
            over_negative = low if inward or rounding is Rounding.RUP else minus_inf
            return codec.Limits(over_positive, over_negative, inf, minus_inf, nan)
        has = ["saturate"] + ["inf"] * self.infinity + ["nan"] * (self.nan_code is not None)
        raise FpsimError(
            f"overflow: {overflow.value!r} is not possible in {self.name}; "
            f"allowed: {', '.join(has)}"
        )

    @property
    def default_overflow(self) -> Overflow:
        """``inf`` where the format has infinities, else ``saturate``."""
        return Overflow.INF if self.infinity else Overflow.SATURATE


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

    def __post_init__(self) -> None:
        _check_int("width", self.width, 2 if self.signed else 1, MAX_FIXED_BITS)
        _check_int("lsb", self.lsb, -512, 512)
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
        return _code_dtype(self.width)

    @property
    def name(self) -> str:
        """Canonical name, such as ``int4``, ``int4s`` (symmetric) or ``int24q2`` (LSB 2^-2)."""
        point = f"q{-self.lsb}" if self.lsb else ""
        return f"{'' if self.signed else 'u'}int{self.width}{point}{'s' if self.symmetric else ''}"

    def integers(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Return the integers (int64; uint64 codes above 2^63 of an unsigned format wrap)."""
        array = check_codes(codes, self, "codes").astype(np.uint64)
        unused = np.uint64(64 - self.width)
        shifted = (array << unused).view(np.int64)
        if self.signed:
            return shifted >> np.int64(unused)
        return array.view(np.int64)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return values as float64: exact up to 53 significant bits, else rounded to nearest."""
        integers = self.integers(codes)
        values = integers if self.signed else integers.view(np.uint64)
        return np.ldexp(values.astype(np.float64), self.lsb)

    def encode(
        self,
        values: ArrayLike,
        rounding: str = "rne",
        overflow: str = "saturate",
        *,
        random: ArrayLike | None = None,
        random_bits: int = 0,
    ) -> NDArray[Any]:
        """Return the codes of ``values``, rounded once onto the grid; -0 becomes 0.

        Args are those of `FloatFormat.encode`; ``overflow`` is ``saturate`` or ``wrap``
        (modulo 2^width; infinities still saturate).

        Raises:
            FpsimError: NaN (naming the first index), ``inf`` or ``nan`` as the overflow policy, or
                missing or impossible random bits.
        """
        mode = parse_rounding(rounding)
        policy = parse_overflow(overflow)
        if policy not in (Overflow.SATURATE, Overflow.WRAP):
            raise FpsimError(
                f"overflow: {overflow!r} is not possible in {self.name}; allowed: saturate, wrap"
            )
        array = _as_real(values).astype(np.float64, copy=False)
        bits = _random_array(mode, random, random_bits, array.shape)
        out = np.empty(array.shape, dtype=np.uint64)
        bad = fixedpoint.encode_array(
            array.reshape(-1),
            out.reshape(-1),
            self.grid(policy),
            mode_constants(mode),
            bits.reshape(-1),
            random_bits,
        )
        if bad >= 0:
            where = tuple(int(i) for i in np.unravel_index(bad, array.shape))
            raise FpsimError(f"values: nan at index {where} has no code in {self.name}")
        return out.astype(self.dtype)

    def grid(self, overflow: Overflow) -> fixedpoint.Grid:
        """Return the format as the kernels take it."""
        return fixedpoint.Grid(
            width=self.width,
            lsb=self.lsb,
            low=self.min_integer,
            high=self.max_integer if self.width < 64 or self.signed else -1,
            wrap=int(overflow is Overflow.WRAP),
        )


Format = FloatFormat | FixedFormat


def check_codes(codes: ArrayLike, fmt: Format, field: str) -> NDArray[Any]:
    """Return ``codes`` as a contiguous array of unsigned integers, checked against the format.

    Raises:
        FpsimError: not integers, negative, or wider than the format, naming the field.
    """
    array = np.asarray(codes)
    if array.dtype.kind not in "ui":
        raise FpsimError(
            f"{field}: dtype {array.dtype} cannot hold codes of {fmt.name}; "
            f"use unsigned integers such as {fmt.dtype} (encode() makes codes from values)"
        )
    limit = (1 << fmt.bits) - 1
    if array.size and array.dtype.kind == "i" and int(array.min()) < 0:
        raise FpsimError(f"{field}: {int(array.min())} is not a code of {fmt.name} (0..{limit})")
    if array.size and np.iinfo(array.dtype).max > limit and int(array.max()) > limit:
        raise FpsimError(f"{field}: {int(array.max())} is not a code of {fmt.name} (0..{limit})")
    return np.ascontiguousarray(array.astype(fmt.dtype, copy=False))


def _as_real(values: ArrayLike) -> NDArray[Any]:
    """Return ``values`` as a contiguous array of float32 or, where that loses bits, float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise FpsimError(f"values: dtype {array.dtype} is not a real number type")
    exact = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(array, dtype=exact)


def _random_array(
    mode: Rounding, random: ArrayLike | None, random_bits: int, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    if mode is not Rounding.SR:
        if random is not None or random_bits:
            raise FpsimError(f"random: only rounding 'sr' takes random bits, not {mode.value!r}")
        return np.zeros(1, dtype=np.int64)
    _check_int("random_bits", random_bits, 1, MAX_RANDOM_BITS)
    if random is None:
        raise FpsimError("random: rounding 'sr' needs an array of random integers")
    array = np.asarray(random)
    if array.dtype.kind not in "ui":
        raise FpsimError(f"random: dtype {array.dtype} is not an integer type")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 1 << random_bits:
        raise FpsimError(f"random: values must lie in 0..2^{random_bits} - 1")
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape), dtype=np.int64)
    except ValueError:
        raise FpsimError(f"random: shape {array.shape} does not broadcast to {shape}") from None


def _code_dtype(bits: int) -> np.dtype[Any]:
    for width in (8, 16, 32):
        if bits <= width:
            return np.dtype(f"uint{width}")
    return np.dtype(np.uint64)


def _check_int(field_name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FpsimError(f"{field_name}: {value!r} is not an integer in {low}..{high}")
