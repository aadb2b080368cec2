# SPDX-License-Identifier: Apache-2.0
"""What TOML says of a design beyond its ports: values, lists of files, tables, domain, comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.dut.hdl_values import sv_text
from fpsim.hdl.verify.vector_source import made_for, with_told_codes
from fpsim.vectors.plans.planner import plan
from fpsim.vectors.sets.record import Op

HEAD = 'top = "mac"\nsources = ["mac.sv"]\n'
MAC = """
[clock]
port = "clk"
[[input.beats]]
elements = 1
a = "a"
b = "b"
c = "c"
[output]
acc = "y"
latency = 1
"""
FIXED, SCALED = "e2m1-fixed24q2", "e2m1-chain-e5m10"


def design(directory: Path, text: str, head: str = HEAD) -> Dut:
    (directory / "mac.sv").write_text("")
    file = directory / "dut.toml"
    file.write_text(head + text)
    return read_dut(file)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"), (-5, "-5"), (2**31 - 1, "2147483647"), (2**31, "32'd2147483648"),
        (4294967295, "32'd4294967295"), (550061233784, "40'd550061233784"),
        (-(2**40), "-42'sd1099511627776"), (True, "1'b1"), (0.5, "0.5"), ("abc", '"abc"'),
        ("64'h8012345678", "64'h8012345678"), ("pkg::RNE", "pkg::RNE"), ("'{1, 2}", "'{1, 2}"),
        ("4'd", '"4\'d"'), ("logic [3:0]", "logic [3:0]"), ("logical", '"logical"'),
    ],
)  # fmt: skip
def test_parameters_as_systemverilog(value: int | float | str, text: str) -> None:
    assert sv_text(value) == text


def test_lists_of_files(tmp_path: Path) -> None:
    (tmp_path / "rtl" / "inc").mkdir(parents=True)
    for name in ("top.sv", "zz_pkg.sv", "leaf.sv"):
        (tmp_path / "rtl" / name).write_text("")
    (tmp_path / "rtl" / "zz_pkg.sv").write_text("// package no;\npackage zz;\nendpackage\n")
    (tmp_path / "rtl" / "top.sv").write_text("module mac; import zz::*; endmodule\n")
    (tmp_path / "rtl" / "all.f").write_text(
        "# the design\n+incdir+inc +define+FAST+WIDTH=4\ntop.sv // first\n-F more.f\n"
    )
    (tmp_path / "rtl" / "more.f").write_text("leaf.sv /* two\nlines */ zz_pkg.sv\n-DDEEP=2\n")
    dut = design(tmp_path, MAC, 'top = "mac"\nfilelists = ["rtl/all.f"]\n')
    assert [path.name for path in dut.sources] == ["zz_pkg.sv", "top.sv", "leaf.sv"]
    assert dut.include == (tmp_path / "rtl" / "inc",)
    assert dut.defines == {"FAST": "", "WIDTH": "4", "DEEP": "2"}
    assert dut.compile_arguments("icarus")[1:] == ["-DFAST", "-DWIDTH=4", "-DDEEP=2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.sv\n", "filelists: .*all.f names 'none.sv', which is no file"),
        ("-sv2012\n", "has '-sv2012'; allowed: files, \\+incdir"),
        ("-f all.f\n", "filelists: .* names itself, or lists lie 16 deep"),
    ],
)
def test_a_bad_list_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "all.f").write_text(text)
    with pytest.raises(FpsimError, match=message):
        design(tmp_path, MAC, 'top = "mac"\nfilelists = ["all.f"]\n')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('port = "clk"', 'port = "clk"\nedge = "down"', "clock.edge: 'down' is not one of rising"),
        ('port = "clk"', 'port = "clk"\nalso = "x"', "clock.also: 'x' is not a list"),
        ("[[input", "[input]\ninterval = 0\n[[input", "input.interval: 0 is not .* 1..4096 or 'res"),
        ("[[input", "[input]\ndelay = { a = 65 }\n[[input", "input.delay.a: 65 is not .* in 1..64"),
        ("[[input", "[input]\ndelay = { x = 1 }\n[[input", "input.delay: 'x' is not one of"),
        ("[[input.beats]]", "[[input.beats]]\nrepeat = 2", r"beats\[0\].repeat: not beside elements"),
        ("[[input.beats]]", "[[input.beats]]\nrepeat = 0", r"beats\[0\].repeat: 0 is not an integer in"),
        ("latency = 1", "latency = 1\nflush = -1", "output.flush: -1 is not an integer in 0..4096"),
        ("[[input", "[input]\ntie = 1\n[[input", "tie: 1 is not a table"),
        ("latency = 1", 'latency = "fnd"', "output.latency: 'fnd' is not .* or 'find'"),
        ("latency = 1", "latency = 1\nbeats = 0", "output.beats: 0 is not an integer in 1..64"),
        ('"y"', '{ port = "y", table = [0, 0] }', "output.acc.table: two codes have one pattern"),
        ('a = "a"', 'a = { port = "a", table = 3 }', "a.table: not a list of the pattern"),
        ("[clock]", "[domain]\nscale = [1, 2]\n[clock]", "domain: 'scale' is not one of a, b"),
        ("[clock]", "[domain]\nscales = [5, 2]\n[clock]", "domain.scales: .* is not \\[lowest code"),
        ("[clock]", '[domain]\nwithout = ["nans"]\n[clock]', "domain.without: 'nans' is not one of"),
        ("[clock]", '[compare]\nnan = "none"\n[clock]', "compare.nan: 'none' is not one of exact, any"),
        ("[clock]", '[simulator.vcs]\narguments = []\n[clock]', "simulator: 'vcs' is not one of"),
        ("[clock]", '[simulator]\nicarus = 3\n[clock]', "simulator.icarus: 3 is not a table"),
        ("[clock]", '[simulator.icarus]\nflags = []\n[clock]', "simulator.icarus: 'flags' is not one of"),
        ("[clock]", "[parameters]\nW = [1]\n[clock]", r"parameters.W: \[1\] is not a number, a string, true"),
        ("[clock]", "[interfaces]\nbus = 1\n[clock]", "interfaces.bus: 1 is not text"),
        ("[clock]", '[memories]\nrom = "no.hex"\n[clock]', "memories.rom: 'no.hex' is not a file in"),
        ("[clock]", "[random]\nwidth = 8\n[clock]", "random.lfsr: missing; it is the register's state"),
        ("[clock]", "[random]\nlfsr = 0\nwidth = 8\n[clock]", "random.lfsr: "),
        ("[clock]", '[random]\nlfsr = 1\ndraw = "all"\n[clock]', "random.draw: 'all' is not one of"),
        ('port = "clk"', 'edge = "rising"', "clock.port: missing"),
        ("[[input.beats]]", "[input.beats]", r"input.beats: not a list of tables; write \[\[input.beats"),
        ('a = "a"', "a = { element_bits = 4 }", "a.port: missing"),
        ('a = "a"', 'a = { port = "a", bias = 3 }', "a.bias: only of exp, the sum of two exponents"),
        ('c = "c"', 'c = "c"\nexp = { port = "e", bias = 1.5 }', "exp.bias: 1.5 is not an integer in -"),
        ('a = "a"', 'a = { port = "a", signed = true, table = [0, 1] }', "a.table: not beside encoding or signed"),
        ('a = "a"', 'a = { port = "a", signed = 1 }', "a.signed: 1 is not true or false"),
        ('a = "a"', 'a = { port = "a", order = [0], transpose = [1, 1] }', "transpose: not beside order, which says"),
        ('a = "a"', 'a = { port = "a", transpose = [1] }', r"transpose: \[1\] is not \[rows, columns\]"),
        ('a = "a"', 'a = { port = "a", order = ["x"] }', r"order: \['x'\] is not a list of integers"),
        ('"y"', '"y"\nflags = "f[2:0]"', r"output.flags: 'f\[2:0\]' has 3 wires, and flags are"),
        ('"y"', '"y"\nflags = { overflow = "f[1:0]" }', r"output.flags.overflow: 'f\[1:0\]' is not one wire"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in MAC
    with pytest.raises(FpsimError, match=message):
        design(tmp_path, MAC.replace(old, new, 1))


def scaled(directory: Path, exp: str) -> tuple[Serialiser, dict[str, np.ndarray]]:
    text = MAC.replace('c = "c"', f'c = "c"\nexp = {exp}')
    made = plan(fpsim.get_unit(SCALED), strategy="random", count=400, k=1, group=1)
    dut = design(directory, text)
    return Serialiser(dut, made.spec, 1, 1), made.columns()


def test_a_narrow_exponent_port_takes_what_fits_it(tmp_path: Path) -> None:
    writer, columns = scaled(tmp_path, '{ port = "e", element_bits = 8 }')
    columns |= {"op": np.full(columns["op"].size, Op.DOT, dtype=np.uint8)}
    exponent = columns["a_scale"][:, 0].astype(int) + columns["b_scale"][:, 0] - 254
    keep, _ = writer.select(columns, True)
    numbers = (columns["a_scale"] < 255).all(axis=1) & (columns["b_scale"] < 255).all(axis=1)
    assert keep.tolist() == (numbers & (exponent >= -128) & (exponent < 128)).tolist()
    assert 0 < keep.sum() < numbers.sum()
    reasons = writer.left_out(columns, keep)
    assert sum(reasons.values()) == (~keep).sum()
    assert "have a code of exp that its wires cannot carry" in reasons
    (field,) = (f for f in writer.inputs if f.port == "e")
    told = {name: column[keep] for name, column in columns.items()}
    for line, e in zip(writer.lines(told), exponent[keep], strict=True):
        assert int(line.tobytes()[field.start : field.stop], 16) == e % 256


def test_encodings_act_on_the_wires(tmp_path: Path) -> None:
    writer, columns = scaled(
        tmp_path, '{ port = "e", element_bits = 8, encoding = "offset-binary" }'
    )
    keep, _ = writer.select(columns, True)
    told = {name: column[keep] for name, column in columns.items()}
    (field,) = (f for f in writer.inputs if f.port == "e")
    exponent = told["a_scale"][:, 0].astype(int) + told["b_scale"][:, 0] - 254
    for line, e in zip(writer.lines(told), exponent, strict=True):
        assert int(line.tobytes()[field.start : field.stop], 16) == e + 128


def test_codes_by_table(tmp_path: Path) -> None:
    table = [15, 14, 13, 12, 11, 10, 9, 8, -1, 0, 1, 2, 3, 4, 5, 6]
    text = MAC.replace('a = "a"', f'a = {{ port = "a", table = {table} }}')
    writer = Serialiser(design(tmp_path, text), fpsim.get_unit(FIXED).spec, 1)
    columns = plan(fpsim.get_unit(FIXED), strategy="random", count=200, k=1).columns()
    columns |= {"op": np.full(columns["op"].size, Op.DOT, dtype=np.uint8)}
    keep, _ = writer.select(columns, True)
    assert keep.tolist() == (columns["a"][:, 0] != 8).tolist()
    told = {name: column[keep] for name, column in columns.items()}
    (field,) = (f for f in writer.inputs if f.port == "a")
    for line, code in zip(writer.lines(told), told["a"][:, 0], strict=True):
        assert int(line.tobytes()[field.start : field.stop], 16) == table[code]
    assert writer.told_codes()["a"].tolist() == [*range(8), *range(9, 16)]
    small = Serialiser(
        design(tmp_path, MAC.replace('"y"', f'{{ port = "y", table = {list(range(15, -1, -1))} }}')),
        fpsim.get_unit("e2m1-fixed4q0").spec, 1,
    )  # fmt: skip
    assert small.seen_code({"y": "1101"}) == 2


def test_a_domain_leaves_vectors_out_and_is_said(tmp_path: Path) -> None:
    text = '[domain]\na = [0, 7]\nwithout = ["subnormal", "nan"]\n[compare]\nnan = "any"\n' + MAC
    dut, spec = design(tmp_path, text), fpsim.get_unit("e2m1-chain-e4m3").spec
    writer = Serialiser(dut, spec, 1)
    columns = plan(spec, strategy="random", count=400, k=1).columns()
    columns |= {"op": np.full(columns["op"].size, Op.DOT, dtype=np.uint8)}
    columns["acc"] = writer.record.expected(columns)
    keep, _ = writer.select(columns, True)
    assert 0 < keep.sum() < keep.size
    a, b = columns["a"][keep, 0], columns["b"][keep, 0]
    assert (a < 8).all() and (a != 1).all() and not np.isin(b, (1, 9)).any()
    for name in ("c", "acc"):
        magnitude = columns[name][keep] & 0x7F
        assert ((magnitude == 0) | ((magnitude >= 8) & (magnitude <= 0x78))).all()
    assert writer.told_codes()["a"].tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert str(dut.domain) == "a 0 to 7, no subnormal, no nan"
    assert str(dut.comparison) == "equal, NaN payloads apart"


def test_other_codes_take_the_place_of_those_outside(tmp_path: Path) -> None:
    dut = design(tmp_path, "[domain]\na = [[0, 1], [10, 12]]\nc = [5, 900]\n" + MAC)
    unit = fpsim.get_unit("e2m1-chain-e5m6")
    made = made_for(dut, unit.spec, count=200)
    writer = Serialiser(dut, unit.spec, made.k, made.group)
    told = with_told_codes(made, writer.told_codes())
    kept = 0
    for (_, before), (_, columns) in zip(made.blocks(), told.blocks(), strict=True):
        assert np.isin(columns["a"], [0, 1, 10, 11, 12]).all()
        inside = np.isin(before["a"], [0, 1, 10, 11, 12])
        assert (columns["a"] == before["a"])[inside].all()
        assert ((columns["c"] >= 5) & (columns["c"] <= 900)).all()
        assert (columns["acc"] == unit.dot(columns["a"], columns["b"], columns["c"])).all()
        kept += writer.select(columns, True)[0].sum()
    assert kept == told.count == made.count
    assert str(dut.domain) == "a 0 to 1 or 10 to 12, c 5 to 900"
    free = design(tmp_path, MAC)
    assert with_told_codes(made, Serialiser(free, unit.spec, 1).told_codes()) is made


def test_corner_classes_are_made_of_the_codes_that_are_told(tmp_path: Path) -> None:
    """Other codes in their places would undo what a class is for, such as sums that cancel."""
    dut = design(tmp_path, "[domain]\na = [[0, 1], [10, 12]]\n" + MAC)
    spec = fpsim.get_unit("e2m1-chain-e5m6").spec
    made = made_for(dut, spec, count=100)
    told = [0, 1, 10, 11, 12]
    a, b = (np.concatenate([part[n] for _, part in made.blocks()]) for n in "ab")
    rows = {s.name: slice(s.start, s.start + s.count) for s in made.sections}
    for name in ("products", "addend-shifts", "cancellation", "largest", "range-edges"):
        assert np.isin(a[rows[name]], told).all(), name
    assert len(a[rows["products"]]) == 5 * 16 and np.unique(b[rows["products"]]).size == 16


ONE_SCALE = MAC.replace('c = "c"\n', 'a_scale = "scale"\n')


def test_a_scale_without_a_port_is_one(tmp_path: Path) -> None:
    dut, spec = design(tmp_path, "group = 4\nk = 4\n" + ONE_SCALE), fpsim.get_unit(SCALED).spec
    made = made_for(dut, spec, count=50)
    writer = Serialiser(dut, spec, 4, 4)
    told = with_told_codes(made, writer.told_codes())
    columns = [columns for _, columns in told.blocks()]
    assert all((part["b_scale"] == 127).all() for part in columns)
    assert any((part["a_scale"] != 127).any() for part in columns)
    before = next(part for _, part in made.blocks() if (part["b_scale"] != 127).any())
    reasons = writer.left_out(before, writer.select(before, True)[0])
    assert "have a b_scale other than 1, which no port carries" in reasons


@pytest.mark.parametrize(
    ("wires", "k", "digits"),
    [
        ('{ port = "a", order = [2, 0, 1] }', 3, "213"),  # element 1 in the high bits
        ('{ port = "a", transpose = [2, 3] }', 6, "635241"),
        ('{ port = "a", transpose = [2, 3], first = "high" }', 6, "142536"),
        ('["a[3:0]", "a[7:4]", "a[11:8]"]', 3, "321"),
    ],
)
def test_elements_in_another_order(wires: str, k: int, digits: str, tmp_path: Path) -> None:
    text = MAC.replace("elements = 1", f"elements = {k}").replace('a = "a"', f"a = {wires}")
    dut, spec = design(tmp_path, text), fpsim.get_unit(FIXED).spec
    writer = Serialiser(dut, spec, k)
    columns = {
        "op": np.array([Op.DOT], dtype=np.uint8),
        "a": np.arange(1, k + 1, dtype=np.uint8)[None],
        "b": np.zeros((1, k), dtype=np.uint8),
        "c": np.zeros(1, dtype=np.uint32),
        "acc": np.zeros(1, dtype=np.uint32),
    }
    field = next(f for f in writer.inputs if f.port == "a")
    (line,) = writer.lines(columns)
    assert line.tobytes()[field.start : field.stop].decode() == digits


def test_codes_that_count_as_equal(tmp_path: Path) -> None:
    dut = design(tmp_path, '[compare]\nnan = "any"\nzero = "any"\n' + MAC)
    fmt = fpsim.get_format("e4m3")
    codes = np.array([0x00, 0x80, 0x79, 0xFF, 0x78, 0x01], dtype=fmt.dtype)
    assert dut.comparison.canonical(fmt, codes).tolist() == [0, 0, 0x7C, 0x7C, 0x78, 0x01]
    assert str(dut.comparison) == "equal, NaN payloads and signs of zeros apart"


def test_a_design_without_addends_is_told_sums_onto_zero(tmp_path: Path) -> None:
    dut = design(tmp_path, MAC.replace('c = "c"\n', ""))
    source = made_for(dut, fpsim.get_unit(FIXED).spec, count=50)
    assert all((columns["c"] == 0).all() for _, columns in source.blocks())
