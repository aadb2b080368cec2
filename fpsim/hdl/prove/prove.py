# SPDX-License-Identifier: Apache-2.0
"""A design proved equal to the reference RTL of a unit for all inputs, or an input that it fails.

Every operation that the design has is a claim: told the operation in any state that vectors leave
it in, and holding the accumulator c, it gives the code that the reference gives for c. Both are
netlists of Yosys; bitwuzla decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.names import E8M0
from fpsim.hdl.bench.beat_plan import Mark
from fpsim.hdl.dut.dut import EXPONENT_BITS, RESET_OP, Dut
from fpsim.hdl.dut.ports import Port
from fpsim.hdl.prove.cases import ADDER_NETS, Decision, ProvedCase, decide
from fpsim.hdl.prove.closed import ClosedDesign, closed_design
from fpsim.hdl.prove.domain_bits import ranges_of
from fpsim.hdl.prove.formula import StepFormula
from fpsim.hdl.prove.steps import Deadline, Stepper, Told
from fpsim.hdl.prove.words import Algebra, Verdict, Word
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.vector_source import accumulates, shape_for
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed

__all__ = [
    "NOT_DECIDED", "PROVED", "REFUTED", "Claim", "Progress", "Proof", "Wrong", "from_reset",
    "prove_design", "prove_step",
]  # fmt: skip

PROVED, REFUTED, NOT_DECIDED = "proved", "counterexample", "not decided"
#: Called with a sentence on each step.
Progress = Callable[[str], None]
#: Vectors after the first that a search from a reset tells ahead of a wrong one.
MOST_AHEAD = 3
#: Least seconds that a claim is given when the time is shared out.
LEAST_SECONDS = 1.0
_E8M0_BIASES, _E8M0_LAST = 254, 254


@dataclass(frozen=True)
class Wrong:
    """Codes for which a design answers wrongly, or not at all."""

    operation: str
    before: int | None  #: the accumulator that it holds; None: the operation does not look at it
    codes: dict[str, list[int]]  #: of the vector, by field, element 0 first
    expected: int
    seen: int | None  #: None: no result came
    first: str | None  #: the operation before it, whose result is `before`; None: any
    #: Operations and codes of vectors after a reset that lead there; empty: none are known.
    ahead: tuple[tuple[str, dict[str, list[int]]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return vars(self)


@dataclass(frozen=True)
class Claim:
    """One operation of a design, and whether it is proved."""

    operation: str
    text: str  #: what is claimed
    outcome: str
    seconds: float
    cases: tuple[ProvedCase, ...] = ()  #: parts it was cut into; empty: all at once
    wrong: Wrong | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        data: dict[str, Any] = {
            "operation": self.operation, "claim": self.text, "outcome": self.outcome,
            "seconds": round(self.seconds, 3), "cases": [c.to_dict() for c in self.cases],
        }  # fmt: skip
        return data | ({"wrong": self.wrong.to_dict()} if self.wrong else {})

    def __str__(self) -> str:
        line = f"  {self.operation:6s} {self.text}: {self.outcome} ({self.seconds:.1f} s)"
        if not self.cases or self.outcome == REFUTED:
            return line
        left = [case.name for case in self.cases if not case.proved]
        line += f"; {len(self.cases) - len(left)} of {len(self.cases)} cases"
        shown = "; ".join(left[:8]) + ("; ..." if len(left) > 8 else "")
        return line + (f", left: {shown}" if left else "")


@dataclass(frozen=True)
class Proof:
    """The claims of a design with their outcomes, and the assumptions they rest on."""

    unit: str
    design: str
    k: int  #: elements of a vector
    group: int  #: elements that share a scale; 0: no scales
    claims: tuple[Claim, ...]
    assumptions: tuple[str, ...]
    seconds: float

    @property
    def outcome(self) -> str:
        """`PROVED`, `REFUTED` or `NOT_DECIDED`."""
        found = {claim.outcome for claim in self.claims}
        return next((o for o in (REFUTED, NOT_DECIDED) if o in found), PROVED)

    @property
    def wrong(self) -> Wrong | None:
        """The first counterexample."""
        return next((claim.wrong for claim in self.claims if claim.wrong), None)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "unit": self.unit,
            "design": self.design,
            "elements": self.k,
            "outcome": self.outcome,
            "claims": [claim.to_dict() for claim in self.claims],
            "assumptions": list(self.assumptions),
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        head = f"{self.unit}: {self.design}, {self.outcome} ({self.seconds:.1f} s)"
        lines = [head, *map(str, self.claims)]
        return "\n".join([*lines, *(f"  assumed: {text}" for text in self.assumptions)])


def prove_design(
    spec: MacSpec,
    dut: Dut,
    ports: Mapping[str, Port] | None,
    timeout: float,
    progress: Progress | None = None,
) -> Proof:
    """Prove that a design equals the reference RTL of a unit.

    Args:
        spec: the unit.
        dut: the design, its places in arrays counted in bits.
        ports: its ports, if they are known.
        timeout: seconds for the whole proof; claims left over are not decided.
        progress: called with a sentence on each step.

    Returns:
        The claim of every operation, or codes for which the design is wrong.

    Raises:
        FpsimError: a design that no proof takes, with the key; sources that Yosys refuses; no Yosys
            or no bitwuzla.
    """
    started, deadline = time.monotonic(), Deadline(timeout)
    algebra = Algebra()
    if dut.find_latency:
        raise FpsimError("output.latency: 'find' tries clocks in a simulator; write the number")
    if spec.random_bits:
        raise FpsimError(
            f"accumulate.rounding: {spec.name} takes random integers; no port has them"
        )
    k, group = _step_of(dut, spec)
    say = progress or (lambda _: None)
    say(f"reading {dut.top}")
    closed = closed_design(dut, spec, k, group, ports, deadline.left)
    say("reading the reference RTL")
    reference = closed_design(
        _reference(spec, dut), spec, k, group, None, deadline.left, _watch(spec, k)
    )
    right = _Reference(spec, Stepper(reference, algebra, deadline))
    proving = _Proving(spec, closed, right, algebra, deadline)
    claims = tuple(_claims(proving, deadline, say))
    assumed = [*proving.assumptions(), f"the reference RTL is right (fpsim prove {spec.name})"]
    return Proof(spec.name, dut.top, k, group, claims, tuple(assumed), time.monotonic() - started)


def from_reset(
    spec: MacSpec, dut: Dut, ports: Mapping[str, Port] | None, timeout: float
) -> Wrong | None:
    """Search for a counterexample that a few vectors after a reset lead to.

    Args:
        spec: the unit.
        dut: the design.
        ports: its ports, if they are known.
        timeout: seconds for the search.

    Returns:
        The counterexample with its vectors; None: none was found in the time.
    """
    deadline, algebra = Deadline(timeout), Algebra()
    k, group = _step_of(dut, spec)
    closed = closed_design(dut, spec, k, group, ports, timeout)
    reference = closed_design(_reference(spec, dut), spec, k, group, None, timeout)
    right = _Reference(spec, Stepper(reference, algebra, deadline))
    return _Proving(spec, closed, right, algebra, deadline).from_reset(deadline)


def prove_step(
    spec: MacSpec,
    timeout: float,
    progress: Progress | None = None,
    tables: Mapping[str, CodeTable] | None = None,
) -> Proof:
    """Prove that the reference RTL of a unit takes one step like the oracle.

    Args:
        spec: a unit that `fpsim.hdl.prove.formula` has a formula of.
        timeout: seconds for the whole proof.
        progress: called with a sentence on each step.
        tables: of operands that come in as codes of a table, by ``a`` and ``b``.

    Returns:
        The claim of every operation.

    Raises:
        FpsimError: another unit, naming the field; no Yosys or no bitwuzla.
    """
    started, deadline = time.monotonic(), Deadline(timeout)
    algebra = Algebra()
    formula = _Formula(StepFormula(spec, algebra))
    say = progress or (lambda _: None)
    say("reading the reference RTL")
    dut = reference_dut(spec, rtl_top(spec, tables=tables))
    closed = closed_design(dut, spec, 1, 0, None, deadline.left, _watch(spec, 1))
    proving = _Proving(spec, closed, formula, algebra, deadline)
    claims = tuple(_claims(proving, deadline, say))
    assumed = [*proving.assumptions(), "exp_i is 0"]
    return Proof(spec.name, f"{dut.top} of the reference RTL", 1, 0, claims, tuple(assumed),
                 time.monotonic() - started)  # fmt: skip


def _claims(proving: _Proving, deadline: Deadline, say: Progress) -> Iterator[Claim]:
    """Yield the claims of a design with their outcomes, until one is refuted."""
    say("what every operation leaves as it is")
    proving.design.find_invariant()
    todo = proving.planned()
    for i, (operation, first) in enumerate(todo):
        say(f"{operation}, {i + 1} of {len(todo)}")
        share = max(LEAST_SECONDS, deadline.left / (len(todo) - i))
        found = proving.claim(operation, first, Deadline(min(share, deadline.left)))
        yield found
        if found.outcome == REFUTED:
            return


def _step_of(dut: Dut, spec: MacSpec) -> tuple[int, int]:
    """Return the elements of a vector, and per scale: one beat's where every beat is a step."""
    if dut.adapter is not None:
        raise FpsimError("adapter: Python makes its beats, which no solver reads; map the ports")
    k, group = shape_for(dut, spec)
    runs = dut.input.beats
    one_beat = (
        accumulates(dut, spec)
        and not group
        and len(runs) == 1
        and runs[0].elements is not None
        and dut.output.valid is None
        and not (dut.input.first or dut.input.last or "next" in dut.ops or dut.output.every_beat)
        and isinstance(spec.accumulate, Chain | Fixed)
    )
    if one_beat:
        assert runs[0].elements is not None
        return runs[0].elements, group
    if dut.k is None and not group and isinstance(spec.accumulate, Chain | Fixed):
        # Two beats have a first and a last one.
        k = min(k, 2 * max([run.elements or 1 for run in runs], default=1))
    return k, group


