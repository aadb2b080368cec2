# SPDX-License-Identifier: Apache-2.0
"""A pass means something: what the vectors for a design would find, whatever it can be told."""

from __future__ import annotations

from pathlib import Path

import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.resources import golden_dir
from fpsim.hdl.dut.adapter import beat_writer
from fpsim.hdl.dut.dut import Beats, Dut, Input, Output, Place, Reset, Wires
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.verify.adequacy import Adequacy, check_waivers, judge
from fpsim.hdl.verify.vector_source import made_for
from fpsim.units.presets import presets
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.record import Record

#: Ways in which designs are told a sum: operations, whether there is an addend, elements a beat.
MAPPINGS = {
    "loads": (
        {"idle": {"en": 0}, "clear": {"clr": 1}, "mac": {"en": 1}, "load": {"ld": 1}},
        True,
        1,
    ),
    "clears": ({"clear": {"clr": 1}, "mac": {"en": 1}}, False, 1),
    "clears beside operands": ({"clear": {"clr": 1, "en": 1}, "mac": {"en": 1}}, False, 1),
    "resets": ({"clear": "reset", "mac": {"en": 1}}, False, 1),
    "first product clears": ({"dot": {"clr": 1}, "mac": {}}, False, 1),
    "addend": ({}, True, 1),
    "no addend": ({}, False, 1),
    "four a clock": ({"clear": {"clr": 1}, "mac": {"en": 1}}, False, 4),
}


def design(spec: MacSpec, mapping: str) -> Dut:
    ops, addend, lanes = MAPPINGS[mapping]
    record = Record.of(spec)
    names = [
        "a",
        "b",
        *(["a_scale", "b_scale"] if record.group else []),
        *(["c"] if addend else []),
    ]
    fields = {name: Wires((Place(name),)) for name in names}
    elements = lanes if record.k == 1 else record.k
    return Dut(
        top="mac", sources=(), clock="clk", reset=Reset("rst", True), ops=ops,
        input=Input((Beats(fields, elements),)), output=Output(Wires((Place("y"),)), latency=1),
    )  # fmt: skip


def judged(spec: MacSpec, dut: Dut, directory: Path, **made: int) -> Adequacy:
    source = made_for(dut, spec, **made)
    (directory / "run").mkdir(exist_ok=True)
    (directory / "run" / "stimulus.hex").write_text(str(made))
    return judge(dut, source, beat_writer(dut, source), directory)


@pytest.mark.parametrize("count", [1, pytest.param(65537, marks=pytest.mark.sweep)])
def test_more_vectors_find_no_fewer_mistakes(count: int, tmp_path: Path) -> None:
    spec = fpsim.get_unit("e2m1-chain-e5m10").spec
    found = judged(spec, design(spec, "clears"), tmp_path, count=count)
    assert found.unfound == () and found.found > 28


@pytest.mark.parametrize(
    ("unit", "mapping"),
    [
        *(("e2m1-fixed14q2", mapping) for mapping in MAPPINGS),
        *(pytest.param("e2m1-chain-e4m3fn", m, marks=pytest.mark.sweep) for m in MAPPINGS),
    ],
)
def test_every_mistake_is_found_however_a_sum_is_told(
    unit: str, mapping: str, tmp_path: Path
) -> None:
    spec = fpsim.get_unit(unit).spec
    assert judged(spec, design(spec, mapping), tmp_path, count=200).unfound == ()


#: Published units that are a MAC; the mistakes of the others take minutes to try.
MACS = ("e2m1-chain-e5m10", "e2m1-fixed24q2", "e3m0-fixed16q4-saturate", "int4-fixed12q0-saturate")
UNITS = [
    pytest.param(name, marks=pytest.mark.sweep if name in MACS else pytest.mark.slow)
    for name in sorted(path.stem for path in golden_dir().glob("*.toml"))
]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("unit", UNITS)
def test_every_mistake_in_a_published_unit_is_found(
    unit: str, mapping: str, tmp_path: Path
) -> None:
    spec = fpsim.get_unit(unit).spec
    if spec.random_bits:
        pytest.skip("no port carries random bits")
    assert judged(spec, design(spec, mapping), tmp_path).unfound == ()


