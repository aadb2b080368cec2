# SPDX-License-Identifier: Apache-2.0
"""From a unit to the RTL's parameters, and units that the RTL does not implement."""

from __future__ import annotations

import re

import pytest
from rtl_units import (
    COMPOSED,
    DOTS,
    TYPICAL,
    aligned,
    block,
    blocks,
    chain,
    chunked,
    fixed,
    golden,
    name,
    scaled,
    unit,
)

from fpsim.base.errors import FpsimError
from fpsim.hdl.rtl.instantiation import instantiation, package
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain


def test_chain_parameters() -> None:
    top = rtl_top(chain("e4m3fn", a="e3m0b5", b="e1m2b-2", rounding="rdn", overflow="nan"))
    assert top.name == "mac_chain"
    assert top.parameters == {
        "A_SIGNED": 1, "A_EXP": 3, "A_MAN": 0, "A_BIAS": 5, "A_SPECIALS": 0, "A_SUBNORMALS": 0,
        "B_SIGNED": 1, "B_EXP": 1, "B_MAN": 2, "B_BIAS": -2, "B_SPECIALS": 0, "B_SUBNORMALS": 0,
        "ACC_EXP": 4, "ACC_MAN": 3, "ACC_BIAS": 7, "ACC_SPECIALS": 2,
        "ACC_SUBNORMALS": 0, "ROUNDING": 4, "OVERFLOW": 2, "SCALE_W": 9,
    }  # fmt: skip
    assert top.inputs == {"op_i": 2, "a_i": 4, "b_i": 4, "c_i": 8, "exp_i": 9}
    assert top.outputs == {"acc_o": 8}


def test_fixed_parameters() -> None:
    top = rtl_top(fixed(24, -2, overflow="saturate", rounding="rto"))
    assert top.name == "mac_fixed"
    stage = {"W_ACC": 24, "LSB": -2, "ROUNDING": 5, "OVERFLOW": 0}
    assert stage.items() <= top.parameters.items()


