# SPDX-License-Identifier: Apache-2.0
"""Packing against numpy's bit order, and arrays of ml_dtypes and torch that share memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpsim import FpsimError, get_format
from fpsim.formats.exchange import (
    DTYPES,
    dtype_of,
    format_of,
    from_ml_dtypes,
    from_torch,
    to_ml_dtypes,
    to_torch,
    torch_dtype_of,
)
from fpsim.formats.packing import pack, packed_length, unpack


def test_packed_order_by_hand() -> None:
    assert pack([1, 2, 3]).tolist() == [0x21, 0x03]
    assert unpack(np.array([0x21, 0x03], dtype=np.uint8)).tolist() == [1, 2, 3, 0]
    assert unpack(np.array([0x21, 0x03], dtype=np.uint8), count=3).tolist() == [1, 2, 3]
    # 000001 000010 000011 000100, first code lowest: 0001_00 0000_11 0000_10 000001
    assert pack([1, 2, 3, 4], bits=6).tolist() == [0b10_000001, 0b0011_0000, 0b000100_00]


@given(st.integers(1, 8), st.integers(0, 3), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_packing_is_numpy_bit_order(bits: int, rows: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, 2, count), dtype=np.uint8)
    spread = (codes[..., None] >> np.arange(bits)) & 1
    expected = np.packbits(
        spread.reshape(rows, 2, count * bits), axis=-1, bitorder="little"
    ).reshape(rows, 2, packed_length(count, bits))
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert np.array_equal(packed, expected)
    assert np.array_equal(unpack(packed, bits, count), codes)
    assert np.array_equal(pack(codes[:, ::-1].astype(np.int64), bits), expected[:, ::-1])


@pytest.mark.parametrize("count", [(1 << 15) - 1, 1 << 15, (1 << 16) + 3])
def test_long_rows_pack_in_chunks(count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 16, (2, count), dtype=np.uint8)
    packed = pack(codes)
    assert np.array_equal(packed & 15, codes[:, ::2])
    assert np.array_equal(packed[:, : count // 2] >> 4, codes[:, 1::2])
    assert np.array_equal(unpack(packed, count=count), codes)


def test_packing_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(FpsimError, match="do not fit 4 bits"):
        pack([3, 16])
    with pytest.raises(FpsimError, match="do not fit 4 bits"):
        pack([-1])
    with pytest.raises(FpsimError, match="float64 is not an integer"):
        pack([1.0])
    with pytest.raises(FpsimError, match="no axis"):
        pack(3)
    with pytest.raises(FpsimError, match="bits: 9"):
        pack([3], bits=9)
    with pytest.raises(FpsimError, match="count: 5 codes of 4 bits are 3 bytes, not 2"):
        unpack(np.zeros(2, dtype=np.uint8), count=5)
    with pytest.raises(FpsimError, match="not uint8"):
        unpack([1, 2])


def every_code(name: str) -> Any:
    fmt = get_format(name)
    if fmt.bits == 32:
        return np.random.default_rng(1).integers(0, 1 << 32, 4096, dtype=np.uint32)
    return np.arange(1 << fmt.bits, dtype=fmt.dtype)


@pytest.mark.parametrize("kind", DTYPES)
def test_views_are_the_same_numbers_in_the_same_memory(kind: str) -> None:
    """Every code of every type: our decoding is ml_dtypes', and its bytes are ours."""
    fmt = get_format(DTYPES[kind])
    codes = every_code(DTYPES[kind])
    view = to_ml_dtypes(codes, fmt)
    assert view.dtype.name == kind
    assert np.shares_memory(view, codes)
    with np.errstate(invalid="ignore"):
        ours, theirs = fmt.decode(codes), view.astype(np.float64)
    assert np.array_equal(ours, theirs, equal_nan=True)
    real = ~np.isnan(ours)
    assert np.array_equal(np.signbit(ours[real]), np.signbit(theirs[real]))
    back = from_ml_dtypes(view[::-1])
    assert back.format == fmt
    assert np.shares_memory(back.codes, codes)
    assert np.array_equal(back.codes, codes[::-1])
    assert dtype_of(fmt) == view.dtype
    assert format_of(view.dtype) == format_of(kind) == format_of(view.dtype.type) == fmt


TORCH = [kind for kind in DTYPES if hasattr(torch, kind)]


