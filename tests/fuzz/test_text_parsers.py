# SPDX-License-Identifier: Apache-2.0
"""Units, block formats, names and designs under test, from text that was damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.fuzzing import fuzz

import fpsim
from fpsim import BlockFormat, MacSpec
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.formats.names import NAMED_FORMATS
from fpsim.hdl.dut.dut_toml import read_dut

pytestmark = pytest.mark.fuzz

REPOSITORY = Path(__file__).parents[2]


def test_unit_files(tmp_path: Path) -> None:
    file = tmp_path / "unit.toml"

    def feed(data: bytes) -> None:
        file.write_bytes(data)
        spec = fpsim.get_unit(file).spec
        assert MacSpec.from_dict(spec.to_dict()) == spec

    fuzz([path.read_bytes() for path in sorted((REPOSITORY / "golden").glob("*.toml"))], feed)


def test_block_format_files(tmp_path: Path) -> None:
    file = tmp_path / "format.toml"
    x = np.linspace(-7, 7, 64, dtype=np.float32)[None]

    def feed(data: bytes) -> None:
        file.write_bytes(data)
        fmt = fpsim.get_block_format(file)
        assert BlockFormat.from_dict(fmt.to_dict()) == fmt
        fmt.dequantize(fmt.quantize(x))

    fuzz([fmt.to_toml().encode() for fmt in BLOCK_FORMATS.values()], feed)


@pytest.mark.parametrize("get", [fpsim.get_format, fpsim.get_block_format, fpsim.get_unit])
def test_names(get: Callable[[str], object]) -> None:
    units = [*fpsim.unit_names(), *fpsim.preset_names()]
    canonical = [fpsim.get_unit(name).spec.canonical_name for name in units]
    names = [*NAMED_FORMATS, *BLOCK_FORMATS, *units, *canonical]
    fuzz([n.encode() for n in names], lambda data: get(data.decode("utf-8", "surrogateescape")))


def test_designs(tmp_path: Path) -> None:
    corpus = []
    for folder in ("examples/dot4", "designs"):
        for source in (REPOSITORY / "rtl_tests" / folder).iterdir():
            if source.suffix == ".toml":
                corpus.append(source.read_bytes())
            elif source.is_file():
                (tmp_path / source.name).write_bytes(source.read_bytes())
    file = tmp_path / "dut.toml"

    def feed(data: bytes) -> None:
        file.write_bytes(data)
        read_dut(file)

    fuzz(corpus, feed)
