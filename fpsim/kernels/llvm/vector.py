# SPDX-License-Identifier: Apache-2.0
"""Vectors of LLVM lanes with the operators of numpy: the language of the accumulator steps.

Operators on `Vec` build LLVM instructions inside a Numba intrinsic. Numba widens every integer to
64 bits and cannot round to float16, so generated vector code is the only way to keep sixteen or
thirty-two lanes busy with the exact operations hardware has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

__all__ = [
    "DOUBLE",
    "FLOAT",
    "HALF",
    "Lane",
    "Lanes",
    "Vec",
    "WordBytes",
    "byte_dots",
    "byte_pairs",
    "pair_sums",
    "splat",
]

HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_BITS = {HALF: 16, FLOAT: 32, DOUBLE: 64}
_MANTISSA = {HALF: 10, FLOAT: 23, DOUBLE: 52}
_SUFFIX = {HALF: "f16", FLOAT: "f32", DOUBLE: "f64"}


#: Rounding immediates of AVX-512 instructions, exceptions suppressed (Intel SDM volume 2A, 2.7.5).
_TOWARD = {"rne": 8, "rdn": 9, "rup": 10, "rtz": 11, "current": 12}


class Lane(StrEnum):
    """The type of a vector's lanes: an IEEE 754 number of 16, 32 or 64 bits."""

    F16 = "half"
    F32 = "float"
    F64 = "double"

    @property
    def real(self) -> Any:
        """The LLVM type of its numbers."""
        return {Lane.F16: HALF, Lane.F32: FLOAT, Lane.F64: DOUBLE}[self]

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return _BITS[self.real]

    @property
    def mantissa_bits(self) -> int:
        """Mantissa bits of a number."""
        return _MANTISSA[self.real]

    @property
    def bias(self) -> int:
        """The exponent field of one."""
        return {Lane.F16: 15, Lane.F32: 127, Lane.F64: 1023}[self]

    @property
    def dtype(self) -> Any:
        """The numpy type that numbers are prepared in; float16 numbers become bits last."""
        return np.float64 if self is Lane.F64 else np.float32

    @property
    def parameters(self) -> Lane:
        """The lane of integer parameters: float32 for float16 lanes, which read none."""
        return Lane.F32 if self is Lane.F16 else self


@dataclass(frozen=True)
class Lanes:
    """A floating-point vector type and the integer vector type of its bits."""

    builder: Any
    real: Any
    count: int
    register_bits: int  #: of the processor: wider vectors are split, and carry no rounding mode

    @property
    def bits(self) -> int:
        """Bits of one lane."""
        return _BITS[self.real]

    @property
    def mantissa_bits(self) -> int:
        """Mantissa bits of one lane."""
        return _MANTISSA[self.real]

    @property
    def sign_mask(self) -> int:
        """The bit of a lane's sign."""
        return 1 << (self.bits - 1)

    @property
    def exponent_mask(self) -> int:
        """The bits of a lane's exponent field."""
        return (1 << (self.bits - 1)) - (1 << self.mantissa_bits)

    @property
    def carries_mode(self) -> bool:
        """Whether instructions on these lanes carry a rounding mode: AVX-512 instructions do."""
        return self.bits * self.count == self.register_bits == 512

    @property
    def directed(self) -> bool:
        """Whether a sum of these lanes carries a rounding mode of its own (AVX-512F)."""
        return self.real is not HALF and self.carries_mode

    @property
    def real_type(self) -> Any:
        """LLVM type of a vector of floats."""
        return ir.VectorType(self.real, self.count)

    @property
    def integer_type(self) -> Any:
        """LLVM type of a vector of integers as wide as the floats."""
        return ir.VectorType(ir.IntType(self.bits), self.count)

    def constant(self, value: float | int, integer: bool) -> Vec:
        """Return a vector whose lanes all hold ``value``."""
        kind = self.integer_type if integer else self.real_type
        return Vec(self, ir.Constant(kind, [kind.element(value)] * self.count), integer)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """Call an LLVM intrinsic.

        Args:
            name: its full name.
            result: LLVM type of its result.
            arguments: LLVM values.

        Returns:
            The LLVM value of the result.
        """
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)

    def splat(self, scalar: Any, integer: bool = False) -> Vec:
        """Return a vector whose lanes all hold an LLVM scalar."""
        kind = self.integer_type if integer else self.real_type
        return Vec(self, splat(self.builder, scalar, kind), integer)


@dataclass(frozen=True)
class WordBytes:
    """One byte of each 32-bit word, times a power of two: the products of a dot instruction."""

    words: Any  #: LLVM vector of words
    factors: Any  #: the same with 2^n, n < 7, in the byte that counts, and 0 in the others

    def added_to(self, bits: Vec) -> Vec:
        """Return integers plus the products. Needs AVX512-VNNI and 64-byte vectors."""
        return Vec(bits.lanes, byte_dots(bits.lanes, bits.value, self.words, self.factors), True)


