# SPDX-License-Identifier: Apache-2.0
"""A design under test from a TOML file: ``docs/reference/dut-toml.md`` has every key.

top = "dot8"
sources = ["rtl/*.sv"]             # globs, from the file's directory
parameters = { LANES = 4 }

[clock]                            # absent: a combinational design
port = "clk"

[reset]
port = "rst_n"
active = "low"

[input]
valid = "in_valid"                 # absent: every clock is a beat
tie = { mode = 0 }                 # other inputs, constant

[[input.beats]]                    # runs of beats, in order
elements = 2                       # per beat, until the vector's are through
a = "data[7:0]"                    # a port, a slice, or a list of them from the low bits up
b = { port = "data[15:8]", element_bits = 4, first = "low", encoding = "inverted" }

[ops]                              # operations that the design has, and how it is told
mac = 1                            # a code on the field op, values of ports, or "reset"
clear = { clr = 1 }

[output]
acc = "acc"                        # as in [[input.beats]]
valid = "out_valid"                # or latency = 3
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.input_files import read_toml
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.lfsr import GaloisLfsr, LfsrOutput
from fpsim.hdl.dut.domain import Comparison, Domain
from fpsim.hdl.dut.dut import (
    FIELDS,
    RESULTS,
    VECTOR_OPS,
    Beats,
    Dut,
    Input,
    Output,
    Place,
    Reset,
    Wires,
    check_known,
    check_values,
)
from fpsim.hdl.dut.filelists import FileList, packages_first, read_filelist
from fpsim.vectors.sets.status_flags import FLAG_CODES

__all__ = ["KEYS", "WORDS", "read_dut"]

#: Keys of each table of a file; ``key`` is the file itself, ``wires`` what carries a field.
KEYS: dict[str, tuple[str, ...]] = {
    "key": (
        "top", "sources", "include", "defines", "parameters", "k", "group", "adapter", "waive",
        "clock", "reset", "input", "ops", "output", "filelists", "simulator", "domain", "compare",
        "memories", "files", "interfaces", "random",
    ),
    "clock": ("port", "edge", "also"),
    "reset": ("port", "active", "kind", "clocks", "also"),
    "input": (
        "valid", "ready", "first", "last", "per", "tie", "open", "interval", "delay", "beats",
    ),
    "beats": ("elements", "scales", "repeat", "tie", *FIELDS),
    "wires": (
        "port", "element_bits", "signed", "encoding", "first", "table", "order", "transpose",
        "bias",
    ),
    "output": (
        "acc", "valid", "ready", "latency", "answers", "every_beat", "beats", "first_beat", "flush",
        *RESULTS,
    ),
    "simulator": ("arguments",),
    "compare": ("nan", "zero"),
    "random": ("lfsr", "width", "taps", "draw"),
}  # fmt: skip
#: Elements of a beat at most, and the largest bias of exponents.
MAX_LANES, MAX_BIAS = 1 << 16, 1 << 10
#: Beats of a header at most.
MAX_REPEAT = 1 << 12
#: Keys that take one of a few words.
WORDS: dict[str, tuple[str, ...]] = {
    "clock.edge": ("rising", "falling"),
    "reset.active": ("low", "high"),
    "reset.kind": ("async", "sync"),
    "input.per": ("vector", "group"),
    "wires.first": ("low", "high"),
    "output.first_beat": ("low", "high"),
    "compare": ("exact", "any"),
    "random.draw": tuple(LfsrOutput),
    "simulator": ("verilator", "icarus", "ghdl"),
}


def read_dut(path: str | Path) -> Dut:
    """Return the design that a TOML file describes.

    Raises:
        FpsimError: a file that cannot be read, a key that is unknown, missing or of the wrong
            kind, or a source that does not exist; the message starts with the file.
    """
    file = Path(path)
    table = read_toml(file)
    try:
        return _dut(table, file.resolve().parent)
    except FpsimError as error:
        raise FpsimError(f"{file}: {error}") from None


def _dut(table: dict[str, Any], directory: Path) -> Dut:
    check_known(table, KEYS["key"], "key")
    adapter = table.get("adapter")
    listed = [read_filelist(directory / name, directory)
              for name in _strings(table.get("filelists", []), "filelists")]  # fmt: skip
    if listed and "sources" not in table:
        table = table | {"sources": []}
    clock = _table(table, "clock")
    needed = ["top", "sources", "output"] + (["input"] if adapter is None else [])
    for key in needed:
        if key not in table:
            raise FpsimError(f"{key}: missing")
    return Dut(
        top=table["top"],
        sources=_sources(table["sources"], directory, listed),
        include=(
            *(directory / i for i in _strings(table.get("include", []), "include")),
            *(path for each in listed for path in each.include),
        ),
        defines={k: v for each in listed for k, v in each.defines.items()}
        | _settings(table, "defines"),
        parameters=_settings(table, "parameters"),
        k=table.get("k"),
        group=table.get("group"),
        adapter=adapter,
        arguments=_arguments(table, directory),
        memories={
            name: _file(path, directory, f"memories.{name}")
            for name, path in _table(table, "memories").items()
        },
        interfaces=_texts(table, "interfaces"),
        files=tuple(
            _file(name, directory, "files") for name in _strings(table.get("files", []), "files")
        ),
        domain=_domain(_table(table, "domain")),
        comparison=_comparison(_table(table, "compare")),
        lfsr=_lfsr(table),
        waive=tuple(_strings(table.get("waive", []), "waive")),
        directory=directory,
        clock=_clock(table),
        falling=_choice(clock.get("edge", "rising"), WORDS["clock.edge"], "clock.edge")
        == "falling",
        clocks=_whole_ports(clock, "also", "clock", negatable=False),
        reset=_reset(table),
        input=_input(_table(table, "input")),
        output=_output(_table(table, "output")),
        ops=_table(table, "ops"),
    )


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise FpsimError(f"{key}: {value!r} is not a table")
    return value


def _strings(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise FpsimError(f"{key}: {value!r} is not a list of strings")
    return value


def _choice(value: object, allowed: tuple[str, ...], key: str) -> str:
    if value not in allowed:
        raise not_one_of(key, value, allowed)
    return str(value)


def _sources(value: object, directory: Path, listed: Sequence[FileList]) -> tuple[Path, ...]:
    found: dict[Path, None] = {path: None for each in listed for path in each.sources}
    for pattern in _strings(value, "sources"):
        # `Path.glob` takes no absolute pattern.
        paths = sorted(glob.glob(str(directory / pattern), recursive=True))  # noqa: PTH207
        if not paths:
            raise FpsimError(f"sources: {pattern!r} matches no file in {directory}")
        found |= dict.fromkeys(Path(path) for path in paths)
    if not found:
        raise FpsimError("sources: none is given")
    return packages_first(tuple(found))


def _settings(table: dict[str, Any], key: str) -> dict[str, Any]:
    settings = _table(table, key)
    for name, value in settings.items():
        if not isinstance(value, int | float | str):
            raise FpsimError(f"{key}.{name}: {value!r} is not a number, a string, true or false")
    return settings


def _arguments(table: dict[str, Any], directory: Path) -> dict[str, tuple[str, ...]]:
    """Return the arguments of simulators; paths of files, such as waivers, become absolute."""
    found = {}
    for name, own in _table(table, "simulator").items():
        _choice(name, WORDS["simulator"], "simulator")
        where = f"simulator.{name}"
        if not isinstance(own, dict):
            raise FpsimError(f"{where}: {own!r} is not a table")
        check_known(own, KEYS["simulator"], where)
        words = _strings(own.get("arguments", []), f"{where}.arguments")
        places = (directory / word for word in words)
        found[name] = tuple(
            str(place) if place.is_file() else word
            for word, place in zip(words, places, strict=True)
        )
    return found


def _texts(table: dict[str, Any], key: str) -> dict[str, str]:
    found = _table(table, key)
    for name, value in found.items():
        if not isinstance(value, str):
            raise FpsimError(f"{key}.{name}: {value!r} is not text")
    return found


def _file(name: object, directory: Path, where: str) -> Path:
    path = directory / name if isinstance(name, str) else None
    if path is None or not path.is_file():
        raise FpsimError(f"{where}: {name!r} is not a file in {directory}")
    return path


def _domain(table: dict[str, Any]) -> Domain:
    bounds: dict[str, tuple[tuple[int, int], ...]] = {}
    for name, value in table.items():
        if name == "without":
            continue
        several = isinstance(value, list) and value and all(isinstance(v, list) for v in value)
        ranges = value if several else [value]
        if not all(_is_range(pair) for pair in ranges):
            raise FpsimError(
                f"domain.{name}: {value!r} is not [lowest code, highest code] or a list of such"
            )
        fields = ("a_scale", "b_scale") if name == "scales" else (name,)
        bounds |= dict.fromkeys(fields, tuple((low, high) for low, high in ranges))
    return Domain(bounds, tuple(_strings(table.get("without", []), "domain.without")))


def _is_range(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(v) is int for v in pair):
        return False
    return bool(0 <= pair[0] <= pair[1])


def _comparison(table: dict[str, Any]) -> Comparison:
    check_known(table, KEYS["compare"], "compare")
    for name, value in table.items():
        _choice(value, WORDS["compare"], f"compare.{name}")
    return Comparison(table.get("nan") == "any", table.get("zero") == "any")


def _lfsr(table: dict[str, Any]) -> GaloisLfsr | None:
    """Return the register that a design draws its random integers from."""
    own = _table(table, "random")
    if "random" not in table:
        return None
    check_known(own, KEYS["random"], "random")
    if "lfsr" not in own:
        raise FpsimError("random.lfsr: missing; it is the register's state after a reset")
    settings = {key: own[key] for key in ("width", "taps") if key in own}
    draw = LfsrOutput(_choice(own.get("draw", "bits"), WORDS["random.draw"], "random.draw"))
    try:
        return GaloisLfsr(own["lfsr"], draw=draw, **settings)
    except FpsimError as error:
        raise FpsimError(f"random.{error}") from None


def _whole_ports(
    table: Mapping[str, Any], key: str, where: str, negatable: bool = True
) -> tuple[str, ...]:
    names = _strings(table.get(key, []), f"{where}.{key}")
    found = (_port({key: name}, key, where, negatable) for name in names)
    return tuple(name for name in found if name)


def _clock(table: dict[str, Any]) -> str | None:
    clock = _table(table, "clock")
    check_known(clock, KEYS["clock"], "clock")
    if "clock" in table and "port" not in clock:
        raise FpsimError("clock.port: missing")
    return _port(clock, "port", "clock", negatable=False)


def _reset(table: dict[str, Any]) -> Reset | None:
    reset = _table(table, "reset")
    if not reset:
        return None
    check_known(reset, KEYS["reset"], "reset")
    for key in ("port", "active"):
        if key not in reset:
            raise FpsimError(f"reset.{key}: missing")
    port = _port(reset, "port", "reset", negatable=False)
    assert port is not None
    active = _choice(reset["active"], WORDS["reset.active"], "reset.active")
    kind = _choice(reset.get("kind", "async"), WORDS["reset.kind"], "reset.kind")
    also = _whole_ports(reset, "also", "reset")
    return Reset(port, active == "low", kind == "sync", reset.get("clocks", 2), also)


def _port(table: Mapping[str, Any], key: str, where: str, negatable: bool = True) -> str | None:
    value = table.get(key)
    if value is None:
        return None
    name = value.removeprefix("!") if isinstance(value, str) and negatable else value
    place = Place.parse(name, f"{where}.{key}")
    if place.width is not None:
        raise FpsimError(f"{where}.{key}: {value!r} must be a whole port")
    return str(value)


def _input(table: dict[str, Any]) -> Input:
    check_known(table, KEYS["input"], "input")
    beats = table.get("beats", [])
    if not isinstance(beats, list) or not all(isinstance(b, dict) for b in beats):
        raise FpsimError("input.beats: not a list of tables; write [[input.beats]]")
    runs = tuple(run for i, b in enumerate(beats) for run in _beats(b, f"input.beats[{i}]"))
    ports = {k: _port(table, k, "input") for k in ("valid", "ready", "first", "last")}
    per = _choice(table.get("per", "vector"), WORDS["input.per"], "input.per")
    rest = table.get("tie") == 0 and not isinstance(table["tie"], bool)
    return Input(
        runs, **ports, per_group=per == "group", tie={} if rest else _tie(table, "input"),
        tie_rest=rest, open=_whole_ports(table, "open", "input", negatable=False),
        interval=table.get("interval", 1), delay=_table(table, "delay"),
    )  # fmt: skip


def _tie(table: dict[str, Any], where: str) -> dict[str, int]:
    tie = _table(table, "tie")
    check_values(tie, f"{where}.tie")
    return tie


def _beats(table: dict[str, Any], where: str) -> list[Beats]:
    """Return a run of beats as often as it comes."""
    check_known(table, KEYS["beats"], where)
    fields = {n: _wires(table[n], f"{where}.{n}") for n in FIELDS if n in table}
    repeat = table.get("repeat", 1)
    if type(repeat) is not int or not 1 <= repeat <= MAX_REPEAT:
        raise FpsimError(f"{where}.repeat: {repeat!r} is not an integer in 1..{MAX_REPEAT}")
    if repeat > 1 and {"elements", "scales"} & set(table):
        raise FpsimError(f"{where}.repeat: not beside elements or scales, which say how many")
    try:
        run = Beats(fields, table.get("elements"), table.get("scales"), _tie(table, where))
        return [run] * repeat
    except FpsimError as error:
        raise FpsimError(f"{where}.{error}") from None


def _wires(value: object, where: str) -> Wires:
    table: dict[str, Any] = value if isinstance(value, dict) else {"port": value}
    check_known(table, KEYS["wires"], where)
    if "port" not in table:
        raise FpsimError(f"{where}.port: missing")
    ports = table["port"] if isinstance(table["port"], list) else [table["port"]]
    first = _choice(table.get("first", "low"), WORDS["wires.first"], f"{where}.first")
    signed = _flag(table, "signed", where)
    codes = _codes(table, where)
    bits = table.get("element_bits")
    if codes and bits is None:
        bits = max(1, max(codes).bit_length())
    try:
        return Wires(
            tuple(Place.parse(p, "port") for p in ports), bits, signed,
            table.get("encoding", ()), first == "high", codes, _order(table), _bias(table, where),
        )  # fmt: skip
    except FpsimError as error:
        raise FpsimError(f"{where}.{error}") from None


def _order(table: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the elements of a beat from the low bits up, from a list or from rows and columns."""
    for key in ("order", "transpose"):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(type(v) is int and v >= 0 for v in value):
            raise FpsimError(f"{key}: {value!r} is not a list of integers")
    if "transpose" not in table:
        return tuple(table.get("order", []))
    if "order" in table:
        raise FpsimError("transpose: not beside order, which says the same")
    shape = table["transpose"]
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_LANES:
        raise FpsimError(f"transpose: {shape!r} is not [rows, columns]")
    rows, columns = shape
    return tuple(row * columns + column for column in range(columns) for row in range(rows))


