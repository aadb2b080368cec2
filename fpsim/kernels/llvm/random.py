# SPDX-License-Identifier: Apache-2.0
"""Random integers of a register tile, one rounding after another: loaded, or made of streams.

`fpsim.formats.random_bits` defines the words of a stream and the integers that a word is cut into.
A step gets its integers at the place where it adds them: shifted up by ``random_place``, or down by
``random_drop``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.vector import Lanes, Vec, WordBytes

__all__ = [
    "RANDOM_INTEGERS",
    "SEEDED_INTEGERS",
    "LoadedIntegers",
    "SeededBytes",
    "SeededIntegers",
]

#: Parameters of a step with random integers: lane bits below them, and how many of their last bits
#: are dropped. A step that makes them also has their width, a mask of it, and integers per word.
RANDOM_INTEGERS = ("random_place", "random_drop")
SEEDED_INTEGERS = (*RANDOM_INTEGERS, "random_bits", "random_mask", "random_count")
#: Counters advance by this per word; see `fpsim.formats.random_bits`.
STEP = 0x9E3779B9
_WORD = ir.IntType(32)
Cell = tuple[int, int]


class LoadedIntegers:
    """Integers from an array."""

    def __init__(
        self, lanes: Lanes, cells: list[Cell], load: Callable[..., Any], parameters: Parameters
    ) -> None:
        self._lanes, self._cells, self._load = lanes, cells, load
        self._place, self._drop = (parameters.integers[name] for name in RANDOM_INTEGERS)

    def enter(self, before: Any) -> None:
        """Begin the body of the loop over K."""

    def take(self, rounding: Any) -> dict[Cell, Any]:
        """Return the integers of every cell for a rounding, given its number."""
        found = {cell: _widened(self._lanes, self._load(cell, rounding)) for cell in self._cells}
        return {cell: (bits >> self._drop) << self._place for cell, bits in found.items()}

    def leave(self, last: Any) -> None:
        """End the body of the loop over K."""


class SeededIntegers:
    """Integers cut from words, which are hashes of counters that start at a cell's streams.

    The words of all cells are used up at the same rounding: then a branch makes the next ones.
    """

    def __init__(
        self, lanes: Lanes, cells: list[Cell], load: Callable[..., Any], parameters: Parameters
    ) -> None:
        self._lanes, self._cells, self._load = lanes, cells, load
        self._builder = lanes.builder
        self._words_type = ir.VectorType(_WORD, lanes.count)
        place, drop, self._bits, mask, count = (
            self._word_parameter(parameters.integers[name]) for name in SEEDED_INTEGERS
        )
        self._count = self._builder.extract_element(count, ir.Constant(_WORD, 0))
        # In narrow lanes a rotation brings an integer to its place, in wide ones a shift does.
        self._rotates = lanes.bits == _WORD.width
        self._start = self._builder.sub(drop, place) if self._rotates else drop
        kept = self._builder.lshr(mask, drop)
        self._mask = self._builder.shl(kept, place) if self._rotates else kept
        self._place = parameters.integers["random_place"]

    def _word_parameter(self, parameter: Vec) -> Any:
        if parameter.value.type == self._words_type:
            return parameter.value
        return self._builder.trunc(parameter.value, self._words_type)

    def enter(self, before: Any) -> None:
        """Begin the body of the loop over K: all words are used up."""
        builder = self._builder
        kinds = [_WORD, *[self._words_type] * (len(self._cells) + 2)]
        self._phis = [builder.phi(kind) for kind in kinds]
        for phi in self._phis:
            zero = 0 if phi.type == _WORD else None
            phi.add_incoming(ir.Constant(phi.type, zero), before)
        self._state = list(self._phis)

    def take(self, rounding: Any) -> dict[Cell, Any]:
        """Return the integers of every cell for a rounding; they come in order."""
        builder = self._builder
        here = builder.block
        fresh, cut = (builder.append_basic_block(name) for name in ("words", "integers"))
        left, counter, *_ = self._state
        builder.cbranch(builder.icmp_unsigned("==", left, ir.Constant(_WORD, 0)), fresh, cut)

        builder.position_at_end(fresh)
        words = [
            _mixed(builder, builder.add(self._load(cell, None), counter)) for cell in self._cells
        ]
        made = [self._count, self._plus(counter, STEP), self._start, *words]
        builder.branch(cut)

        builder.position_at_end(cut)
        state = []
        for old, new in zip(self._state, made, strict=True):
            state.append(builder.phi(new.type))
            state[-1].add_incoming(old, here)
            state[-1].add_incoming(new, fresh)
        left, counter, turn, *words = state
        following = builder.sub(left, ir.Constant(_WORD, 1))
        self._state = [following, counter, self._next(turn), *words]
        return {
            cell: self._placed(word, turn) for cell, word in zip(self._cells, words, strict=True)
        }

    def leave(self, last: Any) -> None:
        """End the body of the loop over K."""
        for phi, value in zip(self._phis, self._state, strict=True):
            phi.add_incoming(value, last)

    def _plus(self, words: Any, number: int) -> Any:
        return self._builder.add(words, ir.Constant(words.type, [number] * self._lanes.count))

    def _next(self, turn: Any) -> Any:
        """Return the turn of the next integer of a word."""
        return self._builder.add(turn, self._bits)

    def _placed(self, word: Any, turn: Any) -> Any:
        """Return the integer that stands ``turn`` bits up in a word."""
        name = f"llvm.fshr.v{self._lanes.count}i32"
        turned = self._lanes.call(name, self._words_type, [word, word, turn])
        integer = _widened(self._lanes, self._builder.and_(turned, self._mask))
        return integer if self._rotates else integer << self._place


class SeededBytes(SeededIntegers):
    """Integers of eight bits, which a dot instruction adds; at most six bits are below them.

    The turn is the vector of factors, which moves from byte to byte of all words at once.
    """

    def __init__(
        self, lanes: Lanes, cells: list[Cell], load: Callable[..., Any], parameters: Parameters
    ) -> None:
        super().__init__(lanes, cells, load, parameters)
        one = ir.Constant(self._words_type, [1] * lanes.count)
        self._start = self._builder.shl(one, self._place.value)

    def _next(self, turn: Any) -> Any:
        name = f"llvm.fshl.v{self._lanes.count}i32"
        return self._lanes.call(name, self._words_type, [turn, turn, self._bits])

    def _placed(self, word: Any, turn: Any) -> Any:
        return WordBytes(word, turn)


def _widened(lanes: Lanes, integers: Any) -> Vec:
    """Return unsigned integers in a lane's width."""
    if integers.type != lanes.integer_type:
        integers = lanes.builder.zext(integers, lanes.integer_type)
    return Vec(lanes, integers, True)


def _mixed(builder: Any, words: Any) -> Any:
    """Return the hash of 32-bit words; see `fpsim.formats.random_bits`."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        amount = ir.Constant(words.type, [shift] * words.type.count)
        words = builder.xor(words, builder.lshr(words, amount))
        if factor is not None:
            words = builder.mul(words, ir.Constant(words.type, [factor] * words.type.count))
    return words
