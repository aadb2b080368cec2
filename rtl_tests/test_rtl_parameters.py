# SPDX-License-Identifier: Apache-2.0
"""From a unit to the RTL's parameters, and units that the RTL does not implement."""

from __future__ import annotations

import pytest
from rtl_units import chain, fixed, golden, name, unit

from fpsim.errors import FpsimError
from fpsim.hdl.instantiation import instantiation
from fpsim.hdl.parameters import rtl_top
from fpsim.spec import MacSpec


def test_chain_parameters() -> None:
    top = rtl_top(chain("e4m3fn", a="e3m0b5", b="e1m2b-2", rounding="rdn", overflow="nan"))
    assert top.name == "mac_chain"
    assert top.parameters == {
        "A_EXP": 3, "A_MAN": 0, "A_BIAS": 5,
        "B_EXP": 1, "B_MAN": 2, "B_BIAS": -2,
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
            "accumulate.kind: 'exact' .* chain, fixed",
        ),
        (chain("e5m10", rounding="sr", random_bits=8), "accumulate.rounding: 'sr' .* rne, rna"),
        (chain("e5m10", a="int4"), "operands.a: int4 has no reference RTL"),
        (chain("e5m10", b="e4m3fn"), "operands.b: e4m3fn has no reference RTL"),
        (chain("e5m10", b="e5m2"), "operands.b: e5m2 has no reference RTL"),
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


def test_instantiation_text() -> None:
    text = instantiation(chain("e5m10"), "u_dot")
    assert "mac_chain #(\n" in text
    assert ".ROUNDING     (fpsim_pkg::ROUND_RNE)," in text
    assert ".ACC_SPECIALS (fpsim_pkg::SPECIALS_IEEE)," in text
    assert ") u_dot (\n" in text
    assert "logic [15:0]  acc;" in text
