# SPDX-License-Identifier: Apache-2.0
"""Mutants of operations: typical mistakes of converters, adders, multipliers and quantizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.base.progress import counted
from fpsim.blocks.fields import Errors
from fpsim.blocks.scale_rules import POWER_RULES, Arithmetic, ScaleRule, ZeroScale
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle.numbers import Number, add
from fpsim.units.spec import exponents
from fpsim.vectors.mutants.kills import Kill
from fpsim.vectors.mutants.mutants import FRACTIONS, rounded_after
from fpsim.vectors.operations.operation import Convert, Operation, Quantize, TwoOperand
from fpsim.vectors.sets.code_lists import finite_codes
from fpsim.vectors.sets.status_flags import FLAG_CODES
from fpsim.vectors.sets.word_layout import Columns

__all__ = [
    "OperationMutant",
    "distinct_inputs",
    "every_input",
    "killed",
    "mutants_of_operation",
    "operation_kills",
    "operation_survivors",
    "possible_flags",
]

#: Vectors of a batch; the first batch kills most mutants.
BATCH = 1 << 9
#: Most bits of operands for which all cases are tried, to prove that a mutant changes nothing.
PROVED_CODES, PROVED_PAIRS = 16, 14
#: Bits below the last one that an adder without a sticky bit keeps.
KEPT_BITS = 3
#: Most bits of two significands for which all products are tried.
LISTED_PRODUCTS = 22

Run = Callable[[Columns], Columns]
Edit = Callable[[Columns], Columns]
Canonical = Callable[[str, NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class OperationMutant:
    """An operation with a mistake: ``run(columns)`` gives its results by field.

    ``columns`` hold the right results too. Vectors for which ``touches`` is false have the right
    results in the mutant too.
    """

    name: str
    run: Run
    touches: Callable[[Columns], NDArray[np.bool_]] | None = None


def mutants_of_operation(
    operation: Operation, fields: Iterable[str] | None = None
) -> list[OperationMutant]:
    """Return every mutant that an operation can have; some may change nothing.

    The name of a mutant that changes one field begins with the field; the mutant is left out if
    ``fields``, the compared results, lacks it.
    """
    every = [f.name for f in operation.result_fields]
    looked_at = every if fields is None else list(fields)
    return [
        OperationMutant(name, run, _inexact if name.startswith("rounding: ") else None)
        for name, run in _mutants(operation)
        if name.partition(":")[0] in looked_at or name.partition(":")[0] not in every
    ]


def _inexact(columns: Columns) -> NDArray[np.bool_]:
    if "flags" not in columns:
        return np.ones(len(next(iter(columns.values()))), dtype=bool)
    return np.asarray((columns["flags"] & FLAG_CODES["inexact"]) != 0)


def operation_survivors(
    operation: Operation,
    blocks: Iterable[Columns],
    mutants: Iterable[OperationMutant],
    fields: Iterable[str],
    canonical: Canonical = lambda name, codes: codes,
) -> list[OperationMutant]:
    """Return the mutants that no vector kills.

    Args:
        operation: the operation of the vectors.
        blocks: vectors with their results.
        mutants: operations with a mistake.
        fields: the results that are compared.
        canonical: maps codes of a field that count as equal to one of them.

    Returns:
        Mutants whose results are right for every vector, in their order.
    """
    alive, looked_at = list(mutants), list(fields)
    for columns in blocks:
        count = len(next(iter(columns.values())))
        batches = -(-count // BATCH)
        for start in range(batches if alive else 0):
            # Vectors spread over the block first: neighbours are alike and show the same mistakes.
            part = {name: column[start::batches] for name, column in columns.items()}
            alive = [m for m in alive if not killed(operation, part, m, looked_at, canonical).any()]
    return alive


def operation_kills(operation: Operation, columns: Columns) -> list[Kill]:
    """Return the fate of every mutant under a set of vectors.

    A mutant that no vector kills is equivalent if the set holds every input.
    """
    names = [f.name for f in operation.result_fields]
    every = every_input(operation)
    whole = every is not None and distinct_inputs(operation, columns) == distinct_inputs(
        operation, every
    )
    found = []
    for mutant in counted(mutants_of_operation(operation)):
        rows = np.flatnonzero(killed(operation, columns, mutant, names))
        why = "no input shows it" if whole and not rows.size else None
        first = int(rows[0]) if rows.size else None
        found.append(Kill(mutant.name, first, int(rows.size), None, why))
    return found


def distinct_inputs(operation: Operation, columns: Columns) -> int:
    """Return the number of different combinations of input codes among the vectors."""
    rows = np.stack([columns[name].astype(np.int64) for name in operation.inputs], axis=1)
    return int(np.unique(rows, axis=0).shape[0])


def killed(
    operation: Operation,
    columns: Columns,
    mutant: OperationMutant,
    fields: Iterable[str],
    canonical: Canonical = lambda name, codes: codes,
) -> NDArray[np.bool_]:
    """Return the mask of vectors that kill a mutant: all it touches, if one of these has no result.

    Args:
        operation: the operation of the vectors.
        columns: vectors with their results.
        mutant: an operation with a mistake.
        fields: the results that are compared.
        canonical: maps codes of a field that count as equal to one of them.

    Returns:
        Booleans (n,); false for vectors that the mistake does not touch.
    """
    count = len(next(iter(columns.values())))
    wrong = np.zeros(count, dtype=bool)
    rows = np.arange(count) if mutant.touches is None else np.flatnonzero(mutant.touches(columns))
    if not rows.size:
        return wrong
    part = {name: column[rows] for name, column in columns.items()}
    try:
        found = mutant.run(part)
    except FpsimError:  # a result without a code
        wrong[rows] = True
        return wrong
    for name in fields:
        if name in found:
            made, right = (canonical(name, c[name]) for c in (found, part))
            wrong[rows] |= (made != right).reshape(rows.size, -1).any(axis=1)
    return wrong


def every_input(operation: Operation) -> Columns | None:
    """Return all inputs that have a result, or None if there are too many."""
    if isinstance(operation, Convert) and operation.source.bits <= PROVED_CODES:
        columns: Columns = {"x": np.arange(1 << operation.source.bits)}
    elif isinstance(operation, TwoOperand) and operation.a.bits + operation.b.bits <= PROVED_PAIRS:
        a, b = np.arange(1 << operation.a.bits), np.arange(1 << operation.b.bits)
        columns = {"a": np.repeat(a, b.size), "b": np.tile(b, a.size)}
    else:
        return None
    typed = {name: codes.astype(operation.dtype_of(name)) for name, codes in columns.items()}
    good = operation.defined(typed)
    return {name: codes[good] for name, codes in typed.items()}


# -- kinds -----------------------------------------------------------------------------------------


def _mutants(operation: Operation) -> Iterator[tuple[str, Run]]:
    yield from _inputs(operation)
    if isinstance(operation, Quantize):
        yield from _quantizers(operation)
        return
    assert isinstance(operation, Convert | TwoOperand)
    target = operation.target if isinstance(operation, Convert) else operation.result
    rounds, overflows = _rounds(operation, target), _overflows(operation, target)
    for name, changes in _settings(operation.rounding, operation.overflow):
        if not (rounds if "rounding" in changes else overflows):
            continue
        try:
            other: Operation = replace(operation, **changes)
        except FpsimError:
            continue
        yield name, other.results
    if rounds and operation.rounding in (Rounding.RNE, Rounding.RNA):
        for name, edit in FRACTIONS.items():
            decide = partial(rounded_after, edit)
            yield f"rounding: {name}", partial(_decided, operation, decide)
    yield from _results(operation, target)
    yield from _flags(operation, target)
    if isinstance(operation, TwoOperand):
        yield from _arithmetic(operation)


def _settings(rounding: Rounding, overflow: Overflow) -> Iterator[tuple[str, dict[str, Any]]]:
    for mode in Rounding:
        if mode not in (rounding, Rounding.SR):
            yield f"rounding: {mode}", {"rounding": mode}
    for policy in Overflow:
        if policy is not overflow:
            yield f"overflow: {policy}", {"overflow": policy}


def _decided(operation: Convert | TwoOperand, decide: Any, columns: Columns) -> Columns:
    return operation.rounded(columns, operation.exact(columns), decide)


def _edited(operation: Operation, edit: Edit) -> Run:
    return lambda columns: operation.results(columns | edit(columns))


def _after(operation: Operation, edit: Edit) -> Run:
    def run(columns: Columns) -> Columns:
        found = {f.name: columns[f.name] for f in operation.result_fields}
        return found | edit(found)

    return run


def _on(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Edit:
    return lambda columns: {name: change(columns[name]).astype(columns[name].dtype)}


def _inputs(operation: Operation) -> Iterator[tuple[str, Run]]:
    """Yield mutants that misread an input."""
    for name, fmt in operation.inputs.items():
        if fmt.signed and name != "tensor_scale":
            kept = (1 << (fmt.bits - 1)) - 1
            change = _on(name, lambda codes, kept=kept: codes & codes.dtype.type(kept))  # type: ignore[misc]
            yield f"sign of {name} lost", _edited(operation, change)
        if not isinstance(fmt, FloatFormat) or name == "tensor_scale":
            continue
        if fmt.subnormals is Subnormals.GRADUAL and fmt.mantissa_bits and _reaches(operation, fmt):
            yield f"subnormals of {name} read as zero", _edited(operation, _on(name, _flushed(fmt)))
        if not _takes_nan(operation) or fmt.nan_code is None:
            continue
        if fmt.inf_code is not None:
            read = _on(name, partial(_moved, fmt, fmt.inf_code, fmt.nan_code))
            yield f"infinity of {name} read as NaN", _edited(operation, read)
            read = _on(name, partial(_nan_as_infinity, fmt))
            yield f"NaN of {name} read as infinity", _edited(operation, read)


def _reaches(operation: Operation, source: FloatFormat) -> bool:
    """Return whether subnormal inputs can give results other than zeros."""
    if not isinstance(operation, Quantize) or operation.has_tensor_scale:
        return True
    scale, element = operation.format.scale, operation.format.element
    assert scale is not None
    least = min(x for x in scale.decode(finite_codes(scale).astype(scale.dtype)).tolist() if x > 0)
    values = element.decode(np.arange(1 << element.bits, dtype=element.dtype))
    smallest = min(abs(x) for x in values.tolist() if x == x and x)
    return bool(least * smallest / 2 < 2.0**source.exponent_min)


def _takes_nan(operation: Operation) -> bool:
    """Return whether vectors may hold NaN: true if the result has a code for NaN."""
    return any(
        isinstance(fmt, FloatFormat) and fmt.nan_code is not None
        for fmt in operation.outputs.values()
    )


def _flushed(fmt: FloatFormat) -> Callable[[NDArray[Any]], NDArray[Any]]:
    magnitude = (1 << fmt.magnitude_bits) - 1

    def flush(codes: NDArray[Any]) -> NDArray[Any]:
        field = (codes.astype(np.int64) & magnitude) >> fmt.mantissa_bits
        return np.where(field == 0, codes.astype(np.int64) & fmt.sign_bit, codes)

    return flush


def _moved(fmt: FloatFormat, old: int, new: int, codes: NDArray[Any]) -> NDArray[Any]:
    """Return codes with one magnitude replaced by another."""
    wide = codes.astype(np.int64)
    magnitude = wide & ((1 << fmt.magnitude_bits) - 1)
    return np.where(magnitude == old, (wide & fmt.sign_bit) | new, wide)


def _nan_as_infinity(fmt: FloatFormat, codes: NDArray[Any]) -> NDArray[Any]:
    wide = codes.astype(np.int64)
    infinite = (wide & fmt.sign_bit) | (fmt.inf_code or 0)
    return np.where(np.isnan(fmt.decode(codes)), infinite, wide)


def _results(operation: Convert | TwoOperand, target: Format) -> Iterator[tuple[str, Run]]:
    """Yield mutants with wrong results at the ends of the format, or wrong flags."""
    if isinstance(target, FixedFormat):
        return
    low, _ = _exact_range(operation)
    tiny = low < target.exponent_min
    if tiny and target.subnormals is Subnormals.GRADUAL and target.mantissa_bits:
        yield "subnormal results flushed", _after(operation, _on("y", _flushed(target)))
    if target.has_negative_zero:
        lose = _on("y", lambda y: np.where(y == target.sign_bit, 0, y))
        if _gives_negative_zero(operation, target):
            yield "-0 lost", _after(operation, lose)
        gain = _on("y", lambda y: np.where(y == 0, target.sign_bit, y))
        yield "zeros negative", _after(operation, gain)
    infinity = target.inf_code
    given = [fmt for fmt in operation.inputs.values() if isinstance(fmt, FloatFormat)]
    nan = any(fmt.infinity or fmt.nan_code is not None for fmt in given)
    if nan and target.nan_code is not None and infinity is not None:
        swap = _on("y", lambda y: np.where(np.isnan(target.decode(y)), infinity, y))
        yield "NaN becomes infinity", _after(operation, swap)


def _flags(operation: Convert | TwoOperand, target: Format) -> Iterator[tuple[str, Run]]:
    raised = possible_flags(operation)
    for name in raised:
        code = FLAG_CODES[name]
        drop = _on("flags", lambda flags, code=code: flags & ~np.uint8(code))  # type: ignore[misc]
        yield f"flags: {name} missing", _after(operation, drop)
    # Only exact results with more bits than the target can round up to its smallest normal number.
    if not isinstance(target, FloatFormat) or target.subnormals is not Subnormals.GRADUAL:
        return
    if "underflow" in raised and _rounds_up_to_powers(operation, target):
        yield "flags: tiny before rounding", partial(_tiny_before, operation, target)


def possible_flags(operation: Convert | TwoOperand) -> list[str]:
    """Return the flags that an operation can raise, judged by ranges."""
    target = operation.target if isinstance(operation, Convert) else operation.result
    low, high = _exact_range(operation)
    negative = any(fmt.signed for fmt in operation.inputs.values())
    unfit = isinstance(target, FixedFormat) or (negative and not target.signed)
    raised = {
        "inexact": unfit or _rounds(operation, target),
        "underflow": isinstance(target, FloatFormat) and low < exponents(target)[0],
        "overflow": unfit or high > exponents(target)[1],
        "invalid": _invalid(operation, target),
    }
    return [name for name, possible in raised.items() if possible]


def _exact_range(operation: Convert | TwoOperand) -> tuple[int, int]:
    """Return (low, high): exact results are multiples of 2^low below 2^high."""
    if isinstance(operation, Convert):
        return exponents(operation.source)
    a, b = exponents(operation.a), exponents(operation.b)
    if operation.verb == "mul":
        return a[0] + b[0], a[1] + b[1]
    return min(a[0], b[0]), max(a[1], b[1]) + 1


def _rounds(operation: Convert | TwoOperand, target: Format) -> bool:
    """Return whether an exact result can lie between two codes, or beyond them all."""
    low, high = _exact_range(operation)
    if isinstance(target, FixedFormat):
        return low < target.lsb
    if isinstance(operation, Convert):
        bits = _significant(operation.source)
    else:
        bits = _significant(operation.a) + _significant(operation.b)
        bits = bits if operation.verb == "mul" else high - low
    least, most = exponents(target)
    full = target.max_value == 2.0**most - 2.0 ** (most - target.mantissa_bits - 1)
    beyond = high > most or (high == most and not full)
    kept = target.subnormals is Subnormals.GRADUAL or low >= target.exponent_min
    return bits > target.mantissa_bits + 1 or low < least or beyond or not kept


def _overflows(operation: Convert | TwoOperand, target: Format) -> bool:
    """Return whether a result can lie beyond the largest code, or an operand be infinite."""
    _, high = _exact_range(operation)
    infinite = any(getattr(fmt, "infinity", False) for fmt in operation.inputs.values())
    negative = any(fmt.signed for fmt in operation.inputs.values()) and not target.signed
    return high >= exponents(target)[1] or infinite or negative


def _gives_negative_zero(operation: Convert | TwoOperand, target: FloatFormat) -> bool:
    """Return whether a result can be -0: a zero of that sign, or a negative number rounded to 0."""
    low, _ = _exact_range(operation)
    gradual = target.subnormals is Subnormals.GRADUAL
    if low < (exponents(target)[0] if gradual else target.exponent_min):
        return True
    signed = [getattr(fmt, "has_negative_zero", False) for fmt in operation.inputs.values()]
    if isinstance(operation, Convert):
        return signed[0]
    if operation.verb == "add":
        return all(signed) or operation.rounding is Rounding.RDN
    return any(fmt.signed for fmt in operation.inputs.values())


def _invalid(operation: Convert | TwoOperand, target: Format) -> bool:
    """Return whether an infinity can give a result other than an infinity."""
    infinite = [getattr(fmt, "infinity", False) for fmt in operation.inputs.values()]
    if operation.overflow is not Overflow.INF or isinstance(target, FixedFormat):
        return any(infinite)
    if isinstance(operation, Convert):
        return infinite[0] and not target.signed
    return any(infinite) if operation.verb == "mul" else all(infinite)


def _rounds_up_to_powers(operation: Convert | TwoOperand, target: FloatFormat) -> bool:
    """Return whether an exact result below a power of two can round up to the power."""
    if operation.rounding in (Rounding.RTZ, Rounding.RTO):
        return False
    if isinstance(operation, Convert):
        return _significant(operation.source) > target.mantissa_bits + 1
    a, b = _significant(operation.a), _significant(operation.b)
    if operation.verb == "add" or a + b > LISTED_PRODUCTS:
        return operation.verb == "add" or a + b > target.mantissa_bits + 1
    products = np.multiply.outer(np.arange(1, 1 << a), np.arange(1, 1 << b)).astype(np.float64)
    significand = np.unique(np.frexp(products)[0])
    directed = operation.rounding in (Rounding.RUP, Rounding.RDN)
    last = 2.0 ** -(target.mantissa_bits + 2 - directed)
    past = significand > 1 - last if directed else significand >= 1 - last
    return bool(past.any())


def _significant(fmt: Format) -> int:
    return fmt.mantissa_bits + 1 if isinstance(fmt, FloatFormat) else fmt.bits


def _tiny_before(operation: Convert | TwoOperand, target: FloatFormat, columns: Columns) -> Columns:
    """Raise underflow by the exact result, before rounding, not by the rounded one."""
    found = {f.name: columns[f.name] for f in operation.result_fields}
    least = oracle.numbers.two_to(target.exponent_min)
    tiny = np.array(
        [n.magnitude is not None and 0 < n.magnitude < least for n in operation.exact(columns)],
        dtype=bool,
    )
    inexact = (found["flags"] & FLAG_CODES["inexact"]) != 0
    flags = found["flags"] & ~np.uint8(FLAG_CODES["underflow"])
    return found | {"flags": flags | np.where(tiny & inexact, FLAG_CODES["underflow"], 0)}


def _arithmetic(operation: TwoOperand) -> Iterator[tuple[str, Run]]:
    if operation.verb == "mul":
        yield "added instead", replace(operation, verb="add").results
        return
    flipped = Rounding.RNE if operation.rounding is Rounding.RDN else Rounding.RDN

    def zeros(columns: Columns) -> Columns:
        """Give exact zero differences the other sign."""
        other = replace(operation, rounding=flipped)
        return operation.rounded(columns, other.exact(columns))

    yield "sign of x - x", zeros
    yield "bits shifted out are lost", partial(_aligned, operation)
    if isinstance(operation.b, FloatFormat) and operation.b.signed:
        sign = operation.b.sign_bit
        yield "subtracted instead", _edited(operation, _on("b", lambda b: b ^ b.dtype.type(sign)))


def _aligned(operation: TwoOperand, columns: Columns) -> Columns:
    """Cut the smaller operand some bits below the larger one's last bit, then add."""
    exact = []
    pairs = zip(columns["a"].tolist(), columns["b"].tolist(), strict=True)
    for a, b in ((oracle.decode(x, operation.a), oracle.decode(y, operation.b)) for x, y in pairs):
        if a.magnitude and b.magnitude:
            large, small = (a, b) if a.magnitude >= b.magnitude else (b, a)
            assert large.magnitude is not None and small.magnitude is not None
            top = large.magnitude.numerator.bit_length() - large.magnitude.denominator.bit_length()
            unit = oracle.numbers.two_to(top - operation.result.mantissa_bits - KEPT_BITS)
            cut = int(small.magnitude / unit) * unit
            a, b = large, Number(small.negative, cut)
        exact.append(add(a, b, operation.rounding))
    return operation.rounded(columns, exact)


