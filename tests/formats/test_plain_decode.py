# SPDX-License-Identifier: Apache-2.0
"""Codes decoded without compiled code mean what they mean to the oracle and to the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from fpsim import get_format, oracle
from fpsim.formats.floating import FEW, FloatFormat
from fpsim.formats.names import NAMED_FORMATS
from fpsim.formats.plain_decode import decode_plainly

MORE = ["e3m0_nozero", "ue4m3b9fn", "e2m3_flush", "e4m3fnuz", "e8m23", "e6m9b40fnuz"]


@pytest.mark.parametrize("name", [*NAMED_FORMATS, *MORE])
def test_plain_codes_are_the_oracles(name: str) -> None:
    try:
        fmt = get_format(name)
    except Exception:  # a name of this list that the grammar does not spell
        pytest.fail(name)
    if not isinstance(fmt, FloatFormat):
        return
    rng = np.random.default_rng(1)
    wide = fmt.bits > 10
    codes = rng.integers(0, 1 << fmt.bits, 400) if wide else np.arange(1 << fmt.bits)
    ends = [fmt.max_code, fmt.max_code - 1, 0, 1, fmt.sign_bit, fmt.sign_bit | fmt.max_code]
    ends += [code for code in (fmt.inf_code, fmt.nan_code) if code is not None]
    codes = np.concatenate([codes, ends]).astype(fmt.dtype)
    found = decode_plainly(codes, fmt.layout)
    for code, value in zip(codes.tolist(), found.tolist(), strict=True):
        number = oracle.decode(code, fmt)
        if number.is_nan:
            assert np.isnan(value)
        else:
            wanted = np.inf if number.infinite else float(number.magnitude or 0)
            assert abs(value) == wanted and bool(np.signbit(value)) is number.negative, code


def test_few_codes_and_many_mean_the_same() -> None:
    fmt = get_format("e5m10")
    codes = np.arange(1 << 16, dtype=np.uint16)
    parts = [fmt.decode(codes[i : i + FEW]) for i in range(0, codes.size, FEW)]
    assert np.array_equal(np.concatenate(parts).view(np.uint64), fmt.decode(codes).view(np.uint64))
