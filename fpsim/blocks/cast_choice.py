# SPDX-License-Identifier: Apache-2.0
"""The best of several grids, scales and ratios of a block, by error.

A candidate is a scale and a grid. Errors are defined as float64 sums in the order of the elements,
or, of `ChoiceKind.single`, as float32 sums in the order of Four Over Six's code. Before float64
sums come float32 sums, which choose where a bound shows that both choose alike:

With t = 2^-24, F a scale and the factor of x within 6 t of 1 / F, scaled values are within
9 t |x| / F of the exact ones. The value nearest to a scaled value is at most 18 t |x| further from
x than the nearest value is, the value nearest as defined 2 t |x|; values under the scale are within
3 t A. A difference is thus within D = 21 t A of the exact one, A the largest of x and of all values
under the scale. Where scales are powers of two, and values under them exact, only 1 / F and x / F
are rounded, and D is 4 t A. By 2 D |e| <= c e^2 + D^2 / c for any c, |E' - E| <= 2 D sum|e| + n D^2
+ (n + 4) t E' <= E' (c + (n + 5) t) + n D^2 (1 + 1 / c) for n <= 2^8. Sums of |e| are within n D +
(n + 4) t E', the largest within D + 4 t E'. Blocks whose candidates are no further apart, or whose
factors are not within 6 t, have all errors summed as they are defined.

Some candidates have the errors of one before them, which is chosen: a candidate whose special value
no element becomes, and a twin, whose values and thresholds are another candidate's times a power of
two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fpsim.blocks.cast_steps import (
    ABS_MAX,
    INFINITY,
    MAE,
    MSE,
    BlockScale,
    Grid,
    SubBlocks,
    at_least,
    at_most,
    flag,
    magnitude,
    over,
    scaled,
    step_under,
)
from fpsim.kernels.llvm.side_by_side import INDEX, WORD, Blocks, Variable
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Vec

__all__ = ["Best", "ChoiceArrays", "ChoiceKind", "Chooser"]

ULP = 2.0**-24


class ErrorBounds(NamedTuple):
    """Errors in float32 that differ by more than these bounds together tell candidates apart."""

    share: float  #: besides n ULP, of an error
    squares: float  #: of n A^2
    sizes: float  #: of n A, or of A


#: ErrorBounds of any scales, by c = 2^-16, and of powers of two, by c = 2^-18.
ANY = ErrorBounds(2.0**-16 + 2.0**-20, 2.0**-22, 2.0**-19)
POWERS = ErrorBounds(2.0**-18 + 2.0**-20, 2.0**-25, 2.0**-21)
#: Parts of a sum of `ChoiceKind.single`.
SUMMED = 8


class ChoiceKind(NamedTuple):
    """The settings that the code of a choice depends on."""

    error: int
    single: bool
    multiply: bool
    divided: bool  #: values are over a divisor that is not one
    floats: bool  #: values are those of float formats times a factor, special ones apart
    specials: int  #: special values of each family; 0: none
    opposite: bool  #: these are two, one the other with the other sign
    powers: bool  #: scales are powers of two, and values under them exact
    twins: bool
    together: int  #: candidates with one grid, of which every scale is powers of two of another
    searched: bool  #: the ratios of sub-blocks are those of the least squared error

    @property
    def bounds(self) -> ErrorBounds:
        """How far float32 errors are from those that are defined."""
        return POWERS if self.powers else ANY


class ChoiceArrays(NamedTuple):
    """Numbers of the arrays of a choice."""

    laid: int
    rows: int  #: int64, a candidate with each of the scales
    #: (C, 3) int64 of each candidate: its row, its grid, whether a scale times the tensor's is
    #: exact (else a value is over the divisor in between)
    candidates: int
    #: (N, 4 + S) int64 of candidates that differ in a special value: these, the candidate that is
    #: the twin of the first or -1, and their numbers
    families: int
    reals: int  #: float64: the divisor, and the largest value times the range of the tensor scale
    sizes: int  #: int64: candidates, families, rows
    held: int  #: scratch: decoded scales of rows
    factors: int  #: scratch: factors of rows
    codes: int  #: scratch: codes of scales of rows
    ratios: int  #: float32
    trial: int  #: scratch: ratios of sub-blocks under candidates that are tried together
    picks: int  #: scratch: ratios of sub-blocks under the best


class Best(NamedTuple):
    """The choice of each block."""

    code: Vec  #: of the scale
    factor: Vec
    grid: Vec


def _largest(x: Vec, y: Vec) -> Vec:
    """Return the larger magnitude, or NaN."""
    return at_least(x.as_bits, y.as_bits).as_real


def _negated(x: Vec) -> Vec:
    """Return x with the other sign."""
    return (x.as_bits ^ (1 << 31)).as_real


class _Candidate(NamedTuple):
    """A candidate: ``values of the grid * scale / under * top`` are its values."""

    grid: Grid
    factor: Vec
    scale: Vec
    under: Vec | None  #: None: one
    top: Vec

    def value(self, times: Vec) -> Vec:
        """Return values of the grid that are times the scale, over ``under``, float64."""
        return times if self.under is None else over(times, self.under)

    @property
    def full(self) -> Vec:
        """The scale times the tensor's, float32."""
        return (self.scale * self.top).as_lanes(self.factor.lanes)

    @property
    def weight(self) -> Vec:
        """The number that values of the grid are times, float32."""
        return self.value(self.scale * self.top).as_lanes(self.factor.lanes)


