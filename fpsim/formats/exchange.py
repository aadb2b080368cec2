# SPDX-License-Identifier: Apache-2.0
"""Code arrays as arrays of ml_dtypes and torch, and back, sharing memory.

A code array holds one code per element in the format's unsigned type; the other library's array of
the same width sees the same bytes as numbers. Torch has no unpacked 4-bit type: its
``float4_e2m1fn_x2`` is the bytes of `fpsim.formats.packing.pack`. Neither library is needed to
import this module.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.inputs import check_codes
from fpsim.formats.names import get_format

__all__ = [
    "DTYPES",
    "Exchanged",
    "dtype_of",
    "format_of",
    "from_ml_dtypes",
    "from_torch",
    "to_ml_dtypes",
    "to_torch",
    "torch_dtype_of",
]

#: Format name of every element type of numpy, ml_dtypes and torch.
DTYPES: dict[str, str] = {
    "float4_e2m1fn": "e2m1",
    "float6_e2m3fn": "e2m3",
    "float6_e3m2fn": "e3m2",
    "float8_e3m4": "e3m4",
    "float8_e4m3": "e4m3",
    "float8_e4m3b11fnuz": "e4m3b11fnuz",
    "float8_e4m3fn": "e4m3fn",
    "float8_e4m3fnuz": "e4m3fnuz",
    "float8_e5m2": "e5m2",
    "float8_e5m2fnuz": "e5m2fnuz",
    "float8_e8m0fnu": "e8m0",
    "bfloat16": "e8m7",
    "float16": "e5m10",
    "float32": "e8m23",
}
PACKED = "float4_e2m1fn_x2"


class Exchanged(NamedTuple):
    """Codes and format of an array of another library; ``codes`` shares the array's memory."""

    codes: NDArray[Any]
    format: FloatFormat
    packed: bool = (
        False  #: two 4-bit codes per byte, which `fpsim.formats.packing.unpack` separates
    )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise FpsimError(f"exchange: {name} is not installed") from None


def _float_format(name: str) -> FloatFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


def _type_name(fmt: Format) -> str | None:
    return next((name for name, f in DTYPES.items() if get_format(f) == fmt), None)


def format_of(dtype: Any) -> FloatFormat:
    """Return the format of a numpy, ml_dtypes or torch type (or of its name).

    Raises:
        FpsimError: no such type, or one that is not a floating-point format of up to 32 bits.
    """
    name = str(dtype)
    if name.startswith("torch."):
        name = name.removeprefix("torch.")
    elif not isinstance(dtype, str):
        try:
            name = np.dtype(dtype).name
        except TypeError:
            raise FpsimError(f"dtype: {dtype!r} is not a type") from None
    name = "float4_e2m1fn" if name == PACKED else name
    if name not in DTYPES:
        raise FpsimError(f"dtype: {name!r} has no format; those that do: {', '.join(DTYPES)}")
    return _float_format(DTYPES[name])


def dtype_of(fmt: str | Format) -> np.dtype[Any]:
    """Return the numpy or ml_dtypes type that holds the values of format ``fmt``.

    Raises:
        FpsimError: no such type, or an ml_dtypes that is missing or too old.
    """
    fmt = get_format(fmt)
    name = _type_name(fmt)
    if name is None:
        raise FpsimError(f"format: neither numpy nor ml_dtypes has a type for {fmt.name}")
    if name in ("float16", "float32"):
        return np.dtype(name)
    kind = getattr(_library("ml_dtypes"), name, None)
    if kind is None:
        raise FpsimError(f"format: the installed ml_dtypes has no {name}")
    dtype: np.dtype[Any] = np.dtype(kind)
    return dtype