#: Presets that differ in more than their name, and units whose stages hide mistakes.
SILICON = list({spec: name for name, spec in presets().items()}.values())
COMPOSED = [
    "e2m1-tree8-e8m7",
    "e2m1-tree8-e8m7-radix4",
    "e2m1-tree16-e5m10-lanes4",
    "e4m3fn-aligned4f25-e8m23-late",
    "e2m1-chunked4-of-chain-e5m10-into-chain-e8m23",
    "e2m1-chunked8-of-fixed16q2-into-chain-e8m23",
    "e4m3fn-chunked8-of-exact-e8m7-into-chain-e8m23",
    "e2m1-block16-into-tree4-e8m23",
    "e2m1-block16-into-chunked4-of-chain-e5m10-into-chain-e8m23",
    "e8m23-chain-e8m23",
    "int32-fixed64q0",
]


#: Multiply-accumulate units, dot products, tensor cores and scaled blocks as designers build them.
TYPICAL = [
    "e2m1-chain-e5m10", "e2m1-chain-e8m7", "e2m1-chain-e8m23", "e2m1-chain-e5m2", "e3m2-chain-e5m2",
    "e2m3-chain-e5m10", "e4m3fn-chain-e5m10", "e4m3fn-chain-e8m23", "e5m2-chain-e5m10",
    "e5m2-chain-e8m23", "e1m2-chain-e8m7", "e3m0-chain-e5m10", "e2m1-chain-e5m10-rtz",
    "e2m1-chain-e5m10-rup", "e2m1-chain-e5m10-rdn", "e2m1-chain-e5m10-rna", "e2m1-chain-e5m10-rto",
    "e5m10-chain-e8m23", "e8m7-chain-e8m23", "e2m1-fixed14q2", "e2m1-fixed24q2",
    "e2m1-fixed16q2-saturate", "int8-fixed32q0", "int8-fixed24q0-saturate", "e4m3fn-fixed40q18",
    "e2m1xe4m3fn-chain-e8m23", "int4xe4m3fn-chain-e8m23", "e2m1xint4-fixed16q1",
    "e2m1-exact-e5m10", "e4m3fn-exact-e8m23", "e5m2-exact-e5m10", "e4m3fn-tree4-e8m23",
    "e4m3fn-tree8-e5m10-leaf", "e5m10-tree4-e8m23-fused", "e8m7-tree4-e8m23",
    "e4m3fn-aligned4f25-e8m23", "e4m3fn-aligned8f13-e8m13", "e5m2-aligned8f13-e5m10",
    "e5m10-aligned4f24-e8m23", "mxfp4-block32-e8m23", "e2m1-block32-into-chain-e8m7",
    "e2m1-block32-into-exact-e8m23", "e4m3fn-block32-into-chain-e8m23",
    "e2m1.ue4m3fn-block16-into-chain-e8m23", "e2m1.ue4m3fn-block16-into-aligned4f20-e8m23",
]  # fmt: skip
TOLD = ("loads", "clears", "clears beside operands", "first product clears", "addend", "no addend")
#: What shows only in sums of many vectors that are computed one after another, or in none found.
LEFT: dict[tuple[str, str], set[str]] = {
    ("e2m1-tree8-e8m7", "no addend"): {"rounding: sticky is one bit", "rounding: rounded twice"},
    ("e2m1-tree8-e8m7-radix4", "no addend"): {
        "rounding: sticky is one bit",
        "rounding: rounded twice",
    },
    ("e2m1-tree16-e5m10-lanes4", "no addend"): {"one after the other"},
    ("e2m1-chunked4-of-chain-e5m10-into-chain-e8m23", "clears"): {
        "outer: rounding rtz",
        "rounding: rounded twice",
        "outer: rounded once at the end",
        "rounding: guard ignored",
        "outer: two lanes",
        "outer: added in a tree",
        "outer: rounding rto",
        "chunks of 2",
        "outer: rounding rna",
        "chunks of 5",
        "rounding: ties up",
        "inner: rounding rdn",
        "rounding: sticky dropped",
        "order reversed",
        "rounding: sticky is one bit",
        "rounding: ties down",
        "chunks of 8",
        "chunks of 3",
        "outer: rounding rup",
    },
    ("e2m1-chunked8-of-fixed16q2-into-chain-e8m23", "clears"): {
        "rounding: ties up",
        "outer: added in a tree",
        "outer: rounding rto",
        "outer: rounding rtz",
        "rounding: rounded twice",
        "outer: rounded once at the end",
        "outer: rounding rna",
        "chunks of 4",
        "rounding: sticky is one bit",
        "rounding: guard ignored",
        "chunks of 7",
        "rounding: sticky dropped",
        "outer: rounding rup",
        "rounding: ties down",
        "chunks of 9",
        "outer: two lanes",
        "order reversed",
        "chunks of 16",
    },
    ("e4m3fn-chunked8-of-exact-e8m7-into-chain-e8m23", "no addend"): {
        "outer: added in a tree",
        "outer: rounded once at the end",
        "outer: rounding rna",
        "outer: two lanes",
        "order reversed",
    },
    ("e2m1-block16-into-chunked4-of-chain-e5m10-into-chain-e8m23", "no addend"): {
        "into.outer: two lanes",
        "into.outer: rounding rtz",
        "into.outer: rounding rna",
        "into.outer: rounding rto",
        "into.outer: added in a tree",
        "into.outer: rounding rup",
        "into.outer: rounded once at the end",
    },
    ("amd-cdna3-xf32", "no addend"): {"rounding: sticky is one bit", "rounding: rounded twice"},
}


