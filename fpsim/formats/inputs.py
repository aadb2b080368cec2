# SPDX-License-Identifier: Apache-2.0
"""Checks of callers' arguments: real values, codes, random bits, integers."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.rounding import MAX_RANDOM_BITS, Rounding

__all__ = [
    "SMALL_FLOATS",
    "CodeFormat",
    "as_floats",
    "as_real",
    "check_codes",
    "check_int",
    "code_dtype",
    "convert_exactly",
    "is_tensor",
    "random_array",
]

#: The floating-point types ml_dtypes adds to numpy, all of them exact in float32.
SMALL_FLOATS = (
    "bfloat16", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn",
    "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


class CodeFormat(Protocol):
    """A format's facts about its codes."""

    @property
    def name(self) -> str:
        """Canonical name."""

    @property
    def bits(self) -> int:
        """Bits of a code."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned integer type that holds a code."""


def check_codes(codes: ArrayLike, fmt: CodeFormat, field: str) -> NDArray[Any]:
    """Return ``codes`` as a contiguous array of unsigned integers, checked against the format.

    Args:
        codes: integers, or a tensor of torch or an array of ml_dtypes whose type is the format.
        fmt: format of the codes.
        field: name of the codes, for errors.

    Returns:
        Codes of the type ``fmt.dtype``, in the shape of ``codes``.

    Raises:
        FpsimError: not integers, negative, or wider than the format, naming the field.
    """
    dtype, limit = fmt.dtype, (1 << fmt.bits) - 1
    if type(codes) is np.ndarray and codes.dtype == dtype:
        array = codes
    else:
        array = _as_array(_as_codes(codes, fmt, field), field)
        if not array.size and not isinstance(codes, np.ndarray):
            array = array.astype(dtype)  # an empty list has no type
        if array.dtype.kind not in "ui":
            raise FpsimError(
                f"{field}: dtype {array.dtype} cannot hold codes of {fmt.name}; "
                f"use unsigned integers such as {dtype} (encode() makes codes from values)"
            )
        if array.size and array.dtype.kind == "i" and int(array.min()) < 0:
            raise FpsimError(
                f"{field}: {int(array.min())} is not a code of {fmt.name} (0..{limit})"
            )
    # As fast as `max` on many codes, and three times as fast on few.
    if array.size and 8 * array.itemsize > fmt.bits and array.item(array.argmax()) > limit:
        raise FpsimError(f"{field}: {int(array.max())} is not a code of {fmt.name} (0..{limit})")
    return np.asarray(array, dtype=dtype, order="C")