def byte_dots(lanes: Lanes, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add to 32-bit integers the dot products of each word's four bytes, unsigned times signed.

    Needs AVX512-VNNI and vectors of 64 bytes (VPDPBUSD, Intel SDM volume 2C).

    Args:
        lanes: the lanes of the integers.
        total: LLVM vector of 32-bit integers.
        unsigned: LLVM vector of words of four unsigned bytes.
        signed: LLVM vector of words of four signed bytes.

    Returns:
        LLVM vector of the sums, modulo 2^32.
    """
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes.count}"
    return lanes.call(name, total.type, [total, unsigned, signed])


_PAIRS = {4: ("ssse3.pmadd.ub.sw.128", "sse2.pmadd.wd"), 8: ("avx2.pmadd.ub.sw", "avx2.pmadd.wd")}


def byte_pairs(lanes: Lanes, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add to 16-bit integers, two to a word, the sums of two products of its bytes each.

    Needs AVX2 and vectors of at most 32 bytes, and saturates (VPMADDUBSW, Intel SDM volume 2B).

    Args:
        lanes: the lanes of the words.
        total: LLVM vector of 16-bit integers.
        unsigned: LLVM vector of words of four unsigned bytes.
        signed: LLVM vector of words of four signed bytes.

    Returns:
        LLVM vector of the sums.
    """
    builder, kind = lanes.builder, ir.VectorType(ir.IntType(8), 4 * lanes.count)
    factors = [builder.bitcast(words, kind) for words in (unsigned, signed)]
    found = lanes.call(f"llvm.x86.{_PAIRS[lanes.count][0]}", total.type, factors)
    return builder.add(total, found)


def pair_sums(lanes: Lanes, total: Any) -> Any:
    """Return the sums of both 16-bit integers of each word, as an LLVM vector of words."""
    kind, ones = ir.VectorType(ir.IntType(32), lanes.count), [1] * 2 * lanes.count
    return lanes.call(
        f"llvm.x86.{_PAIRS[lanes.count][1]}", kind, [total, ir.Constant(total.type, ones)]
    )


def splat(builder: Any, scalar: Any, kind: Any) -> Any:
    """Return an LLVM vector whose lanes all hold a scalar.

    Args:
        builder: the LLVM builder.
        scalar: LLVM value.
        kind: LLVM type of the vector.

    Returns:
        The LLVM vector.
    """
    index = ir.IntType(32)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(index, 0))
    mask = ir.Constant(ir.VectorType(index, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, one, mask)


@dataclass(frozen=True)
class Vec:
    """A vector of floats or of integers; masks from comparisons are vectors of one-bit integers."""

    lanes: Lanes
    value: Any
    integer: bool

    def _wrap(self, value: Any, integer: bool | None = None) -> Vec:
        return Vec(self.lanes, value, self.integer if integer is None else integer)

    def _other(self, other: Any) -> Any:
        if isinstance(other, Vec):
            return other.value
        return self.lanes.constant(other, self.integer).value

    def _binary(self, other: Any, real: str, integer: str) -> Vec:
        operation = getattr(self.lanes.builder, integer if self.integer else real)
        return self._wrap(operation(self.value, self._other(other)))

    def __add__(self, other: Any) -> Vec:
        return self._binary(other, "fadd", "add")

    def __sub__(self, other: Any) -> Vec:
        return self._binary(other, "fsub", "sub")

    def __mul__(self, other: Any) -> Vec:
        return self._binary(other, "fmul", "mul")

    def __and__(self, other: Any) -> Vec:
        return self._binary(other, "", "and_")

    def __or__(self, other: Any) -> Vec:
        return self._binary(other, "", "or_")

    def __xor__(self, other: Any) -> Vec:
        return self._binary(other, "", "xor")

    def __lshift__(self, other: Any) -> Vec:
        return self._binary(other, "", "shl")

    def __rshift__(self, other: Any) -> Vec:
        """Logical shift right."""
        return self._binary(other, "", "lshr")

    def __invert__(self) -> Vec:
        return self ^ -1

    def _compare(self, operator: str, other: Any) -> Vec:
        builder = self.lanes.builder
        compare = builder.icmp_signed if self.integer else builder.fcmp_ordered
        return self._wrap(compare(operator, self.value, self._other(other)))

    def __lt__(self, other: Any) -> Vec:
        return self._compare("<", other)

    def __gt__(self, other: Any) -> Vec:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Vec:
        return self._compare(">=", other)

    def equals(self, other: Any) -> Vec:
        """Return the mask of lanes that are equal (never for NaN)."""
        return self._compare("==", other)

    def differs(self, other: Any) -> Vec:
        """Return the mask of lanes that differ (never for NaN)."""
        return self._compare("!=", other)

    def where(self, yes: Vec, no: Vec) -> Vec:
        """Select by a mask: ``yes`` where this mask is set, else ``no``."""
        return yes._wrap(self.lanes.builder.select(self.value, yes.value, no.value))

    def one_where_set(self) -> Vec:
        """Return a mask as integers 0 and 1."""
        builder = self.lanes.builder
        return self._wrap(builder.zext(self.value, self.lanes.integer_type), True)

    @property
    def as_bits(self) -> Vec:
        """The bit patterns of floats."""
        builder = self.lanes.builder
        return self._wrap(builder.bitcast(self.value, self.lanes.integer_type), True)

    @property
    def as_real(self) -> Vec:
        """The floats of bit patterns."""
        builder = self.lanes.builder
        return self._wrap(builder.bitcast(self.value, self.lanes.real_type), False)

    @property
    def unsigned_reals(self) -> Vec:
        """Unsigned integers as floats, rounded to nearest."""
        return self._wrap(self.lanes.builder.uitofp(self.value, self.lanes.real_type), False)

    @property
    def power(self) -> Vec:
        """The power of two at or below each |x|: 0 for subnormals, infinity for infinity, NaN."""
        return (self.as_bits & self.lanes.exponent_mask).as_real

    @property
    def sign_bits(self) -> Vec:
        """The sign bits of floats, all other bits 0."""
        return self.as_bits & self.lanes.sign_mask

    def as_lanes(self, lanes: Lanes) -> Vec:
        """Return floats in lanes of another width, which must hold them."""
        builder = lanes.builder
        if lanes.bits == self.lanes.bits:
            return self
        convert = builder.fpext if lanes.bits > self.lanes.bits else builder.fptrunc
        return Vec(lanes, convert(self.value, lanes.real_type), False)

    def as_integers(self, lanes: Lanes) -> Vec:
        """Return signed integers as those of another width, which holds them."""
        builder = lanes.builder
        if lanes.bits == self.lanes.bits:
            return self
        convert = builder.sext if lanes.bits > self.lanes.bits else builder.trunc
        return Vec(lanes, convert(self.value, lanes.integer_type), True)

    @property
    def magnitude_bits(self) -> Vec:
        """The bit patterns of floats without their sign."""
        return self.as_bits & ((1 << (self.lanes.bits - 1)) - 1)

    def largest(self) -> Any:
        """Return the largest lane of unsigned integers, as an LLVM scalar."""
        bits = self.lanes.bits
        name = f"llvm.vector.reduce.umax.v{self.lanes.count}i{bits}"
        return self.lanes.call(name, ir.IntType(bits), [self.value])

    def through(self, real: Any) -> Vec:
        """Round lanes to a narrower float (nearest even, subnormals and infinities kept)."""
        builder = self.lanes.builder
        narrow = builder.fptrunc(self.value, ir.VectorType(real, self.lanes.count))
        return self._wrap(builder.fpext(narrow, self.lanes.real_type))

    def permuted(self, which: Vec) -> Vec:
        """Return for each lane of ``which`` the lane of this vector whose number its low bits are.

        For vectors of 32-bit lanes that fill one register; needs `Machine.word_shuffles`.
        """
        lanes, builder = self.lanes, self.lanes.builder
        name = {16: "avx512.permvar.si.512", 8: "avx2.permd"}[lanes.count]
        words = builder.bitcast(self.value, lanes.integer_type)
        found = lanes.call(f"llvm.x86.{name}", lanes.integer_type, [words, which.value])
        kind = lanes.integer_type if self.integer else lanes.real_type
        return self._wrap(builder.bitcast(found, kind))

    def shifted_down(self, amounts: Vec) -> Vec:
        """Return floor(x / 2^n) of signed 32-bit integers, for every n >= 0."""
        if not self.lanes.carries_mode:
            most = self.lanes.constant(31, True)
            return self.floor_shifted((amounts > most).where(most, amounts))
        kind = self.lanes.integer_type
        function = cgutils.get_or_insert_function(
            self.lanes.builder.module,
            ir.FunctionType(kind, [kind, kind]),
            "llvm.x86.avx512.psrav.d.512",
        )
        return self._wrap(self.lanes.builder.call(function, [self.value, amounts.value]))

    def followed_by(self, other: Vec, bits: int) -> Vec:
        """Return integers shifted up by so many bits, which the highest bits of others fill."""
        return self._funnelled("fshl", other, bits)

    def after(self, other: Vec, bits: int) -> Vec:
        """Return other integers shifted down by so many bits, which the lowest of these fill."""
        return self._funnelled("fshr", other, bits)

    def _funnelled(self, name: str, other: Vec, bits: int) -> Vec:
        kind, lanes = self.lanes.integer_type, self.lanes
        arguments = [self.value, other.value, lanes.constant(bits, True).value]
        full_name = f"llvm.{name}.v{lanes.count}i{lanes.bits}"
        return self._wrap(lanes.call(full_name, kind, arguments))

    def floor_shifted(self, amounts: Vec) -> Vec:
        """Return floor(x / 2^n) of signed integers, n below their bits."""
        return self._wrap(self.lanes.builder.ashr(self.value, amounts.value))

    @property
    def truncated(self) -> Vec:
        """Floats as signed integers of their width, toward zero; only of those that fit."""
        builder = self.lanes.builder
        return self._wrap(builder.fptosi(self.value, self.lanes.integer_type), True)

    @property
    def signed_reals(self) -> Vec:
        """Signed integers as floats, rounded to nearest."""
        return self._wrap(self.lanes.builder.sitofp(self.value, self.lanes.real_type), False)

    def saturating_add(self, other: Vec) -> Vec:
        """Return the sum of signed integers, clamped to the lane's range."""
        name = f"llvm.sadd.sat.v{self.lanes.count}i{self.lanes.bits}"
        return self._wrap(self.lanes.call(name, self.lanes.integer_type, [self.value, other.value]))

    def fma_toward(self, other: Vec, addend: Vec, mode: str) -> Vec:
        """Return ``self * other + addend``, rounded once in a directed mode.

        Instructions on vectors of 64 bytes carry the mode (AVX-512F, AVX512-FP16 for float16). All
        others round in the mode that was set in the processor before the tile ran
        (`fpsim.compute.lanes.steps.step.Step.direction`).

        Args:
            other: floats.
            addend: floats.
            mode: ``"rtz"``, ``"rup"``, ``"rdn"`` or ``"rne"``.

        Returns:
            Floats.
        """
        if not self.lanes.carries_mode:
            return self.intrinsic("fma", other, addend)
        name = {HALF: "avx512fp16.vfmadd.ph", FLOAT: "avx512.vfmadd.ps", DOUBLE: "avx512.vfmadd.pd"}
        kind = self.lanes.real_type
        arguments = [self.value, other.value, addend.value]
        return self._wrap(self._with_rounding(name[self.lanes.real], kind, arguments, mode))

    def add_toward(self, other: Vec, mode: str) -> Vec:
        """Return the sum rounded in ``mode``; only where `Lanes.directed` is true."""
        name = {FLOAT: "avx512.add.ps", DOUBLE: "avx512.add.pd"}[self.lanes.real]
        arguments = [self.value, other.value]
        return self._wrap(self._with_rounding(name, self.lanes.real_type, arguments, mode))

    def to_integers(self, mode: str) -> Vec:
        """Return float32 lanes as integers, rounded in ``mode``; not for |x| >= 2^31 or NaN."""
        if not self.lanes.carries_mode:
            whole = {"rne": "roundeven", "rup": "ceil", "rdn": "floor"}.get(mode)
            return (self.intrinsic(whole) if whole else self).truncated
        kind, mask = self.lanes.integer_type, ir.IntType(self.lanes.count)
        arguments = [self.value, ir.Constant(kind, None), ir.Constant(mask, -1)]
        # A truncating instruction takes no mode, only that exceptions are suppressed.
        name, mode = ("cvttps2dq", "current") if mode == "rtz" else ("cvtps2dq", mode)
        return self._wrap(self._with_rounding(f"avx512.mask.{name}", kind, arguments, mode), True)

    def to_reals(self, mode: str) -> Vec:
        """Return 32-bit integers as float32 lanes, rounded in ``mode``.

        Vectors that carry no mode round in the mode that is set in the processor.
        """
        if not self.lanes.carries_mode:
            return self.signed_reals
        kind = self.lanes.real_type
        converted = self._with_rounding(
            "avx512.sitofp.round", kind, [self.value], mode, "v16f32.v16i32"
        )
        return self._wrap(converted, False)

    def _with_rounding(
        self, name: str, result: Any, arguments: list[Any], mode: str, suffix: str = "512"
    ) -> Any:
        """Call an AVX-512 instruction that carries its own rounding mode."""
        rounding = ir.IntType(32)
        arguments = [*arguments, ir.Constant(rounding, _TOWARD[mode])]
        return self.lanes.call(f"llvm.x86.{name}.{suffix}", result, arguments)

    def intrinsic(self, name: str, *others: Vec) -> Vec:
        """Call the LLVM intrinsic ``llvm.name`` of this vector type."""
        kind = self.lanes.real_type
        arguments = [self.value, *(other.value for other in others)]
        full_name = f"llvm.{name}.v{self.lanes.count}{_SUFFIX[self.lanes.real]}"
        return self._wrap(self.lanes.call(full_name, kind, arguments))