@pytest.mark.parametrize("spec", golden(), ids=name)
def test_sources_exist_and_start_with_the_package(spec: MacSpec) -> None:
    top = rtl_top(spec)
    assert top.sources[0].name == "fpsim_pkg.sv"
    assert top.sources[-1].name == f"{top.name}.sv"
    assert all(path.is_file() for path in top.sources)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (fixed(12, 0, rounding="sr", random_bits=8), "accumulate.rounding: 'sr' in fixed point"),
        (chain("e4m3f", b="e4m3fn"), "operands.b: e4m3fn .* finite formats, as e4m3f has no NaN"),
        (fixed(12, 0, b="e5m2"), "operands.b: e5m2 .* finite formats"),
        (fixed(12, 0, b="e5m2", convert="e5m10"), "operands.b: e5m2 .* finite formats, as int12"),
        (
            fixed(12, 0, overflow="saturate", overflow_at="end"),
            "accumulate.overflow_at: 'end' .* add",
        ),
        (aligned(4, 9, "e8m23", "int4s", "e2m1"), "operands.a: int4s .* not symmetric"),
        (unit("e2m1", "e2m1", kind="tree", format="e8m23"), "accumulate.products: all of K"),
        (
            block(4, "e8m23", "e2m1", "e2m1", ("e5m2", "e8m0"), nan_scale="zero"),
            "accumulate.nan_scale: 'zero' with scales that can be infinite",
        ),
        (block(4, "e9m4", "e2m1", "e2m1"), "accumulate.into.format: e9m4"),
        (
            blocks(4, scaled(aligned(3, 9, "e8m7", "e2m1", "e2m1"), "e8m0", "e8m0", "both")),
            "accumulate.into.products: 3 .* a multiple of 4, the sums of a block",
        ),
        (
            chunked(6, aligned(4, 9, "e8m7", "e2m1", "e2m1"), "e8m23"),
            "accumulate.size: 6 .* multiples of 4, the terms of a beat",
        ),
        (
            chunked(8, chain("e5m10"), "e8m23", product="rounded"),
            "accumulate.outer.product: 'rounded' .* fused, without 'sr'",
        ),
        (
            chunked(8, chunked(4, chain("e5m10"), "e8m7"), "e8m23"),
            "accumulate.inner.kind: 'chunked' .* not chunked",
        ),
        (
            chunked(8, fixed(12, 0, convert="e5m10"), "e8m23"),
            "accumulate.inner.convert: e5m10 .* none",
        ),
        (chain("e5m10", a="e0m3"), "operands.a: e0m3 has no reference RTL"),
        (chain("e4m3fni"), "accumulate.format: e4m3fni has no reference RTL"),
        (chain("e9m4"), "accumulate.format: e9m4 .* 1..8 exponent bits"),
    ],
)
def test_a_unit_without_rtl_is_refused(spec: MacSpec, message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        rtl_top(spec)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("spec", [*golden(), *TYPICAL, *DOTS, *COMPOSED], ids=name)
def test_every_parameter_of_a_top_is_declared(spec: MacSpec, stream: bool) -> None:
    top = rtl_top(spec, stream=stream, scaled=stream and isinstance(spec.accumulate, Chain))
    text = top.sources[-1].read_text()
    head = text.partition("derived, do not change")[0]
    declared = re.findall(r"^    parameter int (\w+)", head, re.MULTILINE)
    assert set(top.parameters) <= set(declared)
    if top.name != "dot":  # which serves every stage, and a unit has those of its own
        assert sorted(top.parameters) == sorted(declared)


def test_a_unit_needs_the_files_of_its_own_stage_alone() -> None:
    needed = {path.name for path in rtl_top(fixed(24, -2), stream=True).sources}
    assert "stage_fixed.sv" in needed
    assert not needed & {"stage_chain.sv", "aligned_add.sv", "fp_scale.sv", "block_sum.sv"}


def test_stream_parameters() -> None:
    top = rtl_top(chain("e5m10"), stream=True, pipeline=3)
    assert (top.name, top.parameters["PIPELINE"], top.parameters["SCALED"]) == ("dot", 3, 0)
    assert top.tied == ("a_scale_i", "b_scale_i", "random_i")
    top = rtl_top(block(4, "e8m7", "e2m1", "e4m3fn", ("e5m2", "ue4m3fn"), "a"))
    assert (top.inputs["a_scale_i"], top.inputs["b_scale_i"]) == (16, 7)
    assert (top.inputs["a_i"], top.inputs["b_i"]) == (16, 32)
    with pytest.raises(FpsimError, match=r"pipeline: 65 is not in 0\.\.64"):
        rtl_top(chain("e5m10"), stream=True, pipeline=65)
    with pytest.raises(FpsimError, match=r"scaled: .* has a scale per block; leave it out"):
        rtl_top(block(4, "e8m7", "e2m1", "e2m1"), scaled=True)


def test_random_bits_are_a_port() -> None:
    spec = chain("e4m3", rounding="sr", random_bits=5)
    top = rtl_top(spec)
    assert (top.name, top.parameters["ROUNDING"], top.inputs["random_i"]) == ("dot", 6, 5)
    split = scaled(spec, "e8m0", "e8m0", "both")
    assert rtl_top(blocks(8, split)).inputs["random_i"] == 4 * 5  # one per sum of a block
    assert re.search(r"\.random_i +\(random\)", instantiation(spec))


def test_package_text() -> None:
    text = package(block(4, "e8m7", "e2m1", "e2m1"))
    assert "package e2m1_block4_into_chain_e8m7_pkg;" in text
    assert "  localparam int SA_SUBNORMALS  = fpsim_pkg::SUBNORMALS_NONE;" in text
    assert "  localparam int A_W            = 16;" in text


def test_instantiation_of_a_stream() -> None:
    spec = chain("e5m10")
    text = instantiation(spec, "u_dot", rtl_top(spec, stream=True))
    assert "dot #(\n" in text
    assert ".a_scale_i      ('0)" in text
    assert ".valid_i        (valid_i)," in text


def test_instantiation_text() -> None:
    text = instantiation(chain("e5m10"), "u_dot")
    assert "mac_chain #(\n" in text
    assert ".ROUNDING       (fpsim_pkg::ROUND_RNE)," in text
    assert ".ACC_SPECIALS   (fpsim_pkg::SPECIALS_IEEE)," in text
    assert ") u_dot (\n" in text
    assert "logic [15:0]  acc;" in text
