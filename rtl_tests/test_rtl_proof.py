# SPDX-License-Identifier: Apache-2.0
"""Leaves of the RTL equal the model for every input, proved by SAT; and the proof can fail."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from faults.faults import FAULTS, inject
from rtl_support import HAS_YOSYS
from rtl_units import ROUNDINGS

from fpsim import get_format
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.hdl.rtl.parameters import sources_of
from fpsim.hdl.rtl.proof import Leaf, adder, decoder, multiplier, prove, rounder

#: Yosys compiles itself for a minute when it first runs.
pytestmark = [HAS_YOSYS, pytest.mark.sweep]

OPERANDS = [
    "e2m1",
    "e1m2",
    "e3m0",
    "e2m1b3",
    "e4m3fn",
    "e5m2",
    "e4m3fnuz",
    "e3m2_flush",
    "int4",
    "uint4",
    "ue4m3fn",
]
PAIRS = [
    ("e2m1", "e2m1"),
    ("e3m0", "e1m2"),
    ("int4", "e2m1"),
    ("e2m1", "e3m2f"),
    ("uint4", "ue2m1"),
]
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


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("fmt", "overflow"),
    [("e2m1_flush", "saturate"), ("e3m2f_flush", "saturate"), ("e3m2fnuz", "nan")],
)
def test_rounding_without_subnormals_or_minus_zero_is_proved(
    fmt: str, overflow: str, tmp_path: Path
) -> None:
    for mode in ("rne", "rup"):
        prove(rounding_leaf(fmt, overflow, mode), tmp_path / mode)


@pytest.mark.parametrize(
    ("fmt", "bits"), [("e2m1", 2), pytest.param("e3m1f", 3, marks=pytest.mark.sweep)]
)
def test_stochastic_rounding_is_proved(fmt: str, bits: int, tmp_path: Path) -> None:
    leaf = rounder(float_format(fmt), Rounding.SR, Overflow.SATURATE, random_bits=bits)
    prove(leaf, tmp_path)


@pytest.mark.parametrize(
    ("fmt", "children", "mode"),
    [
        ("e2m0f", 3, "rne"),
        pytest.param("e2m1", 2, "rtz", marks=pytest.mark.sweep),
        pytest.param("e2m0f", 4, "rdn", marks=pytest.mark.sweep),
        pytest.param("e1m1f", 3, "rup", marks=pytest.mark.sweep),
    ],
)
def test_nodes_of_trees_are_proved(fmt: str, children: int, mode: str, tmp_path: Path) -> None:
    prove(adder(float_format(fmt), children, Rounding(mode), Overflow.SATURATE), tmp_path)


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
        (
            rounder(float_format("e2m1"), Rounding.SR, Overflow.SATURATE, random_bits=2),
            "fp_round_pack.sv",
            "stochastic rounding sees a bit less",
        ),
        (
            adder(float_format("e2m0f"), 3, Rounding.RNE, Overflow.SATURATE),
            "grid_sum.sv",
            "negative terms are one's complement",
        ),
    ],
    ids=["ties", "overflow", "subnormals", "product", "random", "node"],
)
def test_a_faulty_leaf_is_refuted(leaf: Leaf, file: str, name: str, tmp_path: Path) -> None:
    (fault,) = (f for f in FAULTS if (f.file, f.name) == (file, name))
    faulty = inject(fault, sources_of(leaf.module), tmp_path / "faulty")
    with pytest.raises(FpsimError, match=rf"^proof: {leaf.module} is wrong for \w+ = 0x"):
        prove(leaf, tmp_path / "proof", faulty)
