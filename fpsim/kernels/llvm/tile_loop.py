# SPDX-License-Identifier: Apache-2.0
"""Emits the loop over K of one register tile: addresses, loads, terms, steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from fpsim.kernels.llvm.block_sums import block_sums
from fpsim.kernels.llvm.random import (
    SEEDED_INTEGERS,
    LoadedIntegers,
    SeededBytes,
    SeededIntegers,
)
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import Fold, Folding, RandomSource, Source, Tile, turn
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, HALF, Lanes, Vec, splat

__all__ = ["build_tile", "cell_results"]

#: Terms per turn of a loop over a step's terms.
FOLDED = 8
_INDEX = ir.IntType(64)
Cell = tuple[int, int]


class Pointers(NamedTuple):
    """The arrays of a tile; see `fpsim.kernels.llvm.matmul_driver.gemm`."""

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
        self, step: Any, source: Source, tile: Tile, builder: Any, pointers: Any, sizes: Any
    ) -> None:
        self.source, self.tile, self.builder = source, tile, builder
        self.lanes = Lanes(builder, step.lane.real, tile.lanes, tile.lanes * step.lane.bits)
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
        """Load the vector of lanes that starts at an index of an array."""
        kind = ir.VectorType(pointer.type.pointee, self.tile.lanes)
        where = self.builder.bitcast(self.builder.gep(pointer, [index]), kind.as_pointer())
        return self.builder.load(where, align=_bytes(kind.element))

    def load_splat(self, pointer: Any, index: Any) -> Any:
        """Load one element of an array into all lanes."""
        kind = ir.VectorType(pointer.type.pointee, self.tile.lanes)
        return splat(self.builder, self.builder.load(self.builder.gep(pointer, [index])), kind)

    def real(self, value: Any) -> Vec:
        """Return an LLVM vector as `Vec` of floats."""
        return Vec(self.lanes, value, False)

    def cell_pointer(self, lanes: Lanes, r: int, v: int) -> Any:
        """Return the address of a cell of the result.

        Args:
            lanes: lanes of the result.
            r: row in the tile.
            v: vector of columns in the tile.

        Returns:
            LLVM pointer to a vector.
        """
        start = self.mul(self.add(self.size.row, number(r)), self.size.columns)
        index = self.add(start, self.size.column, number(v * self.tile.lanes))
        return self.builder.bitcast(
            self.builder.gep(self.at.c, [index]), lanes.real_type.as_pointer()
        )

    def row_element(
        self, cell: tuple[int, int], k: Any, plane: int = 0, powers: bool = False
    ) -> Any:
        """Load an entry of a row of ``a`` into all lanes; of paired operands, one per column.

        Args:
            cell: row and vector in the tile.
            k: LLVM index along K.
            plane: number of the plane, a sign or a part of the elements.
            powers: whether the entry is read from the powers of two of ``a``.

        Returns:
            LLVM vector.
        """
        pointer = self.at.x_powers if powers else self.at.a
        if self.source.paired:
            return self._panel_entries(pointer, cell[1], k, plane)
        row = self.add(self.size.row, number(cell[0]))
        if plane:
            row = self.add(row, self.mul(self.size.rows, number(plane)))
        return self.load_splat(pointer, self.add(self.mul(row, self.length), k))

    def panel_vector(self, v: int, k: Any, plane: int = 0, powers: bool = False) -> Any:
        """Load an entry of each column of a vector from the panels of ``b``.

        Args:
            v: vector in the tile.
            k: LLVM index along K.
            plane: number of the plane, a sign or a part of the elements.
            powers: whether the entries are read from the powers of two of ``b``.

        Returns:
            LLVM vector.
        """
        return self._panel_entries(self.at.y_powers if powers else self.at.b, v, k, plane)

    def _panel_entries(self, pointer: Any, v: int, k: Any, plane: int) -> Any:
        start = self.mul(self.size.column, self.length)
        if plane:
            whole = self.mul(self.length, self.size.columns)
            start = self.add(start, self.mul(whole, number(plane)))
        column = self.add(self.mul(k, number(self.tile.columns)), number(v * self.tile.lanes))
        return self.load_vector(pointer, self.add(start, column))

    def block_start(self, r: int, block: Any, plane: int) -> Any:
        """Load the integer that a row's sum of a block starts at into all lanes.

        Args:
            r: row in the tile.
            block: LLVM number of the block.
            plane: number of the plane of ``a``.

        Returns:
            LLVM vector of int32.
        """
        row = self.add(self.size.row, number(r), self.mul(self.size.rows, number(plane)))
        return self.load_splat(self.at.starts, self.add(self.mul(row, self.groups), block))

    def row_scale(self, pointer: Any, cell: tuple[int, int], group: Any, sign: int) -> Vec:
        """Load the scale of a row's block into all lanes; of paired operands, each column's own.

        Args:
            pointer: the scales of ``a``, or their powers of two.
            cell: row and vector in the tile.
            group: LLVM number of the block.
            sign: number of the scale for elements of one sign; 0 if a block has one scale.

        Returns:
            Floats.
        """
        signs = self.source.a_signs
        if self.source.paired:
            return self._panel_scales(pointer, cell[1], group, signs, sign)
        row = self.mul(self.add(self.size.row, number(cell[0])), self.groups)
        index = self.add(self.mul(self.add(row, group), number(signs)), number(sign))
        return self.real(self.load_splat(pointer, index))

    def panel_scale(self, pointer: Any, v: int, group: Any, sign: int) -> Vec:
        """Load the scale of a block of each column of a vector.

        Args:
            pointer: the scales of ``b``, or their powers of two.
            v: vector in the tile.
            group: LLVM number of the block.
            sign: number of the scale for elements of one sign; 0 if a block has one scale.

        Returns:
            Floats.
        """
        return self._panel_scales(pointer, v, group, self.source.b_signs, sign)

    def _panel_scales(self, pointer: Any, v: int, group: Any, signs: int, sign: int) -> Vec:
        width = self.tile.columns
        start = self.mul(self.mul(self.size.column, self.groups), number(signs))
        within = self.add(self.mul(group, number(signs)), number(sign))
        column = self.add(self.mul(within, number(width)), number(v * self.tile.lanes))
        return self.real(self.load_vector(pointer, self.add(start, column)))

    def random_words(self, cell: tuple[int, int], rounding: Any) -> Any:
        """Load a cell's words: streams (M, 1, N) if ``rounding`` is None, else its integers."""
        row = self.add(self.size.row, number(cell[0]))
        if rounding is not None:
            row = self.add(self.mul(row, self.rounds), rounding)
        first = self.add(self.size.column, number(cell[1] * self.tile.lanes))
        return self.load_vector(self.at.random, self.add(self.mul(row, self.size.columns), first))


