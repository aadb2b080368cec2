# SPDX-License-Identifier: Apache-2.0
"""Emits the loop over K of one register tile: addresses, loads, terms, steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fpsim.kernels.lanes.block_sums import block_sums
from fpsim.kernels.lanes.random import LoadedIntegers, SeededBytes, SeededIntegers
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.steps import GroupStep
from fpsim.kernels.lanes.tiles import AnyStep, Source, Tile, turn
from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, HALF, Lanes, Vec, splat

__all__ = ["build_tile"]

#: Terms per turn of a loop over a step's terms.
FOLDED = 8
_INDEX = ir.IntType(64)


class Pointers(NamedTuple):
    """The arrays of a tile; see `fpsim.kernels.lanes.matmul_driver.gemm`."""

    a: Any
    b: Any
    c: Any
    reals: Any
    integers: Any
    random: Any
    x: Any
    y: Any
    x_powers: Any
    y_powers: Any
    starts: Any


class Sizes(NamedTuple):
    """Where a tile is, and how large the arrays are."""

    row: Any
    column: Any
    depth: Any  #: K
    columns: Any  #: N
    rows: Any  #: M


class Emitter:
    """Addresses, loads and terms of one tile, while its loop is built."""

    def __init__(
        self, step: AnyStep, source: Source, tile: Tile, builder: Any, pointers: Any, sizes: Any
    ) -> None:
        self.step, self.source, self.tile, self.builder = step, source, tile, builder
        self.lanes = Lanes(builder, step.real, tile.lanes)
        self.at = Pointers(*pointers)
        self.size = Sizes(*sizes)
        self.length = builder.udiv(self.size.depth, number(source.per_word))
        self.groups = builder.udiv(self.size.depth, number(source.size))
        self.rounds = self.mul(self.groups, number(source.quadrants))
        self.cells = [(r, v) for r in range(tile.rows) for v in range(tile.vectors)]

    def add(self, *terms: Any) -> Any:
        """Return the sum of indices."""
        total = terms[0]
        for term in terms[1:]:
            total = self.builder.add(total, term)
        return total

    def mul(self, x: Any, y: Any) -> Any:
        """Return the product of indices."""
        return self.builder.mul(x, y)

    def load_vector(self, pointer: Any, index: Any) -> Any:
        """Load the vector that starts at an index."""
        kind = ir.VectorType(pointer.type.pointee, self.tile.lanes)
        where = self.builder.bitcast(self.builder.gep(pointer, [index]), kind.as_pointer())
        return self.builder.load(where, align=_bytes(kind.element))

    def load_splat(self, pointer: Any, index: Any) -> Any:
        """Load a scalar into all lanes."""
        kind = ir.VectorType(pointer.type.pointee, self.tile.lanes)
        return splat(self.builder, self.builder.load(self.builder.gep(pointer, [index])), kind)

    def real(self, value: Any) -> Vec:
        """Return a vector of floats."""
        return Vec(self.lanes, value, False)

    def cell_pointer(self, r: int, v: int) -> Any:
        """Return the address of a cell of ``c``."""
        start = self.mul(self.add(self.size.row, number(r)), self.size.columns)
        index = self.add(start, self.size.column, number(v * self.tile.lanes))
        return self.builder.bitcast(
            self.builder.gep(self.at.c, [index]), self.lanes.real_type.as_pointer()
        )

    def row_element(
        self, cell: tuple[int, int], k: Any, plane: int = 0, powers: bool = False
    ) -> Any:
        """Load entry ``k`` of a row of ``a`` (or of its powers) into all lanes, or of its pairs."""
        pointer = self.at.x_powers if powers else self.at.a
        if self.source.paired:
            return self._panel_entries(pointer, cell[1], k, plane)
        row = self.add(self.size.row, number(cell[0]))
        if plane:
            row = self.add(row, self.mul(self.size.rows, number(plane)))
        return self.load_splat(pointer, self.add(self.mul(row, self.length), k))

    def panel_vector(self, v: int, k: Any, plane: int = 0, powers: bool = False) -> Any:
        """Load entry ``k`` of the columns of a vector from the panels of ``b`` (or its powers)."""
        return self._panel_entries(self.at.y_powers if powers else self.at.b, v, k, plane)

    def _panel_entries(self, pointer: Any, v: int, k: Any, plane: int) -> Any:
        start = self.mul(self.size.column, self.length)
        if plane:
            whole = self.mul(self.length, self.size.columns)
            start = self.add(start, self.mul(whole, number(plane)))
        column = self.add(self.mul(k, number(self.tile.columns)), number(v * self.tile.lanes))
        return self.load_vector(pointer, self.add(start, column))

    def block_start(self, r: int, block: Any, plane: int) -> Any:
        """Load the integer that a row's sum of a block starts at into all lanes."""
        row = self.add(self.size.row, number(r), self.mul(self.size.rows, number(plane)))
        return self.load_splat(self.at.starts, self.add(self.mul(row, self.groups), block))

    def row_scale(self, pointer: Any, cell: tuple[int, int], group: Any, sign: int) -> Vec:
        """Load the scale of a block of a row into all lanes, or those of its pairs."""
        signs = self.source.a_signs
        if self.source.paired:
            return self._panel_scales(pointer, cell[1], group, signs, sign)
        row = self.mul(self.add(self.size.row, number(cell[0])), self.groups)
        index = self.add(self.mul(self.add(row, group), number(signs)), number(sign))
        return self.real(self.load_splat(pointer, index))

    def panel_scale(self, pointer: Any, v: int, group: Any, sign: int) -> Vec:
        """Load the scales of a block of the columns of a vector."""
        return self._panel_scales(pointer, v, group, self.source.b_signs, sign)

    def _panel_scales(self, pointer: Any, v: int, group: Any, signs: int, sign: int) -> Vec:
        width = self.tile.columns
        start = self.mul(self.mul(self.size.column, self.groups), number(signs))
        within = self.add(self.mul(group, number(signs)), number(sign))
        column = self.add(self.mul(within, number(width)), number(v * self.tile.lanes))
        return self.real(self.load_vector(pointer, self.add(start, column)))

    def random_words(self, cell: tuple[int, int], rounding: Any) -> Any:
        """Load what there is for a cell's columns: streams (M, 1, N), or integers (M, T, N)."""
        row = self.add(self.size.row, number(cell[0]))
        if rounding is not None:
            row = self.add(self.mul(row, self.rounds), rounding)
        first = self.add(self.size.column, number(cell[1] * self.tile.lanes))
        return self.load_vector(self.at.random, self.add(self.mul(row, self.size.columns), first))


