# SPDX-License-Identifier: Apache-2.0
"""Designs under test as data: TOML in, beats out, and every mistake in the file named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fpsim
from fpsim import vectors
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.adapter import beat_writer
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.dut.encodings import ENCODINGS, decode, encode
from fpsim.hdl.verify.guesses import Case, guesses
from fpsim.hdl.verify.vector_source import from_plan, made_for
from fpsim.hdl.verify.vector_window import fetch
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Op

MAC = """
top = "mac"
sources = ["mac.sv"]
[clock]
port = "clk"
[reset]
port = "rst"
active = "high"
[input]
valid = "v"
last = "l"
[[input.beats]]
elements = 1
op = "cmd"
a = "a"
b = "b"
[ops]
mac = 1
clear = 2
[output]
acc = "y"
latency = 2
"""
MX = """
top = "mx"
sources = ["mac.sv"]
[clock]
port = "clk"
[input]
valid = "v"
first = "!f"
per = "group"
[[input.beats]]
a_scale = "d[7:0]"
b_scale = "d[15:8]"
tie = { header = 1 }
[[input.beats]]
elements = 4
a = { port = "d[15:0]", first = "high" }
b = ["w0", "w1", "w2", "w3"]
[output]
acc = { port = ["hi[15:0]", "lo[31:16]"], encoding = ["bytes-swapped", "inverted"] }
valid = "done"
"""


def dut(text: str, directory: Path):
    (directory / "mac.sv").write_text("")
    file = directory / "dut.toml"
    file.write_text(text)
    return read_dut(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('top = "mac"', 'topp = "mac"', "key: 'topp' is not one of .*did you mean 'top'"),
        ('top = "mac"', "top = 3", "top: 3 is not a module name"),
        ("mac.sv", "none/*.sv", "sources: 'none/\\*.sv' matches no file"),
        ('valid = "v"', 'vaild = "v"', "input: 'vaild' .*did you mean 'valid'"),
        ('valid = "v"', 'valid = "v[0]"', "input.valid: 'v\\[0\\]' must be a whole port"),
        ('valid = "v"', 'ready = "r"', "input.ready: given without input.valid"),
        ('a = "a"', 'aa = "a"', "input.beats\\[0\\]: 'aa' is not one of elements"),
        ('a = "a"', "", "input.beats: no beat carries a"),
        ('a = "a"', 'a = "a[0:3]"', "a.port: 'a\\[0:3\\]' ends below its start"),
        ('a = "a"', 'a = "a b"', "'a b' is not a port such as"),
        ('a = "a"', 'a = { port = "a", element_bits = 65 }', "element_bits: 65 is not .* 1..64"),
        ('a = "a"', 'a = { port = "a", encoding = "invert" }', "did you mean 'inverted'"),
        ("elements = 1", "", "input.beats\\[0\\].elements: missing"),
        ("elements = 1", "elements = 0", "elements: 0 is not a positive integer"),
        ("mac = 1", "mac = -1", "ops.mac: -1 is not a code of at least 0"),
        ("mac = 1", "mul = 1", "ops: 'mul' is not one of"),
        ("mac = 1", 'mac = "reset"', "ops.mac: 'reset' clears"),
        ("mac = 1", "mac = { en = -1 }", "ops.mac.en: -1 is not an integer of at least 0"),
        ("latency = 2", "", "output: neither valid nor latency"),
        ("latency = 2", 'latency = 2\nvalid = "d"', "output.latency: not beside output.valid"),
        ("latency = 2", "latency = -1", "output.latency: -1 is not an integer in 0..4095"),
        ("latency = 2", 'latency = 2\nanswers = ["mul"]', "output.answers: 'mul' is not one of"),
        ('active = "high"', "", "reset.active: missing"),
        ('active = "high"', 'active = "hi"', "reset.active: 'hi' is not one of low, high"),
        ('[clock]\nport = "clk"', "", "input.valid: needs a clock"),
        ('acc = "y"', "", "output.acc: missing"),
        ('acc = "y"', 'acc = "y"\ny = "z"', "output.acc: not beside y; it is the result of a unit"),
        ('acc = "y"', 'y = "z"', "ops: not of an operation; its vectors stand alone"),
        ('a = "a"', 'a = "a"\nx = "x"', "input.beats.x: an input of operations"),
        ('sources = ["mac.sv"]', 'sources = ["mac.sv"]\nk = 0', "k: 0 is not a positive integer"),
        ('top = "mac"', "top = ", "not valid TOML"),
        ('top = "mac"', 'top = "mac"\nadapter = "x.py:X"', "input.beats: not beside an adapter"),
    ],
)
def test_a_mistake_in_the_file_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in MAC
    with pytest.raises(FpsimError, match=f"dut.toml: .*{message}"):
        dut(MAC.replace(old, new), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match=r"none.toml: cannot be read"):
        read_dut(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Mine(Adapter): pass", "Mine in .* does not define beats, result"),
        ("class Mine: pass", "has no class 'Mine' derived from"),
        ("class Mine(Adapter): 1 / 0", "raises ZeroDivisionError"),
    ],
)
def test_a_bad_adapter_is_named(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"from fpsim.hdl import Adapter\n{source}\n")
    text = MAC[: MAC.index("[[input.beats]]")] + "[output]\nlatency = 2\n"
    design = dut(f'adapter = "mine.py:Mine"\n{text}', tmp_path)
    with pytest.raises(FpsimError, match=f"adapter: .*{message}"):
        beat_writer(design, made_for(design, fpsim.get_unit("e2m1-fixed24q2").spec, count=5))


GOOD = {
    "takes": "return True",
    "beats": "return [{'a': 1}]",
    "result": "return {'y': 1}",
    "code": "return 1",
}


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("beats", "return None", "beats returned None, not a list of beats"),
        ("beats", "return 'abc'", "beats returned 'abc', not a list of beats"),
        ("beats", "return [5]", "beats returned 5, not port: value"),
        ("beats", "return [{'a': 'x'}]", "a = 'x' is no integer"),
        ("beats", "return [{'a': 16}]", "a = 16 does not fit 4 bits"),
        ("beats", "return 1 // 0", "beats raises ZeroDivisionError"),
        ("result", "return 7", "result returned 7, not port: value"),
        ("result", "raise KeyError('acc')", "result raises KeyError: 'acc'"),
        ("takes", "return None", "takes returned None, not true or false"),
        ("code", "return 'ff'", "code returned 'ff', not a code"),
    ],
)
def test_an_adapter_that_answers_nonsense_is_named(
    method: str, body: str, message: str, tmp_path: Path
) -> None:
    lines = ["from fpsim.hdl import Adapter", "class Mine(Adapter):"]
    lines += ["    inputs = {'a': 4}", "    outputs = {'y': 4}"]
    lines += [f"    def {name}(self, x): {text}" for name, text in (GOOD | {method: body}).items()]
    (tmp_path / "mine.py").write_text("\n".join(lines) + "\n")
    text = MAC[: MAC.index("[[input.beats]]")] + "[output]\nlatency = 2\n"
    design = dut(f'adapter = "mine.py:Mine"\n{text}', tmp_path)
    source = made_for(design, fpsim.get_unit("e2m1-fixed24q2").spec, "exhaustive")
    writer = beat_writer(design, source)
    _, columns = next(source.blocks())
    few = {name: column[:2] for name, column in columns.items()}
    with pytest.raises(FpsimError, match=f"adapter: mine.py:Mine: {message}"):
        writer.select(few, True)
        writer.lines(few)
        writer.seen_code({"y": "0001"})


def test_lines_of_a_stream(tmp_path: Path) -> None:
    design = dut(MAC, tmp_path)
    unit = fpsim.get_unit("e2m1-fixed24q2")
    source = made_for(design, unit.spec, count=50)
    assert source.start == "clear" and source.k == 1  # clear and mac, one product per clock
    _, columns = next(source.blocks())
    writer = Serialiser(design, unit.spec, 1)
    keep, _ = writer.select(columns, True)
    idle = columns["op"] == Op.IDLE
    assert (~keep[idle]).all()  # the design has no such operation
    applied = {n: c[keep] for n, c in columns.items()}
    lines = writer.lines(applied).tobytes().decode().splitlines()
    assert [f.port for f in writer.inputs] == ["l", "cmd", "a", "b"]
    row = next(i for i, op in enumerate(applied["op"]) if op == Op.MAC)
    a, b, acc = (int(applied[n][row].item()) for n in ("a", "b", "acc"))
    assert lines[row] == f"311{a:x}{b:x}{acc:06x}"  # answer, compare; last; cmd 1
    assert lines[0] == "71200000000"  # and free: clear


def test_what_follows_a_vector_that_is_left_out_is_left_out_too(tmp_path: Path) -> None:
    design = dut(MAC, tmp_path)
    writer = Serialiser(design, fpsim.get_unit("e2m1-fixed24q2").spec, 1)
    op = np.array([Op.MAC, Op.LOAD, Op.MAC, Op.CLEAR, Op.MAC, Op.IDLE, Op.MAC], dtype=np.uint64)
    zero = np.zeros(op.size, dtype=np.uint64)
    columns = {"op": op, "a": zero, "b": zero, "c": zero, "acc": zero}
    keep, synchronous = writer.select(columns, True)
    # What holds the accumulator is skipped: the design has no such operation.
    assert keep.tolist() == [True, False, False, True, True, False, True]
    assert synchronous
    assert not writer.select(columns, False)[0][0]


def test_lines_of_blocks_with_headers(tmp_path: Path) -> None:
    design = dut(MX, tmp_path)
    unit = fpsim.get_unit("mxfp4-block32-e8m23")
    writer = Serialiser(design, unit.spec, 64, 32)
    columns = plan_set(unit, strategy="random", count=40, k=64).columns()
    keep, _ = writer.select(columns, True)
    assert keep.any() and not keep.all()  # no addend: those with c are left out
    assert (columns["c"][keep] == 0).all()
    columns = {n: c[keep] for n, c in columns.items()}
    lines = writer.lines(columns).tobytes().decode().splitlines()
    assert writer.beats_of(columns).tolist() == [18] * columns["op"].size
    port = {f.port: slice(f.start, f.stop) for f in (*writer.inputs, *writer.outputs)}
    row = 3
    block = lines[18 * row : 18 * row + 18]
    assert [line[0] for line in block] == ["4", *"0" * 16, "3"]
    assert [line[port["f"]] for line in block] == ["0", *"1" * 17]  # active low
    assert [line[port["header"]] for line in block] == ["1", *"0" * 8, "1", *"0" * 8]
    for group, beat in ((0, 0), (1, 9)):
        scales = (int(columns[n][row, group]) for n in ("b_scale", "a_scale"))
        assert block[beat][port["d"]] == "".join(f"{s:02x}" for s in scales)
    a, b = columns["a"][row], columns["b"][row]
    assert block[2][port["d"]] == "".join(f"{code:x}" for code in a[4:8])  # element 0 high
    assert [block[10][port[f"w{i}"]] for i in range(4)] == [f"{code:x}" for code in b[32:36]]
    acc = int(columns["acc"][row])
    seen = {n: f"{int(block[-1][port[n]], 16):0{w}b}" for n, w in (("hi", 16), ("lo", 32))}
    assert writer.seen_code(seen) == acc
    swapped = int.from_bytes(acc.to_bytes(4, "little"), "big") ^ 0xFFFFFFFF
    assert int(seen["hi"], 2) == swapped & 0xFFFF
    assert int(seen["lo"][:16], 2) == swapped >> 16
    assert writer.seen_code(seen | {"hi": "x" * 16}) is None


@pytest.mark.parametrize(
    ("k", "group", "message"),
    [
        (64, 0, "group: 0, so vectors have no a_scale"),
        (48, 32, "elements: 4 per beat do not fill 32 of 48"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    k: int, group: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FpsimError, match=message):
        Serialiser(dut(MX, tmp_path), fpsim.get_unit("mxfp4-block32-e8m23").spec, k, group)


def test_bits_given_twice_are_refused(tmp_path: Path) -> None:
    design = dut(MX.replace('b_scale = "d[15:8]"', 'b_scale = "d[14:7]"'), tmp_path)
    with pytest.raises(FpsimError, match="d: bit 7 is given twice in one beat"):
        Serialiser(design, fpsim.get_unit("mxfp4-block32-e8m23").spec, 64, 32)


def test_scales_without_a_port_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match="no beat carries a_scale, b_scale or exp"):
        Serialiser(dut(MAC, tmp_path), fpsim.get_unit("e2m1-fixed24q2").spec, 8, 8)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("width", [8, 16, 24, 64])
def test_encodings_can_be_undone(name: str, width: int) -> None:
    codes = np.array([0, 1, 2, 5, (1 << (width - 1)) - 1, (1 << width) - 1], dtype=np.uint64)
    wires = encode(codes, width, [name, "bits-reversed"])
    assert len(set(wires.tolist())) == codes.size
    assert [decode(int(w), width, [name, "bits-reversed"]) for w in wires] == codes.tolist()


def test_what_encodings_mean() -> None:
    minus_three = np.array([0xFFFD], dtype=np.uint64)
    expected = {
        "inverted": 0x0002,
        "offset-binary": 0x7FFD,
        "sign-magnitude": 0x8003,
        "ones-complement": 0xFFFC,
        "bits-reversed": 0xBFFF,
        "bytes-swapped": 0xFDFF,
    }
    assert {n: int(encode(minus_three, 16, [n])[0]) for n in ENCODINGS} == expected


def test_the_mistake_behind_wrong_results_is_guessed() -> None:
    unit, wrong = (fpsim.get_unit(f"e2m1-chain-e4m3{end}") for end in ("", "-rtz"))
    options = {"strategy": "random", "count": 600, "start": "load"}
    run = fetch(from_plan(vectors.plan(unit, **options)), range(600))  # type: ignore[arg-type]
    other = vectors.plan(wrong, **options).made()  # type: ignore[arg-type]
    assert (other.columns["a"][:600] == run.columns["a"]).all()
    seen = other.columns["acc"][:600]
    before = np.concatenate([seen[:1] * 0, seen[:-1]])
    rows = np.arange(600)
    best = guesses(Case(run, seen, before, rows - 1, rows))[0]
    assert best.mistake == "rounding rtz"
    assert best.explained == best.mismatches > 10 and best.contradicted == 0


def test_the_package_does_without_cocotb() -> None:
    alone = "import sys, fpsim.hdl; sys.exit('cocotb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", alone], check=False).returncode == 0
    import fpsim.hdl

    with pytest.raises(AttributeError, match="no attribute 'Drivr'"):
        fpsim.hdl.Drivr  # noqa: B018
