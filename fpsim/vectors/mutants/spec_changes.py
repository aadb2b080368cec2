# SPDX-License-Identifier: Apache-2.0
"""Units with one wrong setting: formats read in another way, stages rounded or added in another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
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

__all__ = ["spec_changes"]

_MODES = [r for r in Rounding if r is not Rounding.SR]


def spec_changes(spec: MacSpec, scales: bool) -> Iterator[tuple[str, MacSpec]]:
    """Yield units that differ in one setting, with names; ``scales``: in scale formats too."""
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
    """Yield a changed unit with its name; none where no unit can have that combination."""
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
    bits = getattr(stage, "random_bits", 0)
    for name in ("rounding", "align", "late_rounding", "join_rounding", "convert_rounding"):
        if name in names:
            none = {"random_bits": 0} if name == "rounding" and bits else {}
            for mode in _MODES:
                yield f"{name} {mode}", other(**{name: mode}, **none)
    if bits:
        yield "one random bit fewer", other(random_bits=bits - 1)
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
        for size in (stage.size // 2, stage.size * 2, stage.size - 1, stage.size + 1):
            yield f"chunks of {size}", other(size=size)
    if stage.parts is not None:
        yield "one part more", other(parts=stage.parts + 1)
    if stage.inner.result == stage.outer.result:
        yield "no promotion", lambda: stage.inner
    if isinstance(stage.outer, Chunked):
        yield "results of chunks in one chunk", other(outer=stage.outer.outer)
    if isinstance(stage.inner, Chunked) and stage.inner.inner.result == stage.inner.outer.result:
        yield "chunks not chunked again", other(inner=stage.inner.inner)


_KINDS: dict[type, Callable[[Any, Other], Changes]] = {
    Chain: _chain_changes,
    Exact: _exact_changes,
    Fixed: _fixed_changes,
    Aligned: _aligned_changes,
    Tree: _tree_changes,
    Block: _block_changes,
    Chunked: _chunked_changes,
}