# -- quantizers ----------------------------------------------------------------------------------


def _quantizers(operation: Quantize) -> Iterator[tuple[str, Run]]:
    fmt = operation.format
    for name, changes in _block_changes(operation):
        try:
            other = replace(operation, format=replace(fmt, **changes))
        except FpsimError:
            continue
        if [vars(f) for f in other.fields] == [vars(f) for f in operation.fields]:
            yield name, other.results
    yield from _lanes(operation)
    if operation.has_tensor_scale:
        yield (
            "tensor scale ignored",
            lambda columns: operation.results(operation.without_tensor_scale(columns)),
        )
    element = fmt.element
    if isinstance(element, FloatFormat) and element.has_negative_zero and not fmt.special:
        lose = _on("codes", lambda codes: np.where(codes == element.sign_bit, 0, codes))
        yield "codes: -0 lost", _after(operation, lose)
    yield "scales: one code larger", _after(operation, partial(_bumped, 1))
    yield "scales: one code smaller", _after(operation, partial(_bumped, -1))
    if fmt.signs:
        swapped = ("scales", "negative_scales")
        yield (
            "scales of the signs swapped",
            _after(
                operation,
                lambda found: dict(zip(swapped, (found[n] for n in swapped[::-1]), strict=True)),
            ),
        )
    if fmt.rule in POWER_RULES and isinstance(element, FloatFormat) and not fmt.is_coded:
        yield "codes: elements beyond the largest wrap", partial(_wrapped, operation)
    for name in ("scales", "negative_scales"):
        if fmt.rule is not ScaleRule.RAZOR and any(f.name == name for f in operation.result_fields):
            yield f"{name}: those of zeros are 1", partial(_ones, operation, name)