@pytest.mark.one_in(199, sweep=7)
@pytest.mark.parametrize("mapping", TOLD)
@pytest.mark.parametrize("unit", [*SILICON, *COMPOSED, *TYPICAL])
def test_every_mistake_is_found_or_proved_however_a_sum_is_told(
    unit: str, mapping: str, tmp_path: Path
) -> None:
    spec = fpsim.get_unit(unit).spec
    told = "clears" if mapping in TOLD[1:4] else mapping
    found = judged(spec, design(spec, mapping), tmp_path, count=512)
    assert set(found.unfound) == LEFT.get((unit, told), set())


@pytest.mark.one_in(3)
@pytest.mark.parametrize("k", [8, 32, 4])
def test_a_sum_that_cannot_overflow_needs_no_waiver(k: int, tmp_path: Path) -> None:
    """Rounded sums of 32 products grow beyond the bound on exact ones, but not out of range."""
    spec = fpsim.get_unit("e3m2-chain-e5m2").spec
    dut = Dut(**{**vars(design(spec, "no addend")), "k": k})
    assert judged(spec, dut, tmp_path, count=50).unfound == ()


def test_what_is_not_found_is_named_and_can_be_waived(tmp_path: Path) -> None:
    spec = fpsim.get_unit("e2m1-fixed40q2").spec
    dut = design(spec, "clears")  # a sum cannot grow to the ends of forty bits
    found = judged(spec, dut, tmp_path, count=50)
    assert found.unfound == found.missing == ("overflow saturate",)
    assert "a design with one of them would pass: 'overflow saturate'" in str(found)
    waived = judged(
        spec, Dut(**{**vars(dut), "waive": ("Overflow: saturate",)}), tmp_path, count=50
    )
    assert waived.missing == () and waived.waived == ("overflow saturate",)
    assert "waived: 'overflow saturate'" in str(waived)


def test_what_was_learned_is_kept_while_the_vectors_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = fpsim.get_unit("e2m1-fixed40q2").spec
    first = judged(spec, design(spec, "clears"), tmp_path, count=50)
    monkeypatch.setattr("fpsim.hdl.verify.adequacy.survivors", lambda *_: [])
    assert judged(spec, design(spec, "clears"), tmp_path, count=50) == first
    assert judged(spec, design(spec, "clears"), tmp_path, count=51).unfound == ()


def test_a_waiver_that_names_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mac.sv").write_text("")
    toml = tmp_path / "dut.toml"
    toml.write_text(
        'top = "mac"\nsources = ["mac.sv"]\nwaive = ["overflow saturat"]\n[clock]\nport = "clk"\n'
        '[[input.beats]]\nelements = 1\na = "a"\nb = "b"\n[output]\nacc = "y"\nlatency = 1\n'
    )
    dut, spec = read_dut(toml), fpsim.get_unit("e2m1-fixed24q2").spec
    with pytest.raises(
        FpsimError, match="waive: 'overflow saturat' is no mistake of .*'overflow s"
    ):
        check_waivers(dut, made_for(dut, spec, count=5))
    toml.write_text(toml.read_text().replace('["overflow saturat"]', "3"))
    with pytest.raises(FpsimError, match="waive: 3 is not a list of strings"):
        read_dut(toml)


def test_cases_without_an_addend_are_told_once() -> None:
    spec = fpsim.get_unit("e2m1-chain-e5m10").spec
    dut = Dut(**{**vars(design(spec, "no addend")), "k": 1})
    assert made_for(dut, spec, "exhaustive").count == 256
