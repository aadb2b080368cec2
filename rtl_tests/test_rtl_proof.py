# SPDX-License-Identifier: Apache-2.0
"""Leaves of the RTL equal the model for every input, proved by SAT; and the proof can fail."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from faults.faults import FAULTS, inject
from rtl_units import ROUNDINGS

from fpsim import get_format
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.parameters import sources_of
from fpsim.hdl.rtl.proof import Leaf, decoder, multiplier, prove, rounder

pytestmark = pytest.mark.skipif(
    not yosys.available(), reason="yosys is not installed; pip install 'fpsim[rtl]'"
)

OPERANDS = ["e2m1", "e1m2", "e3m0", "e2m1b3", "e4m3fn", "e5m2", "e4m3fnuz", "e3m2_flush", "int4"]
PAIRS = [("e2m1", "e2m1"), ("e3m0", "e1m2"), ("int4", "e2m1"), ("e2m1", "e3m2f")]
WIDE_PAIRS = [("e2m1", "e4m3fn"), ("e2m1", "e5m2"), ("e3m2f", "e2m3f"), ("int4", "e4m3fnuz")]
RESULTS = [
    ("e2m1", "saturate"),
    ("e3m2f", "saturate"),
    ("e2m3f", "saturate"),
    ("e3m0f", "saturate"),
]
WIDE_RESULTS = [
    *product(("e4m3", "e5m2"), ("inf", "saturate", "nan")),
    *product(("e4m3fn", "e3m3fn"), ("saturate", "nan")),
]


def float_format(name: str) -> FloatFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


def rounding_leaf(fmt: str, overflow: str, mode: str, outward: bool = False) -> Leaf:
    return rounder(float_format(fmt), Rounding(mode), Overflow(overflow), outward)


@pytest.mark.parametrize("fmt", OPERANDS)
def test_decoding_is_proved(fmt: str, tmp_path: Path) -> None:
    prove(decoder("a", get_format(fmt)), tmp_path)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_products_are_proved(a: str, b: str, tmp_path: Path) -> None:
    prove(multiplier(get_format(a), get_format(b)), tmp_path)


@pytest.mark.parametrize(("fmt", "overflow"), RESULTS)
def test_rounding_is_proved(fmt: str, overflow: str, tmp_path: Path) -> None:
    prove(rounding_leaf(fmt, overflow, "rne"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), WIDE_PAIRS)
def test_products_of_wider_operands_are_proved(a: str, b: str, tmp_path: Path) -> None:
    prove(multiplier(get_format(a), get_format(b)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ROUNDINGS)
@pytest.mark.parametrize(("fmt", "overflow"), RESULTS + WIDE_RESULTS)
def test_rounding_to_8_bits_is_proved(fmt: str, overflow: str, mode: str, tmp_path: Path) -> None:
    prove(rounding_leaf(fmt, overflow, mode), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rtz", "rup", "rdn", "rto"])
def test_rounding_of_tensor_cores_is_proved(mode: str, tmp_path: Path) -> None:
    prove(rounding_leaf("e5m2", "inf", mode, outward=True), tmp_path)


@pytest.mark.parametrize(
    ("leaf", "file", "name"),
    [
        (rounding_leaf("e3m2f", "saturate", "rne"), "fpsim_pkg.sv", "ties round up"),
        (rounding_leaf("e3m2f", "saturate", "rne"), "fp_round_pack.sv", "overflow wraps"),
        (decoder("a", get_format("e2m1")), "fp_decode.sv", "subnormals are zero"),
        (
            multiplier(get_format("e2m1"), get_format("e2m1")),
            "fp_multiply.sv",
            "a product loses its last bit",
        ),
    ],
    ids=["ties", "overflow", "subnormals", "product"],
)
def test_a_faulty_leaf_is_refuted(leaf: Leaf, file: str, name: str, tmp_path: Path) -> None:
    (fault,) = (f for f in FAULTS if (f.file, f.name) == (file, name))
    faulty = inject(fault, sources_of(leaf.module), tmp_path / "faulty")
    with pytest.raises(FpsimError, match=rf"^proof: {leaf.module} is wrong for \w+ = 0x"):
        prove(leaf, tmp_path / "proof", faulty)