def _as_codes(codes: object, fmt: CodeFormat, field: str) -> object:
    """Return the codes of a tensor or array whose type is a format; other objects unchanged.

    Raises:
        FpsimError: the type is a format other than ``fmt``; the message names both.
    """
    if is_tensor(codes):
        if not codes.dtype.is_floating_point:  # type: ignore[attr-defined]
            return codes
        name = str(codes.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
    elif isinstance(codes, np.ndarray) and codes.dtype.kind in "Vf":
        name = codes.dtype.name
    else:
        return codes
    from fpsim.formats.exchange import DTYPES, PACKED, from_ml_dtypes, from_torch
    from fpsim.formats.packing import unpack

    if name not in DTYPES and name != PACKED:
        return codes
    found = from_torch(codes) if is_tensor(codes) else from_ml_dtypes(codes)  # type: ignore[arg-type]
    if found.format != fmt:
        if name in ("float16", "float32"):
            return codes  # probably values, not codes
        raise FpsimError(
            f"{field}: {name} are codes of {found.format.name}; {fmt.name} is wanted here"
        )
    return unpack(found.codes, found.format.bits) if found.packed else found.codes


def as_real(values: ArrayLike) -> NDArray[Any]:
    """Return ``values`` as a contiguous array of float32 or, where that loses bits, float64.

    Taken are numpy's floating-point and integer types, ml_dtypes' floating-point types (bfloat16,
    float8_*, ...) and torch tensors on the processor. Every value arrives exactly.

    Raises:
        FpsimError: another type, or a value (of int64, uint64 or longdouble) beyond float64.
    """
    array = _as_array(values, "values")
    if array.dtype.kind == "V" and array.dtype.name in SMALL_FLOATS:
        return np.asarray(array, dtype=np.float32, order="C")
    if array.dtype.kind not in "fiu":
        raise FpsimError(f"values: dtype {array.dtype} is not a real number type")
    exact = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    real = np.asarray(array, dtype=exact, order="C")
    if array.dtype.itemsize > 4 and array.dtype != np.float64:
        _check_float64(array, real)
    return real


def as_floats(values: ArrayLike, field: str) -> NDArray[Any]:
    """Return floating-point ``values`` as an array of float32, or float64 if given as such.

    Types are the floating-point types of `as_real` except longdouble.

    Raises:
        FpsimError: another type, naming the field.
    """
    array = _as_array(values, field)
    if array.dtype.kind == "V" and array.dtype.name in SMALL_FLOATS:
        return np.asarray(array, dtype=np.float32)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise FpsimError(f"{field}: dtype {array.dtype} is not floating point")
    return np.asarray(array, dtype=np.float64 if array.dtype.itemsize == 8 else np.float32)


def _as_array(values: object, field: str) -> NDArray[Any]:
    try:
        return np.asarray(_from_torch(values) if is_tensor(values) else values)
    except ValueError as error:
        if isinstance(error, FpsimError):
            raise
        raise FpsimError(f"{field}: rows of different lengths are no array") from None


def _check_float64(array: NDArray[Any], real: NDArray[Any]) -> None:
    if array.dtype.kind == "f":
        lost = (real.astype(array.dtype) != array) & (array == array)
    else:
        # Beyond 2^53 in magnitude numpy would compare the rounded numbers.
        lost = (array > 1 << 53) | (array < (-(1 << 53) if array.dtype.kind == "i" else 0))
        for index in np.flatnonzero(lost):
            lost.flat[index] = int(real.flat[index]) != int(array.flat[index])
    if lost.any():
        where = tuple(int(i) for i in np.argwhere(lost)[0])
        raise FpsimError(f"values: {array[where]} at index {where} is not exact in float64")


def is_tensor(values: object) -> bool:
    """Return whether values are a tensor of torch."""
    # A tensor exists only where torch is loaded, which another thread may be doing just now: do not
    # import torch for the check.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(values, tensor)


def _from_torch(tensor: Any) -> NDArray[Any]:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise FpsimError(f"values: a tensor on {tensor.device}; move it to the processor (.cpu())")
    tensor = tensor.detach()
    if tensor.dtype.is_floating_point and tensor.dtype not in (torch.float16, torch.float64):
        if tensor.dtype == getattr(torch, "float4_e2m1fn_x2", None):
            raise FpsimError(
                "values: packed torch.float4_e2m1fn_x2; see fpsim.formats.exchange.from_torch"
            )
        tensor = tensor.to(torch.float32)
    array: NDArray[Any] = tensor.numpy()
    return array


def convert_exactly(values: NDArray[np.float64], dtype: DTypeLike) -> NDArray[Any]:
    """Return ``values`` as ``dtype``; NaN stays NaN.

    Raises:
        FpsimError: no floating-point type, or a value it cannot hold; the message names the index.
    """
    try:
        target = np.dtype(dtype)
    except TypeError:
        raise FpsimError(f"dtype: {dtype!r} is not a type") from None
    if target.kind != "f" and target.name not in SMALL_FLOATS:
        raise FpsimError(f"dtype: {target} is not a floating-point type")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = values.astype(target)
        back = converted.astype(np.float64)
    # Signs are compared too: a type without -0 or without a sign does not hold -0.
    same = (back == values) & (np.signbit(back) == np.signbit(values))
    lost = ~(same | (np.isnan(back) & np.isnan(values)))
    if lost.any():
        where = tuple(int(i) for i in np.argwhere(lost)[0])
        raise FpsimError(f"dtype: {target} does not hold {values[where]} at index {where}")
    return converted


def random_array(
    mode: Rounding, random: ArrayLike | None, random_bits: int, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return the random integers of ``sr`` at full shape; for other modes a single zero.

    Args:
        mode: the rounding mode.
        random: integers in 0..2^random_bits - 1 that broadcast to ``shape``, or None.
        random_bits: bits of each random integer, 1..32; 0 if there are none.
        shape: the shape of the rounded values.

    Returns:
        Unsigned integers of shape ``shape``, in the caller's memory if its type allows.

    Raises:
        FpsimError: random bits without ``sr`` or ``sr`` without them, a wrong shape or range.
    """
    if mode is not Rounding.SR:
        if random is not None or random_bits:
            raise FpsimError(f"random: only rounding 'sr' takes random bits, not {mode.value!r}")
        return np.zeros(1, dtype=np.uint32)
    check_int(
        "random_bits",
        int(random_bits) if isinstance(random_bits, np.integer) else random_bits,
        1,
        MAX_RANDOM_BITS,
    )
    if random is None:
        raise FpsimError("random: rounding 'sr' needs an array of random integers")
    array = _as_array(random, "random")
    if array.dtype.kind not in "ui":
        raise FpsimError(f"random: dtype {array.dtype} is not an integer type")
    if array.size and not _below(array, 1 << random_bits):
        raise FpsimError(f"random: values must lie in 0..2^{random_bits} - 1")
    # Non-negative signed integers have the bits of unsigned ones.
    dtype = np.dtype(f"u{array.dtype.itemsize}")
    try:
        # Views by broadcast_to are read-only, and kernels would be compiled again for them.
        full = array if array.shape == shape else np.broadcast_to(array, shape)
        return np.asarray(full, dtype=array.dtype.newbyteorder("="), order="C").view(dtype)
    except ValueError:
        raise FpsimError(f"random: shape {array.shape} does not broadcast to {shape}") from None


def _below(integers: NDArray[Any], end: int) -> bool:
    """Return whether all integers lie in 0..end - 1, in at most one pass."""
    top = int(np.iinfo(integers.dtype).max)
    if integers.dtype.kind == "i" and (top < end or not integers.dtype.isnative):
        return int(integers.min()) >= 0 and int(integers.max()) < end
    if integers.dtype.kind == "i":  # as unsigned integers, negative ones are the largest
        integers = integers.view(np.dtype(f"u{integers.dtype.itemsize}"))
        top = 2 * top + 1
    return top < end or int(integers.max()) < end


def code_dtype(bits: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type of at least ``bits`` bits."""
    for width in (8, 16, 32):
        if bits <= width:
            return np.dtype(f"uint{width}")
    return np.dtype(np.uint64)


def check_int(field_name: str, value: object, low: int, high: int) -> None:
    """Check that a field is an integer within a range.

    Args:
        field_name: the field.
        value: its value.
        low: the least allowed integer.
        high: the largest allowed integer.

    Raises:
        FpsimError: another type, or an integer out of range, naming the field.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FpsimError(f"{field_name}: {value!r} is not an integer in {low}..{high}")