def _block_changes(operation: Quantize) -> Iterator[tuple[str, dict[str, Any]]]:
    fmt = operation.format
    if fmt.rule in POWER_RULES:
        for rule in POWER_RULES:
            if rule is not fmt.rule:
                yield f"rule: {rule}", {"rule": rule}
    for mode in (Rounding.RNE, Rounding.RNA, Rounding.RTZ):
        if mode is not fmt.rounding and fmt.ties is None:
            yield f"rounding: {mode}", {"rounding": mode}
        rounds = fmt.rule is ScaleRule.ABSMAX and fmt.scale is not None and fmt.scale.bits < 32
        if mode is not fmt.scale_rounding and rounds:
            yield f"scale rounding: {mode}", {"scale_rounding": mode}
    if fmt.rule is ScaleRule.ABSMAX:
        for zero in ZeroScale:
            if zero is not fmt.zero and fmt.scale is not None and fmt.scale.has_zero:
                yield f"zero scale: {zero}", {"zero": zero}
        for order in Arithmetic:
            if order is not fmt.arithmetic and fmt.tensor_range:
                yield f"arithmetic: {order}", {"arithmetic": order}
    for target in (fmt.limit / 2, fmt.limit * 2):
        yield f"largest maps to {target:g}", {"target": target}
    if len(fmt.expansions) > 1:
        alone = {"expansions": fmt.expansions[:1], "choice": None, "errors": Errors.FLOAT64}
        yield "first candidate only", alone


