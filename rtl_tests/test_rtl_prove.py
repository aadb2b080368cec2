# SPDX-License-Identifier: Apache-2.0
"""Designs proved equal to a unit for all inputs; wrong ones refuted, simulated and explained."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from faults.faults import FAULTS, inject
from rtl_support import HAS_YOSYS, HERE

import fpsim
from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.prove import prove as proving
from fpsim.hdl.prove.cases import decide
from fpsim.hdl.prove.formula import StepFormula, grid_checks
from fpsim.hdl.prove.netlist import parse_btor
from fpsim.hdl.prove.path_to import path_to
from fpsim.hdl.prove.prove import NOT_DECIDED, PROVED, REFUTED
from fpsim.hdl.prove.report import Judged, ProofTask, prove_reference, prove_your_design
from fpsim.hdl.prove.steps import Deadline
from fpsim.hdl.prove.words import Algebra, Word
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.record import Op, Record

pytest.importorskip("bitwuzla", reason="bitwuzla is not installed; pip install 'fpsim[prove]'")
#: Yosys compiles itself for a minute when it first runs.
pytestmark = [HAS_YOSYS, pytest.mark.sweep]

PROVED_DESIGNS = HERE / "designs" / "proved"
EXAMPLE = HERE.parent / "examples" / "own-mac"
FP4_MAC = "e2m1-fixed20q2"


def spec_of(name: str | Path) -> MacSpec:
    return fpsim.get_unit(str(name)).spec


def changed(file: Path, directory: Path, *edits: tuple[str, str], define: str = "") -> Path:
    """Return a copy of a design's TOML with changes; its sources stay where they are."""
    text = file.read_text()
    source = text.partition('sources = ["')[2].partition('"')[0]
    text = text.replace(f'"{source}"', f'"{file.parent / source}"')
    if define:
        text = text.replace("sources =", f"defines = {{ {define} = 1 }}\nsources =")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    out = directory / "dut.toml"
    out.write_text(text)
    return out


def judged(unit: str | Path, file: Path, build: Path, **task: Any) -> Judged:
    given = {"timeout": 60.0, "simulator": "icarus"} | task
    return prove_your_design(spec_of(unit), file, ProofTask(**given, build=build))


# -- words and netlists ----------------------------------------------------------------------------

OPERATIONS = {
    "add": 2, "sub": 2, "mul": 2, "udiv": 2, "urem": 2, "sdiv": 2, "srem": 2, "and": 2, "or": 2,
    "xor": 2, "nand": 2, "nor": 2, "xnor": 2, "sll": 2, "srl": 2, "sra": 2, "eq": 2, "neq": 2,
    "ult": 2, "ulte": 2, "ugt": 2, "ugte": 2, "slt": 2, "slte": 2, "sgt": 2, "sgte": 2, "not": 1,
    "neg": 1, "inc": 1, "dec": 1, "redor": 1, "redand": 1, "redxor": 1, "concat": 2,
}  # fmt: skip


@pytest.mark.parametrize("op", OPERATIONS)
def test_numbers_and_terms_give_one_result(op: str) -> None:
    """What is computed on numbers is what the solver makes of terms that can be nothing else."""
    algebra, random = Algebra(), Random(op)
    edges = (0, 1, 7, 8, 15)
    chosen = [
        *product(edges, edges),
        *((random.randrange(16), random.randrange(16)) for _ in range(9)),
    ]
    for values in chosen:
        numbers = [Word(4, value) for value in values[: OPERATIONS[op]]]
        terms = [algebra.free(4, "x") for _ in numbers]
        pinned = [algebra.same(x, n) for x, n in zip(terms, numbers, strict=True)]
        found = algebra.apply(op, terms)
        verdict = algebra.solve(pinned, 10)
        assert verdict.holds and verdict.model is not None
        assert verdict.model(found) == algebra.apply(op, numbers).value, values


def test_words_are_cut_widened_and_chosen() -> None:
    algebra = Algebra()
    x, bit = algebra.free(8, "x"), algebra.free(1, "bit")
    made = algebra.joined([algebra.part(x, 7, 4), algebra.widened(algebra.part(x, 3, 0), 6, True)])
    made = algebra.chosen(bit, made, algebra.widened(x, 10))
    for value, on in product((0x00, 0x9A, 0xF7), (0, 1)):
        number = Word(8, value)
        low = value & 15
        wanted = (value >> 4) << 6 | (low | 0x30 if low & 8 else low) if on else value
        pinned = [algebra.same(x, number), algebra.same(bit, Word(1, on))]
        model = algebra.solve(pinned, 10).model
        assert model is not None and model(made) == wanted
    assert algebra.inside(Word(8, 5), [(0, 4), (6, 7)]).value == 0
    assert algebra.inside(Word(8, 6), [(0, 4), (6, 7)]).value == 1