def _watch(spec: MacSpec, k: int) -> tuple[str, ...]:
    return ADDER_NETS if k == 1 and isinstance(spec.accumulate, Chain) else ()


def _reference(spec: MacSpec, dut: Dut) -> Dut:
    """Return the reference RTL with the scales that a design carries, and no registers to spare."""
    if spec.random_bits:
        raise FpsimError(
            f"accumulate.rounding: {spec.name} takes random integers, which no proof ranges over; "
            "use a unit without 'sr'"
        )
    scaled = dut.carries("a_scale") and isinstance(spec.accumulate, Chain)
    if dut.carries("a_scale") and isinstance(spec.accumulate, Fixed):
        raise FpsimError("input.beats.a_scale: reference RTL of fixed stages takes exp alone")
    return reference_dut(spec, rtl_top(spec, stream=scaled, scaled=scaled, pipeline=0))


class _Right(Protocol):
    """The side of a proof that is right: the reference RTL or the oracle's formula."""

    def answer(self, codes: Mapping[str, Word], onto: Word) -> Answer:
        """Return the unit's result for the products of a vector, added onto an accumulator."""
        ...

    @property
    def fields(self) -> Mapping[str, tuple[str, int]]:
        """Its inputs by name, with the field and the bits of each."""
        ...


class Answer(NamedTuple):
    """The code that is right, and the conditions it holds under."""

    code: Word
    watched: Mapping[str, Word] | None  #: nets that cases are told by; None: those of the design
    assumed: Sequence[Word]  #: bits that are 1


