# SPDX-License-Identifier: Apache-2.0
"""`check_dot`: dot products or matrix products of codes or values, against a unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.philox import check_seed, numpy_generator
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.testing.contract import (
    Arrays,
    ContractError,
    Returns,
    Subject,
    as_codes_or_values,
    importable,
)
from fpsim.testing.long_sums import long_sums, rounding_length
from fpsim.testing.neighbours import Neighbours, same_values
from fpsim.testing.result import (
    CheckResult,
    Counterexample,
    Mistake,
    NumberLine,
    Property,
    likely_mistakes,
    recorded,
)
from fpsim.testing.rounding import coded, number_line
from fpsim.unit import MacUnit, get_unit
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.corner_classes import add_built_classes
from fpsim.vectors.explanation import explain_vector
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.mutants.reach import OF_ADDENDS, Addends, Reach
from fpsim.vectors.mutants.survivors import survivors
from fpsim.vectors.plans.exhaustive import every_case
from fpsim.vectors.plans.planner import add_products, plan
from fpsim.vectors.seeded.random_vectors import random_dots
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before

__all__ = ["check_dot"]

Form = Literal["dot", "matmul", "batched"]
Operands = Literal["codes", "values"]
Codes = NDArray[Any]
#: Most wrong results and most right ones on which mistakes are tried; and on the exact model.
TRIED_ROWS, SLOW_ROWS = 512, 24
#: The mistake of a vector's products that stay for the next one; a function sees no order.
_OF_SEQUENCES = "previous products"
#: Columns of a matrix product, whose rows are the cases, and products of a batch.
COLUMNS, BATCH = 8, 3
#: Most trials to shrink a counterexample.
MAX_TRIALS = 400


@dataclass(frozen=True)
class _Task:
    """A function, its unit, and the form of operands and results."""

    subject: Subject
    record: Record
    form: Form
    operands: Operands
    returns: Returns
    addend: bool
    tolerance: int

    def call(self, columns: Columns, c: Codes) -> NDArray[np.float64]:
        """Return the function's results for dot products (n,), as values."""
        spec = self.record.spec
        given = [self._given(spec.a, columns["a"]), self._given(spec.b, columns["b"])]
        if self.record.group:
            given += [self._given(getattr(spec, n), columns[n]) for n in ("a_scale", "b_scale")]
        if self.addend:
            given.append(self._given(spec.initial, c))
        return self._results(given, (c.size,))

    def matmul(self, a: Codes, b: Codes, c: Codes) -> NDArray[np.float64]:
        """Return the function's results for matrix products (..., M, N), as values."""
        spec = self.record.spec
        given = [self._given(spec.a, a), self._given(spec.b, b)]
        if self.addend:
            given.append(self._given(spec.initial, c))
        return self._results(given, (*a.shape[:-1], b.shape[-1]))

    def _results(self, given: list[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[np.float64]:
        fmt = self.record.spec.result
        names = f"accumulator codes or values of {fmt.name}"
        (array,) = self.subject.results(given, [shape], names)
        return as_codes_or_values(self.subject, array, fmt, self.returns)[0]

    def _given(self, fmt: Format, codes: Codes) -> NDArray[Any]:
        if self.operands == "codes":
            return np.ascontiguousarray(codes)
        values = fmt.decode(codes)
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), values, equal_nan=True)
        return single if exact else values

    def right(self, columns: Columns, c: Codes) -> Codes:
        """Return the unit's result codes."""
        return self.record.dot(columns, c)

    def same(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the mask of results that count as equal."""
        equal = same_values(x, y)
        if self.tolerance:
            fmt = self.record.spec.result
            with np.errstate(invalid="ignore"):
                near = np.abs(_places(fmt, x) - _places(fmt, y)) <= self.tolerance
            equal |= near & np.isfinite(x) & np.isfinite(y)
        return equal


def check_dot(
    function: Callable[..., Any],
    unit: str | MacUnit,
    *,
    form: Form = "matmul",
    operands: Operands = "codes",
    returns: Returns = "either",
    addend: bool = False,
    scales: bool = False,
    k: int | tuple[int, ...] | None = None,
    count: int = 4096,
    seed: int = 1,
    tolerance: int = 0,
    reason: str = "",
    arrays: Arrays = "numpy",
) -> CheckResult:
    """Check dot products, or a matrix product, against a unit, bit for bit.

    ``form="dot"``: the function takes a (n, K), b (n, K) and returns (n,). If operands, addends and
    scales have at most 2^24 cases, all are tried; else every operand pair, the corner classes of
    golden vectors (cancellation, swamping, ends of alignment windows, ties, order, ends of the
    range) and random cases. ``form="matmul"``: a (M, K), b (K, N) to (M, N), with these cases as
    rows of a against a few columns. ``form="batched"``: several such products in one call, a (B, M,
    K), b (B, K, N) to (B, M, N).

    Without an addend a sum rounds only where it has grown, so sums of largest products are tried,
    too. If the function holds, a note names the mistakes that none of the inputs would show.

    Args:
        function: takes a, b[, a_scale, b_scale][, c], returns accumulator codes or values.
        unit: a unit, the name of one, or a path to its TOML.
        form: ``matmul``, ``batched`` or ``dot``.
        operands: form of the operands: ``codes`` or ``values`` (float32 if exact, else float64).
        returns: form of the results: ``codes``, ``values`` or ``either``.
        addend: pass c too, in the shape of the result.
        scales: pass scale codes too (n, G); ``form="dot"`` only.
        k: products of a dot product, one length or several; absent: 1, a step of the unit, four,
            and without an addend as many as a sum needs to round, if that is at most 1024; after a
            wrong result without scales also fewer, for a short counterexample.
        count: random cases of each length.
        seed: seed of the random cases.
        tolerance: allowed distance from the unit's result, in codes.
        reason: why the tolerance is right; required with one.
        arrays: ``numpy`` or ``torch``.

    Returns:
        The result, true only if every result is the unit's, within the tolerance.

    Raises:
        FpsimError: an argument out of range, or a tolerance without a reason.
        ContractError: the function raises, changes its input, or returns a result of a wrong type
            or shape.
    """
    made = get_unit(unit)
    check_seed(seed)
    for name, value, allowed in (
        ("form", form, ("matmul", "batched", "dot")), ("operands", operands, ("codes", "values")),
    ):  # fmt: skip
        if value not in allowed:
            raise not_one_of(name, value, allowed)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise FpsimError(f"count: {count!r} is not a positive number of random cases")
    if not isinstance(tolerance, int) or tolerance < 0:
        raise FpsimError(f"tolerance: {tolerance!r} is not a number of result codes, 0 or more")
    if tolerance and not reason.strip():
        raise FpsimError(
            f"tolerance: {tolerance} needs a reason, which the report states; a unit is bit-exact"
        )
    if scales and form != "dot":
        raise FpsimError(f"scales: form={form!r} has none; form='dot' gives them to the function")
    if made.spec.random_bits:
        raise FpsimError(f"unit: {made.name} rounds stochastically; check_stochastic checks that")
    subject = Subject(function, arrays)
    natural = Record.of(made.spec).k
    if k is None:
        long = None if addend else rounding_length(Record.of(made.spec))
        lengths = tuple(n for n in (1, natural, 4 * natural, long) if n is not None)
    else:
        lengths = (k,) if isinstance(k, int) else tuple(k)
    runs = []
    for length in dict.fromkeys(lengths):
        group = None if scales else 0
        if not scales and made.spec.block is None and length < 1:
            raise FpsimError(f"k: {length} is not a positive number of products")
        shape = Record.of(made.spec, length, group)
        task = _Task(subject, shape, form, operands, returns, addend, tolerance)
        runs.append(_run(task, count, seed))
    return recorded(_result(made, runs, reason, every_length=k is None))


@dataclass(frozen=True)
class _Run:
    """Cases of one length, with the function's and the unit's results."""

    task: _Task
    columns: Columns
    c: Codes
    expected: NDArray[np.float64]
    seen: NDArray[np.float64]
    search: str
    every: bool

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """The mask of results that differ from the unit's."""
        return ~self.task.same(self.expected, self.seen)


def _run(task: _Task, count: int, seed: int) -> _Run:
    shape = task.record
    spec = shape.spec
    every = task.form == "dot" and task.addend and every_case(shape, 1 << 16) is not None
    if every:
        columns = plan(spec, strategy="exhaustive", k=shape.k, group=shape.group).columns()
    else:
        columns = _directed(shape, count, seed, grown=not task.addend)
    op = columns["op"]
    sums = np.flatnonzero((op == Op.DOT) | (op == Op.MAC))
    c = accumulators_before(columns)[sums].astype(spec.initial.dtype)
    if not task.addend:
        c = np.zeros_like(c)
    names = ("a", "b", *(("a_scale", "b_scale") if shape.group else ()))
    columns = {name: columns[name][sums] for name in names}
    if not task.addend or task.form != "dot":
        columns, c = _distinct(columns, c)
    what = "every case" if every else "every operand pair, corner classes and random cases"
    if task.form == "dot":
        right = spec.result.decode(task.right(columns, c))
        seen = task.call(columns, c)
        return _Run(task, columns, c, right, seen, f"K = {shape.k}: {what}", every)
    return _product(task, columns, c, seed)


def _directed(record: Record, count: int, seed: int, grown: bool) -> Columns:
    """Return every operand pair, the constructed corner classes, random cases, and grown sums."""
    builder = VectorBuilder(record)
    add_products(builder)
    add_built_classes(builder)
    corners = builder.columns()
    parts = [corners, random_dots(record, seed, 0, count)]
    if grown:
        sums = long_sums(record, seed)
        rows = sums["a"].shape[0]
        parts.append(
            {n: np.resize(column[:1], (rows, *column.shape[1:])) for n, column in corners.items()}
            | sums
        )
    columns = {n: np.concatenate([part[n] for part in parts]) for n in corners}
    return columns | {"acc": record.expected(columns)}


def _distinct(columns: Columns, c: Codes) -> tuple[Columns, Codes]:
    """Return cases without repetitions, in order."""
    joined = np.concatenate([*(columns[n].astype(np.uint64) for n in columns), c[:, None]], axis=1)
    _, first = np.unique(joined, axis=0, return_index=True)
    first.sort()
    return {name: column[first] for name, column in columns.items()}, c[first]


def _product(task: _Task, columns: Columns, c: Codes, seed: int) -> _Run:
    """Run one matrix product: rows of ``a`` against columns of ``b``, with the rows' addends."""
    n, k = columns["a"].shape
    batch = BATCH if task.form == "batched" else 1
    rng = numpy_generator(seed)
    spread = np.linspace(0, n - 1, batch * (COLUMNS - 2)).astype(np.int64)
    picks = np.concatenate([spread, rng.integers(0, n, batch)]).reshape(-1, batch).T
    plain = np.full((batch, 1, k), _one_code(task.record.spec.b), dtype=columns["b"].dtype)
    b = np.concatenate([plain, columns["b"][picks]], axis=1)  # (batch, N, K)
    rows = np.arange(-(-n // batch) * batch).reshape(batch, -1) % n
    a = columns["a"][rows]  # (batch, M, K)
    addends = np.resize(c, (b.shape[1], rows.size)).T.reshape(*rows.shape, -1).copy()
    given = [a, np.ascontiguousarray(b.swapaxes(1, 2)), addends]
    if task.form == "matmul":
        given = [array[0] for array in given]
    seen = task.matmul(*given)
    wide: Columns = {
        "a": np.repeat(a, b.shape[1], axis=1).reshape(-1, k),
        "b": np.tile(b, (1, rows.shape[1], 1)).reshape(-1, k),
    }
    flat = addends.reshape(-1)
    right = task.record.spec.result.decode(task.right(wide, flat))
    text = f"K = {k}: rows of every operand, corner classes, random against {b.shape[1]} columns"
    text += f", {batch} products a call" if batch > 1 else ""
    return _Run(task, wide, flat, right, seen.reshape(-1), text, False)


def _result(unit: MacUnit, runs: list[_Run], reason: str, every_length: bool) -> CheckResult:
    task = runs[0].task
    wrong = sum(int(run.wrong.sum()) for run in runs)
    properties = tuple(
        Property(f"K = {run.task.record.k}", run.c.size, int(run.wrong.sum())) for run in runs
    )
    every = all(run.every for run in runs)
    kind = "exhaustive" if every else "directed and random"
    notes = []
    if task.tolerance:
        off = sum(int((~same_values(r.expected, r.seen)).sum()) for r in runs)
        notes.append(
            f"tolerance of {task.tolerance} codes, because {reason.strip()}; {off} results used it "
            "or are wrong"
        )
    if not task.addend:
        notes.append("c was 0: no addend was given")
    if not wrong and (unseen := _unseen(runs, every_length)):
        notes.append(
            f"these inputs would not show: {', '.join(unseen)}; longer sums (k) "
            f"{'may' if task.addend else 'or addends may'}"
        )
    mistakes: tuple[Mistake, ...] = ()
    case = None
    failing = next((run for run in runs if run.wrong.any()), None)
    if failing is not None:
        # The longest sums that fail show order best: look for mistakes in them.
        last = [run for run in runs if run.wrong.any()][-1]
        mistakes = _named(last)
        case = _counterexample(failing, every_length)
    return CheckResult(
        "dot products", task.subject.name, unit.name,
        f"{kind}: " + "; ".join(run.search for run in runs),
        sum(run.c.size for run in runs), wrong, properties, mistakes, case, tuple(notes),
    )  # fmt: skip


# -- mistakes ------------------------------------------------------------------------------------


def _spread(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    if rows.size <= limit:
        return rows
    return rows[np.linspace(0, rows.size - 1, limit).astype(np.int64)]


def _unseen(runs: list[_Run], every_length: bool) -> list[str]:
    """Return the mistakes that no input would show, but those proved to show nowhere.

    Mistakes of the rounding decision alone, which run on the exact model, are left out.
    """
    left: dict[str, None] = {}
    shown: set[str] = set()
    for run in (run for run in reversed(runs) if not run.every):  # the longest sums show most
        record, addend = run.task.record, run.task.addend
        sums = Addends.ANY if addend else Addends.GROWN if every_length else Addends.ZERO
        excused = Reach(record, sums).equivalent
        tried = [
            m for m in mutants_of(record)
            if not m.slow and m.name not in shown and m.name != _OF_SEQUENCES
        ]  # fmt: skip
        columns = run.columns | {"acc": run.task.right(run.columns, run.c)}
        alive = survivors(record, [(columns, run.c)], tried)
        shown |= {m.name for m in tried} - {m.name for m in alive}
        for mutant in alive:
            of_addend = not addend and mutant.name in OF_ADDENDS
            if not of_addend and equivalent(record, mutant) is None and excused(mutant) is None:
                left[mutant.name] = None
    return [name for name in left if name not in shown]


def _named(run: _Run) -> tuple[Mistake, ...]:
    """Return the likely mistakes: mutants of the unit, each run on some of the cases."""
    result = run.task.record.spec.result
    chosen = [_spread(np.flatnonzero(part), TRIED_ROWS) for part in (run.wrong, ~run.wrong)]
    few = [_spread(part, SLOW_ROWS) for part in chosen]
    found: tuple[Mistake, ...] = ()
    for rows, slow in ((np.concatenate(chosen), False), (np.concatenate(few), True)):
        columns = {name: column[rows] for name, column in run.columns.items()}
        c = run.c[rows]

        def candidates(
            columns: Columns = columns, c: Codes = c, slow: bool = slow
        ) -> Iterator[tuple[str, NDArray[np.float64]]]:
            for mutant in mutants_of(run.task.record):
                if mutant.slow is slow and mutant.name != _OF_SEQUENCES:
                    try:
                        yield _as_if(mutant.name), result.decode(mutant.run(columns, c))
                    except FpsimError:
                        continue

        found = likely_mistakes(
            run.expected[rows], run.seen[rows], run.task.same, candidates(), lambda _: ""
        )
        if found:
            break
    return found


#: Names of mutants in sentences; other mutants keep their names.
_PHRASES = {
    "added in a tree": "terms were added in pairs (a tree)",
    "two lanes": "terms were added in two lanes",
    "order reversed": "terms were added in the reverse order",
    "rounded once at the end": "the sum were exact and rounded once, at the end",
    "rounded after every add": "the sum were rounded after every addition",
    "products rounded first": "products were rounded before they are added",
    "addend ignored": "the addend were ignored",
    "results flushed": "subnormal results were flushed to zero",
    "-0 lost": "-0 became +0",
    "rounding: ties down": "ties went toward zero",
    "rounding: ties up": "ties went away from zero",
    "rounding rna": "ties went away from zero",
    "rounding rtz": "results were truncated toward zero",
    "rounding: sticky dropped": "bits below the guard bit were lost before rounding",
    "rounding: rounded twice": "results were rounded twice",
    "one after the other": "terms were added one after the other",
    "exact sum": "the sum were exact",
    "every add rounded": "every addition were rounded by itself",
}


def _as_if(name: str) -> str:
    return _PHRASES.get(name, f"the unit had: {name}")


# -- the counterexample --------------------------------------------------------------------------


def _counterexample(run: _Run, every_length: bool) -> Counterexample:
    """Return a wrong dot product of few products, zeros and ones among them where possible.

    Args:
        run: cases, some of them wrong.
        every_length: whether the function takes other lengths than the run's.

    Returns:
        The counterexample.
    """
    task = run.task
    spec = task.record.spec
    rows = np.flatnonzero(run.wrong)
    nonzero = sum((run.columns[n][rows] != 0).sum(axis=1) for n in "ab") + (run.c[rows] != 0)
    row = int(rows[int(np.argmin(nonzero))])
    columns = {name: column[row : row + 1].copy() for name, column in run.columns.items()}
    c = run.c[row : row + 1].copy()
    alone = _fails(task, columns, c)
    if alone:
        shorter = every_length and not task.record.group
        if shorter:
            task, columns = _shortened(task, columns, c)
        columns, c = _shrunk(task, columns, c)
        if shorter:  # products that are zero now
            task, columns = _shortened(task, columns, c)
        seen = float(_one(task, columns, c)[0])
    else:
        seen = float(run.seen[row])
    expected = spec.result.decode(task.right(columns, c))
    shown = {name: column[0] for name, column in columns.items()}
    shown |= {"op": np.uint8(Op.DOT), "c": c[0], "acc": task.right(columns, c)[0]}
    shape = task.record
    steps = explain_vector(shape, shown, int(c[0]), row, None, "counterexample").steps()
    lines = [line.strip() if i < 2 else line[2:] for i, line in enumerate(steps)][1:]
    if not alone:
        lines.insert(0, "alone it does not fail: the result depends on what else is in the call")
    literal = {n: columns[n].tolist() for n in columns} | {"c": c.tolist()}
    scaled = "".join(f", {n}={literal[n]}" for n in columns if n.endswith("scale"))
    block = f", block={shape.group}" if shape.group else ""
    replay = (
        f"import numpy as np\nfrom fpsim import get_unit\n{importable(task.subject.function)}\n"
        f"unit = get_unit({spec.name!r})\n"
        f"a = np.array({literal['a']}, dtype=np.{spec.a.dtype})\n"
        f"b = np.array({literal['b']}, dtype=np.{spec.b.dtype})\n"
        f"c = np.array({literal['c']}, dtype=np.{spec.initial.dtype})\n"
        f"print(unit.dot(a, b, c{scaled}{block}))"
    )
    replay += "\n" + _call_text(task)
    given = ", ".join(
        f"{n} = [{', '.join(_text(getattr(spec, n), int(v)) for v in columns[n][0])}]" for n in "ab"
    )
    return Counterexample(
        f"{given}, c = {_text(spec.initial, int(c[0]))}",
        coded(spec.result, float(expected[0])),
        coded(spec.result, seen),
        tuple(lines),
        replay,
        _drawn(task, columns, c, float(expected[0]), seen),
    )


def _drawn(
    task: _Task, columns: Columns, c: Codes, expected: float, seen: float
) -> NumberLine | None:
    """Return a number line with the exact sum, or None if the sum is no number."""
    record, spec = task.record, task.record.spec
    a, b = (getattr(spec, n).decode(columns[n][0]) for n in "ab")
    with np.errstate(all="ignore"):
        terms = a * b
        if record.group:
            groups = np.arange(record.k) // record.group
            for name in ("a_scale", "b_scale"):
                scales = getattr(spec, name).decode(columns[name][0])
                if scales.shape != (groups[-1] + 1,):  # one per sign
                    return None
                terms = terms * scales[groups]
        terms = np.append(terms, spec.initial.decode(c))
    if not np.isfinite([*terms, expected]).all():
        return None
    return number_line(Neighbours.of(spec.result, np.array([math.fsum(terms)])), 0, expected, seen)


def _call_text(task: _Task) -> str:
    """Return the line that calls the function on one dot product."""
    names = {"dot": ["a", "b", "c"], "matmul": ["a", "b.T", "c[:, None]"]}.get(
        task.form, ["a[None]", "b.T[None]", "c[None, :, None]"]
    )
    if task.record.group:
        return "# function takes a, b, a_scale, b_scale" + ", c" * task.addend + " as above"
    if not task.addend:
        names.pop()
    if task.operands == "values":
        formats = ["a", "b", "spec.initial"]
        names = [f"unit.{f}.decode({n})" for f, n in zip(formats, names, strict=False)]
    return f"print(function({', '.join(names)}))"


def _text(fmt: Format, code: int) -> str:
    return f"{fmt.decode([code])[0]:g}"


def _one(task: _Task, columns: Columns, c: Codes) -> NDArray[np.float64]:
    """Run cases in the function's form; as matrix products, one call each."""
    if task.form == "dot":
        return task.call(columns, c)
    results = []
    for i in range(c.size):
        given = [columns["a"][i : i + 1], columns["b"][i : i + 1].T, c[i : i + 1, None]]
        if task.form == "batched":
            given = [array[None] for array in given]
        results.append(task.matmul(*given).reshape(-1))
    return np.concatenate(results)


def _fails(task: _Task, columns: Columns, c: Codes) -> bool:
    right = task.record.spec.result.decode(task.right(columns, c))
    return bool((~task.same(right, _one(task, columns, c)))[0])


def _shortened(task: _Task, columns: Columns, c: Codes) -> tuple[_Task, Columns]:
    """Leave out products, many at a time and then fewer, as long as results are wrong.

    A length that the function refuses is as good as one whose result is right.
    """
    step, trials = Record.of(task.record.spec).k, 0
    size = task.record.k // 2 // step * step
    while size >= step:
        first = 0
        while first < task.record.k > size and trials < MAX_TRIALS:
            left = np.r_[0:first, first + size : task.record.k]
            trials += 1
            trial = {name: column[:, left] for name, column in columns.items()}
            shorter = replace(task, record=Record.of(task.record.spec, left.size, 0))
            try:
                wrong = _fails(shorter, trial, c)
            except ContractError:
                wrong = False
            if wrong:
                task, columns = shorter, trial
            else:
                first += size
        size = size // 2 // step * step
    return task, columns


def _shrunk(task: _Task, columns: Columns, c: Codes) -> tuple[Columns, Codes]:
    """Replace operands by zero, then by one, and the addend by zero, as long as it fails."""
    palette = Palette(task.record)
    trials = 0
    for target in ("zero", "one"):
        for lane in range(task.record.k):
            for name in "ab":
                fmt = getattr(task.record.spec, name)
                code = palette.zero(name) if target == "zero" else _one_code(fmt)
                if int(columns[name][0, lane]) in (code, palette.zero(name)) or trials > MAX_TRIALS:
                    continue
                trial = {n: column.copy() for n, column in columns.items()}
                trial[name][0, lane] = code
                trials += 1
                if _fails(task, trial, c):
                    columns = trial
    if c[0] and _fails(task, columns, np.zeros_like(c)):
        c = np.zeros_like(c)
    return columns, c


def _one_code(fmt: Format) -> int:
    return int(fmt.encode([1.0])[0])


def _places(fmt: Format, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places of values in the order of codes, both zeros at 0."""
    finite = np.where(np.isfinite(values), values, 0.0)
    codes = fmt.encode(finite, "rtz", "saturate").astype(np.int64)
    if isinstance(fmt, FixedFormat):
        return fmt.integers(codes.astype(fmt.dtype)).astype(np.float64)
    assert isinstance(fmt, FloatFormat)
    magnitude = codes & ((1 << fmt.magnitude_bits) - 1)
    return np.where(codes & fmt.sign_bit, -magnitude, magnitude).astype(np.float64)