def _lanes(operation: Quantize) -> Iterator[tuple[str, Run]]:
    """Yield mutants that read values from other places of the block."""

    def dropped(index: int) -> Edit:
        def edit(columns: Columns) -> Columns:
            x = columns["x"].copy()
            x[:, index] = 0
            return {"x": x}

        return edit

    yield "first element dropped", _edited(operation, dropped(0))
    yield "last element dropped", _edited(operation, dropped(-1))
    if operation.k > 1:
        yield "order reversed", _edited(operation, lambda c: {"x": c["x"][:, ::-1]})
        yield (
            "rotated by an element",
            _edited(operation, lambda c: {"x": np.roll(c["x"], 1, axis=1)}),
        )
        for name, lane in (("first", 0), ("last", -1)):
            yield f"{name} element not in the maximum", partial(_outside, operation, lane)


def _outside(operation: Quantize, lane: int, columns: Columns) -> Columns:
    """Take the scale from the other elements; if the scale changes, the codes change too."""
    x = columns["x"].copy()
    x[:, lane] = 0
    other = operation.results(columns | {"x": x})
    found = {f.name: columns[f.name] for f in operation.result_fields}
    changed = {name: other[name] for name in found if name != "codes"}
    return found | changed


def _bumped(step: int, found: Columns) -> Columns:
    scales = found["scales"].astype(np.int64) + step
    return {"scales": np.maximum(scales, 0).astype(found["scales"].dtype)}