class Terms:
    """The terms of one step for one cell; implements `fpsim.kernels.llvm.tiles.TermSource`."""

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
        """Return 2^e of term ``i``; 0 if it does not count in an alignment."""
        emit, cell = self._emit, self._cell
        if not emit.source.block:
            k = self._element(i)
            x = emit.real(emit.row_element(cell, k, powers=True))
            return x * emit.real(emit.panel_vector(cell[1], k, powers=True))
        _, group, a_sign, b_sign = self._block(i)
        x = emit.row_scale(emit.at.x_powers, cell, group, a_sign)
        return x * emit.panel_scale(emit.at.y_powers, cell[1], group, b_sign)

    def _element(self, i: Any) -> Any:
        """Return the place of term ``i`` in K, for terms that are products."""
        emit = self._emit
        return emit.add(self._k, number(self._first), number(i) if isinstance(i, int) else i)

    def _block(self, i: int) -> tuple[int, Any, int, int]:
        source = self._emit.source
        index, quadrant = divmod(self._first + i, source.quadrants)
        first = self._emit.builder.udiv(self._k, number(source.size))
        a_sign, b_sign = divmod(quadrant, source.b_signs)
        return index, self._emit.add(first, number(index)), a_sign, b_sign


def _bytes(kind: Any) -> int:
    """Return how many bytes an element takes."""
    widths: dict[Any, int] = {HALF: 2, FLOAT: 4, DOUBLE: 8}
    return widths[kind] if kind in widths else kind.width // 8