def test_a_netlist_counts() -> None:
    text = """1 sort bitvec 4
2 sort bitvec 1
3 input 2 up
4 state 1 count
5 one 1
6 add 1 4 5
7 ite 1 3 6 4 u.next
8 next 1 4 7
9 slice 2 7 3 3
10 output 9 full
"""
    netlist, algebra = parse_btor(text), Algebra()
    state = {4: Word(4, 6)}
    seen = []
    for up in (1, 0, 1):
        outputs, state = netlist.step(algebra, state, {"up": Word(1, up)})
        seen.append((outputs["full"].value, state[4].value))
    assert seen == [(0, 7), (0, 7), (1, 8)]
    assert netlist.names == {4: "count"}


# -- the formula and the oracle --------------------------------------------------------------------


def _formula_of(name: str) -> tuple[MacSpec, StepFormula]:
    spec = spec_of(name)
    return spec, StepFormula(spec, Algebra())


def _agree(spec: MacSpec, formula: StepFormula, a: int, b: int, c: int) -> None:
    codes = Word(spec.a.bits, a), Word(spec.b.bits, b), Word(spec.result.bits, c)
    found, chosen = formula.step(*codes)
    assert found.value == int(oracle.dot(spec, [a], [b], c)), (a, b, c)
    assert chosen == []


@pytest.mark.parametrize("name", ["e2m1-chain-e3m2", "e2m1-fixed6q2-saturate", "e2m1-fixed6q0-rup"])
def test_the_formula_is_the_oracle_for_every_sum_of_narrow_units(name: str) -> None:
    spec, formula = _formula_of(name)
    pairs = [(1, 7), (7, 7), (15, 7), (9, 1), (0, 8), (3, 13), (2, 2)]
    for (a, b), c in product(pairs, range(1 << spec.result.bits)):
        _agree(spec, formula, a, b, c)


@pytest.mark.parametrize(
    "name",
    ["e2m1-chain-e5m10", "e2m1-chain-e4m3fn", "e2m1-chain-e8m23", "e3m0-chain-e4m3-rdn",
     "e2m1-chain-e5m2-rto-saturate", "e2m1-fixed24q2"],
)  # fmt: skip
def test_the_formula_is_the_oracle_for_random_codes(name: str) -> None:
    spec, formula = _formula_of(name)
    random, ends = Random(name), (0, 1, (1 << spec.result.bits - 1) - 1, 1 << spec.result.bits - 1)
    for i in range(150):
        c = ends[i % 4] if i < 40 else random.randrange(1 << spec.result.bits)
        _agree(
            spec, formula, random.randrange(1 << spec.a.bits), random.randrange(1 << spec.b.bits), c
        )


def test_decoding_is_compared_code_by_code() -> None:
    spec = spec_of("e2m1-chain-e4m3fn")
    assert [agrees for _, agrees in grid_checks(spec, Algebra())] == [True, True]
    assert "127 codes" in next(grid_checks(spec, Algebra()))[0]


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("nvidia-h100-e4m3", "operands: 8 and 8 bits"),
        ("mxfp4-block32-e8m23", "accumulate.kind: 'block'"),
        ("e2m1-fixed8q2-saturate-end", "accumulate.kind: 'fixed'"),
        ("e2m1-chain-e5m10-sr8", "accumulate.rounding: 'sr'"),
    ],
)
def test_units_without_a_formula_are_refused(unit: str, said: str) -> None:
    with pytest.raises(FpsimError, match=said):
        StepFormula(spec_of(unit), Algebra())


# -- designs ---------------------------------------------------------------------------------------


def test_the_example_is_proved(tmp_path: Path) -> None:
    found = judged(EXAMPLE / "mac.toml", EXAMPLE / "dut.toml", tmp_path)
    assert found.outcome == PROVED and found.replay is None, str(found)
    assert {claim.operation for claim in found.proof.claims} == {"idle", "clear", "mac"}
    assert not (tmp_path / "out").exists()


def test_a_multiplier_without_a_clock_is_proved_but_for_signs_of_zeros(tmp_path: Path) -> None:
    file = PROVED_DESIGNS / "multiplier.toml"
    found = judged("e2m1-chain-e4m3fn", file, tmp_path)
    assert found.outcome == PROVED and "signs of zeros apart" in str(found)


