# SPDX-License-Identifier: Apache-2.0
"""A design under test from a TOML file.

    top = "dot8"
    sources = ["rtl/*.sv"]             # globs, from the file's directory, in compile order
    include = ["rtl/include"]          # optional, as are defines and parameters
    defines = { FAST = 1 }
    parameters = { LANES = 4 }
    k = 32                             # elements per vector (default: a step of the unit)
    group = 32                         # elements per scale (default: the unit's)
    adapter = "adapter.py:MyAdapter"   # what TOML cannot say (fpsim.hdl.dut.adapter); no beats then

    [clock]                            # absent: a combinational design
    port = "clk"

    [reset]
    port = "rst_n"
    active = "low"                     # low | high
    kind = "async"                     # async (default) | sync
    clocks = 2

    [input]
    valid = "in_valid"                 # absent: every clock is a beat
    ready = "in_ready"                 # absent: the design always takes
    first = "in_first"                 # marks the first and the last beat of a vector
    last = "in_last"
    per = "vector"                     # group: the runs of beats below repeat per group of scales
    tie = { mode = 0 }                 # other inputs and their values

    [[input.beats]]                    # runs of beats, in order
    a_scale = "data"                   # a header: the scale of a
    [[input.beats]]
    elements = 2                       # per beat, until the vector's are through
    a = "data[7:0]"                    # a port, a slice, or a list of them from the low bits up
    b = { port = "data[15:8]", element_bits = 4, first = "low", encoding = "inverted" }

    [ops]                              # operations that the design has, and how it is told
    mac = 1                            # a code on the field op ...
    clear = { clr = 1 }                # ... or values of ports, which are else 0 ...
    # clear = "reset"                  # ... or a reset
    next = 0                           # beats after the first; default: as mac

    [output]
    acc = "acc"                        # as in [[input.beats]]
    valid = "out_valid"                # or latency = 3
    ready = "out_ready"
    answers = ["mac"]                  # operations that a result comes for; default: all
    every_beat = false                 # a result per beat, of which a vector's last counts

Handshake ports are written ``!port`` where they are active low. In a header, ``scales`` is the
number of scale codes per beat; without it one beat carries all.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.base.input_files import read_toml
from fpsim.hdl.dut.dut import (
    FIELDS,
    OPS,
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

__all__ = ["read_dut"]

_TOP = (
    "top", "sources", "include", "defines", "parameters", "k", "group", "adapter",
    "clock", "reset", "input", "ops", "output",
)  # fmt: skip
_INPUT = ("valid", "ready", "first", "last", "per", "tie", "beats")
_BEATS = ("elements", "scales", "tie", *FIELDS)
_WIRES = ("port", "element_bits", "signed", "encoding", "first")
_OUTPUT = ("acc", "valid", "ready", "latency", "answers", "every_beat")


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
    check_known(table, _TOP, "key")
    adapter = table.get("adapter")
    needed = ["top", "sources", "output"] + (["input"] if adapter is None else [])
    for key in needed:
        if key not in table:
            raise FpsimError(f"{key}: missing")
    return Dut(
        top=table["top"],
        sources=_sources(table["sources"], directory),
        include=tuple(directory / i for i in _strings(table.get("include", []), "include")),
        defines=_settings(table, "defines"),
        parameters=_settings(table, "parameters"),
        k=table.get("k"),
        group=table.get("group"),
        adapter=adapter,
        directory=directory,
        clock=_clock(table),
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
        raise FpsimError(f"{key}: {value!r} is not one of {', '.join(allowed)}")
    return str(value)


def _sources(value: object, directory: Path) -> tuple[Path, ...]:
    found: dict[Path, None] = {}
    for pattern in _strings(value, "sources"):
        # `Path.glob` takes no absolute pattern.
        paths = sorted(glob.glob(str(directory / pattern), recursive=True))  # noqa: PTH207
        if not paths:
            raise FpsimError(f"sources: {pattern!r} matches no file in {directory}")
        found |= dict.fromkeys(Path(path) for path in paths)
    if not found:
        raise FpsimError("sources: none is given")
    return tuple(found)


def _settings(table: dict[str, Any], key: str) -> dict[str, int | str]:
    settings = _table(table, key)
    for name, value in settings.items():
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise FpsimError(f"{key}.{name}: {value!r} is not an integer or a string")
    return settings


def _clock(table: dict[str, Any]) -> str | None:
    clock = _table(table, "clock")
    check_known(clock, ("port",), "clock")
    if "clock" in table and "port" not in clock:
        raise FpsimError("clock.port: missing")
    return _port(clock, "port", "clock", negatable=False)


def _reset(table: dict[str, Any]) -> Reset | None:
    reset = _table(table, "reset")
    if not reset:
        return None
    check_known(reset, ("port", "active", "kind", "clocks"), "reset")
    for key in ("port", "active"):
        if key not in reset:
            raise FpsimError(f"reset.{key}: missing")
    port = _port(reset, "port", "reset", negatable=False)
    assert port is not None
    active = _choice(reset["active"], ("low", "high"), "reset.active")
    kind = _choice(reset.get("kind", "async"), ("async", "sync"), "reset.kind")
    return Reset(port, active == "low", kind == "sync", reset.get("clocks", 2))


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
    check_known(table, _INPUT, "input")
    beats = table.get("beats", [])
    if not isinstance(beats, list) or not all(isinstance(b, dict) for b in beats):
        raise FpsimError("input.beats: not a list of tables; write [[input.beats]]")
    runs = tuple(_beats(b, f"input.beats[{i}]") for i, b in enumerate(beats))
    ports = {k: _port(table, k, "input") for k in ("valid", "ready", "first", "last")}
    per = _choice(table.get("per", "vector"), ("vector", "group"), "input.per")
    return Input(runs, **ports, per_group=per == "group", tie=_tie(table, "input"))


def _tie(table: dict[str, Any], where: str) -> dict[str, int]:
    tie = _table(table, "tie")
    check_values(tie, f"{where}.tie")
    return tie


def _beats(table: dict[str, Any], where: str) -> Beats:
    check_known(table, _BEATS, where)
    fields = {n: _wires(table[n], f"{where}.{n}") for n in FIELDS if n in table}
    try:
        return Beats(fields, table.get("elements"), table.get("scales"), _tie(table, where))
    except FpsimError as error:
        raise FpsimError(f"{where}.{error}") from None


def _wires(value: object, where: str) -> Wires:
    table: dict[str, Any] = value if isinstance(value, dict) else {"port": value}
    check_known(table, _WIRES, where)
    if "port" not in table:
        raise FpsimError(f"{where}.port: missing")
    ports = table["port"] if isinstance(table["port"], list) else [table["port"]]
    first = _choice(table.get("first", "low"), ("low", "high"), f"{where}.first")
    signed = _flag(table, "signed", where)
    try:
        return Wires(
            tuple(Place.parse(p, "port") for p in ports), table.get("element_bits"), signed,
            table.get("encoding", ()), first == "high",
        )  # fmt: skip
    except FpsimError as error:
        raise FpsimError(f"{where}.{error}") from None


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise FpsimError(f"{where}.{key}: {value!r} is not true or false")
    return value


def _output(table: dict[str, Any]) -> Output:
    check_known(table, _OUTPUT, "output")
    acc = _wires(table["acc"], "output.acc") if "acc" in table else None
    answers = tuple(_strings(table.get("answers", list(OPS[:-1])), "output.answers"))
    return Output(
        acc, _port(table, "valid", "output"), _port(table, "ready", "output"),
        table.get("latency"), answers, _flag(table, "every_beat", "output"),
    )  # fmt: skip
