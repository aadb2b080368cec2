# SPDX-License-Identifier: Apache-2.0
"""Mutants of a unit: the ways designers err, as changed stage data, operands or rounding.

A mutant takes beats (operands, scales, the addend each one finds) and returns result codes. Most
are units that differ in one setting and run on the kernels; a few change the exact model's rounding
decision itself and are slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from fpsim.errors import FpsimError
from fpsim.formats import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.oracle import numbers
from fpsim.rounding import Overflow, Rounding
from fpsim.spec import MacSpec
from fpsim.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    NanScale,
    OverflowAt,
    ProductRounding,
    Stage,
    Tree,
)
from fpsim.vectors.shape import Columns, Shape, stages_of

__all__ = ["Mutant", "mutants_of"]

Codes = NDArray[Any]
Run = Callable[[Columns, Codes], Codes]
_MODES = [r for r in Rounding if r is not Rounding.SR]


@dataclass(frozen=True)
class Mutant:
    """A unit with an error: ``run(columns, addends)`` gives its result codes.

    ``slow`` ones go through the exact model, row by row. ``spec`` is the mutated unit of those that
    are a change of data.
    """

    name: str
    run: Run
    slow: bool = False
    spec: MacSpec | None = None


def mutants_of(shape: Shape) -> list[Mutant]:
    """Return every mutant that the unit can have, each different from it as data."""
    found: list[Mutant] = []
    seen = {shape.spec}
    for name, spec in _spec_changes(shape.spec, scales=bool(shape.group)):
        if spec in seen or (spec.result != shape.spec.result and not _same_codes(spec, shape.spec)):
            continue
        try:
            run = _runner(shape, spec)
        except FpsimError:
            continue
        seen.add(spec)
        found.append(Mutant(name, run, spec=spec))
    found += _operand_mutants(shape)
    found += _rounding_mutants(shape)
    return found


def _same_codes(first: MacSpec, second: MacSpec) -> bool:
    return first.result.bits == second.result.bits and first.initial.bits == second.initial.bits


def _runner(shape: Shape, spec: MacSpec) -> Run:
    changed = Shape(spec, shape.k, shape.group)
    return lambda columns, c: changed.dot(columns, c)


# -- changed data --------------------------------------------------------------------------------


def _spec_changes(spec: MacSpec, scales: bool) -> Iterator[tuple[str, MacSpec]]:
    for operand in ("a", "b", *(("a_scale", "b_scale") if scales else ())):
        for what, fmt in _format_changes(getattr(spec, operand), operand.endswith("scale")):
            yield from _try(f"{operand}: {what}", lambda o=operand, f=fmt: replace(spec, **{o: f}))  # type: ignore[misc]
    for path, stage in _paths(spec.accumulate):
        where = f"{path}: " if path else ""
        for what, make in _stage_changes(stage):
            yield from _try(
                where + what,
                lambda p=path, m=make: replace(spec, accumulate=_put(spec.accumulate, p, m())),  # type: ignore[misc]
            )


def _try(name: str, make: Callable[[], MacSpec]) -> Iterator[tuple[str, MacSpec]]:
    """Yield what can be made; a combination that no unit can have is no mutant."""
    try:
        yield name, make()
    except (FpsimError, AssertionError):
        return


def _format_changes(fmt: Format, scale: bool) -> Iterator[tuple[str, Format]]:
    if isinstance(fmt, FixedFormat):
        yield "binary point one place up", replace(fmt, lsb=fmt.lsb + 1)
        yield "unsigned", replace(fmt, signed=False, symmetric=False)
        return
    plain = replace(fmt, alias="")
    yield "bias one larger", replace(plain, bias=fmt.bias + 1)
    yield "bias one smaller", replace(plain, bias=fmt.bias - 1)
    if fmt.exponent_bits and fmt.subnormals is Subnormals.GRADUAL:
        yield "subnormals read as zero", replace(plain, subnormals=Subnormals.FLUSH)
        if fmt.nan is not NanCodes.NEGATIVE_ZERO:
            yield "subnormals read as normal", replace(plain, subnormals=Subnormals.NONE)
    if scale and fmt.nan is not NanCodes.NONE:
        yield "NaN read as a number", replace(plain, nan=NanCodes.NONE, infinity=False)
    if fmt.infinity:
        yield "infinity read as NaN or a number", replace(plain, nan=NanCodes.TOP, infinity=False)
    if scale and fmt.subnormals is Subnormals.NONE and fmt.exponent_bits:
        yield "code 0 read as zero", replace(plain, bias=fmt.bias, subnormals=Subnormals.GRADUAL)


def _paths(stage: Stage, path: str = "") -> Iterator[tuple[str, Stage]]:
    yield path, stage
    for name in ("inner", "outer", "into"):
        if hasattr(stage, name):
            yield from _paths(getattr(stage, name), f"{path}.{name}".lstrip("."))


def _put(stage: Any, path: str, new: Stage) -> Any:
    if not path:
        return new
    name, _, rest = path.partition(".")
    return replace(stage, **{name: _put(getattr(stage, name), rest, new)})


def _stage_changes(stage: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    def other(**change: Any) -> Callable[[], Any]:
        return lambda: replace(stage, **change)

    names = {f.name for f in fields(stage)}
    for name in ("rounding", "align", "late_rounding", "join_rounding", "convert_rounding"):
        if name in names:
            for mode in _MODES:
                yield f"{name} {mode}", other(**{name: mode})
    if "overflow" in names:
        for overflow in Overflow:
            yield f"overflow {overflow}", other(overflow=overflow)
    fmt = getattr(stage, "format", None)
    if isinstance(fmt, FloatFormat):
        kept = {"overflow": stage.overflow}
        if isinstance(stage, Aligned) and stage.container == fmt:
            kept["container"] = None
        flush = replace(fmt, alias="", subnormals=Subnormals.FLUSH)
        yield "results flushed", other(format=flush, **kept)
        for step in (-1, 1):
            bias = replace(fmt, alias="", bias=fmt.bias + step)
            yield f"result's bias {step:+d}", other(format=bias, **kept)
    yield from _KINDS[type(stage)](stage, other)


Other = Callable[..., Callable[[], Any]]
Changes = Iterator[tuple[str, Callable[[], Any]]]


def _chain_changes(stage: Chain, other: Other) -> Changes:
    yield "products rounded first", other(product=ProductRounding.ROUNDED)
    yield "products not rounded", other(product=ProductRounding.FUSED)
    yield "rounded once at the end", lambda: Exact(stage.format, stage.rounding, stage.overflow)
    yield "added in a tree", lambda: Tree(stage.format, stage.rounding, stage.overflow)
    yield "two lanes", lambda: Tree(stage.format, stage.rounding, stage.overflow, lanes=2)


def _exact_changes(stage: Exact, other: Other) -> Changes:
    yield "rounded after every add", lambda: Chain(stage.format, stage.rounding, stage.overflow)
    yield "added in a tree", lambda: Tree(stage.format, stage.rounding, stage.overflow)
    for bits in (stage.format.mantissa_bits, stage.format.mantissa_bits + 2):
        yield (
            f"a window of {bits} bits",
            lambda b=bits: Aligned(  # type: ignore[misc]
                64, b, stage.format, stage.rounding, overflow=stage.overflow, align=Rounding.RTZ
            ),
        )


def _fixed_changes(stage: Fixed, other: Other) -> Changes:
    at = OverflowAt.END if stage.overflow_at is OverflowAt.ADD else OverflowAt.ADD
    yield f"overflow at {at}", other(overflow_at=at)
    for step in (-1, 1, 2):
        yield f"binary point moved {step:+d}", other(lsb=stage.lsb + step)


def _aligned_changes(stage: Aligned, other: Other) -> Changes:
    for step in (-2, -1, 1, 2):
        yield f"F{step:+d}", other(fraction_bits=stage.fraction_bits + step)
    for products in (stage.products // 2, stage.products * 2, stage.products - 1):
        if products:
            yield f"N = {products}", other(products=products)
    for addend in Addend:
        yield f"addend {addend}", other(addend=addend)
    yield "products normalised", other(normalised=not stage.normalised)
    yield "IEEE sign of zero", other(signed_zero=not stage.signed_zero)
    for floor in (0, 3, None):
        yield f"exponent floor {floor}", other(exponent_floor=floor)
    least = stage.fraction_bits + 3
    for width in (least, least + 1):
        yield f"sum wraps at {width} bits", other(width=width)
        yield f"sum saturates at {width} bits", other(width=width, width_overflow=Overflow.SATURATE)
    yield "every add rounded", lambda: Chain(stage.result, Rounding.RNE, stage.overflow)
    yield "exact sum", lambda: Exact(stage.result, stage.rounding, stage.overflow)
    for limit in (stage.product_limit, 128):
        flip = None if stage.product_limit is not None else limit
        yield f"product limit {flip}", other(product_limit=flip)
    for name in ("join_sum_bits", "join_addend_bits", "join_reach"):
        value = getattr(stage, name)
        if value is not None and stage.addend is Addend.JOINED:
            for step in (-1, 1):
                yield f"{name} {step:+d}", other(**{name: value + step})


def _tree_changes(stage: Tree, other: Other) -> Changes:
    for radix in (2, 3, 4):
        yield f"radix {radix}", other(radix=radix)
    for lanes in (1, 2, 4):
        yield f"{lanes} lanes", other(lanes=lanes)
    for addend in Joins:
        yield f"addend at {addend}", other(addend=addend)
    for product in ProductRounding:
        yield f"products {product}", other(product=product)
    if stage.products is not None:
        yield "half the products per step", other(products=max(1, stage.products // 2))
        yield "all products in one step", other(products=None)
    yield "one after the other", lambda: Chain(stage.format, stage.rounding, stage.overflow)
    yield "rounded once at the end", lambda: Exact(stage.format, stage.rounding, stage.overflow)


def _block_changes(stage: Block, other: Other) -> Changes:
    for size in (stage.size // 2, stage.size // 4):
        if size and stage.size % size == 0:
            yield f"blocks of {size}", other(size=size)
    for nan in NanScale:
        yield f"NaN scale gives {nan}", other(nan_scale=nan)
    into = stage.into
    if isinstance(into, Chain | Exact | Tree | Aligned):
        for fmt in (into.result, replace(into.result, mantissa_bits=10, alias="")):
            yield f"block sums rounded to {fmt.name}", other(convert=fmt)
    yield "block sums not rounded", other(convert=None, convert_rounding=Rounding.RNE)


def _chunked_changes(stage: Chunked, other: Other) -> Changes:
    if stage.size is not None:
        for size in (stage.size // 2, stage.size * 2):
            yield f"chunks of {size}", other(size=size)
    if stage.parts is not None:
        yield "one part more", other(parts=stage.parts + 1)
    if stage.inner.result == stage.outer.result:
        yield "no promotion", lambda: stage.inner


_KINDS: dict[type, Callable[[Any, Other], Changes]] = {
    Chain: _chain_changes,
    Exact: _exact_changes,
    Fixed: _fixed_changes,
    Aligned: _aligned_changes,
    Tree: _tree_changes,
    Block: _block_changes,
    Chunked: _chunked_changes,
}


# -- changed operands and results ----------------------------------------------------------------


def _operand_mutants(shape: Shape) -> list[Mutant]:
    zero = {op: shape.spec and _zero(getattr(shape.spec, op)) for op in "ab"}

    def change(name: str, edit: Callable[[Columns], Columns]) -> Mutant:
        return Mutant(name, lambda columns, c: shape.dot(columns | edit(columns), c))

    def lane(columns: Columns, index: int) -> Columns:
        a = columns["a"].copy()
        a[:, index] = zero["a"]
        return {"a": a}

    found = [
        change("first lane dropped", lambda x: lane(x, 0)),
        change("last lane dropped", lambda x: lane(x, -1)),
        Mutant("addend ignored", lambda x, c: shape.dot(x, np.zeros_like(c))),
        Mutant("previous products", lambda x, c: shape.dot(_previous(x), c)),
    ]
    if shape.k > 1:
        found += [
            change("order reversed", lambda x: _reversed(shape, x)),
            change("b rotated by a lane", lambda x: {"b": np.roll(x["b"], 1, axis=1)}),
            change("first lane doubled", lambda x: {op: _doubled(x[op]) for op in "ab"}),
        ]
    for operand in "ab":
        fmt = getattr(shape.spec, operand)
        if fmt.signed:
            kept = np.array((1 << (fmt.bits - 1)) - 1, dtype=fmt.dtype)
            found.append(change(f"sign of {operand} lost", _edit(operand, partial(_masked, kept))))
    result = shape.spec.result
    if isinstance(result, FloatFormat) and result.has_negative_zero:
        sign = np.array(result.sign_bit, dtype=result.dtype)
        found.append(Mutant("-0 lost", lambda x, c: _without(shape.dot(x, c), sign)))
        found.append(Mutant("-0 lost in the addend", lambda x, c: shape.dot(x, _without(c, sign))))
        found.append(Mutant("zeros negative", lambda x, c: _negative(shape.dot(x, c), sign)))
    if shape.group:
        found += _scale_mutants(shape, change)
    return found


def _scale_mutants(
    shape: Shape, change: Callable[[str, Callable[[Columns], Columns]], Mutant]
) -> list[Mutant]:
    from fpsim.vectors.beats import Palette

    palette = Palette(shape)
    found = []
    for operand in "ab":
        name, one = f"{operand}_scale", palette.one(operand)
        edits: dict[str, Callable[[Codes], Codes]] = {
            f"{name} ignored": partial(np.full_like, fill_value=one)
        }
        fmt = getattr(shape.spec, name)
        if fmt.mantissa_bits:
            low = np.array((1 << fmt.mantissa_bits) - 1, dtype=fmt.dtype)
            edits[f"mantissa of {name} ignored"] = partial(_masked, ~low)
        if shape.spec.splits(operand):
            edits[f"{name} by the other sign"] = _swap
            edits[f"{name} not split"] = _unsplit
        elif shape.groups > 1:
            edits[f"{name} of the next group"] = _next_group
            edits[f"first {name} for all"] = _first_group
        found += [change(what, _edit(name, edit)) for what, edit in edits.items()]
    return found


def _edit(name: str, edit: Callable[[Codes], Codes]) -> Callable[[Columns], Columns]:
    return lambda columns: {name: edit(columns[name])}


def _masked(mask: Codes, codes: Codes) -> Codes:
    return codes & mask


def _unsplit(codes: Codes) -> Codes:
    return np.repeat(codes[:, ::2], 2, axis=1)


def _next_group(codes: Codes) -> Codes:
    return np.roll(codes, 1, axis=1)


def _first_group(codes: Codes) -> Codes:
    return np.repeat(codes[:, :1], codes.shape[1], axis=1)


def _zero(fmt: Format) -> int:
    codes = np.arange(min(1 << fmt.bits, 1 << 16))
    values = np.nan_to_num(np.abs(fmt.decode(codes)), nan=np.inf)
    return int(values.argmin())


def _previous(columns: Columns) -> Columns:
    return columns | {op: np.roll(columns[op], 1, axis=0) for op in "ab"}


def _doubled(codes: Codes) -> Codes:
    out = codes.copy()
    out[:, -1] = codes[:, 0]
    return out


def _swap(codes: Codes) -> Codes:
    return codes.reshape(codes.shape[0], -1, 2)[:, :, ::-1].reshape(codes.shape)


def _reversed(shape: Shape, columns: Columns) -> Columns:
    """Reverse the elements with their scales; whole groups only."""
    if shape.group and shape.k % shape.group:
        return {}
    out = {op: columns[op][:, ::-1] for op in "ab"}
    for op in "ab" if shape.group else "":
        name = f"{op}_scale"
        per = 2 if shape.spec.splits(op) else 1
        groups = columns[name].reshape(columns[name].shape[0], -1, per)
        out[name] = groups[:, ::-1].reshape(columns[name].shape)
    return out


def _without(codes: Codes, sign: Codes) -> Codes:
    return np.where(codes == sign, np.zeros_like(codes), codes)


def _negative(codes: Codes, sign: Codes) -> Codes:
    return np.where(codes == 0, sign, codes)


# -- changed rounding ----------------------------------------------------------------------------


def _rounding_mutants(shape: Shape) -> list[Mutant]:
    """Return mutants of the rounding decision; directed modes do not look at these bits."""
    modes: set[Any] = set()
    for stage in stages_of(shape.spec.accumulate):
        modes |= {getattr(stage, "rounding", None), getattr(stage, "align", None)}
        if getattr(stage, "addend", None) is Addend.LATE:
            modes.add(getattr(stage, "late_rounding", None))
        if getattr(stage, "convert", None) is not None:
            modes.add(getattr(stage, "convert_rounding", None))
    if not modes & {Rounding.RNE, Rounding.RNA}:
        return []
    kept: dict[str, Callable[[Fraction], Fraction]] = {
        "sticky dropped": lambda f: Fraction(int(f * 2), 2),
        "sticky is one bit": lambda f: Fraction(int(f * 4), 4),
        "ties down": lambda f: f - Fraction(1, 1 << 40) if f == Fraction(1, 2) else f,
        "ties up": lambda f: f + Fraction(1, 1 << 40) if f == Fraction(1, 2) else f,
        "guard ignored": lambda f: f - Fraction(1, 2) if f >= Fraction(1, 2) else f,
        "rounded twice": _twice,
    }
    return [Mutant(f"rounding: {n}", _patched(shape, f), slow=True) for n, f in kept.items()]


def _twice(fraction: Fraction) -> Fraction:
    """Round to two more bits, ties to even, before the rounding proper."""
    scaled = fraction * 4
    low = int(scaled)
    rest = scaled - low
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2)
    return Fraction(low + int(up), 4)


def _patched(shape: Shape, edit: Callable[[Fraction], Fraction]) -> Run:
    plain = numbers._round_up

    def round_up(fraction: Fraction, odd: bool, negative: bool, mode: Rounding, *rest: int) -> bool:
        if mode in (Rounding.RNE, Rounding.RNA):
            fraction = edit(fraction)
        return plain(fraction, odd, negative, mode, *rest)

    def run(columns: Columns, c: Codes) -> Codes:
        out = np.zeros(c.size, dtype=shape.spec.result.dtype)
        with mock.patch.object(numbers, "_round_up", round_up):
            for i in range(c.size):
                row = {name: column[i] for name, column in columns.items()}
                out[i] = shape.trace(row, int(c[i])).code
        return out

    return run