class Terms:
    """The terms of one step, for one cell; see `fpsim.kernels.lanes.steps.TermSource`."""

    def __init__(
        self, emitter: Emitter, cell: tuple[int, int], k: Any, sums: Any, first: int = 0
    ) -> None:
        self._emit, self._cell = emitter, cell
        self._k, self._sums, self._first = k, sums, first

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return two vectors whose product is term ``i``."""
        emit, cell = self._emit, self._cell
        if not emit.source.block:
            k = self._element(i)
            return emit.real(emit.row_element(cell, k)), emit.real(emit.panel_vector(cell[1], k))
        index, group, a_sign, b_sign = self._block(i)
        scale = emit.row_scale(emit.at.x, cell, group, a_sign) * emit.panel_scale(
            emit.at.y, cell[1], group, b_sign
        )
        return self._sums[index][*cell, a_sign, b_sign], scale

    def power(self, i: Any) -> Vec:
        """Return 2^e of term ``i``; 0 if it does not count."""
        emit, cell = self._emit, self._cell
        if not emit.source.block:
            k = self._element(i)
            x = emit.real(emit.row_element(cell, k, powers=True))
            return x * emit.real(emit.panel_vector(cell[1], k, powers=True))
        _, group, a_sign, b_sign = self._block(i)
        x = emit.row_scale(emit.at.x_powers, cell, group, a_sign)
        return x * emit.panel_scale(emit.at.y_powers, cell[1], group, b_sign)

    def fold(
        self, terms: range, start: tuple[Vec, ...], add: Callable[..., tuple[Vec, ...]]
    ) -> tuple[Vec, ...]:
        """Return what ``add(i, *values)`` makes of the values at the start, term after term."""
        looped = 0 if self._emit.source.block else len(terms) // FOLDED * FOLDED
        values = self._loop(terms[:looped], start, add) if looped > FOLDED else start
        for i in terms[looped if looped > FOLDED else 0 :]:
            values = add(i, *values)
        return values

    def _loop(
        self, terms: range, start: tuple[Vec, ...], add: Callable[..., tuple[Vec, ...]]
    ) -> tuple[Vec, ...]:
        """Fold in a loop of `FOLDED` terms a turn."""
        emit, builder = self._emit, self._emit.builder
        before, body = builder.block, builder.append_basic_block("terms")
        after = builder.append_basic_block("folded")
        builder.branch(body)
        builder.position_at_end(body)
        first = builder.phi(_INDEX)
        first.add_incoming(number(terms.start), before)
        carried = tuple(
            Vec(value.lanes, builder.phi(value.value.type), value.integer) for value in start
        )
        values = carried
        for i in range(FOLDED):
            values = add(emit.add(first, number(i * terms.step)), *values)
        following = emit.add(first, number(FOLDED * terms.step))
        last = builder.block
        first.add_incoming(following, last)
        for phi, value, result in zip(carried, start, values, strict=True):
            phi.value.add_incoming(value.value, before)
            phi.value.add_incoming(result.value, last)
        builder.cbranch(builder.icmp_signed("<", following, number(terms.stop)), body, after)
        builder.position_at_end(after)
        return values

    def _element(self, i: Any) -> Any:
        """Return where term ``i`` stands in K, if terms are products."""
        emit = self._emit
        return emit.add(self._k, number(self._first), number(i) if isinstance(i, int) else i)

    def _block(self, i: int) -> tuple[int, Any, int, int]:
        source = self._emit.source
        index, quadrant = divmod(self._first + i, source.quadrants)
        first = self._emit.builder.udiv(self._k, number(source.size))
        a_sign, b_sign = divmod(quadrant, source.b_signs)
        return index, self._emit.add(first, number(index)), a_sign, b_sign


def _random_source(
    emit: Emitter, step: AnyStep, parameters: Parameters
) -> LoadedIntegers | SeededIntegers | None:
    """Return where random integers come from, if the step takes any."""
    if isinstance(step, GroupStep) or not step.random:
        return None
    kind: Any = SeededBytes if step.bytes else SeededIntegers if step.seeded else LoadedIntegers
    source: LoadedIntegers | SeededIntegers
    source = kind(emit.lanes, emit.cells, emit.random_words, parameters)
    return source


def _bytes(kind: Any) -> int:
    """Return how many bytes an element takes."""
    widths: dict[Any, int] = {HALF: 2, FLOAT: 4, DOUBLE: 8}
    return widths[kind] if kind in widths else kind.width // 8


def number(value: int) -> Any:
    """Return an index constant."""
    return ir.Constant(_INDEX, value)


def build_tile(
    step: AnyStep, source: Source, tile: Tile, builder: Any, pointers: Any, sizes: Any
) -> None:
    """Emit the loop over K of one tile; see `matmul_driver.gemm` for the arrays."""
    emit = Emitter(step, source, tile, builder, pointers, sizes)
    load = emit.load_splat
    parameters = Parameters(
        {n: emit.real(load(emit.at.reals, number(i))) for i, n in enumerate(step.reals)},
        {
            n: Vec(emit.lanes, load(emit.at.integers, number(i)), True)
            for i, n in enumerate(step.integers)
        },
    )
    random = _random_source(emit, step, parameters)
    targets = {cell: emit.cell_pointer(*cell) for cell in emit.cells}
    align = emit.lanes.bits // 8
    initial = {cell: builder.load(targets[cell], align=align) for cell in emit.cells}
    before, body = builder.block, builder.append_basic_block("k")
    after = builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_INDEX)
    k.add_incoming(number(0), before)
    acc = {cell: builder.phi(emit.lanes.real_type) for cell in emit.cells}
    for cell in emit.cells:
        acc[cell].add_incoming(initial[cell], before)

    if random is not None:
        random.enter(before)
    count = turn(step, source)
    sums = []
    if source.block:
        for start in range(0, count, source.size):
            sums.append(block_sums(emit, emit.add(k, number(start))))
    values = {cell: Vec(emit.lanes, acc[cell], False) for cell in emit.cells}
    for first in range(0, count // source.size * source.quadrants, step.terms):
        bits: dict[tuple[int, int], Any] = {}
        if random is not None:
            term = emit.mul(builder.udiv(k, number(source.size)), number(source.quadrants))
            bits = random.take(emit.add(term, number(first)))
        for cell in emit.cells:
            terms = Terms(emit, cell, k, sums, first)
            if isinstance(step, GroupStep):
                values[cell] = step.build(values[cell], terms, parameters)
            else:
                pair = terms.pair(0)
                values[cell] = step.build(values[cell], *pair, parameters, bits.get(cell))

    following = emit.add(k, number(count))
    last = builder.block
    k.add_incoming(following, last)
    for cell in emit.cells:
        acc[cell].add_incoming(values[cell].value, last)
    if random is not None:
        random.leave(last)
    builder.cbranch(builder.icmp_signed("<", following, emit.size.depth), body, after)
    builder.position_at_end(after)
    for cell in emit.cells:
        builder.store(values[cell].value, targets[cell], align=align)
