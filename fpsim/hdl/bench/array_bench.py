# SPDX-License-Identifier: Apache-2.0
"""Tiles of matrix products through a systolic array: inputs beat by beat, and the results expected.

The tiles come from `fpsim.vectors`: random, of a model or of a training step. One larger than the
array is cut into several; rows and columns that it does not fill hold codes whose bits are all 1,
and their results are not compared. Sums of a weight-stationary array with fewer rows than K has
beats come back in the simulation itself, from its results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.stream_bench import (
    Feedback,
    InputStream,
    OutputStream,
    StreamRun,
    run_streams,
)
from fpsim.hdl.rtl.array import Dataflow, ProductShape, SystolicArray
from fpsim.hdl.rtl.array_text import array_ports, array_top
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.vectors.files.opened_set import OpenedSet, open_set

__all__ = ["ArrayReport", "ArrayTiles", "read_tiles", "run_tiles"]

Codes = NDArray[Any]
#: Most cells whose MACs Verilator compiles faster together with the array than apart.
FEW_CELLS = 6


@dataclass(frozen=True)
class ArrayTiles:
    """Tiles of one size, cut for an array: codes by tile, row or column, and beat of a MAC.

    Elements of a beat, and its scales, lie along the last axis.
    """

    shape: ProductShape  #: of each, K as a multiple of a MAC's elements
    names: tuple[str, ...]
    a: Codes  #: (T, M, beats, lanes)
    b: Codes  #: (T, N, beats, lanes)
    a_scale: Codes | None  #: (T, M, beats, scales)
    b_scale: Codes | None
    c: Codes  #: (T, M, N)
    sums: Codes  #: (T, M, N, beats): accumulators after each beat; -1 where no vector says
    bits: dict[str, int]  #: of a code, by field


@dataclass(frozen=True)
class ArrayReport:
    """Tiles that went through an array, and whether their results were right."""

    unit: str
    array: str
    dataflow: Dataflow
    simulator: str
    tiles: int
    shape: ProductShape
    run: StreamRun
    mismatch: str  #: the first mismatch in words; empty if there is none

    @property
    def passed(self) -> bool:
        """Whether every result came and was right."""
        return self.run.passed

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        run = self.run
        return {
            "unit": self.unit, "array": self.array, "dataflow": str(self.dataflow),
            "simulator": self.simulator, "tiles": self.tiles, "shape": str(self.shape),
            "passed": self.passed, "rows": run.results, "rows_expected": run.wanted,
            "mismatches": run.mismatches, "unexpected": run.unexpected, "clocks": run.clocks,
            "first": self.mismatch or None,
        }  # fmt: skip

    def __str__(self) -> str:
        run = self.run
        head = (
            f"{self.unit}, {self.array} {self.dataflow}, {self.simulator}: {self.tiles} tiles of "
            f"{self.shape}, {run.results} of {run.wanted} rows of results in {run.clocks} clocks"
        )
        if self.passed:
            return f"{head}, all match"
        lines = [head, f"  {run.mismatches} rows differ"]
        lines += [f"  first: {self.mismatch}"] * bool(self.mismatch)
        lines += [f"  {run.unexpected} rows that nobody expected"] * bool(run.unexpected)
        return "\n".join(lines)


def read_tiles(array: SystolicArray, directory: Path) -> ArrayTiles:
    """Read a set of tiles and cut it for an array.

    Args:
        array: the array.
        directory: a set that `fpsim.vectors.write` wrote.

    Returns:
        The tiles.

    Raises:
        FpsimError: a set of another unit or without tiles, one whose vectors are no whole beats of
            the MAC, one with addends where a cell's sum starts from +0, or one with operand codes
            that a table of the array has not.
    """
    opened = open_set(directory)
    tiles = opened.manifest.get("tiles")
    if "unit" not in opened.manifest or not isinstance(tiles, dict):
        raise FpsimError(
            f"vectors: {directory} has no tiles; fpsim vectors {array.spec.name} --tile "
            f"{array.size} --out DIR makes some"
        )
    record = opened.record
    if record.spec.canonical_name != array.spec.canonical_name:
        raise FpsimError(
            f"vectors: {directory} is of {record.spec.canonical_name}, not of "
            f"{array.spec.canonical_name}"
        )
    _check_fit(array, opened)
    m, n, beats = (int(tiles[name]) for name in ("m", "n", "beats"))
    count, lanes = len(opened.sections), array.lanes
    grid = {name: x.reshape(count, m, n, beats, -1) for name, x in opened.columns().items()}
    per_vector = record.k // lanes
    c = grid["c"][:, :, :, 0, 0]
    if array.dataflow is Dataflow.OUTPUT_STATIONARY and c.any():
        where = next(s.name for s, tile in zip(opened.sections, c, strict=True) if tile.any())
        raise FpsimError(
            f"c: {where} has addends, but sums of an output-stationary array start from +0; "
            f"allowed: --dataflow {Dataflow.WEIGHT_STATIONARY}, or tiles without addends"
        )
    sums = np.full((count, m, n, beats * per_vector), -1, dtype=object)
    sums[..., per_vector - 1 :: per_vector] = grid["acc"][..., 0]

    def cut(name: str) -> Codes:
        part = grid[name][:, :, 0] if name == "a" else grid[name][:, 0]
        if name in array.tables:
            part = _stored(part, name, array.tables[name], opened)
        return np.asarray(part.reshape(*part.shape[:2], beats * per_vector, lanes))

    def scales(name: str) -> Codes | None:
        if not array.has_scales:
            return None
        codes = grid[f"{name}_scale"]
        part = codes[:, :, 0] if name == "a" else codes[:, 0]
        split = 1 + record.spec.splits(name)
        each = part.reshape(*part.shape[:3], -1, split)
        at = np.arange(0, record.k, array.scaled_elements) // record.group
        return np.asarray(each[..., at, :].reshape(*part.shape[:2], beats * per_vector, -1))

    bits = {f: record.format_of(f).bits for f in ("a_scale", "b_scale", "acc")}
    bits |= {name: array.operand_bits(name) for name in "ab"}
    shape = ProductShape(m, n, beats * record.k)
    names = tuple(section.name for section in opened.sections)
    return ArrayTiles(shape, names, cut("a"), cut("b"), scales("a"), scales("b"), c, sums, bits)


def _stored(codes: Codes, name: str, table: CodeTable, opened: OpenedSet) -> Codes:
    """Return the storage codes of an operand's codes, tile after tile."""
    found = np.array(table.patterns)[codes.astype(np.int64)]
    if (found < 0).any():
        tile, *_ = np.argwhere(found < 0)[0]
        code = int(codes[found < 0][0])
        raise FpsimError(
            f"{name}: {opened.sections[tile].name} has the code {code:#x}, which {table.name} has "
            f"not; fpsim vectors --tile with --{name}-table {table.name} makes tiles of its codes"
        )
    return found