def test_signs_of_zeros_count_unless_told(icarus: Simulator, tmp_path: Path) -> None:
    file = PROVED_DESIGNS / "multiplier.toml"
    exact = changed(file, tmp_path, ('zero = "any"', 'zero = "exact"'))
    found = judged("e2m1-chain-e4m3fn", exact, tmp_path / "out")
    assert found.outcome == REFUTED and found.replay is not None
    assert found.proof.wrong is not None and found.proof.wrong.expected == 0
    assert found.replay.confirmed and "as if: rounding rdn" in str(found)


def test_a_wrong_multiplier_is_refuted_and_simulated(icarus: Simulator, tmp_path: Path) -> None:
    file = changed(PROVED_DESIGNS / "multiplier.toml", tmp_path, define="BUG_CARRY")
    found = judged("e2m1-chain-e4m3fn", file, tmp_path / "out")
    assert found.outcome == REFUTED and found.replay is not None and found.replay.confirmed
    wrong = found.proof.wrong
    assert wrong is not None
    a, b = wrong.codes["a"][0], wrong.codes["b"][0]
    assert wrong.expected == int(oracle.dot(spec_of("e2m1-chain-e4m3fn"), [a], [b], 0))
    assert "wrong there too" in str(found)
    directory = found.replay.directory
    assert directory is not None and (directory / "vectors.hex").is_file()


def test_a_domain_leaves_out_what_is_wrong(tmp_path: Path) -> None:
    file = changed(PROVED_DESIGNS / "multiplier.toml", tmp_path, define="BUG_CARRY")
    # The carry is lost where both significands are 1.5.
    file.write_text(file.read_text() + "\n[domain]\na = [0, 2]\n")
    found = judged("e2m1-chain-e4m3fn", file, tmp_path / "out")
    assert found.outcome == PROVED and "a 0 to 2" in str(found)


@pytest.mark.parametrize(
    "bug",
    ["BUG_TIES", *(pytest.param(b, marks=pytest.mark.sweep) for b in ("BUG_STICKY", "BUG_NAN"))],
)
def test_a_wrong_step_names_the_mistake(bug: str, icarus: Simulator, tmp_path: Path) -> None:
    file = changed(PROVED_DESIGNS / "e5m10_step.toml", tmp_path, define=bug)
    found = judged("e2m1-chain-e5m10", file, tmp_path / "out")
    assert found.outcome == REFUTED, str(found)
    said = {"BUG_STICKY": "sticky is one bit (explains", "BUG_TIES": "ties up (explains",
            "BUG_NAN": "the output stays at"}  # fmt: skip
    assert said[bug] in str(found)
    wrong = found.proof.wrong
    assert wrong is not None and wrong.before is not None
    a, b = wrong.codes["a"][0], wrong.codes["b"][0]
    assert wrong.expected == int(oracle.dot(spec_of("e2m1-chain-e5m10"), [a], [b], wrong.before))


def test_a_fault_that_earlier_vectors_set_up_is_reached(icarus: Simulator, tmp_path: Path) -> None:
    file = changed(PROVED_DESIGNS / "fp4_mac.toml", tmp_path, define="BUG_HIDDEN")
    found = judged(FP4_MAC, file, tmp_path / "out")
    assert found.outcome == REFUTED and found.replay is not None, str(found)
    assert found.replay.confirmed and "after 2 vectors" in found.replay.told


def test_what_no_vector_reaches_decides_nothing(icarus: Simulator, tmp_path: Path) -> None:
    """A register that nothing ever sets: the solver begins with it set."""
    source = tmp_path / "odd.v"
    source.write_text(
        "module odd(input clk, input [3:0] a, b, output [7:0] y);\n"
        "  reg set; reg [7:0] q;\n  initial set = 0;\n"
        "  wire [7:0] s = {{4{a[3]}}, a} * {{4{b[3]}}, b};\n"
        "  always @(posedge clk) begin set <= set & (a != 5); q <= s ^ {7'd0, set}; end\n"
        "  assign y = q;\nendmodule\n"
    )
    file = tmp_path / "dut.toml"
    file.write_text(
        f'top = "odd"\nk = 1\nsources = ["{source}"]\n[clock]\nport = "clk"\n'
        '[[input.beats]]\nelements = 1\na = "a"\nb = "b"\n[output]\nacc = "y"\nlatency = 1\n'
    )
    found = judged("int4-fixed8q0", file, tmp_path / "out", timeout=20.0)
    assert found.proof.outcome == REFUTED and found.outcome == NOT_DECIDED
    assert "were not reached" in str(found)


