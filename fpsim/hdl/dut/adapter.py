# SPDX-License-Identifier: Apache-2.0
"""Designs that a table of ports cannot describe: a Python class makes their beats.

    class MyAdapter(fpsim.hdl.Adapter):
        inputs = {"data": 8, "start": 1}           # port: bits
        outputs = {"sum": 16}

        def beats(self, vector):                   # a list of beats: port: value
            return [{"data": code, "start": 0} for code in vector["a"]]

        def result(self, vector):                  # right outputs after the last: port: value
            return {"sum": vector["acc"]}

An adapter runs before the simulation, so it works with every bench and never slows a clock.
"""

from __future__ import annotations

import importlib.util
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField, Mark
from fpsim.hdl.bench.operation_beats import OperationSerialiser
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.stimulus import BeatWriter
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.units.spec import MacSpec
from fpsim.vectors import Op
from fpsim.vectors.sets.record import Columns

__all__ = ["Adapter", "adapter_ports", "beat_writer"]

Vector = Mapping[str, Any]


class Adapter(ABC):
    """Beats of a design, one vector at a time; the module shows an example.

    A vector is a dictionary: ``op`` (an `fpsim.vectors.Op`), ``a``, ``b``, ``a_scale``, ``b_scale``
    (lists of codes, element 0 first), ``c`` and ``acc`` (codes).
    """

    #: Ports that beats drive, with their bits. The first beat drives all of them.
    inputs: ClassVar[Mapping[str, int]] = {}
    #: Ports that results are compared on, with their bits.
    outputs: ClassVar[Mapping[str, int]] = {}

    def __init__(self, spec: MacSpec, k: int, group: int) -> None:
        self.spec, self.k, self.group = spec, k, group

    def takes(self, vector: Vector) -> bool:
        """Return whether the design can be told a vector; by default dot products only."""
        return bool(vector["op"] == Op.DOT)

    @abstractmethod
    def beats(self, vector: Vector) -> Sequence[Mapping[str, int]]:
        """Return the beats of a vector, at least one; ports that a beat leaves out are 0."""

    @abstractmethod
    def result(self, vector: Vector) -> Mapping[str, int]:
        """Return the values of the outputs that are right after the last beat."""

    def code(self, seen: Mapping[str, int]) -> int:
        """Return the accumulator code that the outputs carry; by default the first output."""
        return next(iter(seen.values()))