def _check_fit(array: SystolicArray, opened: OpenedSet) -> None:
    record, lanes = opened.record, array.lanes
    if not array.adds_by_beat and int(opened.manifest["tiles"]["beats"]) > 1:
        raise FpsimError(
            f"k: sums of {array.spec.name} end with a vector, so tiles are to have one for all of "
            f"K; give fpsim vectors --k {opened.manifest['tiles']['k']}"
        )
    if record.k % lanes:
        raise FpsimError(
            f"k: vectors of {record.k} elements are no whole beats of {lanes}, which a MAC of "
            f"{array.spec.name} takes"
        )
    if record.group and not array.has_scales:
        raise FpsimError(
            f"group: {opened.directory} has scales, and MACs of this array take none; "
            + ("add --scaled" if array.spec.block is None else "use tiles without scales")
        )
    if array.has_scales and not record.group:
        raise FpsimError(f"group: {opened.directory} has no scales, which this array's MACs take")
    if array.has_scales and record.group % array.scaled_elements:
        raise FpsimError(
            f"group: scales of {record.group} elements do not fit the {array.scaled_elements} that "
            "share one in a MAC"
        )


def run_tiles(
    array: SystolicArray,
    directory: Path,
    tool: Simulator,
    build: Path,
    *,
    stall: float = 0.0,
    hold: float | None = None,
    seed: int = 1,
    top: RtlTop | None = None,
) -> ArrayReport:
    """Send a set of tiles through an array in a simulator.

    Args:
        array: the array.
        directory: the set.
        tool: the simulator.
        build: where the design is compiled.
        stall: share of clocks, in 0..1, without a beat offered.
        hold: share of clocks without a result taken; None: as many as ``stall``.
        seed: of the random choice of both.
        top: sources to use instead of the array's.

    Returns:
        The report.

    Raises:
        FpsimError: a set of another unit or without tiles, one whose vectors are no whole beats of
            the MAC, or one with addends where a cell's sum starts from +0.
        SimulationFailed: the simulator refuses the design, or a simulation does not end well.
    """
    tiles = read_tiles(array, directory)
    made = (
        _output_stationary if array.dataflow is Dataflow.OUTPUT_STATIONARY else _weight_stationary
    )
    inputs, output, places = made(array, tiles)
    build = build.resolve()  # simulators run elsewhere
    top = top or array_top(array, build)
    # Compiling the MAC apart pays where it would be compiled many times over.
    apart = (array.mac.name,) if array.rows * array.columns > FEW_CELLS else ()
    run = run_streams(
        top, inputs, output, tool, build, stall=stall, hold=hold, seed=seed, apart=apart
    )
    shown = ""
    if run.first is not None:
        index, expected, seen = run.first
        width = tiles.bits["acc"]
        unknown = [j for j in range(array.columns) if _lane(seen, j, width) is None]
        for j in unknown or range(array.columns):
            mask = output.compared[index] >> (j * width) & ((1 << width) - 1)
            want, got = expected >> (j * width) & mask, _lane(seen, j, width)
            if mask and got != want:
                told = "unknown" if got is None else f"{got:#x}"
                shown = f"{places[index]}, column {j} of it: expected {want:#x}, seen {told}"
                break
    return ArrayReport(
        array.spec.name, array.size, array.dataflow, str(tool), len(tiles.names), tiles.shape,
        run, shown,
    )  # fmt: skip


