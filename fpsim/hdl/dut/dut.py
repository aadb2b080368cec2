# SPDX-License-Identifier: Apache-2.0
"""A design under test as data: sources, clock, reset, and which port carries which field.

A *vector* of a unit (`fpsim.vectors`) becomes one or more *beats*, one per clock. A beat puts
fields of the vector on ports: ``op``, ``a``, ``b``, ``c``, ``exp``, ``a_scale``, ``b_scale``. The
result comes back in field ``acc``. Converters, multipliers, adders and quantizers have the fields
of `fpsim.vectors.operations`. `fpsim.hdl.dut.dut_toml` reads the same from TOML, of which
``docs/reference/dut-toml.md`` describes every key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.lfsr import GaloisLfsr
from fpsim.hdl.dut.domain import Comparison, Domain
from fpsim.hdl.dut.encodings import check_encodings
from fpsim.vectors.sets.status_flags import FLAG_CODES

__all__ = [
    "FIELDS", "OPS", "RESET_OP", "RESULTS", "VECTOR_OPS", "Beats", "Dut", "Input", "Output",
    "Place", "Reset",
    "Wires",
]  # fmt: skip

#: Fields that a beat can carry. `op` is coded by `Dut.ops`.
FIELDS = ("op", "a", "b", "c", "exp", "a_scale", "b_scale", "random", "x", "tensor_scale")
#: Results of operations that are no unit's.
RESULTS = ("y", "flags", "codes", "scales", "negative_scales", "zero_points", "variants", "ratios",
           "tops", "macros")  # fmt: skip
#: Operations of a vector.
VECTOR_OPS = ("idle", "clear", "mac", "load", "dot")
#: What else beats may say: ``next``, those after the first (default: as mac); ``read``, those in
#: which a result leaves the design.
OPS = (*VECTOR_OPS, "next", "read")
#: An operation done by resetting the design.
RESET_OP = "reset"
#: An interval that lasts until the result is there.
WAITS = "result"
#: Width of ``exp``, two's complement: the sum of two E8M0 exponents.
EXPONENT_BITS = 9
MAX_BITS = 64
#: Files that benches write where a design runs.
_OWN_FILES = {"stimulus.hex", "stimulus.bin", "result.txt", "result.json", "progress.txt",
              "mismatches.jsonl", "results.xml", "dump.vcd"}  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_PLACE = re.compile(
    r"(?P<port>[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*)"
    r"(?:\[(?P<high>\d{1,9})(?::(?P<low>\d{1,9}))?\])?"
)


@dataclass(frozen=True)
class Place:
    """Bits of a port: ``width`` of them from ``lsb``; None: the whole port.

    ``port.member`` is a member of a struct or a signal of an interface.
    """

    port: str
    lsb: int = 0
    width: int | None = None

    @classmethod
    def parse(cls, text: object, where: str) -> Place:
        """Return the place that ``port``, ``port[3]`` or ``port[7:4]`` names."""
        match = _PLACE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise FpsimError(f"{where}: {text!r} is not a port such as data, data[3] or data[7:4]")
        if match["high"] is None:
            return cls(match["port"])
        high, low = int(match["high"]), int(match["low"] or match["high"])
        if high < low:
            raise FpsimError(f"{where}: {text!r} ends below its start; write [{low}:{high}]")
        return cls(match["port"], low, high - low + 1)


@dataclass(frozen=True)
class Wires:
    """The places of a field's elements on ports.

    The elements of a beat are concatenated, then cut into ``places``, both from the low bits up.
    """

    places: tuple[Place, ...]
    element_bits: int | None = None  #: wires per element; None: the bits of its code
    signed: bool = False  #: wider wires repeat the top bit, else they are 0
    encoding: tuple[str, ...] = ()
    high_first: bool = False  #: element 0 stands in the high bits
    table: tuple[int, ...] = ()  #: pattern of each code on its wires, -1 for none; empty: the code
    order: tuple[int, ...] = ()  #: elements of a beat from the low bits up; empty: as they come
    bias: int | None = None  #: of ``exp``: the wires carry it plus this, without a sign

    def __post_init__(self) -> None:
        if not self.places:
            raise FpsimError("port: none is given")
        bits = self.element_bits
        if bits is not None and (not _is_int(bits) or not 1 <= bits <= MAX_BITS):
            raise FpsimError(f"element_bits: {bits!r} is not an integer in 1..{MAX_BITS}")
        object.__setattr__(self, "encoding", check_encodings(self.encoding, "encoding"))
        if sorted(self.order) != list(range(len(self.order))):
            raise FpsimError(
                f"order: {list(self.order)} has not each of 0..{len(self.order) - 1} once"
            )


@dataclass(frozen=True)
class Beats:
    """A run of beats of one layout.

    ``elements`` per beat until the operands are through. Where it is None, only the other fields:
    once, or with ``scales`` codes of each operand per beat until all scales are through.
    """

    fields: Mapping[str, Wires]
    elements: int | None = None
    scales: int | None = None
    tie: Mapping[str, int] = field(default_factory=dict)  #: port: value, in these beats

    def __post_init__(self) -> None:
        check_known(self.fields, FIELDS, "field")
        for name in ("elements", "scales"):
            value = getattr(self, name)
            if value is not None and (not _is_int(value) or value < 1):
                raise FpsimError(f"{name}: {value!r} is not a positive integer")
        if self.elements is not None and self.scales is not None:
            raise FpsimError("scales: not beside elements, which have the scales they need")
        if self.scales is not None and not {"a_scale", "b_scale"} & set(self.fields):
            raise FpsimError("scales: given, but no a_scale or b_scale is in these beats")


@dataclass(frozen=True)
class Input:
    """How a vector goes in. Ports of one bit may be written ``!port``: active low."""

    beats: tuple[Beats, ...]
    valid: str | None = None  #: output of the bench; None: every clock is a beat
    ready: str | None = None
    first: str | None = None  #: marks the first beat of a vector
    last: str | None = None  #: marks the last one
    per_group: bool = False  #: the runs of beats repeat for every group of scales
    tie: Mapping[str, int] = field(default_factory=dict)  #: port: value, on every clock
    tie_rest: bool = False  #: inputs that nothing names are 0
    open: tuple[str, ...] = ()  #: inputs that nothing drives
    #: Clocks from one vector to the next at least, or ``result``: until its result is there.
    interval: int | str = 1
    delay: Mapping[str, int] = field(default_factory=dict)  #: port: clocks behind the rest

    def __post_init__(self) -> None:
        if self.ready is not None and self.valid is None:
            raise FpsimError("input.ready: given without input.valid")
        for port, clocks in self.delay.items():
            if not _is_int(clocks) or not 1 <= clocks <= 64:
                raise FpsimError(f"input.delay.{port}: {clocks!r} is not an integer in 1..64")
        waits = self.interval == WAITS
        if not waits and (not _is_int(self.interval) or not 1 <= self.interval <= 4096):  # type: ignore[operator]
            raise FpsimError(
                f"input.interval: {self.interval!r} is not an integer in 1..4096 or {WAITS!r}"
            )


@dataclass(frozen=True)
class Output:
    """How a result comes out.

    With ``valid`` it is there when that port says so, else ``latency`` clock edges after the beat
    that ends its vector was taken (0: before the edge that takes it).
    """

    acc: Wires | None  #: None where an adapter says what is expected, and of an operation
    valid: str | None = None
    ready: str | None = None
    latency: int | None = None
    answers: tuple[str, ...] = VECTOR_OPS  #: operations that a result comes for
    every_beat: bool = False  #: a result comes for every beat; the last of a vector counts
    beats: int = 1  #: clocks over which a result comes, its low bits first
    high_first: bool = False  #: its high bits come first
    find_latency: bool = False  #: the latency is found by trying
    parts: Mapping[str, Wires] = field(default_factory=dict)  #: results of an operation
    #: Wires of status flags beside ``acc``, by name (`fpsim.vectors.sets.status_flags`).
    flags: Mapping[str, Place] = field(default_factory=dict)
    flush: int = 0  #: vectors after the last one that push its result out

    def __post_init__(self) -> None:
        check_known(self.parts, RESULTS, "output")
        if self.acc is not None and self.parts:
            raise FpsimError(
                f"output.acc: not beside {', '.join(self.parts)}; it is the result of a unit"
            )
        if self.latency is not None and (not _is_int(self.latency) or not 0 <= self.latency < 4096):
            raise FpsimError(
                f"output.latency: {self.latency!r} is not an integer in 0..4095, or 'find'"
            )
        if not _is_int(self.flush) or not 0 <= self.flush <= 4096:
            raise FpsimError(f"output.flush: {self.flush!r} is not an integer in 0..4096")
        if not _is_int(self.beats) or not 1 <= self.beats <= 64:
            raise FpsimError(f"output.beats: {self.beats!r} is not an integer in 1..64")
        patterns = [pattern for pattern in self.acc.table if pattern >= 0] if self.acc else []
        if len(set(patterns)) < len(patterns):
            raise FpsimError(
                "output.acc.table: two codes have one pattern, so a result could not be read"
            )
        if self.beats > 1 and self.latency == 0:
            raise FpsimError("output.beats: several need a clock; latency is 0")
        if self.valid is not None and self.latency is not None:
            raise FpsimError("output.latency: not beside output.valid, which says when")
        if self.ready is not None and self.valid is None:
            raise FpsimError("output.ready: given without output.valid")
        check_known(self.answers, VECTOR_OPS, "output.answers")
        check_known(self.flags, FLAG_CODES, "output.flags")
        if self.flags and self.beats > 1:
            raise FpsimError("output.flags: not beside a result of several beats")

    @property
    def results(self) -> Mapping[str, Wires]:
        """Every result by its field: ``acc``, or the results of an operation."""
        return self.parts if self.acc is None else {"acc": self.acc}


@dataclass(frozen=True)
class Reset:
    """The reset port, held for ``clocks`` clock edges; an asynchronous one acts without them."""

    port: str
    active_low: bool
    synchronous: bool = False
    clocks: int = 2
    also: tuple[str, ...] = ()  #: ports held with it; ``!port`` is active low

    def __post_init__(self) -> None:
        if not _is_int(self.clocks) or not 1 <= self.clocks <= 4096:
            raise FpsimError(f"reset.clocks: {self.clocks!r} is not an integer in 1..4096")


@dataclass(frozen=True)
class Dut:
    """A design under test.

    ``ops`` says how the design is told an operation: a code on the field ``op``, values of ports,
    or `RESET_OP`. Operations that are not in it the design does not have. Empty: the design knows
    one operation, ``dot``.

    Raises:
        FpsimError: parts that do not fit together, naming the key.
    """

    top: str
    sources: tuple[Path, ...]
    input: Input
    output: Output
    clock: str | None = None  #: None: combinational
    falling: bool = False  #: the design works on falling clock edges
    clocks: tuple[str, ...] = ()  #: other ports that have the same clock
    reset: Reset | None = None
    ops: Mapping[str, int | Mapping[str, int] | str] = field(default_factory=dict)
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    defines: Mapping[str, int | str] = field(default_factory=dict)
    include: tuple[Path, ...] = ()
    k: int | None = None  #: elements per vector; None: what the unit does in a step
    group: int | None = None  #: elements per scale; None: the unit's
    adapter: str | None = None  #: ``file.py:Class``
    directory: Path = Path()  #: that ``adapter`` is relative to
    waive: tuple[str, ...] = ()  #: mistakes that vectors need not find
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: of simulators
    #: Memories inside the design, by their place below its top, and the file each is loaded from.
    memories: Mapping[str, Path] = field(default_factory=dict)
    #: What an interface port is made of, where that is more than its name: ``bus #(.W(8))``.
    interfaces: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()  #: that the design reads by name while it runs
    domain: Domain = field(default_factory=Domain)
    comparison: Comparison = field(default_factory=Comparison)
    lfsr: GaloisLfsr | None = None  #: that the design draws its random integers from

    def __post_init__(self) -> None:
        if not isinstance(self.top, str) or not _NAME.fullmatch(self.top):
            raise FpsimError(f"top: {self.top!r} is not a module name")
        check_known(self.ops, OPS, "ops")
        self._check_fields()
        if self.clock is None:
            self._check_combinational()
        elif self.output.valid is None and self.output.latency is None and not self.find_latency:
            raise FpsimError("output: neither valid nor latency says when a result is there")
        self._check_ops()
        for name in ("k", "group"):
            value = getattr(self, name)
            if value is not None and (not _is_int(value) or value < (name == "k")):
                raise FpsimError(f"{name}: {value!r} is not a positive integer")
        for path in self.files:
            if path.name in _OWN_FILES:
                raise FpsimError(f"files: a bench has a file of its own called {path.name!r}")
        if len({path.suffix in VHDL_SUFFIXES for path in self.sources}) > 1:
            raise FpsimError("sources: Verilog and VHDL together need a simulator of both")

    def _check_fields(self) -> None:
        made = {"input.beats": self.input.beats, "output.acc": self.output.acc, "ops": self.ops}
        if self.adapter is not None:
            for key, value in made.items():
                if value:
                    raise FpsimError(f"{key}: not beside an adapter, which makes the beats")
            return
        if self.output.parts:
            if self.ops or self.output.beats > 1:
                key = "ops" if self.ops else "output.beats"
                raise FpsimError(f"{key}: not of an operation; its vectors stand alone")
            return
        for name in ("x", "tensor_scale"):
            if self.carries(name):
                raise FpsimError(
                    f"input.beats.{name}: an input of operations, and output.acc is a unit's result"
                )
        for i, beats in enumerate(self.input.beats):
            if beats.elements is None and {"a", "b"} & set(beats.fields):
                raise FpsimError(
                    f"input.beats[{i}].elements: missing; beats with a or b need their number "
                    "per beat"
                )
        for operand in "ab":
            if not self.carries(operand):
                raise FpsimError(f"input.beats: no beat carries {operand}")
        if self.output.acc is None:
            raise FpsimError("output.acc: missing")

        if self.lfsr is not None and self.carries("random"):
            raise FpsimError("random.lfsr: not beside a port that carries random")

    def _check_combinational(self) -> None:
        ports = {"input.valid": self.input.valid, "input.ready": self.input.ready,
                 "output.valid": self.output.valid, "output.ready": self.output.ready,
                 "reset": self.reset, "output.latency": self.output.latency,
                 "input.interval": None if self.input.interval == 1 else self.input.interval,
                 "input.delay": self.input.delay or None, "output.flush": self.output.flush or None,
                 "output.beats": None if self.output.beats == 1 else 2}  # fmt: skip
        given = [name for name, value in ports.items() if value is not None]
        if given:
            raise FpsimError(f"{given[0]}: needs a clock, and the table [clock] is missing")

    def _check_ops(self) -> None:
        coded = any("op" in beats.fields for beats in self.input.beats)
        check_known(self.input.delay, set(self._driven_by_beats()), "input.delay")
        for name, value in self.ops.items():
            if isinstance(value, str):
                if value != RESET_OP:
                    raise FpsimError(
                        f"ops.{name}: {value!r} is not a code, a table of ports or 'reset'"
                    )
                if self.reset is None:
                    raise FpsimError(f"ops.{name}: 'reset', and the table [reset] is missing")
                if name != "clear":
                    raise FpsimError(f"ops.{name}: 'reset' clears; it can be ops.clear alone")
            elif isinstance(value, Mapping):
                check_values(value, f"ops.{name}")
            elif not _is_int(value) or value < 0:
                raise FpsimError(f"ops.{name}: {value!r} is not a code of at least 0")
            elif not coded:
                raise FpsimError(f"ops.{name}: a code, and no beat carries the field op")
        if coded and not any(_is_int(value) for value in self.ops.values()):
            raise FpsimError("ops: a beat carries the field op, and no operation has a code")
        if "read" in self.ops and self.output.every_beat:
            raise FpsimError("ops.read: a result leaves after the vector; not beside every_beat")
        if self.clock is None and set(self.ops) - {"dot", "next"}:
            raise FpsimError("ops: a combinational design has no state; allowed: dot")

    @property
    def vhdl(self) -> bool:
        """Whether the sources are VHDL."""
        return bool(self.sources) and self.sources[0].suffix in VHDL_SUFFIXES

    @property
    def find_latency(self) -> bool:
        """Whether the latency is to be found by trying."""
        return self.output.find_latency

    def with_latency(self, latency: int) -> Dut:
        """Return the design with a latency that was found."""
        return replace(self, output=replace(self.output, latency=latency, find_latency=False))

    def constant_ties(self) -> dict[str, int]:
        """Return the inputs that `Input.tie` holds and nothing else drives, with their values."""
        moved = set(self._driven_by_beats())
        return {port: value for port, value in self.input.tie.items() if port not in moved}

    def _driven_by_beats(self) -> Iterator[str]:
        for beats in self.input.beats:
            yield from beats.tie
            for wires in beats.fields.values():
                yield from (place.port for place in wires.places)
        for told in self.ops.values():
            yield from told if isinstance(told, Mapping) else ()

    def driven(self) -> dict[str, str]:
        """Return the inputs that the bench drives, each with its key in the TOML file."""
        found = dict.fromkeys(self._driven_by_beats(), "input.beats")
        found |= dict.fromkeys(self.input.tie, "input.tie")
        single = {"clock.port": self.clock, "reset.port": self.reset and self.reset.port,
                  "input.valid": self.input.valid, "input.first": self.input.first,
                  "input.last": self.input.last, "output.ready": self.output.ready}  # fmt: skip
        found |= {port.removeprefix("!"): key for key, port in single.items() if port}
        found |= dict.fromkeys(self.clocks, "clock.also")
        also = self.reset.also if self.reset else ()
        return found | {port.removeprefix("!"): "reset.also" for port in also}

    def compile_arguments(self, simulator: str) -> list[str]:
        """Return a simulator's command-line arguments: include folders, defines, options."""
        found = [f"-I{path}" for path in self.include]
        found += [f"-D{name}={value}" if value != "" else f"-D{name}"
                  for name, value in self.defines.items()]  # fmt: skip
        return found + list(self.arguments.get(simulator, ()))

    @property
    def known_ops(self) -> frozenset[str]:
        """Operations that the design has."""
        return frozenset(self.ops) & set(VECTOR_OPS) or frozenset({"dot"})

    def carries(self, name: str) -> bool:
        """Whether a port carries a field."""
        return any(name in beats.fields for beats in self.input.beats)


VHDL_SUFFIXES = frozenset({".vhd", ".vhdl"})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_known(names: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse the first name that is not known.

    Args:
        names: the names.
        known: the names that are allowed.
        where: field that an error names.

    Raises:
        FpsimError: such a name, with the nearest that is known.
    """
    allowed = list(known)
    for name in names:
        if name not in allowed:
            raise not_one_of(where, name, allowed)


def check_values(table: Mapping[str, Any], where: str) -> None:
    """Refuse a table with a bad port name, or a value that is no integer from 0 on."""
    for port, value in table.items():
        if not all(_NAME.fullmatch(part) for part in port.split(".")):
            raise FpsimError(f"{where}: {port!r} is not a port name")
        if not _is_int(value) or value < 0:
            raise FpsimError(f"{where}.{port}: {value!r} is not an integer of at least 0")