class _AdaptedWriter:
    """The writer of lines that asks an adapter for beats and results."""

    def __init__(self, adapter: Adapter, where: str) -> None:
        self.adapter, self.where = adapter, where
        at = 1
        groups: list[tuple[LineField, ...]] = []
        for ports in (adapter.inputs, adapter.outputs):
            fields = []
            for port, width in ports.items():
                if not isinstance(width, int) or width < 1:
                    raise FpsimError(f"{where}: port {port} has {width!r} bits, not 1 or more")
                stop = at + -(-width // 4)
                fields.append(LineField(port, width, True, (1 << width) - 1, at, stop))
                at = stop
            groups.append(tuple(fields))
        self.inputs, self.outputs = groups
        if not self.inputs or not self.outputs:
            raise FpsimError(f"{where}: inputs or outputs names no port")
        self.length = at + 1

    def select(self, columns: Columns, synchronous: bool) -> tuple[NDArray[np.bool_], bool]:
        kept = [bool(self._asked("takes", (bool, np.bool_), "true or false", v))
                for v in _vectors(columns)]  # fmt: skip
        return np.array(kept, dtype=bool), synchronous

    def left_out(self, columns: Columns, keep: NDArray[np.bool_]) -> dict[str, int]:
        return {f"are not taken by {self.where}": int((~keep).sum())}

    def compared(self, columns: Columns) -> NDArray[np.bool_]:
        return np.ones(columns["op"].size, dtype=bool)

    def lines(self, columns: Columns) -> NDArray[np.uint8]:
        text = "".join(line for vector in _vectors(columns) for line in self._lines(vector))
        return np.frombuffer(text.encode(), dtype=np.uint8).reshape(-1, self.length)

    def _lines(self, vector: Vector) -> list[str]:
        beats = list(self._asked("beats", Sequence, "a list of beats", vector))
        if not beats:
            raise FpsimError(f"{self.where}: a vector has no beats")
        for beat in beats:
            if not isinstance(beat, Mapping):
                raise FpsimError(f"{self.where}: beats returned {_short(beat)}, not port: value")
        lines = []
        for i, beat in enumerate(beats):
            last = i == len(beats) - 1
            marks = (Mark.ANSWER | Mark.COMPARE) if last else Mark(0)
            marks |= Mark.FREE if i == 0 and vector["op"] != Op.MAC else Mark(0)
            wanted = ("result", Mapping, "port: value")
            result = self._asked(*wanted, vector) if last else {}
            parts = [f"{int(marks):x}", *self._digits(self.inputs, beat)]
            lines.append("".join([*parts, *self._digits(self.outputs, result), "\n"]))
        return lines

    def _asked(self, method: str, kind: Any, what: str, given: Any) -> Any:
        """Call a method of the adapter and check its answer.

        Raises:
            FpsimError: it raises, or answers something of another kind.
        """
        try:
            found = getattr(self.adapter, method)(given)
        except FpsimError:
            raise
        except Exception as error:  # whatever a user's method raises
            said = " ".join(str(error).split())[:200]
            raise FpsimError(
                f"{self.where}: {method} raises {type(error).__name__}: {said}"
            ) from error
        if not isinstance(found, kind) or isinstance(found, str):
            raise FpsimError(f"{self.where}: {method} returned {_short(found)}, not {what}")
        return found

    def _digits(self, fields: Sequence[LineField], values: Mapping[str, int]) -> list[str]:
        unknown = set(values) - {f.port for f in fields}
        if unknown:
            raise FpsimError(f"{self.where}: {sorted(unknown)[0]!r} is none of its ports")
        digits = []
        for f in fields:
            given = values.get(f.port, 0)
            try:
                value = operator.index(given)
            except TypeError:
                raise FpsimError(
                    f"{self.where}: {f.port} = {_short(given)} is no integer"
                ) from None
            if not 0 <= value < 1 << f.width:
                raise FpsimError(f"{self.where}: {f.port} = {value} does not fit {f.width} bits")
            digits.append(f"{value:0{f.stop - f.start}x}")
        return digits

    def seen_code(self, seen: dict[str, str]) -> int | None:
        if not all(set(bits) <= {"0", "1"} for bits in seen.values()):
            return None
        wires = {port: int(bits, 2) for port, bits in seen.items()}
        return int(self._asked("code", (int, np.integer), "a code", wires))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _vectors(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def beat_writer(dut: Dut, source: VectorSource) -> BeatWriter:
    """Return the writer of a design's beats: its adapter, or the serialiser.

    Raises:
        FpsimError: an adapter that cannot be loaded or is not for operations, lengths that do not
            fill the beats, or places that do not fit their fields.
    """
    if source.operation is not None:
        if dut.adapter is not None:
            raise FpsimError("adapter: not for designs of operations; map their ports")
        return OperationSerialiser(dut, source.operation)
    if dut.adapter is None:
        return Serialiser(dut, source.spec, source.k, source.group)
    kind = _load(dut.adapter, dut.directory)
    where = f"adapter: {dut.adapter}"
    try:
        made = kind(source.spec, source.k, source.group)
    except Exception as error:  # whatever a user's class raises
        raise FpsimError(f"{where}: raises {type(error).__name__}: {error}") from error
    return _AdaptedWriter(made, where)


def adapter_ports(dut: Dut) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the ports that a design's adapter drives and reads; none without an adapter.

    Raises:
        FpsimError: an adapter that cannot be loaded.
    """
    if dut.adapter is None:
        return {}, {}
    kind = _load(dut.adapter, dut.directory)
    return kind.inputs, kind.outputs


def _load(name: str, directory: Path) -> type[Adapter]:
    file, _, kind = name.rpartition(":")
    path = directory / file
    if not file or not path.is_file():
        raise FpsimError(f"adapter: {name!r} is not file.py:Class with a file in {directory}")
    spec = importlib.util.spec_from_file_location(f"fpsim_adapter_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise FpsimError(f"adapter: {path} raises {type(error).__name__}: {error}") from error
    found = getattr(module, kind, None)
    if not isinstance(found, type) or not issubclass(found, Adapter):
        raise FpsimError(f"adapter: {path} has no class {kind!r} derived from fpsim.hdl.Adapter")
    missing = sorted(found.__abstractmethods__)
    if missing:
        raise FpsimError(f"adapter: {kind} in {path} does not define {', '.join(missing)}")
    return found