class _Lead:
    """The least of several errors known within a bound, and how far below another may lie."""

    def __init__(self, b: Blocks) -> None:
        self._lanes = b.floats
        self.error, self._other = (Variable(b.floats.constant(INFINITY, False)) for _ in range(2))
        self._bound = Variable(b.floats.constant(0.0, False))

    def meet(self, now: Vec, slack: Vec) -> Vec:
        """Return whether an error is the least so far."""
        better = now < self.error.get()
        low = better.where(self.error.get() - self._bound.get(), now - slack)
        self._other.set(at_most(low, self._other.get()))
        self.error.set(better.where(now, self.error.get()))
        self._bound.set(better.where(slack, self._bound.get()))
        return better

    @property
    def clear(self) -> Vec:
        """1 where no other error can be as small, else 0."""
        return flag(self.error.get() + self._bound.get() < self._other.get(), self._lanes)


class Chooser:
    """Writes the choice of blocks.

    Args:
        b: the blocks.
        kind: `ChoiceKind`.
        arrays: `ChoiceArrays`.
        block: elements of a block.
        sub: elements that share a ratio, and how many ratios there are.
        grid: returns a grid by its number.
        most: the largest magnitudes.
        above: the tensor's scale, float64.
        largest: the largest magnitude of the tensor.
        fit: keeps the ratios of sub-blocks in ``arrays.trial`` for a factor; None where they are
            searched or there are none.
    """

    def __init__(
        self,
        b: Blocks,
        kind: ChoiceKind,
        arrays: ChoiceArrays,
        block: Any,
        sub: SubBlocks | None,
        grid: Callable[[Any], Grid],
        most: Vec,
        above: Vec,
        largest: Vec,
        fit: Callable[[Vec], None] | None,
    ) -> None:
        self._b, self._kind, self._at, self._block, self._sub = b, kind, arrays, block, sub
        self._grid, self._most, self._above, self._fit = grid, most, above, fit
        self._largest = largest
        self._divisor = b.same(arrays.reals, 0, DOUBLE)
        self._terms = b.floats.splat(b.builder.trunc(block, WORD), True).signed_reals
        self._bounds = kind.bounds
        self._share = self._terms * ULP + self._bounds.share
        self._candidates, self._families, self._rows = (
            b.number(arrays.sizes, i, INDEX) for i in range(3)
        )
        zero = b.floats.constant(0, True)
        #: the number of the candidate, its row and its grid
        self._best = [Variable(zero) for _ in range(3)]

    def choose(self, scale: Callable[[Any], BlockScale]) -> Best:
        """Return the candidate of the least error, the first of several, and its scale.

        ``scale`` returns the scales of a candidate by its number.
        """
        b, at = self._b, self._at
        with b.loop(self._rows) as loop:
            own = scale(b.number(at.rows, loop.index, INDEX))
            b.keep(at.codes, loop.index, own.code)
            b.keep(at.held, loop.index, own.decoded)
            b.keep(at.factors, loop.index, own.factor)
        if self._kind.single:
            self._singly()
        elif self._sub is not None:
            self._by_levels(self._sub)
        else:
            unclear = self._roughly()
            with b.if_any(unclear):
                self._exactly()
        _, row, grid = (best.get() for best in self._best)
        code, factor = (
            Variable(b.doubles.constant(0, True)),
            Variable(b.floats.constant(0.0, False)),
        )
        with b.loop(self._rows) as loop:
            here = row.equals(self._number(loop.index))
            code.set(here.where(b.kept(at.codes, loop.index, INDEX), code.get()))
            factor.set(here.where(b.kept(at.factors, loop.index), factor.get()))
        return Best(code.get(), factor.get(), grid)

    def _number(self, index: Any) -> Vec:
        return self._b.floats.splat(self._b.builder.trunc(index, WORD), True)

    def _take(self, better: Vec, numbers: tuple[Any, Any, Any]) -> None:
        """Take a candidate, its row and its grid for the best."""
        for best, number in zip(self._best, numbers, strict=True):
            best.set(better.where(self._number(number), best.get()))

    def _listed(self, array: int, place: Any, count: int) -> list[Any]:
        add = self._b.builder.add
        return [self._b.number(array, add(place, INDEX(i)), INDEX) for i in range(count)]

    def _candidate(self, row: Any, v: Any, folded: Any) -> _Candidate:
        b, wide = self._b, self._b.doubles
        single = Vec(b.floats, b.builder.icmp_signed("!=", folded, INDEX(0)), False)
        one = wide.constant(1.0, False)
        scale = b.kept(self._at.held, row, DOUBLE)
        return _Candidate(
            self._grid(v),
            b.kept(self._at.factors, row),
            single.where(scale * self._above, scale),
            single.where(one, self._divisor) if self._kind.divided else None,
            single.where(one, self._above),
        )

    def _each(
        self,
        body: Callable[[list[tuple[tuple[Any, Any, Any], _Candidate]]], None],
        together: int = 1,
    ) -> None:
        """Do something for groups of candidates with their numbers, rows and grids."""
        b, builder, step = self._b, self._b.builder, INDEX(together)
        with b.loop(builder.sdiv(self._candidates, step)) as loop:
            every = []
            for i in range(together):
                number = builder.add(builder.mul(loop.index, step), INDEX(i))
                place = builder.mul(number, INDEX(3))
                row, v, folded = self._listed(self._at.candidates, place, 3)
                every.append(((number, row, v), self._candidate(row, v, folded)))
            body(every)

    # -- errors in float32 -------------------------------------------------------------------------

    def _near(self, full: Vec, times: Vec) -> Vec:
        """Return 1 where a factor is as near to a scale's inverse as the bound supposes."""
        return flag(magnitude(full * times - 1.0) < 2.0**-22, self._b.floats)

    def _right(self) -> Vec:
        lanes = self._b.floats
        return flag(self._most > 2.0**-40, lanes) & flag(self._terms < 257.0, lanes)

    def _slack(self, now: Vec, far: Vec, terms: Vec) -> tuple[Vec, Vec]:
        """Return the bound of an error, and 1 where it holds."""
        size = far * far if self._kind.error == MSE else far
        size = size if self._kind.error == ABS_MAX else size * terms
        apart = self._bounds.squares if self._kind.error == MSE else self._bounds.sizes
        slack = now * self._share + size * apart
        return slack, flag(size < 2.0**100, self._b.floats)

    def _add(self, total: Variable, off: Vec) -> None:
        """Add a difference to an error, or raise it to the largest."""
        if self._kind.error == MSE:
            total.set(off.intrinsic("fmuladd", off, total.get()))
        elif self._kind.error == MAE:
            total.set(total.get() + magnitude(off))
        else:
            total.set(at_least(magnitude(off), total.get()))

    def _differences(
        self, grid: Grid, times: Vec, full: Vec, weight: Vec, others: list[Vec]
    ) -> tuple[Callable[[Vec], list[Vec]], list[Vec]]:
        """Return the function from x to the differences of its values, and the largest values.

        Values are under a scale times each of ``others``, powers of two of which the first is one.
        For grids that are no floats there is only that one.
        """
        if self._kind.floats:
            rounds = grid.rounds
            speed, unit = (magnitude(v) for v in (times * rounds.back, full * rounds.factor))
            back = _negated(unit)
            nearest = rounds.nearest(others)

            def of_floats(x: Vec) -> list[Vec]:
                size = magnitude(x)
                values = nearest(size * speed)
                return [value.intrinsic("fmuladd", back, size) for value in values]

            return of_floats, [rounds.most.as_real * other * unit for other in others]
        mirrored = grid.base_mirrored
        weight = magnitude(weight) if mirrored else weight

        def of_grid(x: Vec) -> list[Vec]:
            own = magnitude(x) if mirrored else x
            return [grid.base_values(x * times).intrinsic("fmuladd", weight, _negated(own))]

        return of_grid, [magnitude(grid.most * weight)]

    def _roughly(self) -> Vec:
        """Choose by float32 errors; return 1 where that is not sure."""
        b, builder, at, kind = self._b, self._b.builder, self._at, self._kind
        lanes, some = b.floats, max(kind.specials, 1)
        lead, right = _Lead(b), Variable(self._right())
        nothing, infinite = (lanes.constant(value, False) for value in (0.0, INFINITY))
        with b.loop(self._families) as family:
            place = builder.mul(family.index, INDEX(4 + some))
            row, v, folded, twin, *numbers = self._listed(at.families, place, 4 + some)
            own = self._candidate(row, v, folded)
            times = own.factor if kind.multiply else over(lanes.constant(1.0, False), own.factor)
            right.set(right.get() & self._near(own.full, times))
            weight = own.weight
            one = [lanes.constant(1.0, False)]
            differences, (far,) = self._differences(own.grid, times, own.full, weight, one)
            far = at_least(far, self._most)
            grids = [v]
            if kind.specials:
                places = (builder.mul(number, INDEX(3)) for number in numbers)
                grids = [self._listed(at.candidates, place, 2)[1] for place in places]
            values = [own.grid.special(g) * weight for g in grids] if kind.specials else []
            for value in values:
                # Without a special value, it is NaN.
                far = at_least(magnitude(value), far)
            totals = [Variable(nothing) for _ in numbers]
            nearer = [Variable(_negated(infinite)) for _ in values]
            with b.loop(self._block) as loop:
                x = b.kept(at.laid, loop.index)
                (off,) = differences(x)
                if not values:
                    self._add(totals[0], off)
                off = magnitude(off)
                if kind.opposite:
                    other = magnitude(magnitude(x) - magnitude(values[0]))
                    near, below = at_most(other, off), x.as_bits < 0
                    self._add(totals[0], below.where(off, near))
                    self._add(totals[1], below.where(near, off))
                    nearer[0].set(at_least(off - other, nearer[0].get()))
                else:
                    for value, total, most in zip(values, totals, nearer, strict=False):
                        other = magnitude(value - x)
                        self._add(total, at_most(other, off))
                        most.set(at_least(off - other, most.get()))
            if kind.opposite:
                # Where nothing becomes either, both errors are the same.
                nearer[1] = nearer[0]
                plus, minus = (total.get() for total in totals)
                below = values[0].as_bits < 0
                totals[0].set(below.where(minus, plus))
                totals[1].set(below.where(plus, minus))
            seen = Variable(lanes.constant(0, True))
            for i, (total, number, g) in enumerate(zip(totals, numbers, grids, strict=True)):
                now = total.get()
                slack, good = self._slack(now, far, self._terms)
                right.set(right.get() & good)
                if values:
                    # Candidates whose special value nothing becomes have the same error.
                    unused = nearer[i].get() < far * -(2.0**-16)
                    own_flag = flag(unused, lanes)
                    now = (own_flag & seen.get()).equals(1).where(infinite, now)
                    seen.set(seen.get() | own_flag)
                elif kind.twins:
                    now = self._is_twin(row, v, twin).where(infinite, now)
                self._take(lead.meet(now, slack), (number, row, g))
        return (lead.clear & right.get()) ^ 1

    def _is_twin(self, row: Any, v: Any, twin: Any) -> Vec:
        """Return where the scales of a candidate and its twin make equal values of theirs."""
        b, builder = self._b, self._b.builder
        some = builder.icmp_signed(">=", twin, INDEX(0))
        place = builder.mul(builder.select(some, twin, INDEX(0)), INDEX(3))
        other_row, other_v = self._listed(self._at.candidates, place, 2)
        least, other = (
            b.kept(self._at.held, r, DOUBLE) * self._grid(g).rounds.factor.as_lanes(b.doubles)
            for r, g in ((row, v), (other_row, other_v))
        )
        none = b.floats.splat(builder.select(some, WORD(0), WORD(1)), True)
        return Vec(b.floats, builder.and_(least.equals(other).value, none.equals(0).value), True)

    # -- errors as they are defined ----------------------------------------------------------------

    def _error(
        self, own: _Candidate, step: Vec, weight: Vec, start: Any, count: Any, by: int
    ) -> Vec:
        """Return the error of some elements, float64."""
        b, total = self._b, Variable(self._b.doubles.constant(0.0, False))
        mirrored = own.grid.mirrored
        weight = weight.intrinsic("fabs") if mirrored else weight
        with b.loop(count) as loop:
            x = b.kept(self._at.laid, b.builder.add(start, loop.index))
            value = own.grid.values(scaled(x, step, self._kind.multiply)).as_lanes(b.doubles)
            value = own.value(value * weight) * own.top
            off = value - (magnitude(x) if mirrored else x).as_lanes(b.doubles)
            if by == MSE:
                total.set(total.get() + off * off)
            elif by == MAE:
                total.set(total.get() + off.intrinsic("fabs"))
            else:
                total.set(at_least(off.intrinsic("fabs"), total.get()))
        return total.get()

    def _exactly(self) -> None:
        least = Variable(self._b.doubles.constant(INFINITY, False))
        self._reset()

        def one(every: list[tuple[tuple[Any, Any, Any], _Candidate]]) -> None:
            ((numbers, own),) = every
            now = self._error(own, own.factor, own.scale, INDEX(0), self._block, self._kind.error)
            self._take_if_less(now, least, numbers)

        self._each(one)

    def _reset(self) -> None:
        first = self._listed(self._at.candidates, INDEX(0), 2)
        for best, number in zip(self._best, (INDEX(0), *first), strict=True):
            best.set(self._number(number))

    def _take_if_less(self, now: Vec, least: Variable, numbers: tuple[Any, Any, Any]) -> Vec:
        better = now < least.get()
        least.set(better.where(now, least.get()))
        self._take(better, numbers)
        return better

    def _singly(self) -> None:
        """Choose by float32 errors in Four Over Six's order (`fpsim.blocks.fields.Errors`)."""
        b, builder, lanes, error = self._b, self._b.builder, self._b.floats, self._kind.error
        full = b.same(self._at.reals, 1, DOUBLE).as_lanes(lanes)
        least = Variable(lanes.constant(INFINITY, False))
        self._reset()

        def one(every: list[tuple[tuple[Any, Any, Any], _Candidate]]) -> None:
            ((numbers, own),) = every
            scale = b.kept(self._at.held, numbers[1], DOUBLE).as_lanes(lanes)

            def back(value: Vec, scale: Vec = scale, own: _Candidate = own) -> Vec:
                found = over(value * scale * self._largest, full)
                return magnitude(found) if own.grid.mirrored else found

            decoded = own.grid.changed(back)
            totals = [Variable(lanes.constant(0.0, False)) for _ in range(SUMMED)]
            with b.loop(builder.sdiv(self._block, INDEX(SUMMED))) as loop:
                start = builder.mul(loop.index, INDEX(SUMMED))
                for i, total in enumerate(totals):
                    x = b.kept(self._at.laid, builder.add(start, INDEX(i)))
                    value = decoded(scaled(x, own.factor, self._kind.multiply))
                    off = magnitude(value - (magnitude(x) if own.grid.mirrored else x))
                    if error == ABS_MAX:
                        total.set(_largest(off, total.get()))
                    else:
                        total.set(total.get() + (off * off if error == MSE else off))
            now = totals[0].get()
            for total in totals[1:]:
                other = total.get()
                now = _largest(other, now) if error == ABS_MAX else now + other
            self._take_if_less(now, least, numbers)

        self._each(one)

    # -- ratios of sub-blocks ----------------------------------------------------------------------

    def _by_levels(self, sub: SubBlocks) -> None:
        b = self._b
        parts = b.builder.sdiv(self._block, INDEX(sub.size))
        if self._kind.searched and self._kind.error == MSE:
            unclear = self._search_roughly(sub, parts)
            with b.if_any(unclear):
                self._search_exactly(sub, parts)
        else:
            self._search_exactly(sub, parts)

    def _keep_index(self, better: Vec, parts: Any, first: Any) -> None:
        """Keep the ratios of sub-blocks, tried from ``first`` on, where a candidate is better."""
        b, at = self._b, self._at
        with b.loop(parts) as part:
            own = b.kept(at.trial, b.builder.add(first, part.index), WORD)
            before = b.kept(at.picks, part.index, WORD)
            b.keep(at.picks, part.index, better.where(own, before))

    def _clear_index(self, parts: Any) -> None:
        with self._b.loop(parts) as part:
            self._b.keep(self._at.picks, part.index, self._b.floats.constant(0, True))

    def _search_roughly(self, sub: SubBlocks, parts: Any) -> Vec:
        """Choose ratios and a candidate by float32 errors; return 1 where that is not sure."""
        b, builder, at, lanes = self._b, self._b.builder, self._at, self._b.floats
        one, zero = lanes.constant(1.0, False), lanes.constant(0, True)
        lead, right = _Lead(b), Variable(self._right())
        sure = Variable(lanes.constant(1, True))
        terms = lanes.constant(float(sub.size), False)
        self._clear_index(parts)
        nothing = lanes.constant(0.0, False)

        def group(every: list[tuple[tuple[Any, Any, Any], _Candidate]]) -> None:
            """Try candidates with one grid under scales that are powers of two of each other."""
            owns = [own for _, own in every]
            others = [over(own.full, owns[0].full) for own in owns]
            differences, apart = [], [nothing for _ in owns]
            for q in range(sub.choices):
                ratio = b.same(at.ratios, q, FLOAT)
                under = [own._replace(scale=own.scale * ratio.as_lanes(b.doubles)) for own in owns]
                steps = [step_under(own.factor, ratio, self._kind.multiply) for own in owns]
                times = [step if self._kind.multiply else over(one, step) for step in steps]
                for each, own in zip(times, under, strict=True):
                    right.set(right.get() & self._near(own.full, each))
                difference, far = self._differences(
                    owns[0].grid, times[0], under[0].full, under[0].weight, others
                )
                differences.append(difference)
                for i, largest in enumerate(far):
                    slack, good = self._slack(nothing, at_least(largest, self._most), terms)
                    right.set(right.get() & good)
                    apart[i] = at_least(slack, apart[i])
            errors, bounds = ([Variable(nothing) for _ in owns] for _ in range(2))
            unsure = [Variable(zero) for _ in owns]
            with b.loop(parts) as part:
                start = builder.mul(part.index, INDEX(sub.size))
                totals = [[Variable(nothing) for _ in differences] for _ in owns]
                with b.loop(INDEX(sub.size)) as loop:
                    x = b.kept(at.laid, builder.add(start, loop.index))
                    for q, difference in enumerate(differences):
                        for own_totals, off in zip(totals, difference(x), strict=True):
                            self._add(own_totals[q], off)
                for i, own_totals in enumerate(totals):
                    inner, pick = _Lead(b), zero
                    for q, total in enumerate(own_totals):
                        now = total.get()
                        better = inner.meet(now, now * self._share + apart[i])
                        pick = better.where(lanes.constant(q, True), pick)
                    least = inner.error.get()
                    place = builder.add(builder.mul(parts, INDEX(i)), part.index)
                    b.keep(at.trial, place, pick)
                    unsure[i].set(unsure[i].get() | (inner.clear ^ 1))
                    errors[i].set(errors[i].get() + least)
                    bounds[i].set(bounds[i].get() + least * self._share + apart[i])
            for i, (numbers, _) in enumerate(every):
                better = lead.meet(errors[i].get(), bounds[i].get())
                sure.set(better.where(unsure[i].get() ^ 1, sure.get()))
                self._take(better, numbers)
                self._keep_index(better, parts, builder.mul(parts, INDEX(i)))

        self._each(group, self._kind.together)
        return (lead.clear & right.get() & sure.get()) ^ 1

    def _search_exactly(self, sub: SubBlocks, parts: Any) -> None:
        b, builder = self._b, self._b.builder
        nothing = b.doubles.constant(0.0, False)
        least = Variable(b.doubles.constant(INFINITY, False))
        self._reset()
        self._clear_index(parts)

        def candidate(every: list[tuple[tuple[Any, Any, Any], _Candidate]]) -> None:
            ((numbers, own),) = every
            if self._fit is not None:
                self._fit(own.factor)
            summed = Variable(nothing)
            with b.loop(parts) as part:
                start = builder.mul(part.index, INDEX(sub.size))

                def under(ratio: Vec, by: int) -> Vec:
                    step = step_under(own.factor, ratio, self._kind.multiply)
                    weight = own.scale * ratio.as_lanes(b.doubles)
                    return self._error(own, step, weight, start, INDEX(sub.size), by)

                if self._kind.searched:
                    found = self._search_part(sub, part.index, under)
                else:
                    found = under(self._ratio(part.index), self._kind.error)
                so_far = summed.get()
                largest = self._kind.error == ABS_MAX
                summed.set(at_least(found, so_far) if largest else so_far + found)
            better = self._take_if_less(summed.get(), least, numbers)
            self._keep_index(better, parts, INDEX(0))

        self._each(candidate)

    def _ratio(self, part: Any) -> Vec:
        own = self._b.kept(self._at.trial, part, WORD)
        return self._b.looked_up(self._at.ratios, FLOAT, INDEX(0), own, 0)

    def _search_part(self, sub: SubBlocks, part: Any, under: Callable[[Vec, int], Vec]) -> Vec:
        """Keep the ratio of the least squared error of a sub-block; return the error under it."""
        b = self._b
        least = Variable(b.doubles.constant(INFINITY, False))
        pick = Variable(b.floats.constant(0, True))
        with b.loop(INDEX(sub.choices)) as loop:
            now = under(b.same(self._at.ratios, loop.index, FLOAT), MSE)
            better = now < least.get()
            least.set(better.where(now, least.get()))
            pick.set(better.where(self._number(loop.index), pick.get()))
        b.keep(self._at.trial, part, pick.get())
        return (
            least.get() if self._kind.error == MSE else under(self._ratio(part), self._kind.error)
        )
