# SPDX-License-Identifier: Apache-2.0
"""Words of bits: known numbers, or terms of the solver bitwuzla.

An `Algebra` computes with both: a result of known words is a number, so that a netlist whose state
is known is evaluated and not solved. Operations are BTOR2's (A. Niemetz, M. Preiner,
C. Wolf, A. Biere: BTOR2, BtorMC and Boolector 3.0, CAV 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fpsim.base.errors import FpsimError

__all__ = ["Algebra", "SolverMissing", "Verdict", "Word"]

#: Bytes that the solver may take.
MEMORY_MIB = 8 << 10


class SolverMissing(FpsimError):
    """The solver bitwuzla is not installed."""


@dataclass(frozen=True)
class Word:
    """Bits: a number of `width` bits, or a term of the solver."""

    width: int
    value: Any  #: int, or a bitwuzla term of a bit-vector sort

    @property
    def known(self) -> bool:
        """Whether it is a number."""
        return isinstance(self.value, int)


@dataclass(frozen=True)
class Verdict:
    """An answer of the solver."""

    holds: bool | None  #: whether assumptions can hold together; None: the time was too short
    model: Callable[[Word], int] | None = None  #: of a case in which they do: a word's number


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


def _divided(x: int, y: int, width: int) -> int:
    return x // y if y else (1 << width) - 1


def _s_divided(x: int, y: int, width: int) -> int:
    p, q = _signed(x, width), _signed(y, width)
    if not q:
        return 1 if p < 0 else -1
    return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)


def _s_rest(x: int, y: int, width: int) -> int:
    p, q = _signed(x, width), _signed(y, width)
    return p - q * _signed(_s_divided(x, y, width) % (1 << width), width) if q else p


#: Operations on two words of equal width, by their name in BTOR2: on numbers, kind of the term.
_BINARY: dict[str, tuple[Callable[[int, int, int], int], str]] = {
    "add": (lambda x, y, w: x + y, "BV_ADD"),
    "sub": (lambda x, y, w: x - y, "BV_SUB"),
    "mul": (lambda x, y, w: x * y, "BV_MUL"),
    "udiv": (_divided, "BV_UDIV"),
    "urem": (lambda x, y, w: x % y if y else x, "BV_UREM"),
    "sdiv": (_s_divided, "BV_SDIV"),
    "srem": (_s_rest, "BV_SREM"),
    "and": (lambda x, y, w: x & y, "BV_AND"),
    "or": (lambda x, y, w: x | y, "BV_OR"),
    "xor": (lambda x, y, w: x ^ y, "BV_XOR"),
    "nand": (lambda x, y, w: ~(x & y), "BV_NAND"),
    "nor": (lambda x, y, w: ~(x | y), "BV_NOR"),
    "xnor": (lambda x, y, w: ~(x ^ y), "BV_XNOR"),
    "sll": (lambda x, y, w: x << y if y < w else 0, "BV_SHL"),
    "srl": (lambda x, y, w: x >> y if y < w else 0, "BV_SHR"),
    "sra": (lambda x, y, w: _signed(x, w) >> min(y, w), "BV_ASHR"),
}
#: Comparisons, whose result is one bit.
_COMPARED: dict[str, tuple[Callable[[int, int, int], bool], str]] = {
    "eq": (lambda x, y, w: x == y, "EQUAL"),
    "neq": (lambda x, y, w: x != y, "DISTINCT"),
    "ult": (lambda x, y, w: x < y, "BV_ULT"),
    "ulte": (lambda x, y, w: x <= y, "BV_ULE"),
    "ugt": (lambda x, y, w: x > y, "BV_UGT"),
    "ugte": (lambda x, y, w: x >= y, "BV_UGE"),
    "slt": (lambda x, y, w: _signed(x, w) < _signed(y, w), "BV_SLT"),
    "slte": (lambda x, y, w: _signed(x, w) <= _signed(y, w), "BV_SLE"),
    "sgt": (lambda x, y, w: _signed(x, w) > _signed(y, w), "BV_SGT"),
    "sgte": (lambda x, y, w: _signed(x, w) >= _signed(y, w), "BV_SGE"),
}
_UNARY: dict[str, tuple[Callable[[int, int], int], str]] = {
    "not": (lambda x, w: ~x, "BV_NOT"),
    "neg": (lambda x, w: -x, "BV_NEG"),
    "inc": (lambda x, w: x + 1, "BV_INC"),
    "dec": (lambda x, w: x - 1, "BV_DEC"),
    "redor": (lambda x, w: int(x != 0), "BV_REDOR"),
    "redand": (lambda x, w: int(x == (1 << w) - 1), "BV_REDAND"),
    "redxor": (lambda x, w: x.bit_count() & 1, "BV_REDXOR"),
}
_REDUCED = frozenset({"redor", "redand", "redxor"})


class Algebra:
    """Computes with words, and asks the solver.

    Raises:
        SolverMissing: no bitwuzla.
    """

    def __init__(self) -> None:
        try:
            import bitwuzla
        except ModuleNotFoundError:
            raise SolverMissing("bitwuzla: not installed; pip install 'fpsim[prove]'") from None
        self._lib = bitwuzla
        self._terms = bitwuzla.TermManager()
        self._names: dict[str, int] = {}

    def number(self, width: int, value: int) -> Word:
        """Return a known word."""
        return Word(width, value & ((1 << width) - 1))

    def free(self, width: int, name: str) -> Word:
        """Return a word that can be anything, independent of every other, whatever their names."""
        count = self._names[name] = self._names.get(name, 0) + 1
        sort = self._terms.mk_bv_sort(width)
        return Word(width, self._terms.mk_const(sort, f"{name}#{count}"))

    # -- operations ----------------------------------------------------------------------------

    def apply(self, op: str, args: Sequence[Word], indices: Sequence[int] = ()) -> Word:
        """Return the result of an operation of BTOR2.

        Args:
            op: its name in BTOR2.
            args: its operands.
            indices: high and low bit of ``slice``, added bits of ``uext`` and ``sext``.

        Returns:
            A number if the operands determine it, else a term.

        Raises:
            FpsimError: an unknown operation.
        """
        if op in _BINARY:
            return self._binary(op, *args)
        if op in _COMPARED:
            return self._compared(op, *args)
        if op in _UNARY:
            return self._unary(op, *args)
        if op == "ite":
            return self.chosen(*args)
        if op == "concat":
            return self.joined(args)
        if op == "slice":
            return self.part(args[0], *indices)
        if op in ("uext", "sext"):
            return self.widened(args[0], args[0].width + indices[0], op == "sext")
        if op == "implies":
            return self.apply("or", [self.apply("not", args[:1]), args[1]])
        if op == "iff":
            return self.apply("eq", args)
        raise FpsimError(f"netlist: operation {op!r} is not known")

    def _binary(self, op: str, x: Word, y: Word) -> Word:
        fold, kind = _BINARY[op]
        if x.known and y.known:
            return self.number(x.width, fold(x.value, y.value, x.width))
        for known, other in ((x, y), (y, x)):
            if not known.known:
                continue
            if op in ("and", "mul") and known.value == 0:
                return known
            if op == "or" and known.value == (1 << x.width) - 1:
                return known
            neutral = {"and": (1 << x.width) - 1, "or": 0, "xor": 0, "add": 0}.get(op)
            if known.value == neutral:
                return other
        if op in ("sub", "sll", "srl", "sra") and y.known and y.value == 0:
            return x
        return self._made(x.width, kind, x, y)

    def _compared(self, op: str, x: Word, y: Word) -> Word:
        fold, kind = _COMPARED[op]
        if x.known and y.known:
            return Word(1, int(fold(x.value, y.value, x.width)))
        if self.identical(x, y):
            return Word(1, int(op in ("eq", "ulte", "ugte", "slte", "sgte")))
        made = self._terms.mk_term(self._kind(kind), [self._term(x), self._term(y)])
        return Word(1, self._bit(made))

    def _unary(self, op: str, x: Word) -> Word:
        fold, kind = _UNARY[op]
        width = 1 if op in _REDUCED else x.width
        if x.known:
            return self.number(width, fold(x.value, x.width))
        return self._made(width, kind, x)

    def chosen(self, condition: Word, x: Word, y: Word) -> Word:
        """Return ``condition ? x : y``.

        Args:
            condition: a single bit.
            x: a word.
            y: a word of equal width.

        Returns:
            The word chosen.
        """
        if condition.known:
            return x if condition.value else y
        if self.identical(x, y):
            return x
        terms = [self.holds(condition), self._term(x), self._term(y)]
        return Word(x.width, self._terms.mk_term(self._kind("ITE"), terms))

    def joined(self, parts: Sequence[Word]) -> Word:
        """Return parts side by side, the first in the high bits."""
        width = sum(part.width for part in parts)
        if all(part.known for part in parts):
            value = 0
            for part in parts:
                value = value << part.width | part.value
            return Word(width, value)
        return self._made(width, "BV_CONCAT", *parts) if len(parts) > 1 else parts[0]

    def part(self, x: Word, high: int, low: int) -> Word:
        """Return some bits of a word.

        Args:
            x: the word.
            high: number of the highest bit, counted from 0 at the low end.
            low: number of the lowest bit.

        Returns:
            A word of high - low + 1 bits.
        """
        width = high - low + 1
        if x.known:
            return self.number(width, x.value >> low)
        if width == x.width:
            return x
        made = self._terms.mk_term(self._kind("BV_EXTRACT"), [x.value], [high, low])
        return Word(width, made)

    def widened(self, x: Word, width: int, signed: bool = False) -> Word:
        """Return a word with more bits at the high end.

        Args:
            x: the word.
            width: bits of the result, at least its own.
            signed: whether further bits repeat the top bit; else they are 0.

        Returns:
            The wider word.
        """
        more = width - x.width
        if not more:
            return x
        if x.known:
            return self.number(width, _signed(x.value, x.width) if signed else x.value)
        kind = "BV_SIGN_EXTEND" if signed else "BV_ZERO_EXTEND"
        return Word(width, self._terms.mk_term(self._kind(kind), [x.value], [more]))

    def both(self, words: Sequence[Word]) -> Word:
        """Return one bit: whether all of these single bits are 1."""
        out = Word(1, 1)
        for word in words:
            out = self._binary("and", out, word)
        return out

    def opposite(self, bit: Word) -> Word:
        """Return one bit: whether this one is 0."""
        return self._unary("not", bit)

    def same(self, x: Word, y: Word) -> Word:
        """Return one bit: whether two words are equal."""
        return self._compared("eq", x, y)

    def inside(self, x: Word, ranges: Sequence[tuple[int, int]]) -> Word:
        """Return one bit: whether a word lies in one of some ranges, both ends included."""
        out = Word(1, 0)
        for low, high in ranges:
            above = self._compared("ugte", x, self.number(x.width, low))
            below = self._compared("ulte", x, self.number(x.width, high))
            out = self._binary("or", out, self._binary("and", above, below))
        return out

    def identical(self, x: Word, y: Word) -> bool:
        """Return whether two words are one number, or one term."""
        return self.key(x) == self.key(y)

    def key(self, word: Word) -> tuple[bool, int]:
        """Return a key that is equal for identical words: the number, or the term's."""
        return (True, word.value) if word.known else (False, word.value.id())

    # -- terms ---------------------------------------------------------------------------------

    def _kind(self, name: str) -> Any:
        return getattr(self._lib.Kind, name)

    def _term(self, word: Word) -> Any:
        if not word.known:
            return word.value
        return self._terms.mk_bv_value(self._terms.mk_bv_sort(word.width), word.value)

    def _made(self, width: int, kind: str, *args: Word) -> Word:
        return Word(width, self._terms.mk_term(self._kind(kind), [self._term(x) for x in args]))

    def _bit(self, truth: Any) -> Any:
        one, zero = self._term(Word(1, 1)), self._term(Word(1, 0))
        return self._terms.mk_term(self._kind("ITE"), [truth, one, zero])

    def holds(self, bit: Word) -> Any:
        """Return the solver's truth value of a single bit."""
        return self._terms.mk_term(self._kind("EQUAL"), [self._term(bit), self._term(Word(1, 1))])

    # -- the solver ----------------------------------------------------------------------------

    def solve(self, assumptions: Sequence[Word], seconds: float) -> Verdict:
        """Return whether single bits can all be 1, with a case in which they are.

        Args:
            assumptions: the bits.
            seconds: time for it.

        Returns:
            The solver's answer.
        """
        if any(bit.known and not bit.value for bit in assumptions):
            return Verdict(False)
        if seconds <= 0:
            return Verdict(None)
        options = self._lib.Options()
        options.set(self._lib.Option.PRODUCE_MODELS, True)
        options.set(self._lib.Option.TIME_LIMIT_PER, max(1, int(seconds * 1000)))
        options.set(self._lib.Option.MEMORY_LIMIT, MEMORY_MIB)
        solver = self._lib.Bitwuzla(self._terms, options)
        for bit in assumptions:
            if not bit.known:
                solver.assert_formula(self.holds(bit))
        found = solver.check_sat()
        if found == self._lib.Result.UNSAT:
            return Verdict(False)
        if found != self._lib.Result.SAT:
            return Verdict(None)

        def model(word: Word) -> int:
            if word.known:
                return int(word.value)
            return int(solver.get_value(word.value).value(2), 2)

        return Verdict(True, model)