def number(value: int) -> Any:
    """Return an index constant."""
    return ir.Constant(_INDEX, value)


def cell_results(
    builds: Mapping[Cell, Vec | Folding], emit: Emitter | None = None
) -> dict[Cell, Vec]:
    """Return the accumulators of cells, which share the folds that their steps ask for.

    Args:
        builds: what `fpsim.compute.lanes.steps.step.Step.build` returned for each cell.
        emit: makes loops of folds over many terms; None: every term has code of its own.

    Returns:
        The accumulators after the step.
    """
    done = {cell: build for cell, build in builds.items() if isinstance(build, Vec)}
    folding = {cell: build for cell, build in builds.items() if not isinstance(build, Vec)}
    asked = {cell: next(build) for cell, build in folding.items()}
    while asked:
        found = _fold(emit, list(asked.values()))
        asked, sent = {}, dict(zip(folding, found, strict=True))
        for cell, build in folding.items():
            try:
                asked[cell] = build.send(sent[cell])
            except StopIteration as end:
                done[cell] = end.value
    return done


def _fold(emit: Emitter | None, folds: list[Fold]) -> list[tuple[Vec, ...]]:
    """Emit folds over equal terms, in one loop of `FOLDED` terms a turn if there are many."""
    terms, values = folds[0].terms, [fold.start for fold in folds]

    def add(i: Any, values: list[tuple[Vec, ...]]) -> list[tuple[Vec, ...]]:
        return [fold.add(i, *own) for fold, own in zip(folds, values, strict=True)]

    looped = len(terms) // FOLDED * FOLDED
    if emit is None or looped <= FOLDED:
        looped = 0
    else:
        values = _loop(emit, terms[:looped], values, add)
    for i in terms[looped:]:
        values = add(i, values)
    return values


def _loop(
    emit: Emitter,
    terms: range,
    start: list[tuple[Vec, ...]],
    add: Callable[[Any, list[tuple[Vec, ...]]], list[tuple[Vec, ...]]],
) -> list[tuple[Vec, ...]]:
    """Add terms in a loop of `FOLDED` terms a turn."""
    builder = emit.builder
    before, body = builder.block, builder.append_basic_block("terms")
    after = builder.append_basic_block("folded")
    builder.branch(body)
    builder.position_at_end(body)
    first = builder.phi(_INDEX)
    first.add_incoming(number(terms.start), before)
    carried = [
        tuple(Vec(value.lanes, builder.phi(value.value.type), value.integer) for value in own)
        for own in start
    ]
    values = carried
    for i in range(FOLDED):
        values = add(emit.add(first, number(i * terms.step)), values)
    following = emit.add(first, number(FOLDED * terms.step))
    last = builder.block
    first.add_incoming(following, last)
    for phis, initial, results in zip(carried, start, values, strict=True):
        for phi, value, result in zip(phis, initial, results, strict=True):
            phi.value.add_incoming(value.value, before)
            phi.value.add_incoming(result.value, last)
    # A loop whose count LLVM knows is unrolled whole, and its loads are moved to the front and
    # spilled.
    same = ir.FunctionType(_INDEX, [_INDEX])
    stop = builder.asm(same, "", "=r,0", [number(terms.stop)], False)
    builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
    builder.position_at_end(after)
    return values


