# SPDX-License-Identifier: Apache-2.0
"""Mistakes that no changed unit describes: codes misread, carries lost, parts dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.rounding import Rounding
from fpsim.units.stages import Aligned, Chain, Exact, Tree
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["Run", "operand_mistakes", "result_mistakes", "table_mistakes"]

#: From columns and addends to results.
Run = Callable[[Columns, NDArray[Any]], NDArray[Any]]
#: Codes of an operand that may be the one misread, and bits of the widest that is looked at.
MOST_CODES, MOST_BITS = 2, 8
#: Codes of a table of which every entry is a suspect.
MOST_ENTRIES = 16
#: A code is a suspect if at least this share of the mismatches has it.
SUSPECT = 0.9
#: Elements of a vector that are dropped one by one.
MOST_ELEMENTS = 64


def operand_mistakes(record: Record, wrong: Columns, lanes: int) -> Iterator[tuple[str, Run]]:
    """Yield mistakes before the sum: a code read as another, elements, lanes and blocks dropped.

    Args:
        record: the unit.
        wrong: vectors whose results were wrong.
        lanes: elements per beat of the design; 0: not known.

    Yields:
        A name, and the results of a design with that mistake.
    """
    yield from _subtracted(record)
    yield from _without_subnormals(record)
    for operand in "ab":
        for code in _suspects(record, wrong, (operand,)):
            yield from _misread(record, (operand,), code)
    if record.spec.a == record.spec.b:
        for code in _suspects(record, wrong, ("a", "b")):
            yield from _misread(record, ("a", "b"), code)
    yield from _magnitudes(record, wrong)
    zero = Palette(record).zero("a")

    def dropped(columns: Columns, c: NDArray[Any], part: slice) -> NDArray[Any]:
        a = columns["a"].copy()
        a[:, part] = zero
        return record.dot(columns | {"a": a}, c)

    for lane in range(lanes) if 1 < lanes < record.k else ():
        yield f"lane {lane} of every beat dropped", partial(dropped, part=slice(lane, None, lanes))
    for i in range(record.k) if 1 < record.k <= MOST_ELEMENTS else ():
        yield f"element {i} dropped", partial(dropped, part=slice(i, i + 1))
    size = record.spec.block.size if record.spec.block else record.group
    for block in range(record.k // size) if size and record.k > size else ():
        part = slice(block * size, (block + 1) * size)
        yield f"block {block} dropped", partial(dropped, part=part)


def _subtracted(record: Record) -> Iterator[tuple[str, Run]]:
    """Yield sums in which the products, or the addend, have the other sign."""
    for name, fmt in (("a", record.spec.a), ("c", record.spec.initial)):
        if not isinstance(fmt, FloatFormat) or not fmt.signed or fmt.nan is NanCodes.NEGATIVE_ZERO:
            continue
        sign = np.array(fmt.sign_bit, dtype=fmt.dtype)

        def run(
            columns: Columns, c: NDArray[Any], name: str = name, sign: NDArray[Any] = sign
        ) -> NDArray[Any]:
            if name == "c":
                return record.dot(columns, c.astype(sign.dtype) ^ sign)
            return record.dot(columns | {"a": columns["a"] ^ sign}, c)

        yield f"the {'products' if name == 'a' else 'addend'} subtracted", run


def table_mistakes(
    record: Record, wrong: Columns, tables: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, Run]]:
    """Yield wrong entries of the tables through which operands come in.

    Another entry stands in the place, or the right one with one bit wrong, with another sign, or
    rounded the other way.

    Args:
        record: the unit.
        wrong: vectors whose results were wrong.
        tables: by operand, the pattern of each of its codes on the wires, -1 for none.

    Yields:
        A name, and the results of a design with that mistake.
    """
    for operand, patterns in tables.items():
        fmt = getattr(record.spec, operand)
        told = [code for code, pattern in enumerate(patterns) if pattern >= 0]
        if len(told) > MOST_ENTRIES:
            continue
        for code in _suspects(record, wrong, (operand,), MOST_ENTRIES, fmt.bits):
            near = [code ^ 1 << bit for bit in range(fmt.bits)] + [code - 1, code + 1]
            for other in dict.fromkeys(near + told):
                if other != code and 0 <= other < 1 << fmt.bits:
                    digits = -(-fmt.bits // 4)
                    yield (
                        f"{operand}: entry {patterns[code]} of the table is {other:0{digits}x}, "
                        f"not {code:0{digits}x}",
                        partial(_reread, record, (operand,), code, other),
                    )


def _without_subnormals(record: Record) -> Iterator[tuple[str, Run]]:
    """Yield products whose subnormal operands have a hidden bit, while zeros stay zeros."""
    for operands in ("a", "b", "ab") if record.k == 1 else ():
        formats = {name: getattr(record.spec, name) for name in operands}
        if not all(_gradual(fmt) for fmt in formats.values()):
            continue
        zeros = {name: _zeros(fmt) for name, fmt in formats.items()}
        read = {n: replace(f, alias="", subnormals=Subnormals.NONE) for n, f in formats.items()}
        other = Record(replace(record.spec, **read), record.k, record.group).dot

        def run(
            columns: Columns,
            c: NDArray[Any],
            other: Run = other,
            zeros: dict[str, NDArray[Any]] = zeros,
        ) -> NDArray[Any]:
            none = np.any([np.isin(columns[n][:, 0], codes) for n, codes in zeros.items()], axis=0)
            return np.where(none, record.dot(columns, c), other(columns, c))

        yield f"{' and '.join(operands)}: subnormals read as normal, zeros as zero", run


def _gradual(fmt: Format) -> bool:
    if not isinstance(fmt, FloatFormat) or not fmt.exponent_bits:
        return False
    return fmt.subnormals is Subnormals.GRADUAL and fmt.nan is not NanCodes.NEGATIVE_ZERO


def _zeros(fmt: FloatFormat) -> NDArray[Any]:
    """Return the codes whose value is zero."""
    return np.array([0, fmt.sign_bit] if fmt.has_negative_zero else [0])


def _magnitudes(record: Record, wrong: Columns) -> Iterator[tuple[str, Run]]:
    """Yield one magnitude read as another under both signs, as in a table with one wrong entry."""
    for operands in ("a", "b", "ab"):
        fmt = getattr(record.spec, operands[0])
        same = operands != "ab" or record.spec.a == record.spec.b
        if not same or not isinstance(fmt, FloatFormat) or not fmt.signed or fmt.bits > MOST_BITS:
            continue
        low = np.array(fmt.sign_bit - 1, dtype=fmt.dtype)
        for code in _suspects(record, {n: wrong[n] & low for n in "ab"}, tuple(operands)):

            def run(
                columns: Columns,
                c: NDArray[Any],
                other: int,
                code: int = code,
                operands: str = operands,
                low: NDArray[Any] = low,
            ) -> NDArray[Any]:
                edits = {
                    n: np.where(columns[n] & low == code, columns[n] ^ (code ^ other), columns[n])
                    for n in operands
                }
                return record.dot(columns | edits, c)

            for other in range(fmt.sign_bit):
                if other != code:
                    name = f"{' and '.join(operands)}: magnitude {code:x} read as {other:x}"
                    yield name, partial(run, other=other)


def _suspects(
    record: Record,
    wrong: Columns,
    operands: tuple[str, ...],
    most: int = MOST_CODES,
    bits: int = MOST_BITS,
) -> list[int]:
    """Return codes that stand in nearly every vector that was wrong, of formats of few bits."""
    fmt = getattr(record.spec, operands[0])
    if fmt.bits > bits or not wrong["a"].shape[0]:
        return []
    codes = np.concatenate([wrong[name] for name in operands], axis=1)
    count = codes.shape[0]
    shares = {code: float((codes == code).any(axis=1).sum() / count) for code in np.unique(codes)}
    found = sorted((code for code in shares if shares[code] >= SUSPECT), key=lambda c: -shares[c])
    return [int(code) for code in found[:most]]


def _misread(record: Record, operands: tuple[str, ...], code: int) -> Iterator[tuple[str, Run]]:
    fmt = getattr(record.spec, operands[0])
    digits = -(-fmt.bits // 4)

    for other in range(1 << fmt.bits):
        if other != code:
            where = " and ".join(operands)
            name = f"{where}: code {code:0{digits}x} read as {other:0{digits}x}"
            yield name, partial(_reread, record, operands, code, other)


def _reread(
    record: Record,
    operands: tuple[str, ...],
    code: int,
    other: int,
    columns: Columns,
    c: NDArray[Any],
) -> NDArray[Any]:
    """Return results where another code stands in the place of a code of some operands."""
    edits = {
        n: np.where(columns[n] == code, np.array(other, columns[n].dtype), columns[n])
        for n in operands
    }
    return record.dot(columns | edits, c)


def result_mistakes(record: Record) -> Iterator[tuple[str, Run]]:
    """Yield mistakes after the sum: carries lost, signs, subnormal results shifted or flushed."""
    result = record.spec.result
    dot: Run = record.dot
    if isinstance(result, FixedFormat):
        for bit in range(1, result.width):
            yield f"the carry into bit {bit} lost", partial(_carry_lost, record, bit)
        mask = np.uint64((1 << result.width) - 1)

        def negated(columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
            return (~dot(columns, c).astype(np.uint64) + np.uint64(1)) & mask

        yield "the result negated", negated
        yield from _one_end(record, result)
        return
    row, sign = 1 << result.mantissa_bits, result.sign_bit

    def edited(columns: Columns, c: NDArray[Any], edit: Any) -> NDArray[Any]:
        codes = dot(columns, c).astype(np.int64)
        size, negative = codes & (sign - 1), codes & sign
        return np.asarray(edit(size) | negative).astype(np.uint64)

    if result.signed:

        def turned(columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
            return dot(columns, c).astype(np.uint64) ^ np.uint64(sign)

        yield "the result's sign turned", turned
    below = {
        "subnormal results halved": lambda size: np.where(size < row, size >> 1, size),
        "subnormal results doubled": lambda size: np.where(size < row, size << 1, size),
        "subnormal results without their last bit": lambda size: np.where(
            size < row, size & ~np.int64(1), size
        ),
    }
    for name, edit in below.items():
        yield name, partial(edited, edit=edit)
    for depth in range(result.mantissa_bits):
        low, high = row >> (depth + 1), row >> depth

        def flushed(size: NDArray[Any], low: int = low, high: int = high) -> NDArray[Any]:
            return np.where((size >= low) & (size < high), 0, size)

        yield f"subnormal results {depth + 1} places down flushed", partial(edited, edit=flushed)
    yield "the carry of rounding into the exponent lost", partial(_exponent_carry_lost, record)
    yield "rounding up sets the last bit, without a carry", partial(_no_carry, record)
    yield from _no_sticky(record)


def _carry_lost(record: Record, bit: int, columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
    """Return sums whose high part does not hear of a carry out of the bits below."""
    low = np.uint64((1 << bit) - 1)
    mask = np.uint64((1 << record.spec.result.bits) - 1)
    before, after = c.astype(np.uint64), record.dot(columns, c).astype(np.uint64)
    term = (after - before) & mask
    carry = ((before & low) + (term & low)) >> np.uint64(bit)
    return (after - (carry << np.uint64(bit))) & mask


def _one_end(record: Record, result: FixedFormat) -> Iterator[tuple[str, Run]]:
    """Yield registers that wrap at one end and saturate at the other."""
    top = result.max_integer
    bottom = (1 << (result.width - 1)) if result.signed else 0

    def clamped(columns: Columns, c: NDArray[Any], at_top: bool) -> NDArray[Any]:
        after, before = (x.astype(np.int64) for x in (record.dot(columns, c), c))
        sign = np.int64(1) << np.int64(result.width - 1)
        down = (before & sign) != 0
        crossed = ((after & sign) != 0) != down
        # A carry past an end turns the sign away from zero; steps across zero are small.
        far = np.abs((after ^ sign) - (before ^ sign)) > sign
        out = np.where(crossed & far & (down != at_top), top if at_top else bottom, after)
        return out.astype(np.uint64)

    def mirrored(columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
        after = record.dot(columns, c).astype(np.uint64)
        return np.where(after == np.uint64(bottom), np.uint64(bottom + 1), after)

    if result.signed:
        yield "overflow saturates at minus the largest number", mirrored
    if result.signed and result.width < 63:
        yield "overflow saturates at the positive end", partial(clamped, at_top=True)
        yield "overflow saturates at the negative end", partial(clamped, at_top=False)


def _exponent_carry_lost(record: Record, columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
    result = record.spec.result
    assert isinstance(result, FloatFormat)
    row = 1 << result.mantissa_bits
    right, below = _with_truncated(record, columns, c)
    full = (below & (row - 1)) == row - 1
    lost = full & (right == below + 1) & ((right & (row - 1)) == 0)
    return np.where(lost, right - row, right).astype(np.uint64)


def _no_carry(record: Record, columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
    right, below = _with_truncated(record, columns, c)
    return np.where(right == below + 1, below | 1, right).astype(np.uint64)


def _with_truncated(
    record: Record, columns: Columns, c: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return results, and results cut off instead of rounded; equal where cutting means nothing."""
    right = record.dot(columns, c).astype(np.int64)
    stage = record.spec.accumulate
    if not isinstance(stage, Chain | Exact | Tree) or stage.rounding is Rounding.RTZ:
        return right, right
    cut = replace(record.spec, accumulate=replace(stage, rounding=Rounding.RTZ))
    return right, Record(cut, record.k, record.group).dot(columns, c).astype(np.int64)


def _no_sticky(record: Record) -> Iterator[tuple[str, Run]]:
    """Yield sums of two in which the smaller one is cut off some bits below the larger one."""
    stage = record.spec.accumulate
    if not isinstance(stage, Chain) or record.k > 1:
        return
    for guards in range(1, 4):
        window = Aligned(
            1, stage.format.mantissa_bits + guards, stage.format, stage.rounding,
            overflow=stage.overflow, align=Rounding.RTZ, normalised=True, signed_zero=True,
        )  # fmt: skip
        spec = replace(record.spec, accumulate=window)
        name = f"no sticky bit: the smaller term cut off {guards} bits below the last place"
        yield name, Record(spec, record.k, record.group).dot