def _wrapped(operation: Quantize, columns: Columns) -> Columns:
    """Give code 0, with the sign, to elements that rounding takes beyond the largest."""
    found, fmt = {f.name: columns[f.name] for f in operation.result_fields}, operation.format
    element = fmt.element
    assert isinstance(element, FloatFormat) and fmt.scale is not None
    values = operation.source.decode(columns["x"])
    sides = [found["scales"]] + ([found["negative_scales"]] if fmt.signs else [])
    scales = [fmt.scale.decode(side) for side in sides]
    scale = np.where(np.signbit(values), scales[-1], scales[0])
    with np.errstate(all="ignore"):
        quotients = values / scale
    beyond = element.encode(np.abs(quotients), fmt.rounding.value, "saturate", flags=True)[1]
    over = (beyond & FLAG_CODES["overflow"]) != 0
    return found | {"codes": np.where(over, found["codes"] & element.sign_bit, found["codes"])}


def _ones(operation: Quantize, name: str, columns: Columns) -> Columns:
    """Give blocks of zeros the scale 1, or 0 if 1 is right."""
    found, scale = columns, operation.format.scale
    assert isinstance(scale, FloatFormat)
    values = operation.source.decode(columns["x"])
    one = int(scale.encode([1.0])[0])
    zeros = (values == 0).all(axis=1)
    held = found[name].astype(np.int64)
    held[zeros] = np.where(held[zeros] == one, 0, one)
    return {name: held.astype(found[name].dtype)}
