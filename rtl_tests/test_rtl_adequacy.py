# SPDX-License-Identifier: Apache-2.0
"""Reference RTL of a wrong unit never passes, however it is mapped; a pass says what it found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rtl_support import HERE

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.resources import golden_dir
from fpsim.cli import main
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut import Beats, Dut
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.verify import Plan, verify_design
from fpsim.units.spec import MacSpec
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.sets.record import Record

#: Operations that a mapping keeps of the reference top's, and whether it keeps the addend.
MAPPINGS = {
    "loads": (("idle", "clear", "mac", "load"), True),
    "clears": (("clear", "mac"), False),
    "resets": (("mac",), False),
    "first product clears": (("dot", "mac"), False),
    "addend": (("dot",), True),
    "no addend": (("dot",), False),
}


def mapped(dut: Dut, mapping: str) -> Dut:
    """Return the reference RTL as a design that has some of its operations and ports."""
    kept, addend = MAPPINGS[mapping]
    (beats,) = dut.input.beats
    fields = {n: w for n, w in beats.fields.items() if addend or n != "c"}
    ops = {name: dut.ops[name] for name in kept if name in dut.ops}
    ops |= {"next": dut.ops["mac"]}
    if mapping == "resets":
        ops["clear"] = "reset"
    tie = dict(dut.input.tie) | ({} if addend else {"c_i": 0})
    return replace(
        dut, ops=ops, input=replace(dut.input, beats=(Beats(fields, beats.elements),), tie=tie)
    )


def wired(spec: MacSpec, mapping: str) -> Dut:
    return mapped(reference_dut(spec, rtl_top(spec, stream=True)), mapping)


def mutant(spec: MacSpec, name: str) -> MacSpec:
    found = next(m.spec for m in mutants_of(Record.of(spec)) if m.name == name)
    assert found is not None
    return found


def finds(unit: str, wrong: MacSpec, mapping: str, tool: Simulator, directory: Path) -> bool:
    made = fpsim.get_unit(unit)
    plan = Plan(count=1, bench="native", explain=False)
    report = verify_design(made, wired(wrong, mapping), tool.name, directory, plan, None)
    return not report.passed and report.result.mismatch_count > 0


def test_more_vectors_do_not_hide_a_saturating_accumulator(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chain that saturates, with clear and mac alone, passed from 65537 vectors on."""
    spec = fpsim.get_unit("e2m1-chain-e5m10").spec
    top = reference_dut(mutant(spec, "overflow saturate"))
    (beats,) = top.input.beats
    fields = {n: w for n, w in beats.fields.items() if n in ("op", "a", "b")}
    dut = replace(
        top, ops={"clear": 1, "mac": 2},
        input=replace(top.input, beats=(Beats(fields, 1),), tie={"c_i": 0, "exp_i": 0}),
    )  # fmt: skip
    plan = Plan(count=1, bench="native", explain=False)
    report = verify_design(fpsim.get_unit(spec.name), dut, icarus.name, tmp_path, plan, None)
    assert report.result.mismatch_count > 20 and not report.passed


