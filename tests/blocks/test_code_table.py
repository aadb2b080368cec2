# SPDX-License-Identifier: Apache-2.0
"""Tables of 16 numbers as the wide codes that hardware looks up."""

from __future__ import annotations

import numpy as np
import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.blocks.code_table import CodeTable

#: Named formats whose 16 codes mean one number each, though not those of their element alone.
NAMED = ["nf4", "af4", "sf4", "bof4", "bof4-s", "bof4-s-g32", "fp4-bnb", "mxfp4-ggml", "nvfp4-ggml"]


@pytest.mark.parametrize("name", NAMED)
def test_an_entry_is_what_a_unit_sees_of_a_code(name: str) -> None:
    fmt, table = fpsim.get_block_format(name), CodeTable.of(name)
    assert len(table.codes) == 16 and table.bits == 4 and table.wide == fmt.wide
    x = np.random.default_rng(1).normal(size=(8, 256))
    quantized = fmt.quantize(x)
    wide = fmt.widen(quantized).codes
    assert np.unique(quantized.codes).size >= 15
    assert (wide == np.array(table.codes)[quantized.codes]).all()


@pytest.mark.parametrize("name", NAMED)
def test_a_pattern_is_the_first_code_of_an_entry(name: str) -> None:
    table = CodeTable.of(name)
    patterns = table.patterns
    assert len(patterns) == 1 << table.wide.bits
    for wide, pattern in enumerate(patterns):
        assert pattern == (table.codes.index(wide) if wide in table.codes else -1)
    assert CodeTable.of("mxfp4-ggml").patterns[0] == 0  # code 8 means zero, too


def test_formats_that_need_more_than_a_table_are_refused() -> None:
    for name in set(BLOCK_FORMATS) - set(NAMED):
        try:
            table = CodeTable.of(name, "a_table")
        except FpsimError as error:
            assert str(error).startswith(f"a_table: {name} has ")
        else:
            assert table.codes == tuple(range(16))  # a scale rule alone sets the format apart
