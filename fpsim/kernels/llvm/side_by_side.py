# SPDX-License-Identifier: Apache-2.0
"""Programs over blocks that lie side by side: a lane of a vector for each block.

A program is written as if for one block, element after element, and runs for as many blocks as a
vector has lanes. Sums thus keep the order of the elements, and every number that differs from block
to block (a scale, a grid, a ratio, an index) is a lane.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.native import function_address
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Lanes, Vec

__all__ = ["BYTE", "INDEX", "TABLE", "WORD", "Blocks", "Variable", "lanes_of_blocks", "program"]

#: Largest blocks, in elements, whose next vector is fetched ahead.
CLOSE = 128
#: Bytes of a line of a cache.
LINE = 64
#: Entries of a table that shuffles look up.
TABLE = 16
BYTE, WORD, INDEX = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_PROGRAM = ir.FunctionType(
    ir.VoidType(), [BYTE.as_pointer().as_pointer(), INDEX, INDEX]
)  # addresses of arrays, first block, block after the last
_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def lanes_of_blocks() -> int:
    """Return how many blocks lie side by side."""
    return Machine.host().register_bits // 32


def program(
    variant: str, arrays: int, build: Callable[[Blocks], None], sources: tuple[str, ...]
) -> Callable[..., None]:
    """Return a compiled program, called as ``run(*arrays, first, stop)`` with contiguous arrays.

    It runs over blocks first..stop - 1, and lets other threads of Python run meanwhile.

    Args:
        variant: names everything that the code depends on besides the sources.
        arrays: how many arrays it takes.
        build: writes the program for a vector of blocks.
        sources: files outside of the kernels that the program is made of.

    Returns:
        The function ``run``.
    """
    lanes = lanes_of_blocks()

    def body(builder: Any, arguments: Any) -> None:
        table, first, stop = arguments
        pointers = [builder.load(builder.gep(table, [INDEX(i)])) for i in range(arrays)]
        count = builder.sub(stop, first)
        groups = builder.sdiv(builder.add(count, INDEX(lanes - 1)), INDEX(lanes))
        with cgutils.for_range(builder, groups) as loop:
            start = builder.add(first, builder.mul(loop.index, INDEX(lanes)))
            build(Blocks(builder, lanes, pointers, start, stop))

    address = function_address(f"{variant} {lanes}", _PROGRAM, body, sources)
    call = _CALL(address)

    def run(*given: Any) -> None:
        *own, first, stop = given
        assert len(own) == arrays
        call((ctypes.c_void_p * arrays)(*map(_address, own)), first, stop)

    return run


def _address(array: NDArray[Any]) -> int:
    assert array.flags.c_contiguous
    return int(array.__array_interface__["data"][0])


class Variable:
    """A vector that a loop changes."""

    def __init__(self, start: Vec) -> None:
        self._kind = start
        self._where = cgutils.alloca_once(start.lanes.builder, start.value.type)
        self.set(start)

    def get(self) -> Vec:
        """Return the vector."""
        return Vec(self._kind.lanes, self._kind.lanes.builder.load(self._where), self._kind.integer)

    def set(self, value: Vec) -> None:
        """Replace the vector."""
        self._kind.lanes.builder.store(value.value, self._where)


@dataclass(frozen=True)
class Blocks:
    """Blocks from ``start`` on, one to a lane; lanes from ``stop`` on repeat the last block.

    Arrays are numbers in the order of the program's arguments; a type ``kind`` is LLVM's; places
    and sizes are LLVM indices.
    """

    builder: Any
    count: int
    pointers: list[Any]
    start: Any
    stop: Any

    @property
    def floats(self) -> Lanes:
        """Lanes of float32 and int32."""
        return Lanes(self.builder, FLOAT, self.count, 32 * self.count)

    @property
    def doubles(self) -> Lanes:
        """Lanes of float64 and int64."""
        return Lanes(self.builder, DOUBLE, self.count, 32 * self.count)

    def lanes(self, kind: Any) -> Lanes:
        """Return the lanes that hold a type."""
        return self.doubles if kind in (DOUBLE, INDEX) else self.floats

    def number(self, array: int, at: Any, kind: Any) -> Any:
        """Load one element of an array as a scalar.

        Args:
            array: number of the array.
            at: place of the element, an index or a Python integer.
            kind: type of the elements.

        Returns:
            LLVM value.
        """
        at = INDEX(at) if isinstance(at, int) else at
        return self.builder.load(self.builder.gep(self.pointer(array, kind), [at]))

    def same(self, array: int, at: Any, kind: Any) -> Vec:
        """Load one element of an array into every lane.

        Args:
            array: number of the array.
            at: place of the element, an index or a Python integer.
            kind: type of the elements.

        Returns:
            The vector.
        """
        return self.lanes(kind).splat(self.number(array, at, kind), kind in (WORD, INDEX))

    def pointer(self, array: int, kind: Any) -> Any:
        """Return the address of an array's first element."""
        return self.builder.bitcast(self.pointers[array], kind.as_pointer())

    def loop(self, count: Any) -> Any:
        """Return the context manager of a loop, from `numba.core.cgutils.for_range`."""
        return cgutils.for_range(self.builder, count)

    def block(self, lane: int) -> Any:
        """Return the number of the block in a lane."""
        at = self.builder.add(self.start, INDEX(lane))
        last = self.builder.sub(self.stop, INDEX(1))
        return self.builder.select(self.builder.icmp_signed("<", at, last), at, last)

    @contextmanager
    def if_any(self, flags: Vec) -> Iterator[None]:
        """Run the body of a ``with`` statement if any of int32 lanes, all 0 or above, is not 0."""
        most = self.builder.icmp_signed("!=", flags.largest(), WORD(0))
        with self.builder.if_then(most, likely=False):
            yield

    @contextmanager
    def _whole(self) -> Iterator[Any]:
        """Branch on whether every lane has a block of its own."""
        end = self.builder.add(self.start, INDEX(self.count))
        with self.builder.if_else(self.builder.icmp_signed("<=", end, self.stop)) as branches:
            yield branches

    def _entries(self, array: int, kind: Any, per: Any, offset: Any) -> list[Any]:
        pointer, found = self.pointer(array, kind), []
        for lane in range(self.count):
            at = self.block(lane)
            at = at if per is None else self.builder.mul(at, per)
            at = at if offset is None else self.builder.add(at, offset)
            found.append(self.builder.gep(pointer, [at]))
        return found

    def get(self, array: int, kind: Any, per: Any = None, offset: Any = None) -> Vec:
        """Load one entry of an array for each block n: entry ``n * per + offset``.

        Args:
            array: number of the array.
            kind: type of the entries.
            per: entries of a block; 1 if absent.
            offset: 0 if absent.

        Returns:
            The vector; bytes become int32.
        """
        builder, lanes = self.builder, self.lanes(kind)
        vector = ir.VectorType(kind, self.count)
        found = cgutils.alloca_once(builder, vector)

        def gather() -> None:
            value = ir.Constant(vector, ir.Undefined)
            for lane, entry in enumerate(self._entries(array, kind, per, offset)):
                value = builder.insert_element(value, builder.load(entry), WORD(lane))
            builder.store(value, found)

        if per is None:
            with self._whole() as (whole, part):
                with whole:
                    at = self.start if offset is None else builder.add(self.start, offset)
                    where = builder.gep(self.pointer(array, kind), [at])
                    where = builder.bitcast(where, vector.as_pointer())
                    builder.store(builder.load(where, align=1), found)
                with part:
                    gather()
        else:
            gather()
        value = builder.load(found)
        if kind == BYTE:
            value = builder.zext(value, lanes.integer_type)
        return Vec(lanes, value, kind not in (FLOAT, DOUBLE))

    def put(self, array: int, kind: Any, entries: Vec, per: Any = None, offset: Any = None) -> None:
        """Store one entry of an array for each block n, at ``n * per + offset``.

        Args:
            array: number of the array.
            kind: type of the entries.
            entries: the vector; integers are cut to the type's width.
            per: entries of a block; 1 if absent.
            offset: 0 if absent; only with ``per``.

        Returns:
            Nothing.
        """
        builder, value = self.builder, entries.value
        if value.type.element != kind:
            value = builder.trunc(value, ir.VectorType(kind, self.count))

        def scatter() -> None:
            for lane, entry in enumerate(self._entries(array, kind, per, offset)):
                builder.store(builder.extract_element(value, WORD(lane)), entry)

        if per is not None:
            scatter()
            return
        with self._whole() as (whole, part):
            with whole:
                where = builder.gep(self.pointer(array, kind), [self.start])
                builder.store(value, builder.bitcast(where, value.type.as_pointer()), align=1)
            with part:
                scatter()

    def _rows(self, array: int, block: Any, kind: Any) -> list[Any]:
        pointer = self.pointer(array, kind)
        return [
            self.builder.gep(pointer, [self.builder.mul(self.block(lane), block)])
            for lane in range(self.count)
        ]

    def _turned(self, one: Any, other: Any, d: int) -> list[Any]:
        """Return the parts of ``d`` lanes of two vectors in turns: the first ones, the second."""
        n = self.count
        low = [j if not j & d else n + j - d for j in range(n)]
        high = [j + d if not j & d else n + j for j in range(n)]
        masks = (ir.Constant(ir.VectorType(WORD, n), mask) for mask in (low, high))
        return [self.builder.shuffle_vector(one, other, mask) for mask in masks]

    def _across(self, rows: list[Any]) -> list[Any]:
        """Transpose a square of vectors."""
        d = self.count // 2
        while d:
            turned = list(rows)
            for i in range(self.count):
                if not i & d:
                    turned[i], turned[i + d] = self._turned(rows[i], rows[i + d], d)
            rows, d = turned, d // 2
        return rows

    def _vector(self, row: Any, at: Any) -> Any:
        kind = ir.VectorType(row.type.pointee, self.count).as_pointer()
        where = self.builder.bitcast(self.builder.gep(row, [at]), kind)
        return self.builder.load(where, align=4)

    def _fetch(self, array: int, block: Any, at: Any) -> None:
        """Prefetch a part of the next vector of blocks, for short blocks that are read in turns.

        Processors foresee the order of longer blocks themselves.
        """
        builder, n = self.builder, self.count
        some = builder.and_(
            builder.icmp_signed(">", block, INDEX(n)),
            builder.icmp_signed("<=", block, INDEX(CLOSE)),
        )
        with builder.if_then(some):
            start = builder.mul(builder.add(self.start, INDEX(n)), block)
            start = builder.add(start, builder.mul(at, INDEX(n)))
            first = builder.bitcast(
                builder.gep(self.pointer(array, FLOAT), [start]), BYTE.as_pointer()
            )
            kind = ir.FunctionType(ir.VoidType(), [first.type, WORD, WORD, WORD])
            fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            for line in range(n * n * 4 // LINE):
                where = builder.gep(first, [INDEX(line * LINE)])
                builder.call(fetch, [where, WORD(0), WORD(3), WORD(1)])

    def _column(self, rows: list[Any], at: Any) -> Any:
        value = ir.Constant(ir.VectorType(rows[0].type.pointee, self.count), ir.Undefined)
        for lane, row in enumerate(rows):
            entry = self.builder.load(self.builder.gep(row, [at]))
            value = self.builder.insert_element(value, entry, WORD(lane))
        return value

    @contextmanager
    def _chunks(self, block: Any) -> Iterator[Any]:
        with self.loop(self.builder.sdiv(block, INDEX(self.count))) as loop:
            yield self.builder.mul(loop.index, INDEX(self.count))

    @contextmanager
    def _rest(self, block: Any) -> Iterator[Any]:
        whole = self.builder.sub(block, self.builder.srem(block, INDEX(self.count)))
        with self.loop(self.builder.sub(block, whole)) as loop:
            yield self.builder.add(whole, loop.index)

    def lay_out(
        self, array: int, block: Any, scratch: int, see: Callable[[Vec], None] | None = None
    ) -> None:
        """Copy float32 blocks side by side: element 0 of all blocks, then element 1, and so on.

        Args:
            array: number of the array of blocks.
            block: elements of a block.
            scratch: number of the array that is filled.
            see: called with the elements at each place, if given.

        Returns:
            Nothing.
        """
        rows = self._rows(array, block, FLOAT)

        def keep(at: Any, column: Any) -> None:
            elements = Vec(self.floats, column, False)
            self.keep(scratch, at, elements)
            if see is not None:
                see(elements)

        with self._chunks(block) as at:
            self._fetch(array, block, at)
            columns = self._across([self._vector(row, at) for row in rows])
            for k, column in enumerate(columns):
                keep(self.builder.add(at, INDEX(k)), column)
        with self._rest(block) as at:
            keep(at, self._column(rows, at))

    def largest(self, array: int, block: Any, change: Callable[[Vec], Vec]) -> Vec:
        """Return for each block the largest of its changed elements, at least 0.

        Args:
            array: number of the array of int32 blocks.
            block: elements of a block.
            change: returns int32 lanes, compared as signed, for int32 lanes of elements.

        Returns:
            The vector, int32.
        """
        rows, zero = self._rows(array, block, WORD), self.floats.constant(0, True)
        most = [Variable(zero) for _ in rows]

        def larger(one: Vec, other: Vec) -> Vec:
            return (one > other).where(one, other)

        def changed(value: Any) -> Vec:
            return change(Vec(self.floats, value, True))

        for variable, row in zip(most, rows, strict=True):
            with self._chunks(block) as at:
                variable.set(larger(changed(self._vector(row, at)), variable.get()))
        each, d = [variable.get() for variable in most], self.count // 2
        while d:
            # As `_across` goes on with what has turned, with the larger of both only.
            pairs = (self._turned(each[i].value, each[i + d].value, d) for i in range(d))
            each = [larger(*(Vec(self.floats, v, True) for v in pair)) for pair in pairs]
            d //= 2
        found = Variable(each[0])
        with self._rest(block) as at:
            found.set(larger(changed(self._column(rows, at)), found.get()))
        return found.get()

    def _place(self, scratch: int, at: Any, kind: Any) -> Any:
        pointer = self.pointer(scratch, kind)
        where = self.builder.gep(pointer, [self.builder.mul(at, INDEX(self.count))])
        return self.builder.bitcast(where, ir.VectorType(kind, self.count).as_pointer())

    def keep(self, scratch: int, at: Any, value: Vec) -> None:
        """Store the elements at one place of all blocks.

        Args:
            scratch: number of an array of elements side by side.
            at: place in a block.
            value: the vector.

        Returns:
            Nothing.
        """
        where = self._place(scratch, at, value.value.type.element)
        self.builder.store(value.value, where, align=4)

    def kept(self, scratch: int, at: Any, kind: Any = FLOAT) -> Vec:
        """Load the elements at one place of all blocks.

        Args:
            scratch: number of an array of elements side by side.
            at: place in a block.
            kind: type of the elements.

        Returns:
            The vector.
        """
        value = self.builder.load(self._place(scratch, at, kind), align=4)
        return Vec(self.lanes(kind), value, kind in (WORD, INDEX))

    def looked_up(self, array: int, kind: Any, start: Any, which: Vec, entries: int) -> Vec:
        """Return each lane's own entry of an array of float32 or int32.

        Args:
            array: number of the array.
            kind: float32 or int32.
            start: place of the first entry.
            which: int32 lanes, numbers from 0.
            entries: how many there are; 16 take one instruction.

        Returns:
            The vector.
        """
        builder, pointer = self.builder, self.builder.gep(self.pointer(array, kind), [start])
        if entries == TABLE and Machine.host().word_shuffles:
            return self.of_table(self.table(array, kind, start), which)
        value = ir.Constant(ir.VectorType(kind, self.count), ir.Undefined)
        for lane in range(self.count):
            at = builder.zext(builder.extract_element(which.value, WORD(lane)), INDEX)
            entry = builder.load(builder.gep(pointer, [at]))
            value = builder.insert_element(value, entry, WORD(lane))
        return Vec(self.lanes(kind), value, kind in (WORD, INDEX))

    def table(self, array: int, kind: Any, start: Any) -> list[Vec]:
        """Load 16 entries of an array into as many registers as they need.

        Args:
            array: number of the array.
            kind: float32 or int32.
            start: place of the first entry.

        Returns:
            Vectors that together hold the entries.
        """
        found = []
        for first in range(0, TABLE, self.count):
            where = self.builder.gep(
                self.pointer(array, kind), [self.builder.add(start, INDEX(first))]
            )
            vector = ir.VectorType(kind, self.count).as_pointer()
            value = self.builder.load(self.builder.bitcast(where, vector), align=4)
            found.append(Vec(self.floats, value, kind == WORD))
        return found

    def of_table(self, table: list[Vec], which: Vec) -> Vec:
        """Return for each int32 lane the entry of a table whose number its four low bits are."""
        found = [part.permuted(which) for part in table]
        if len(found) == 1:
            return found[0]
        low, high = found
        return (which & self.count).equals(0).where(low, high)

    def hand_out(self, scratch: int, block: Any, array: int) -> None:
        """Store the low bytes of int32 elements that lie side by side as blocks of bytes.

        Args:
            scratch: number of the array of elements side by side.
            block: elements of a block.
            array: number of the array of bytes, filled.

        Returns:
            Nothing.
        """
        builder, rows = self.builder, self._rows(array, block, BYTE)

        def word(at: Any) -> Any:
            bytes_of = self.kept(scratch, at, WORD)
            bytes_of = bytes_of.after(bytes_of, 8)
            for k in range(1, 4):
                byte = self.kept(scratch, builder.add(at, INDEX(k)), WORD)
                bytes_of = byte.after(bytes_of, 8)
            return bytes_of.value

        whole = builder.sub(block, builder.srem(block, INDEX(16)))
        with self.loop(builder.sdiv(block, INDEX(16))) as loop:
            at = builder.mul(loop.index, INDEX(16))
            words = self._fours([word(builder.add(at, INDEX(4 * k))) for k in range(4)])
            for lane, row in enumerate(rows):
                own = [lane // 4 * 4 + k for k in range(4)]
                mask = ir.Constant(ir.VectorType(WORD, 4), own)
                four = builder.shuffle_vector(words[lane % 4], words[lane % 4], mask)
                where = builder.bitcast(builder.gep(row, [at]), four.type.as_pointer())
                builder.store(four, where, align=1)
        with self.loop(builder.sdiv(builder.sub(block, whole), INDEX(4))) as loop:
            at = builder.add(whole, builder.mul(loop.index, INDEX(4)))
            value = word(at)
            for lane, row in enumerate(rows):
                where = builder.bitcast(builder.gep(row, [at]), WORD.as_pointer())
                builder.store(builder.extract_element(value, WORD(lane)), where, align=1)
        rest = builder.srem(block, INDEX(4))
        with self.loop(rest) as loop:
            at = builder.add(builder.sub(block, rest), loop.index)
            value = self.kept(scratch, at, WORD).value
            for lane, row in enumerate(rows):
                byte = builder.trunc(builder.extract_element(value, WORD(lane)), BYTE)
                builder.store(byte, builder.gep(row, [at]))

    def _fours(self, words: list[Any]) -> list[Any]:
        """Return the words of each lane side by side: of lane 4 g + k in group g of vector k."""
        n = self.count

        def pairs(a: Any, b: Any, order: tuple[int, int]) -> Any:
            mask = [base + 4 * g + k for g in range(n // 4) for k in order for base in (0, n)]
            return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(WORD, n), mask))

        def halves(a: Any, b: Any, k: int) -> Any:
            mask = [base + 4 * g + k + i for g in range(n // 4) for base in (0, n) for i in (0, 1)]
            return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(WORD, n), mask))

        found = []
        for order in ((0, 1), (2, 3)):
            first, second = (pairs(words[i], words[i + 1], order) for i in (0, 2))
            found += [halves(first, second, 0), halves(first, second, 2)]
        return found