ONE_END = """
top = "one_end"
sources = ["{source}"]
parameters = {{ LOW_END = {wrong} }}
[clock]
port = "clk"
[[input.beats]]
elements = 1
a = "a"
b = "b"
[ops]
dot = {{ first = 1 }}
mac = {{}}
[output]
acc = "acc"
latency = 1
"""


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_register_that_saturates_at_one_end(
    wrong: int, icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "dut.toml"
    toml.write_text(ONE_END.format(source=HERE / "designs" / "one_end.sv", wrong=wrong))
    arguments = ["verify", "e2m1-fixed14q2", "--dut", str(toml), "--simulator", "icarus",
                 "--bench", "native", "--build", str(tmp_path), "--count", "1"]  # fmt: skip
    assert main(arguments) == wrong
    said = capsys.readouterr().out
    if wrong:
        assert "as if: overflow saturates at the negative end" in said
    else:
        assert "mistakes that these vectors would find" in said and "would pass" not in said


def test_a_design_whose_vectors_show_nothing_does_not_pass(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, toml = tmp_path / "vectors", tmp_path / "dut.toml"
    toml.write_text(ONE_END.format(source=HERE / "designs" / "one_end.sv", wrong=0))
    assert main(["vectors", "e2m1-fixed14q2", "--start", "clear", "--strategy", "random",
                 "--count", "40", "--out", str(out)]) == 0  # fmt: skip
    run = ["verify", "e2m1-fixed14q2", "--dut", str(toml), "--vectors", str(out), "--simulator",
           "icarus", "--bench", "native", "--build", str(tmp_path)]  # fmt: skip
    assert main(run) == 1
    assert "a design with one of them would pass: 'overflow saturate'" in capsys.readouterr().out
    junit = tmp_path / "result.xml"
    toml.write_text(
        'waive = ["overflow: saturate", "rounding: ties sideways"]\n' + toml.read_text()
    )
    assert main([*run, "--junit", str(junit)]) == 2
    assert "'rounding: ties sideways' is no mistake of e2m1-fixed14q2" in capsys.readouterr().err
    toml.write_text(toml.read_text().replace(', "rounding: ties sideways"', ""))
    main([*run, "--junit", str(junit)])
    assert "waived: 'overflow saturate'" in capsys.readouterr().out
    assert "waived: 'overflow saturate'" in junit.read_text()


#: Published units, one mistake each, mapped in all ways.
WRONG = [
    ("e2m1-chain-e5m10", "rounding rtz", "clears"),
    ("e2m1-chain-e5m10", "overflow nan", "first product clears"),
    ("e2m1-chain-e5m10", "rounding rna", "loads"),
    ("e1m2-chain-e8m7", "b: subnormals read as zero", "no addend"),
    ("e1m2-chain-e8m7", "rounding rup", "resets"),
    ("e2m1-fixed24q2", "overflow saturate", "resets"),
    ("e2m1-fixed24q2", "overflow saturate", "clears"),
    ("e3m0-fixed16q4-saturate", "overflow wrap", "first product clears"),
    ("e3m0-fixed16q4-saturate", "a: bias one larger", "addend"),
    ("int4-fixed12q0-saturate", "overflow wrap", "clears"),
    ("fp4xfp8-tree8-e8m7", "rounding rtz", "addend"),
    # Its sums grow until float32 rounds: millions of products, minutes in Icarus.
    pytest.param(
        "mxfp4-block32-e8m23", "into: rounding rtz", "first product clears", marks=pytest.mark.slow
    ),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("unit", "mistake", "mapping"), WRONG)
def test_a_wrong_unit_is_found(
    unit: str, mistake: str, mapping: str, icarus: Simulator, tmp_path: Path
) -> None:
    wrong = mutant(fpsim.get_unit(unit).spec, mistake)
    assert finds(unit, wrong, mapping, icarus, tmp_path)


def every_wrong_unit() -> list[tuple[str, str, str]]:
    """Return published units with every mistake that their RTL can have, mapped in turn."""
    found = []
    for path in sorted(golden_dir().glob("*.toml")):
        spec = MacSpec.from_toml(path)
        for made in mutants_of(Record.of(spec)):
            try:
                rtl_top(spec, stream=True)
                rtl_top(made.spec or spec, stream=True)
            except (FpsimError, AssertionError):
                continue
            if made.spec is not None and not equivalent(Record.of(spec), made):
                mapping = list(MAPPINGS)[len(found) % len(MAPPINGS)]
                found.append((path.stem, made.name, mapping))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("share", range(10))
def test_every_wrong_unit_is_found_or_excused(
    share: int, icarus: Simulator, tmp_path: Path
) -> None:
    """A mistake that shows nowhere with a mapping matches, and then its proof says why."""
    missed = []
    for i, (unit, mistake, mapping) in enumerate(every_wrong_unit()[share::10]):
        wrong = mutant(fpsim.get_unit(unit).spec, mistake)
        dut, made = wired(wrong, mapping), fpsim.get_unit(unit)
        plan = Plan(count=1, bench="native", explain=False)
        report = verify_design(made, dut, icarus.name, tmp_path / str(i), plan, None)
        if report.result.passed and (report.adequacy is None or report.adequacy.excused == 0):
            missed.append((unit, mistake, mapping))
    assert missed == []


def test_the_mappings_are_designs() -> None:
    dut = wired(fpsim.get_unit("e2m1-chain-e5m10").spec, "first product clears")
    assert dut.known_ops == {"dot", "mac"} and not dut.carries("c")
    assert isinstance(read_dut(HERE / "examples" / "dot4" / "dut.toml"), Dut)
