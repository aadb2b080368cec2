# SPDX-License-Identifier: Apache-2.0
"""From a unit to the RTL's parameters, and units that the RTL does not implement."""

from __future__ import annotations

import re

import pytest
from rtl_units import DOTS, TYPICAL, aligned, block, chain, fixed, golden, name, tree, unit

from fpsim.base.errors import FpsimError
from fpsim.hdl.rtl.instantiation import instantiation, package
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain


def test_chain_parameters() -> None:
    top = rtl_top(chain("e4m3fn", a="e3m0b5", b="e1m2b-2", rounding="rdn", overflow="nan"))
    assert top.name == "mac_chain"
    assert top.parameters == {
        "A_EXP": 3, "A_MAN": 0, "A_BIAS": 5, "A_SPECIALS": 0, "A_SUBNORMALS": 0,
        "B_EXP": 1, "B_MAN": 2, "B_BIAS": -2, "B_SPECIALS": 0, "B_SUBNORMALS": 0,
        "ACC_EXP": 4, "ACC_MAN": 3, "ACC_BIAS": 7, "ACC_SPECIALS": 2,
        "ROUNDING": 4, "OVERFLOW": 2, "SCALE_W": 9,
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
        (
            unit("e2m1", "e2m1", kind="exact", format="e8m23"),
            "accumulate.kind: 'exact' .* chain, fixed, aligned, tree, block",
        ),
        (chain("e5m10", rounding="sr", random_bits=8), "accumulate.rounding: 'sr' .* rne, rna"),
        (chain("e5m10", product="rounded"), "accumulate.product: 'rounded' .* fused"),
        (chain("e4m3f", b="e4m3fn"), "operands.b: e4m3fn .* finite formats, as e4m3f has no NaN"),
        (fixed(12, 0, b="e5m2"), "operands.b: e5m2 .* finite formats"),
        (
            fixed(12, 0, overflow="saturate", overflow_at="end"),
            "accumulate.overflow_at: 'end' .* add",
        ),
        (fixed(12, 0, convert="e5m10"), "accumulate.convert: e5m10 .* none"),
        (
            aligned(4, 9, "e8m23", "e2m1", "e2m1", addend="joined"),
            "accumulate.addend: 'joined' .* early, late",
        ),
        (
            aligned(4, 9, "e8m23", "e2m1", "e2m1", product_limit=9),
            "accumulate.product_limit: 9 .* none",
        ),
        (aligned(4, 9, "e8m23_flush", "e2m1", "e2m1"), "accumulate.container: .* gradual"),
        (aligned(4, 9, "e8m23", "int4s", "e2m1"), "operands.a: int4s .* not symmetric"),
        (tree(4, "e8m23", "e2m1", "e2m1", radix=4), "accumulate.radix: 4 .* 2"),
        (tree(4, "e8m23", "e2m1", "e2m1", lanes=2), "accumulate.lanes: 2 .* 1"),
        (tree(4, "e8m23", "e2m1", "e2m1", addend="leaf"), "accumulate.addend: 'leaf' .* root"),
        (unit("e2m1", "e2m1", kind="tree", format="e8m23"), "accumulate.products: all of K"),
        (
            block(4, "e8m23", "e2m1", "e2m1", kind="exact"),
            "accumulate.into.kind: 'exact' .* chain",
        ),
        (
            block(4, "e8m23", "e2m1", "e2m1", ("e5m2", "e8m0"), nan_scale="zero"),
            "accumulate.nan_scale: 'zero' with scales that can be infinite",
        ),
        (block(4, "e9m4", "e2m1", "e2m1"), "accumulate.into.format: e9m4"),
        (chain("e5m10", a="e0m3"), "operands.a: e0m3 has no reference RTL"),
        (chain("e5m10", a="ue4m3f"), "operands.a: ue4m3f has no reference RTL"),
        (chain("e4m3fnuz"), "accumulate.format: e4m3b8fnuz .* IEEE"),
        (chain("e5m10_flush"), "accumulate.format: e5m10_flush .* gradual"),
        (chain("e9m4"), "accumulate.format: e9m4 .* 1..8 exponent bits"),
    ],
)
def test_a_unit_without_rtl_is_refused(spec: MacSpec, message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        rtl_top(spec)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("spec", [*golden(), *TYPICAL, *DOTS], ids=name)
def test_every_parameter_of_a_top_is_given(spec: MacSpec, stream: bool) -> None:
    top = rtl_top(spec, stream=stream, scaled=stream and isinstance(spec.accumulate, Chain))
    declared = re.findall(r"^    parameter int (\w+)", top.sources[-1].read_text(), re.MULTILINE)
    assert sorted(top.parameters) == sorted(declared)


def test_stream_parameters() -> None:
    top = rtl_top(chain("e5m10"), stream=True, pipeline=3)
    assert (top.name, top.parameters["PIPELINE"], top.parameters["SCALED"]) == ("dot_chain", 3, 0)
    assert top.tied == ("a_scale_i", "b_scale_i")
    top = rtl_top(block(4, "e8m7", "e2m1", "e4m3fn", ("e5m2", "ue4m3fn"), "a"))
    assert (top.inputs["a_scale_i"], top.inputs["b_scale_i"]) == (16, 7)
    assert (top.inputs["a_i"], top.inputs["b_i"]) == (16, 32)
    with pytest.raises(FpsimError, match=r"pipeline: 65 is not in 0\.\.64"):
        rtl_top(chain("e5m10"), stream=True, pipeline=65)
    with pytest.raises(FpsimError, match=r"scaled: .* takes no scales; allowed: chain and block"):
        rtl_top(fixed(24, -2), stream=True, scaled=True)


def test_package_text() -> None:
    text = package(block(4, "e8m7", "e2m1", "e2m1"))
    assert "package e2m1_block4_into_chain_e8m7_pkg;" in text
    assert "  localparam int SA_SUBNORMALS = fpsim_pkg::SUBNORMALS_NONE;" in text
    assert "  localparam int A_W           = 16;" in text


def test_instantiation_of_a_stream() -> None:
    spec = chain("e5m10")
    text = instantiation(spec, "u_dot", rtl_top(spec, stream=True))
    assert "dot_chain #(\n" in text
    assert ".a_scale_i    ('0)" in text
    assert ".valid_i      (valid_i)," in text


def test_instantiation_text() -> None:
    text = instantiation(chain("e5m10"), "u_dot")
    assert "mac_chain #(\n" in text
    assert ".ROUNDING     (fpsim_pkg::ROUND_RNE)," in text
    assert ".ACC_SPECIALS (fpsim_pkg::SPECIALS_IEEE)," in text
    assert ") u_dot (\n" in text
    assert "logic [15:0]  acc;" in text