def _lane(text: str, lane: int, width: int) -> int | None:
    """Return the bits of a lane of a hexadecimal number, None where one of them is unknown."""
    bits = "".join("x" * 4 if digit in "xXzZ" else f"{int(digit, 16):04b}" for digit in text)
    part = bits[::-1][lane * width : (lane + 1) * width][::-1]
    return None if "x" in part else int(part or "0", 2)


def _packed(codes: Codes, bits: int, places: int) -> list[int]:
    """Return (beats) integers of (places' share, beats, lanes) codes, place 0 and lane 0 low."""
    if codes.shape[0] < places:
        missing = (places - codes.shape[0], *codes.shape[1:])
        fill = np.full(missing, (1 << bits) - 1, dtype=codes.dtype)
        codes = np.concatenate([codes, fill])
    rows = codes.transpose(1, 0, 2).reshape(codes.shape[1], -1)
    return [sum(int(code) << (i * bits) for i, code in enumerate(row)) for row in rows]


def _expected(sums: Codes, bits: int) -> tuple[int, int]:
    """Return a word of a row of sums, and the mask of the known sums."""
    word = mask = 0
    for j, code in enumerate(sums):
        if code >= 0:
            word |= int(code) << (j * bits)
            mask |= ((1 << bits) - 1) << (j * bits)
    return word, mask


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _joined(parts: list[tuple[list[int], int]]) -> list[int]:
    """Return words of several fields, the first in the low bits, from their words and widths."""
    words = [0] * len(parts[0][0])
    low = 0
    for column, width in parts:
        words = [word | value << low for word, value in zip(words, column, strict=True)]
        low += width
    return words


def _output_stationary(
    array: SystolicArray, tiles: ArrayTiles
) -> tuple[list[InputStream], OutputStream, list[str]]:
    ports = array_ports(array)
    beats: list[int] = []
    expected: list[int] = []
    compared: list[int] = []
    places: list[str] = []
    names = ["a_i", "b_i", *["a_scale_i", "b_scale_i"] * array.has_scales, "last_i"]
    for t, label in enumerate(tiles.names):
        for rows in _parts(tiles.shape.m, array.rows):
            for columns in _parts(tiles.shape.n, array.columns):
                part = _operands(array, tiles, t, rows, columns)
                part["last_i"] = [0] * (tiles.a.shape[2] - 1) + [1]
                beats += _joined([(part[name], ports.inputs[name]) for name in names])
                for i in range(array.rows):
                    row = rows.start + i
                    part_of = columns if row < rows.stop else slice(0)  # no row: nothing is known
                    there = tiles.sums[t, min(row, tiles.shape.m - 1), part_of, -1]
                    word, mask = _expected(there, tiles.bits["acc"])
                    expected.append(word)
                    compared.append(mask)
                    places.append(f"{label}, row {row}, columns from {columns.start}")
    stream = InputStream(
        "beats", "valid_i", "ready_o", {name: ports.inputs[name] for name in names}, beats
    )
    return [stream], _results(ports.outputs, expected, compared), places