def torch_dtype_of(fmt: str | Format) -> Any:
    """Return the torch type that holds the values of format ``fmt``; for e2m1 the packed type.

    Raises:
        FpsimError: no such type, or a torch that is missing or too old.
    """
    fmt = get_format(fmt)
    name = _type_name(fmt)
    name = PACKED if name == "float4_e2m1fn" else name
    kind = None if name is None else getattr(_library("torch"), name, None)
    if kind is None:
        raise FpsimError(f"format: torch has no type for {fmt.name}")
    return kind


def to_ml_dtypes(codes: NDArray[Any], fmt: str | Format) -> NDArray[Any]:
    """Return a view of ``codes`` as numbers of numpy's or ml_dtypes' type.

    Raises:
        FpsimError: no type for ``fmt``, codes of another type than ``fmt.dtype`` (a view could not
            share memory), or codes too wide.
    """
    fmt = get_format(fmt)
    dtype = dtype_of(fmt)
    return _checked(codes, fmt).view(dtype)


def from_ml_dtypes(array: NDArray[Any]) -> Exchanged:
    """Return a view of an array of numpy's or ml_dtypes' types as codes.

    Raises:
        FpsimError: a type that has no format.
    """
    fmt = format_of(array.dtype)
    return Exchanged(_checked(array.view(fmt.dtype), fmt), fmt)


def to_torch(codes: NDArray[Any], fmt: str | Format, *, packed: bool = False) -> Any:
    """Return a torch tensor of numbers that shares the memory of ``codes``.

    Args:
        codes: contiguous codes of any shape, of the type ``fmt.dtype``; for e2m1 the bytes of
            `fpsim.formats.packing.pack`, two codes each, the first in the low bits.
        fmt: a format, or its name, that torch has a type for.
        packed: whether ``codes`` are packed bytes of e2m1.

    Returns:
        A tensor of ``codes``' shape, of the torch type that ``fmt`` describes.

    Raises:
        FpsimError: no torch type for ``fmt``, codes of a type other than ``fmt.dtype``, read-only
            memory or negative strides (torch has no such tensors), or ``packed`` for any format but
            e2m1, which needs it.
    """
    fmt = get_format(fmt)
    dtype = torch_dtype_of(fmt)
    if packed != (fmt.bits == 4):
        raise FpsimError(
            f"packed: torch holds {fmt.name} "
            + ("as pairs only; pack the codes first" if fmt.bits == 4 else "unpacked only")
        )
    if packed and codes.dtype != np.uint8:
        raise FpsimError(f"codes: dtype {codes.dtype}, packed codes are uint8")
    checked = codes if packed else _checked(codes, fmt)
    if not checked.flags.writeable:
        raise FpsimError("codes: read-only memory cannot be shared with torch; copy it first")
    if any(stride < 0 for stride in checked.strides):
        raise FpsimError("codes: torch has no negative strides; copy the array first")
    signed = checked.view(f"int{8 * checked.itemsize}")
    return _library("torch").from_numpy(signed).view(dtype)


def from_torch(tensor: Any) -> Exchanged:
    """Return the codes of a torch tensor, sharing its memory.

    Raises:
        FpsimError: a tensor on another device than the processor, or of a type without a format.
    """
    torch = _library("torch")
    fmt = format_of(tensor.dtype)
    if tensor.device.type != "cpu":
        raise FpsimError(f"tensor: on {tensor.device}; move it to the processor first (.cpu())")
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]
    codes = tensor.detach().view(integers).numpy().view(fmt.dtype)
    return Exchanged(codes, fmt, packed=str(tensor.dtype) == f"torch.{PACKED}")


def _checked(codes: NDArray[Any], fmt: Format) -> NDArray[Any]:
    if not isinstance(codes, np.ndarray) or codes.dtype != fmt.dtype:
        kind = getattr(codes, "dtype", type(codes).__name__)
        raise FpsimError(f"codes: {kind} cannot be shared; codes of {fmt.name} are {fmt.dtype}")
    if fmt.bits < 8 * fmt.dtype.itemsize:
        check_codes(codes, fmt, "codes")
    return codes