@pytest.mark.parametrize("kind", TORCH)
def test_torch_tensors_share_memory(kind: str) -> None:
    fmt = get_format(DTYPES[kind])
    codes = every_code(DTYPES[kind]).reshape(16, -1)
    tensor = to_torch(codes, fmt)
    assert tensor.dtype == getattr(torch, kind) == torch_dtype_of(fmt)
    assert tensor.data_ptr() == codes.ctypes.data
    theirs = tensor.to(torch.float64).numpy()
    assert np.array_equal(fmt.decode(codes), theirs, equal_nan=True)
    back = from_torch(tensor)
    assert back.format == fmt == format_of(tensor.dtype)
    assert not back.packed
    assert np.shares_memory(back.codes, codes)
    assert np.array_equal(back.codes, codes)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="torch has no packed FP4")
def test_torch_packed_pairs() -> None:
    packed = pack(np.arange(16).reshape(2, 8))
    tensor = to_torch(packed, "e2m1", packed=True)
    assert tensor.dtype == torch.float4_e2m1fn_x2 == torch_dtype_of("e2m1")
    assert tensor.data_ptr() == packed.ctypes.data
    back = from_torch(tensor)
    assert back.packed
    assert back.format == get_format("e2m1")
    assert unpack(back.codes).tolist() == np.arange(16).reshape(2, 8).tolist()
    with pytest.raises(FpsimError, match="pack the codes first"):
        to_torch(np.zeros(2, dtype=np.uint8), "e2m1")
    with pytest.raises(FpsimError, match="unpacked only"):
        to_torch(np.zeros(2, dtype=np.uint8), "e4m3fn", packed=True)
    with pytest.raises(FpsimError, match="from_torch"):
        get_format("e2m1").encode(tensor)


def test_what_cannot_be_exchanged_is_said() -> None:
    codes = np.zeros(3, dtype=np.uint8)
    with pytest.raises(FpsimError, match="has a type for e1m2"):
        dtype_of("e1m2")
    with pytest.raises(FpsimError, match="torch has no type for e2m3"):
        to_torch(codes, "e2m3")
    with pytest.raises(FpsimError, match="'int32' has no format"):
        format_of(np.int32)
    with pytest.raises(FpsimError, match="'int8' has no format"):
        format_of(torch.int8)
    with pytest.raises(FpsimError, match="int64 cannot be shared"):
        to_ml_dtypes(np.zeros(3, dtype=np.int64), "e2m1")
    with pytest.raises(FpsimError, match="16 is not a code of e2m1"):
        to_ml_dtypes(np.array([16], dtype=np.uint8), "e2m1")
    with pytest.raises(FpsimError, match="16 is not a code of e2m1"):
        from_ml_dtypes(np.array([16], dtype=np.uint8).view(ml_dtypes.float4_e2m1fn))
    codes.flags.writeable = False
    with pytest.raises(FpsimError, match="read-only"):
        to_torch(codes, "e4m3fn")
    with pytest.raises(FpsimError, match="negative strides"):
        to_torch(np.zeros(3, dtype=np.uint8)[::-1], "e4m3fn")
    with pytest.raises(FpsimError, match="on meta"):
        from_torch(torch.zeros(2, device="meta"))


def test_e8m0_rounds_as_interchange_libraries_do() -> None:
    """Ties go up; P3109's reading, by which they go to the even code, has the name rne."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    e8m0 = get_format("float8_e8m0fnu")
    assert e8m0 == get_format("e8m0")
    normal = np.ldexp(1 + np.arange(64) / 64, np.arange(-126, 127)[:, None]).astype(np.float32)
    beside = np.concatenate(
        [np.nextafter(normal, np.float32(0)), np.nextafter(normal, np.float32(3e38))]
    )
    x = np.concatenate([normal, beside]).ravel()
    x = x[(x >= 2.0**-126) & (x < 1.5 * 2.0**127)]
    theirs = x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    np.testing.assert_array_equal(e8m0.encode(x), theirs)
    ties = np.array([1.5, 3, 6, 12], np.float32)
    assert e8m0.decode(e8m0.encode(ties)).tolist() == [2, 4, 8, 16]
    assert e8m0.decode(e8m0.encode(ties, "rne")).tolist() == [2, 2, 8, 8]
    assert get_format("binary8p1uf").decode(get_format("binary8p1uf").encode([3.0])).tolist() == [4]