@pytest.mark.sweep
def test_no_time_is_no_proof_and_says_what_is_left(tmp_path: Path) -> None:
    file = HERE / "designs" / "serial_mx.toml"
    found = judged("mxfp4-block32-e8m23", file, tmp_path, timeout=12.0)
    assert found.outcome == NOT_DECIDED
    (claim,) = found.proof.claims
    assert claim.cases and not all(case.proved for case in claim.cases)
    assert "cases, left: element 0" in str(found)


def test_cases_add_up_to_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a question that is answered in parts alone, every part counts."""
    algebra = Algebra()
    x, y = algebra.free(4, "x"), algebra.free(4, "y")
    solve = algebra.solve

    def slow(assumptions: Any, seconds: float) -> Any:
        found = solve(assumptions, 10)
        return found if len(assumptions) > 1 else replace(found, holds=None)

    monkeypatch.setattr(algebra, "solve", slow)
    odd = algebra.apply("mul", [algebra.apply("sll", [x, Word(4, 1)]), y])
    wrong = [algebra.part(odd, 0, 0)]
    found = decide(algebra, wrong, {}, [x], Deadline(60))
    assert found.verdict.holds is False and len(found.cases) == 16
    found = decide(algebra, [algebra.same(x, Word(4, 9))], {}, [x], Deadline(60))
    assert found.verdict.holds and found.cases[-1].name == "element 0 0x8"
    watched = {"u.u_align_add.distance": x, "u.u_round_pack.guard": algebra.part(y, 0, 0),
               "u.u_round_pack.sticky": algebra.part(y, 1, 1)}  # fmt: skip
    found = decide(algebra, wrong, watched, [], Deadline(60))
    assert found.verdict.holds is False
    assert found.cases[3].name == "exponents 3 apart"


# -- bad input -------------------------------------------------------------------------------------

LATCH = (
    "module d(input clk, input [3:0] a, b, output reg [7:0] y);\n"
    "always @* if (clk) y = a * b; endmodule"
)
GATED = (
    "module d(input clk, input [3:0] a, b, output reg [7:0] y); reg half; initial half = 0;\n"
    "always @(posedge clk) half <= ~half; always @(posedge half) y <= a * b; endmodule"
)
EDGES = (
    "module d(input clk, input [3:0] a, b, output reg [7:0] y); reg [7:0] q;\n"
    "always @(negedge clk) q <= a * b; always @(posedge clk) y <= q; endmodule"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LATCH, "d has latches; allowed: registers"),
        (GATED, "gated, divided and several clocks are for fpsim verify"),
        (EDGES, "d work on the falling edge of clk and"),
        ("module d(input clk, input [3:0] a, b, output [7:0] y); assign y = no(a); endmodule",
         "prove: d: source0/d.sv:1: ERROR: use of undeclared"),
    ],
    ids=["latch", "gated", "edges", "refused"],
)  # fmt: skip
def test_designs_that_a_step_does_not_describe(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "d.sv").write_text(text)
    file = tmp_path / "dut.toml"
    file.write_text(
        'top = "d"\nsources = ["d.sv"]\nk = 1\n[clock]\nport = "clk"\n'
        '[[input.beats]]\nelements = 1\na = "a"\nb = "b"\n[output]\nacc = "y"\nlatency = 1\n'
    )
    with pytest.raises(FpsimError, match=said):
        judged("int4-fixed8q0", file, tmp_path / "out")


@pytest.mark.parametrize(
    ("unit", "dut", "edits", "said"),
    [
        ("e2m1-fixed16q2", "vhdl_mac.toml", (), "sources: VHDL"),
        (FP4_MAC, "proved/fp4_mac.toml", (("latency = 2", 'latency = "find"'),), "output.latency"),
        ("e2m1-chain-e5m10-sr8", "proved/e5m10_step.toml", (), "accumulate.rounding"),
    ],
)
def test_what_a_proof_cannot_take(
    unit: str, dut: str, edits: Any, said: str, tmp_path: Path
) -> None:
    file = changed(HERE / "designs" / dut, tmp_path, *edits)
    with pytest.raises(FpsimError, match=f"^{said}"):
        judged(unit, file, tmp_path / "out")


def test_the_command_says_how_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [str(EXAMPLE / "mac.toml"), "--dut", str(EXAMPLE / "dut.toml")]
    assert main(["prove", *own]) == 0
    assert "own-mac: mac, proved" in capsys.readouterr().out
    assert main(["prove", "e2m1-chain-e4m3fn", "--timeout", "0"]) == 2
    assert capsys.readouterr().err == "fpsim: timeout: 0.0 is not seconds in 1..1000000\n"
    wrong = changed(PROVED_DESIGNS / "multiplier.toml", tmp_path, define="BUG_CARRY")
    monkeypatch.setattr("fpsim.hdl.prove.report.available", list)
    assert main(["prove", "e2m1-chain-e4m3fn", "--dut", str(wrong)]) == 1
    assert "not simulated: no simulator is installed" in capsys.readouterr().out
    monkeypatch.setattr("fpsim.hdl.prove.prove.decide", lambda *_: _undecided())
    assert main(["prove", "e2m1-chain-e4m3fn", "--dut", str(wrong), "--json"]) == 3
    assert '"outcome": "not decided"' in capsys.readouterr().out


def _undecided() -> Any:
    from fpsim.hdl.prove.cases import Decision
    from fpsim.hdl.prove.words import Verdict

    return Decision(Verdict(None))


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "codes"),
    [("e2m1-chain-e4m3fn", (0x01, 0x38, 0xC4)), ("e2m1-fixed24q2", (5, 0x7FFFFF - 3, 0x800000))],
)
def test_paths_lead_to_their_code(unit: str, codes: tuple[int, ...]) -> None:
    record = Record(spec_of(unit), 1)
    for code in codes:
        path = path_to(record, code)
        if path is None:
            assert unit == "e2m1-chain-e4m3fn" and code == 0x01  # no product is as small
            continue
        begin = {name: column[:1] * 0 for name, column in path.items()}
        begin["op"] = begin["op"] + Op.CLEAR
        told = {n: fpsim.vectors.sets.record.np.concatenate([begin[n], path[n]]) for n in path}
        assert int(record.expected(told)[-1]) == code


# -- what takes minutes ----------------------------------------------------------------------------


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("unit", "dut"),
    [(FP4_MAC, "fp4_mac"), ("e2m1-chain-e4m3fn", "multiplier"), ("e2m1-chain-e5m10", "e5m10_step")],
)
def test_the_three_designs_are_proved(unit: str, dut: str, tmp_path: Path) -> None:
    found = judged(unit, PROVED_DESIGNS / f"{dut}.toml", tmp_path, timeout=600.0)
    assert found.outcome == PROVED, str(found)


@pytest.mark.sweep
def test_a_change_that_changes_nothing_is_proved_so(tmp_path: Path) -> None:
    """The carry into the exponent makes infinity by itself."""
    file = changed(PROVED_DESIGNS / "e5m10_step.toml", tmp_path, define="SAME_WITHOUT")
    assert judged("e2m1-chain-e5m10", file, tmp_path, timeout=600.0).outcome == PROVED


@pytest.mark.parametrize(
    "unit",
    [
        "e2m1-fixed24q2",
        *(pytest.param(f"e2m1-chain-{f}", marks=pytest.mark.sweep) for f in ("e5m10", "e4m3fn")),
    ],
)
def test_the_reference_step_is_proved(unit: str) -> None:
    found = prove_reference(spec_of(unit), ProofTask(600.0))
    assert found.outcome == PROVED, str(found)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("fpsim_pkg.sv", "ties round up"),
        ("fp_decode.sv", "subnormals are zero"),
        ("fp_multiply.sv", "a product loses its last bit"),
        pytest.param("fp_round_pack.sv", "overflow wraps", marks=pytest.mark.sweep),
    ],
)
def test_a_faulty_reference_step_is_refuted(
    file: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fault,) = (f for f in FAULTS if (f.file, f.name) == (file, name))

    def faulty(spec: MacSpec, **options: Any) -> RtlTop:
        top = rtl_top(spec, **options)
        return replace(top, sources=inject(fault, top.sources, tmp_path))

    monkeypatch.setattr(proving, "rtl_top", faulty)
    found = proving.prove_step(spec_of("e2m1-chain-e4m3fn"), 300.0)
    assert found.outcome == REFUTED, str(found)
    wrong = found.wrong
    assert wrong is not None and wrong.before is not None
    a, b = wrong.codes["a"][0], wrong.codes["b"][0]
    assert wrong.expected == int(oracle.dot(spec_of("e2m1-chain-e4m3fn"), [a], [b], wrong.before))
    assert wrong.seen != wrong.expected