def _bias(table: Mapping[str, Any], where: str) -> int | None:
    value = table.get("bias")
    if value is None:
        return None
    if not where.endswith(".exp"):
        raise FpsimError(f"{where}.bias: only of exp, the sum of two exponents")
    if type(value) is not int or abs(value) > MAX_BIAS:
        raise FpsimError(f"{where}.bias: {value!r} is not an integer in -{MAX_BIAS}..{MAX_BIAS}")
    return value


def _codes(table: Mapping[str, Any], where: str) -> tuple[int, ...]:
    codes = table.get("table", [])
    if isinstance(codes, str) and not codes.endswith(".toml"):
        codes = list(CodeTable.of(codes, f"{where}.table").patterns)
    fits = isinstance(codes, list) and all(type(c) is int and c >= -1 for c in codes)
    if not fits or ("table" in table and not codes):
        raise FpsimError(
            f"{where}.table: not a list of the pattern of every code, -1 for a code without one, "
            "and not the name of a block format with a table"
        )
    if codes and ({"encoding", "signed"} & set(table)):
        raise FpsimError(f"{where}.table: not beside encoding or signed, which it replaces")
    return tuple(codes)


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise FpsimError(f"{where}.{key}: {value!r} is not true or false")
    return value


def _flags(value: object) -> dict[str, Place]:
    """Return the wires of status flags: of each by name, or of all from the low bit up."""
    if isinstance(value, dict):
        found = {name: Place.parse(text, f"output.flags.{name}") for name, text in value.items()}
        for name, place in found.items():
            if place.width not in (None, 1):
                raise FpsimError(f"output.flags.{name}: {value[name]!r} is not one wire")
        return {name: replace(place, width=1) for name, place in found.items()}
    place = Place.parse(value, "output.flags")
    if place.width not in (None, len(FLAG_CODES)):
        raise FpsimError(
            f"output.flags: {value!r} has {place.width} wires, and flags are {len(FLAG_CODES)}: "
            f"{', '.join(FLAG_CODES)}; some of them are a table, such as {{ overflow = 'ov' }}"
        )
    return {n: Place(place.port, place.lsb + i, 1) for i, n in enumerate(FLAG_CODES)}


def _output(table: dict[str, Any]) -> Output:
    check_known(table, KEYS["output"], "output")
    acc = _wires(table["acc"], "output.acc") if "acc" in table else None
    answers = tuple(_strings(table.get("answers", list(VECTOR_OPS)), "output.answers"))
    find = table.get("latency") == "find"
    first = _choice(table.get("first_beat", "low"), WORDS["output.first_beat"], "output.first_beat")
    own = {"flags"} if acc is not None and "flags" in table else set()  # of a unit
    return Output(
        acc, _port(table, "valid", "output"), _port(table, "ready", "output"),
        None if find else table.get("latency"), answers, _flag(table, "every_beat", "output"),
        table.get("beats", 1), first == "high", find,
        {n: _wires(table[n], f"output.{n}") for n in RESULTS if n in table and n not in own},
        _flags(table["flags"]) if own else {}, table.get("flush", 0),
    )  # fmt: skip