class _Reference:
    """The reference RTL, from its reset."""

    def __init__(self, spec: MacSpec, stepper: Stepper) -> None:
        self.spec, self.stepper = spec, stepper
        self._begin = stepper.after_reset()

    @property
    def fields(self) -> Mapping[str, tuple[str, int]]:
        return self.stepper.closed.fields

    def answer(self, codes: Mapping[str, Word], onto: Word) -> Answer:
        way = "dot" if "dot" in self.stepper.closed.ways else "load+mac"
        known = dict(codes) | {"fp_c_0": onto}
        given = {n: known[n] if n in known else self._unscaled(n) for n in self.fields}
        told = self.stepper.tell(self._begin, way, given)
        if not (told.done.known and told.done.value):
            raise FpsimError(f"prove: the reference RTL of {self.spec.name} gives no result")
        return Answer(told.outputs["fp_code_after"], told.watched, ())

    def _unscaled(self, name: str) -> Word:
        """Return the code of a field that a design does not carry: a scale of one, no exponent."""
        field_name, bits = self.fields[name]
        if field_name == "exp":
            return Word(bits, 0)
        if field_name in ("a_scale", "b_scale"):
            fmt = getattr(self.spec, field_name)
            return Word(bits, int(fmt.encode(np.ones(1), "rne", "saturate")[0]))
        raise FpsimError(f"input.beats: no beat carries {field_name}, which {self.spec.name} takes")


class _Formula:
    """The formula of one step, built from answers of the oracle."""

    fields: Mapping[str, tuple[str, int]] = {}

    def __init__(self, formula: StepFormula) -> None:
        self.formula = formula

    def answer(self, codes: Mapping[str, Word], onto: Word) -> Answer:
        code, chosen = self.formula.step(codes["fp_a_0"], codes["fp_b_0"], onto)
        return Answer(code, None, chosen)