def _operands(
    array: SystolicArray, tiles: ArrayTiles, t: int, rows: slice, columns: slice
) -> dict[str, list[int]]:
    bits, found = tiles.bits, {}
    found["a_i"] = _packed(tiles.a[t, rows], bits["a"], array.rows)
    found["b_i"] = _packed(tiles.b[t, columns], bits["b"], array.columns)
    if tiles.a_scale is not None and tiles.b_scale is not None:
        found["a_scale_i"] = _packed(tiles.a_scale[t, rows], bits["a_scale"], array.rows)
        found["b_scale_i"] = _packed(tiles.b_scale[t, columns], bits["b_scale"], array.columns)
    return found


def _results(outputs: dict[str, int], expected: list[int], compared: list[int]) -> OutputStream:
    return OutputStream("valid_o", "ready_i", {"acc_o": outputs["acc_o"]}, expected, compared)


def _weight_stationary(
    array: SystolicArray, tiles: ArrayTiles
) -> tuple[list[InputStream], OutputStream, list[str]]:
    ports, bits = array_ports(array), tiles.bits
    length, m, n = tiles.a.shape[2], tiles.shape.m, tiles.shape.n
    across = list(_parts(n, array.columns))
    scaled = array.has_scales
    names = ["a_i", *["a_scale_i"] * scaled, "c_i", "last_i"]
    weight_names = ["b_i", *["b_scale_i"] * scaled, "b_use_i"]
    beats: list[int] = []
    weights: list[int] = []
    expected: list[int] = []
    compared: list[int] = []
    places: list[str] = []
    for t, label in enumerate(tiles.names):
        for along in _parts(length, array.rows):
            for columns in across:
                used = along.stop - along.start
                # Row i of MACs takes beat along.start + i: beats lie where rows of A lay.
                turned = {
                    "a_i": _packed(tiles.a[t, :, along].transpose(1, 0, 2), bits["a"], array.rows),
                    "b_i": _packed(tiles.b[t, columns, along], bits["b"], array.columns),
                }
                if tiles.a_scale is not None and tiles.b_scale is not None:
                    scales = tiles.a_scale[t, :, along].transpose(1, 0, 2)
                    turned["a_scale_i"] = _packed(scales, bits["a_scale"], array.rows)
                    scales = tiles.b_scale[t, columns, along]
                    turned["b_scale_i"] = _packed(scales, bits["b_scale"], array.columns)
                idle = array.rows - used
                rows_down = {
                    name: [(1 << ports.inputs[name]) - 1] * idle + turned[name][::-1]
                    for name in weight_names[:-1]
                }
                rows_down["b_use_i"] = [0] * idle + [1] * used
                weights += _joined([(rows_down[name], ports.inputs[name]) for name in weight_names])
                start = along.start == 0
                turned["c_i"] = [
                    _expected(tiles.c[t, row, columns], bits["acc"])[0] if start else 0
                    for row in range(m)
                ]
                turned["last_i"] = [0] * (m - 1) + [1]
                fields = [(turned[name], ports.inputs[name]) for name in names]
                beats += _joined([*fields, ([int(start)] * m, 1)])
                for row in range(m):
                    word, mask = _expected(tiles.sums[t, row, columns, along.stop - 1], bits["acc"])
                    expected.append(word)
                    compared.append(mask)
                    places.append(
                        f"{label}, row {row}, columns from {columns.start}, K up to "
                        f"{along.stop * array.lanes}"
                    )
    widths = {name: ports.inputs[name] for name in names}
    low = sum(widths[name] for name in names[: names.index("c_i")])
    back = Feedback(low, len(across) * m)
    inputs = [
        InputStream(
            "weights", "b_valid_i", "b_ready_o",
            {name: ports.inputs[name] for name in weight_names}, weights,
        ),
        InputStream("beats", "valid_i", "ready_o", widths, beats, back),
    ]  # fmt: skip
    return inputs, _results(ports.outputs, expected, compared), places