class Loader:
    """Loads run-time numbers, float64 and 64-bit integers, one after another into all lanes."""

    def __init__(self, builder: Any, pointers: Pointers) -> None:
        self._builder, self._at = builder, pointers
        self._reals = self._integers = 0

    def parameters(self, lanes: Lanes, numbers: tuple[Any, Any]) -> Parameters:
        """Load the next numbers into all lanes, by two lists of names: floats, then integers."""
        reals = {name: self._real(lanes) for name in numbers[0]}
        return Parameters(reals, {name: self.integer(lanes) for name in numbers[1]})

    def _real(self, lanes: Lanes) -> Vec:
        builder = self._builder
        value = builder.load(builder.gep(self._at.reals, [number(self._reals)]))
        self._reals += 1
        return lanes.splat(value if lanes.real == DOUBLE else builder.fptrunc(value, lanes.real))

    def integer(self, lanes: Lanes) -> Vec:
        """Return the next integer, modulo the lane's width."""
        builder, kind = self._builder, lanes.integer_type.element
        value = builder.load(builder.gep(self._at.integers, [number(self._integers)]))
        self._integers += 1
        return lanes.splat(value if kind.width == 64 else builder.trunc(value, kind), True)


class Loop:
    """The loop over K of one tile: it adds terms to the accumulators of every cell."""

    def __init__(self, emit: Emitter, step: Any, parameters: Parameters, random: Any) -> None:
        self._emit, self._step = emit, step
        self._parameters, self._random = parameters, random

    def run(self, start: Any, stop: Any, initial: dict[Cell, Any], maybe: bool) -> dict[Cell, Any]:
        """Emit the loop over a range of K.

        Args:
            start: LLVM index of the first element.
            stop: LLVM index after the last.
            initial: accumulators before the loop, LLVM vectors by cell.
            maybe: whether the range may be empty.

        Returns:
            Accumulators after the loop.
        """
        emit, builder = self._emit, self._emit.builder
        before, body = builder.block, builder.append_basic_block("k")
        after = builder.append_basic_block("done")
        if maybe:
            builder.cbranch(builder.icmp_signed("<", start, stop), body, after)
        else:
            builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_INDEX)
        k.add_incoming(start, before)
        acc = {cell: builder.phi(emit.lanes.real_type) for cell in emit.cells}
        for cell in emit.cells:
            acc[cell].add_incoming(initial[cell], before)
        if self._random is not None:
            self._random.enter(before)
        values = self._turn(k, {cell: Vec(emit.lanes, acc[cell], False) for cell in emit.cells})
        following = emit.add(k, number(turn(self._step, emit.source)))
        last = builder.block
        k.add_incoming(following, last)
        for cell in emit.cells:
            acc[cell].add_incoming(values[cell].value, last)
        if self._random is not None:
            self._random.leave(last)
        builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
        builder.position_at_end(after)
        if not maybe:
            return {cell: value.value for cell, value in values.items()}
        found = {cell: builder.phi(emit.lanes.real_type) for cell in emit.cells}
        for cell in emit.cells:
            found[cell].add_incoming(initial[cell], before)
            found[cell].add_incoming(values[cell].value, last)
        return found

    def _turn(self, k: Any, values: dict[Cell, Vec]) -> dict[Cell, Vec]:
        """Emit one turn: whole blocks, and whole steps of their terms."""
        emit, source, step = self._emit, self._emit.source, self._step
        count, sums = turn(step, source), []
        if source.block:
            for start in range(0, count, source.size):
                sums.append(block_sums(emit, emit.add(k, number(start))))
        for first in range(0, count // source.size * source.quadrants, step.terms):
            bits: dict[Cell, Any] = {}
            if self._random is not None:
                blocks = emit.builder.udiv(k, number(source.size))
                term = emit.mul(blocks, number(source.quadrants))
                bits = self._random.take(emit.add(term, number(first)))
            builds = {}
            for cell in emit.cells:
                terms = Terms(emit, cell, k, sums, first)
                builds[cell] = step.build(values[cell], terms, self._parameters, bits.get(cell))
            values = cell_results(builds, None if source.block else emit)
        return values


def _chunks(
    emit: Emitter, step: Any, loop: Loop, levels: list[Parameters], lanes: Lanes,
    initial: dict[Cell, Any],
) -> dict[Cell, Any]:  # fmt: skip
    """Emit the loop over chunks: each starts from +0; one or several results make an outer step."""
    builder, count = emit.builder, step.levels[1].terms
    size = step.chunk // emit.source.quadrants * emit.source.size
    nothing = {cell: emit.lanes.constant(0.0, False).value for cell in emit.cells}
    room = ir.ArrayType(emit.lanes.real_type, count)
    kept = {cell: cgutils.alloca_once(builder, room) for cell in emit.cells}
    before, body = builder.block, builder.append_basic_block("chunks")
    builder.branch(body)
    builder.position_at_end(body)
    first = builder.phi(_INDEX)
    first.add_incoming(number(0), before)
    acc = {cell: builder.phi(lanes.real_type) for cell in emit.cells}
    for cell in emit.cells:
        acc[cell].add_incoming(initial[cell], before)

    def results(index: Any) -> dict[Cell, Any]:
        start = emit.add(first, emit.mul(index, number(size)))
        end = emit.add(start, number(size))
        inside = builder.icmp_signed("<", end, emit.size.depth)
        return loop.run(start, builder.select(inside, end, emit.size.depth), nothing, count > 1)

    one = results(number(0)) if count == 1 else {}
    if count > 1:
        with cgutils.for_range(builder, number(count)) as several:
            for cell, value in results(several.index).items():
                where = builder.gep(kept[cell], [number(0), several.index])
                builder.store(value, where, align=emit.lanes.bits // 8)

    def load(i: int, cell: Cell) -> Any:
        if one:
            return one[cell]
        where = builder.gep(kept[cell], [number(0), number(i)])
        return builder.load(where, align=emit.lanes.bits // 8)

    def taken(cell: Cell) -> Callable[[int], Vec]:
        return lambda i: Vec(emit.lanes, load(i, cell), False)

    builds = {
        cell: step.promote(Vec(lanes, acc[cell], False), taken(cell), *levels)
        for cell in emit.cells
    }
    values = {cell: value.value for cell, value in cell_results(builds).items()}
    following, last = emit.add(first, number(count * size)), builder.block
    first.add_incoming(following, last)
    for cell in emit.cells:
        acc[cell].add_incoming(values[cell], last)
    after = builder.append_basic_block("promoted")
    builder.cbranch(builder.icmp_signed("<", following, emit.size.depth), body, after)
    builder.position_at_end(after)
    return values


def build_tile(
    step: Any, source: Source, tile: Tile, builder: Any, pointers: Any, sizes: Any
) -> None:
    """Emit one tile of a matrix product.

    Args:
        step: `fpsim.compute.lanes.steps.step.Step`.
        source: where its terms come from.
        tile: shape of the tile.
        builder: the LLVM builder.
        pointers: LLVM pointers to the arrays of `Pointers`; the tile of ``c`` holds the initial
            accumulators and receives the results.
        sizes: LLVM indices, the fields of `Sizes`.

    Returns:
        Nothing.
    """
    inner = step.levels[0]
    emit = Emitter(inner, source, tile, builder, pointers, sizes)
    register_bits = emit.lanes.register_bits
    lanes = Lanes(builder, step.lane.real, tile.lanes, register_bits)
    load = Loader(builder, emit.at)
    levels = [
        load.parameters(Lanes(builder, level.lane.real, tile.lanes, register_bits), level.numbers)
        for level in step.levels
    ]
    random = None
    if source.random:
        kind: Any = {
            RandomSource.LOADED: LoadedIntegers,
            RandomSource.SEEDED: SeededIntegers,
            RandomSource.BYTES: SeededBytes,
        }[source.random]
        own = {name: load.integer(emit.lanes) for name in SEEDED_INTEGERS}
        random = kind(emit.lanes, emit.cells, emit.random_words, Parameters({}, own))
    targets = {cell: emit.cell_pointer(lanes, *cell) for cell in emit.cells}
    align = lanes.bits // 8
    initial = {cell: builder.load(targets[cell], align=align) for cell in emit.cells}
    loop = Loop(emit, inner, levels[0], random)
    if step.chunk:
        values = _chunks(emit, step, loop, levels, lanes, initial)
    else:
        values = loop.run(number(0), emit.size.depth, initial, False)
    for cell in emit.cells:
        builder.store(values[cell], targets[cell], align=align)