class _Proving:
    """A design beside the right side of its proof."""

    def __init__(
        self,
        spec: MacSpec,
        closed: ClosedDesign,
        right: _Right,
        algebra: Algebra,
        deadline: Deadline,
    ) -> None:
        #: Queries that were decided, by the registers that they begin with.
        self._decided: dict[Any, tuple[str, tuple[ProvedCase, ...]]] = {}
        self.spec, self.closed, self.algebra = spec, closed, algebra
        self.design = Stepper(closed, algebra, deadline)
        self.right = right
        self.dut = closed.dut
        latency, interval = closed.latency, self.dut.input.interval
        #: Whether the accumulator before a vector shows only as the result of the one before.
        self.two = latency is None or not isinstance(interval, int) or latency < interval

    # -- claims --------------------------------------------------------------------------------

    def planned(self) -> list[tuple[str, str | None]]:
        """Return (operation, the one before it) of every claim."""
        answered = self._answered()
        found: list[tuple[str, str | None]] = []
        for way in answered:
            if way not in ("mac", "idle"):
                found.append((way, None))
            elif self.two:
                found += [(way, first) for first in answered]
            else:
                found.append((way, None))
            if way == "mac" and self.dut.ops.get("clear") == RESET_OP:
                found.append((way, RESET_OP))
        found = found or [(way, None) for way in self.closed.ways if "+" in way]
        if not found:
            raise FpsimError("ops: no operation has a result that could be compared")
        return found

    def _answered(self) -> list[str]:
        """Return the operations whose result is compared."""
        beats = self.closed.plan.beats
        return [
            way
            for way in self.closed.ways
            if "+" not in way and any(Mark.COMPARE in beat.marks for beat in beats[way])
        ]

    def claim(self, operation: str, first: str | None, deadline: Deadline) -> Claim:
        """Return the claim that an operation gives the unit's result.

        Args:
            operation: the operation that the design is told.
            first: the operation before it, if only that one's result shows the accumulator.
            deadline: when to give up.

        Returns:
            The claim with its outcome.
        """
        started = time.monotonic()
        if first not in (None, RESET_OP):
            assert first is not None
            known = self._anywhere(operation, first, deadline)
            if known is not None:
                outcome, cases = known
                seconds = time.monotonic() - started
                return Claim(operation, self._text(operation, first), outcome, seconds, cases)
        algebra = self.algebra
        ahead = operation in ("mac", "idle")
        before = algebra.free(self.spec.result.bits, "before") if ahead else None
        assumed: list[Word] = []
        state: Mapping[int, Word] = self.design.begin()
        if first == RESET_OP:
            state, before = self.design.after_reset(), Word(self.spec.result.bits, 0)
        elif first is not None:
            other, linked = self._linked(self.design.codes({}))
            told = self.design.tell(state, first, other, after=before)
            assumed += [told.done, told.outputs["fp_told"], told.outputs["fp_same_after"]]
            assumed += [*linked, *self._inside(other)]
            state = self._or_idle(told.after)
        found, told, codes, expected = self._asked(
            operation, state, before, assumed, deadline, shown=first is None
        )
        outcome = {None: NOT_DECIDED, True: REFUTED, False: PROVED}[found.verdict.holds]
        wrong = None
        if found.verdict.holds:
            wrong = self._wrong(operation, first, found.verdict, told, before, codes, expected)
        seconds = time.monotonic() - started
        return Claim(operation, self._text(operation, first), outcome, seconds, found.cases, wrong)

    def _asked(
        self,
        operation: str,
        state: Mapping[int, Word],
        before: Word | None,
        assumed: Sequence[Word],
        deadline: Deadline,
        shown: bool = False,
    ) -> tuple[Decision, Told, dict[str, Word], Word]:
        """Ask whether an operation can go wrong.

        Args:
            operation: the operation that the design is told.
            state: the registers before.
            before: the accumulator that it holds, if that matters.
            assumed: bits that are 1.
            deadline: when to give up.
            shown: whether the design shows the accumulator while it is told the vector.

        Returns:
            The answer, the vector as it was told, its codes, and the expected code.
        """
        algebra, spec = self.algebra, self.spec
        codes, given = self._linked(self.design.codes({}))
        onto = before or self._addend(operation, codes)
        answer = self._expected(operation, codes, onto)
        expected = answer.code
        told = self.design.tell(state, operation, codes, before, expected)
        watched = told.watched if answer.watched is None else answer.watched
        out = told.outputs
        bits = [*assumed, *given, *answer.assumed, out["fp_told"], *self._inside(codes)]
        if shown and before is not None:
            bits.append(out["fp_same_before"])
        for word in (before, expected):
            if word is not None and self.dut.domain:
                ranges = ranges_of(self.dut.domain, "acc", spec.result)
                bits.append(algebra.inside(word, ranges))
        right = algebra.both([told.done, out["fp_same_after"]])
        bits.append(algebra.opposite(right))
        return decide(algebra, bits, watched, _elements(codes), deadline), told, codes, expected

    def from_reset(self, deadline: Deadline) -> Wrong | None:
        """Return a counterexample after a reset and a few vectors, if there is one."""
        answered = self._answered()
        begins = [w for w in answered if w not in ("mac", "idle")] or ["mac"]
        onward = [w for w in answered if w in ("mac", "dot")][:1]
        for depth in range(MOST_AHEAD + 1):
            for begin in begins:
                ways = [begin, *onward * depth]
                found = self._sequence(ways, Deadline(deadline.left / 2))
                if found is not None:
                    return found
        return None

    def _sequence(self, ways: Sequence[str], deadline: Deadline) -> Wrong | None:
        """Return codes with which the last of some vectors after a reset goes wrong."""
        algebra, width = self.algebra, self.spec.result.bits
        state: Mapping[int, Word] = self.design.after_reset()
        assumed: list[Word] = []
        before: Word | None = None
        ahead: list[tuple[str, dict[str, Word]]] = []
        for way in ways[:-1]:
            codes, linked = self._linked(self.design.codes({}))
            before = algebra.free(width, "before")
            told = self.design.tell(state, way, codes, after=before)
            ahead.append((way, codes))
            assumed += [*linked, told.outputs["fp_told"], *self._inside(codes)]
            if self.two:
                assumed += [told.done, told.outputs["fp_same_after"]]
            state = told.after
        found, told, codes, expected = self._asked(
            ways[-1], state, before, assumed, deadline, shown=not self.two
        )
        if not found.verdict.holds:
            return None
        wrong = self._wrong(ways[-1], None, found.verdict, told, before, codes, expected)
        model = found.verdict.model
        assert model is not None
        return replace(wrong, ahead=tuple((way, _codes_of(c, model)) for way, c in ahead))

    def _anywhere(
        self, operation: str, first: str, deadline: Deadline
    ) -> tuple[str, tuple[ProvedCase, ...]] | None:
        """Return the outcome of a claim if it holds whatever an operation left in the registers.

        Registers that it left unknown may hold anything; registers that hold its result hold the
        accumulator. So most operations leave one identical question.
        """
        algebra = self.algebra
        other, _ = self._linked(self.design.codes({}))
        told = self.design.tell(self.design.begin(), first, other)
        left = self._or_idle(told.after)
        fresh: dict[Any, Word] = {}
        state = {}
        for n, word in left.items():
            if not word.known and algebra.key(word) not in fresh:
                fresh[algebra.key(word)] = algebra.free(word.width, f"left{n}")
            state[n] = word if word.known else fresh[algebra.key(word)]
        shown = told.outputs["fp_code_after"]
        before = shown if shown.known else fresh.get(algebra.key(shown))
        if before is None:
            return None
        order = list(fresh)
        shape = tuple((n, algebra.key(w) if w.known else order.index(algebra.key(w)))
                      for n, w in left.items())  # fmt: skip
        place = algebra.key(shown) if shown.known else order.index(algebra.key(shown))
        asked = operation, shape, place
        if asked not in self._decided:
            found, *_ = self._asked(operation, state, before, [], deadline)
            if found.verdict.holds is not False:
                return None
            self._decided[asked] = PROVED, found.cases
        return self._decided[asked]

    def _text(self, operation: str, first: str | None) -> str:
        name = operation.partition("+")[2] or operation
        meant = {
            "idle": "keeps the accumulator", "clear": "gives +0", "load": "takes c",
            "mac": "adds onto any accumulator", "dot": "adds onto any addend",
        }[name]  # fmt: skip
        if name == "dot" and not self.dut.carries("c"):
            meant = "sums the products"
        return f"{meant} (after {first})" if first else meant

    def _addend(self, operation: str, codes: Mapping[str, Word]) -> Word:
        zero = Word(self.spec.initial.bits, 0)
        name = operation.partition("+")[0]
        return codes.get("fp_c_0", zero) if name in ("load", "dot") else zero

    def _expected(self, operation: str, codes: Mapping[str, Word], onto: Word) -> Answer:
        """Return the right answer of an operation."""
        if operation in ("idle", "load"):
            return Answer(onto, {}, ())
        if operation == "clear":
            return Answer(Word(self.spec.result.bits, 0), {}, ())
        return self.right.answer(codes, onto)

    def _linked(self, codes: dict[str, Word]) -> tuple[dict[str, Word], list[Word]]:
        """Return codes in which exponents are sums of scales, where the reference has scales."""
        algebra = self.algebra
        theirs = self.right.fields
        assumed: list[Word] = []
        for name, (field_name, _) in self.closed.fields.items():
            if field_name != "exp":
                continue
            lane = name.rpartition("_")[2]
            total = algebra.number(EXPONENT_BITS, -_E8M0_BIASES)
            for operand in "ab":
                scale = algebra.free(E8M0.bits, f"fp_{operand}_scale_{lane}")
                assumed.append(algebra.inside(scale, [(0, _E8M0_LAST)]))
                total = algebra.apply("add", [total, algebra.widened(scale, EXPONENT_BITS)])
                codes[f"fp_{operand}_scale_{lane}"] = scale
            codes[name] = total
        if any(f == "exp" for f, _ in theirs.values()) and self.dut.carries("a_scale"):
            raise FpsimError("input.beats.a_scale: the reference RTL of this unit takes exp")
        return codes, assumed

    def _inside(self, codes: Mapping[str, Word]) -> list[Word]:
        """Return the bits that say that codes lie in the domain."""
        if not self.dut.domain:
            return []
        formats = {"a": self.spec.a, "b": self.spec.b, "c": self.spec.initial,
                   "a_scale": self.spec.a_scale, "b_scale": self.spec.b_scale}  # fmt: skip
        found = []
        for name, word in codes.items():
            field_name = name.removeprefix("fp_").rpartition("_")[0]
            if field_name in formats:
                ranges = ranges_of(self.dut.domain, field_name, formats[field_name])
                found.append(self.algebra.inside(word, ranges))
        return found

    def _or_idle(self, state: Mapping[int, Word]) -> dict[int, Word]:
        """Return registers after a vector, or a clock later if none follows at once."""
        closed, algebra = self.closed, self.algebra
        if closed.dut.input.valid is None:
            return dict(state)
        later = self.design.quiet(state)
        gap = algebra.free(1, "gap")
        return {n: algebra.chosen(gap, later[n], word) for n, word in state.items()}

    # -- answers -------------------------------------------------------------------------------

    def _wrong(
        self,
        operation: str,
        first: str | None,
        verdict: Verdict,
        told: Told,
        before: Word | None,
        codes: Mapping[str, Word],
        expected: Word,
    ) -> Wrong:
        assert verdict.model is not None
        model = verdict.model
        found = _codes_of(codes, model)
        came = bool(model(told.done))
        return Wrong(
            operation, None if before is None else model(before), found, model(expected),
            model(told.outputs["fp_code_after"]) if came else None, first,
        )  # fmt: skip

    def assumptions(self) -> list[str]:
        """Return the assumptions of the proof, in sentences."""
        dut, found = self.dut, []
        names = self.design.fixed
        if dut.clock is not None:
            begin = "registers may hold anything before a vector"
            if names and self.design.invariant:
                begin += ", but those that a reset sets and every operation leaves so"
            found.append(begin)
        if dut.input.valid or dut.output.valid:
            found.append("one vector at a time: a beat whenever the design is ready, no stalls")
        if dut.domain:
            found.append(f"{dut.domain}")
        if dut.comparison:
            found.append(f"compared: {dut.comparison}")
        return found


def _codes_of(codes: Mapping[str, Word], model: Callable[[Word], int]) -> dict[str, list[int]]:
    """Return the numbers of a vector's codes by field, element 0 first."""
    found: dict[str, list[int]] = {}
    for name in sorted(codes, key=_place):
        field_name = name.removeprefix("fp_").rpartition("_")[0]
        if field_name != "exp":
            found.setdefault(field_name, []).append(model(codes[name]))
    return found


def _place(name: str) -> tuple[str, int]:
    stem, _, lane = name.rpartition("_")
    return stem, int(lane)


def _elements(codes: Mapping[str, Word]) -> list[Word]:
    return [codes[name] for name in ("fp_a_0", "fp_b_0") if name in codes]
