# SPDX-License-Identifier: Apache-2.0
"""Operations around a MAC as data: converters, multipliers, adders, quantizers of any formats.

    convert:SOURCE:TARGET[:ROUNDING[:OVERFLOW]]     y = R(x); flags of the rounding
    mul:A:B:RESULT[:ROUNDING[:OVERFLOW]]            y = R(a b)
    add:A:B:RESULT[:ROUNDING[:OVERFLOW]]            y = R(a + b)
    quantize:BLOCKFORMAT[:SOURCE]                   a block of values to codes and scales

Every result is rounded once from the exact value. `fpsim.formats` converts, `fpsim.blocks`
quantizes, and the oracle gives products and sums.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat, get_block_format, get_element
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.meaning import has_row_tables
from fpsim.blocks.quantized import Quantized
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Overflow, Rounding, parse_overflow, parse_rounding
from fpsim.oracle import numbers
from fpsim.oracle.numbers import RoundUp
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.status_flags import FLAG_BITS, FLAG_CODES
from fpsim.vectors.sets.word_layout import Columns, Field, WordLayout, placed

__all__ = [
    "OPERATIONS",
    "Convert",
    "Operation",
    "Quantize",
    "TwoOperand",
    "operation_from",
    "parse_operation",
]

#: Elements of a quantizer's vector if a block is a row or a tensor.
ROW = 32
FLOAT32 = "e8m23"


class Operation(WordLayout):
    """An operation whose vectors stand alone, each with inputs and results."""

    kind: ClassVar[str]
    group = 0

    @property
    def spec(self) -> MacSpec:
        """No unit: asking an operation for its unit is an error.

        Raises:
            FpsimError: always; the caller takes only vectors of units.
        """
        raise FpsimError(f"directory: these are vectors of {self.title}, not of a unit")

    @property
    @abstractmethod
    def equation(self) -> str:
        """The operation as one line of text: results, rounding, formats of inputs."""

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Format]:
        """Formats of the inputs, by field."""

    @property
    @abstractmethod
    def outputs(self) -> dict[str, Format]:
        """Formats of the results that are numbers (flags are not), by field."""

    @property
    def result_fields(self) -> list[Field]:
        """Fields of results, from the most significant bits down."""
        return [f for f in self.fields if f.name not in self.inputs]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the operation as JSON-ready data; `operation_from` reads it."""

    @abstractmethod
    def defined(self, columns: Columns) -> NDArray[np.bool_]:
        """Return the mask of rows with results: formats may lack a code for NaN."""

    def described(self) -> dict[str, Any]:
        """Return the manifest's entries about the operation; ``ops`` is empty (no accumulator)."""
        return {
            "operation": self.to_dict(),
            "canonical": self.title,
            "equation": self.equation,
            "ops": {},
        }

    def texts(self, name: str, codes: NDArray[Any]) -> list[str]:
        """Return the value of each code of a field as text; empty for a code that is no number."""
        fmt = (self.inputs | self.outputs).get(name)
        if fmt is None:
            return [""] * codes.size
        return [repr(value) for value in fmt.decode(codes).reshape(-1).tolist()]

    @property
    def neutral(self) -> dict[str, int]:
        """A code for each input that has the least effect: 0, and a tensor scale of 1."""
        return dict.fromkeys(self.inputs, 0)

    def remarks(self, header: dict[str, Any]) -> list[str]:
        """Return the lines of the header of ``vectors.hex`` that explain a word."""
        flags = ", ".join(f"{code} {name}" for name, code in FLAG_CODES.items())
        lines = [
            self.equation,
            f"strategy {header['strategy']}, seed {header['seed']}, {self.word_bits} bits per word",
            "element 0 of a field is in its low bits",
        ]
        return lines + [f"flags: {flags}"] * any(f.name == "flags" for f in self.fields)

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the unsigned NumPy type that holds the codes of a field."""
        known = self.inputs | self.outputs
        return known[name].dtype if name in known else np.dtype(np.uint8)

    def is_single(self, name: str) -> bool:
        """Whether a field has one code, so that its columns have one axis (n,)."""
        return self.lanes_of(name) == 1


def _rounded_into(fmt: Format, rounding: str, overflow: str | None) -> tuple[Rounding, Overflow]:
    mode = parse_rounding(rounding)
    if mode is Rounding.SR:
        raise FpsimError("rounding: 'sr' takes random integers; vectors of operations have none")
    default = fmt.default_overflow if isinstance(fmt, FloatFormat) else Overflow.SATURATE
    return mode, parse_overflow(default if overflow is None else overflow)


def _settings(rounding: Rounding, overflow: Overflow) -> str:
    return f":{rounding.value}:{overflow.value}"


@dataclass(frozen=True)
class Convert(Operation):
    """A converter, or requantizer, of one format into another."""

    source: Format
    target: Format
    rounding: Rounding = Rounding.RNE
    overflow: Overflow = Overflow.SATURATE

    kind: ClassVar[str] = "convert"
    k: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        self.target.encode([0.0], self.rounding.value, self.overflow.value)

    @property
    def title(self) -> str:
        """The operation as text, as `parse_operation` reads it."""
        head = f"convert:{self.source.name}:{self.target.name}"
        return head + _settings(self.rounding, self.overflow)

    @property
    def equation(self) -> str:
        """The conversion as one line of text: ``y = rounding[target](source(x)), overflow``."""
        return f"y = {self.rounding}[{self.target.name}]({self.source.name}(x)), {self.overflow}"

    @property
    def inputs(self) -> dict[str, Format]:
        """Format of ``x``, the code to convert."""
        return {"x": self.source}

    @property
    def outputs(self) -> dict[str, Format]:
        """Format of ``y``, the converted code."""
        return {"y": self.target}

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """``x``, ``y`` and flags."""
        return placed([("x", 1, self.source.bits), ("y", 1, self.target.bits), _FLAGS])

    def to_dict(self) -> dict[str, Any]:
        """Return the kind, and the operation as text."""
        return {"kind": self.kind, "text": self.title}

    def defined(self, columns: Columns) -> NDArray[np.bool_]:
        """Return the mask of rows with results: no NaN if the target has no code for NaN."""
        values = self.source.decode(columns["x"])
        bad = np.isnan(values) & (not _has_nan(self.target))
        return np.asarray(~bad)

    def exact(self, columns: Columns) -> list[oracle.Number]:
        """Return the exact number of each vector, before rounding."""
        return [_number(int(code), self.source) for code in columns["x"]]

    def rounded(
        self, columns: Columns, exact: list[oracle.Number], round_up: RoundUp = numbers.round_up
    ) -> Columns:
        """Return exact numbers rounded to the target.

        Args:
            columns: codes of the inputs (n,); flags of a conversion do not depend on them.
            exact: a number per vector, no NaN if the target has none.
            round_up: decides between two neighbouring codes.

        Returns:
            ``y`` (n,) and ``flags`` (n,).
        """
        return rounded(exact, self.target, self.rounding, self.overflow, round_up)

    def results(self, columns: Columns, before: int = 0) -> Columns:
        """Return ``y`` and ``flags`` (n,) of the codes ``x`` (n,)."""
        y, flags = self.target.encode(
            self.source.decode(columns["x"]), self.rounding.value, self.overflow.value, flags=True
        )
        return {"y": y, "flags": flags}


_FLAGS = ("flags", 1, FLAG_BITS)


def _has_nan(fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat) and fmt.nan_code is not None


@dataclass(frozen=True)
class TwoOperand(Operation):
    """A multiplier or an adder of any two formats, rounded once into a third."""

    verb: str
    a: Format
    b: Format
    result: FloatFormat
    rounding: Rounding = Rounding.RNE
    overflow: Overflow = Overflow.SATURATE

    kind: ClassVar[str] = "arithmetic"
    k: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.result, FloatFormat):
            raise FpsimError(
                f"op: {self.verb} rounds into a floating-point format, not {self.result.name}"
            )
        self.result.limits(self.rounding, self.overflow)

    @property
    def title(self) -> str:
        """The operation as text, as `parse_operation` reads it."""
        head = f"{self.verb}:{self.a.name}:{self.b.name}:{self.result.name}"
        return head + _settings(self.rounding, self.overflow)

    @property
    def equation(self) -> str:
        """The operation as one line of text: ``y = rounding[result](A(a) * B(b)), overflow``."""
        sign = {"mul": "*", "add": "+"}[self.verb]
        inside = f"{self.a.name}(a) {sign} {self.b.name}(b)"
        return f"y = {self.rounding}[{self.result.name}]({inside}), {self.overflow}"

    @property
    def inputs(self) -> dict[str, Format]:
        """Formats of the operands ``a`` and ``b``."""
        return {"a": self.a, "b": self.b}

    @property
    def outputs(self) -> dict[str, Format]:
        """Format of ``y``, the product or the sum."""
        return {"y": self.result}

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """``a``, ``b``, ``y`` and flags."""
        return placed(
            [("a", 1, self.a.bits), ("b", 1, self.b.bits), ("y", 1, self.result.bits), _FLAGS]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the kind, and the operation as text."""
        return {"kind": self.kind, "text": self.title}

    def defined(self, columns: Columns) -> NDArray[np.bool_]:
        """Return the mask of rows with results: no NaN if the result format has no code for NaN."""
        if _has_nan(self.result):
            return np.ones(columns["a"].shape, dtype=np.bool_)
        a, b = self.a.decode(columns["a"]), self.b.decode(columns["b"])
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(~np.isnan(a * b if self.verb == "mul" else a + b))

    def exact(self, columns: Columns) -> list[oracle.Number]:
        """Return the exact number of each vector, before rounding."""
        pairs = zip(columns["a"], columns["b"], strict=True)
        return [self.combined(_number(int(a), self.a), _number(int(b), self.b)) for a, b in pairs]

    def combined(self, a: oracle.Number, b: oracle.Number) -> oracle.Number:
        """Return the exact product or sum; a zero sum has the sign of the rounding mode."""
        return numbers.multiply(a, b) if self.verb == "mul" else numbers.add(a, b, self.rounding)

    def results(self, columns: Columns, before: int = 0) -> Columns:
        """Return ``y`` and ``flags`` (n,), rounded once from the exact numbers."""
        return self.rounded(columns, self.exact(columns))

    def rounded(
        self, columns: Columns, exact: list[oracle.Number], round_up: RoundUp = numbers.round_up
    ) -> Columns:
        """Return exact products or sums rounded to the result format.

        Args:
            columns: codes of ``a`` and ``b`` (n,): a NaN from operands that are none is *invalid*.
            exact: a number per vector, no NaN if the result format has none.
            round_up: decides between two neighbouring codes.

        Returns:
            ``y`` (n,) and ``flags`` (n,).
        """
        found = rounded(exact, self.result, self.rounding, self.overflow, round_up)
        nan = [_nan_codes(self.a, columns["a"]), _nan_codes(self.b, columns["b"])]
        made = np.array([number.is_nan for number in exact], dtype=bool) & ~(nan[0] | nan[1])
        found["flags"][made] |= FLAG_CODES["invalid"]
        return found


#: Bits of the widest fixed-point format of an operation.
MAX_INTEGER_BITS = 32


@cache
def _number(code: int, fmt: Format) -> oracle.Number:
    return oracle.decode(code, fmt)


def _nan_codes(fmt: Format, codes: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isnan(fmt.decode(codes))


def rounded(
    exact: list[oracle.Number],
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    round_up: RoundUp = numbers.round_up,
) -> Columns:
    """Return exact numbers as codes of a format, with flags.

    Args:
        exact: the numbers, no NaN if the format has none.
        fmt: format of the results.
        rounding: the rounding mode.
        overflow: policy for numbers beyond the format.
        round_up: decides between two neighbouring codes.

    Returns:
        ``y`` and ``flags``.
    """
    y = np.empty(len(exact), dtype=fmt.dtype)
    flags = np.empty(len(exact), dtype=np.uint8)
    for i, number in enumerate(exact):
        settings = (number, fmt, rounding, overflow)
        y[i] = numbers.encode(*settings, round_up=round_up)
        flags[i] = int(numbers.flags(*settings, round_up=round_up))
    return {"y": y, "flags": flags}


#: Parts of a quantized tensor besides codes and scales, with the bits of an entry.
_PARTS = {"zero_points": 32, "variants": 8, "ratios": 8, "tops": 8, "macros": 8}


@dataclass(frozen=True)
class Quantize(Operation):
    """A quantizer of one block or one row of values; a static tensor scale is an input."""

    format: BlockFormat
    source: FloatFormat

    kind: ClassVar[str] = "quantize"

    def __post_init__(self) -> None:
        fmt = self.format
        by_row = fmt.outer is Span.ROW or has_row_tables(fmt)
        if fmt.scale is None or isinstance(fmt.block, tuple) or by_row:
            raise FpsimError(
                f"op: {fmt.name} has real scales, tiles, or a scale or table per row; vectors take "
                "formats of blocks along one axis whose scales are codes"
            )
        if Rounding.SR in (fmt.rounding, fmt.scale_rounding):
            raise FpsimError(f"op: {fmt.name} rounds by 'sr'; vectors of operations have no bits")
        if not (isinstance(self.source, FloatFormat) and self.source.bits in (16, 32)):
            raise FpsimError(f"op: {self.source.name} is not float32 (e8m23) or 16 bits wide")

    @property
    def k(self) -> int:  # type: ignore[override]
        """Elements of a vector: a block, a macro block of several, or a row."""
        fmt = self.format
        if fmt.macro is not None:
            return fmt.macro.block
        return fmt.block if isinstance(fmt.block, int) else ROW

    @property
    def title(self) -> str:
        """The operation as text, as `parse_operation` reads it."""
        return f"quantize:{self.format.name}:{self.source.name}"

    @property
    def equation(self) -> str:
        """The quantizer as one line of text: formats, scale rule, any tensor scale."""
        outer = " and the given tensor scale" * self.has_tensor_scale
        inside = f"{self.format.name}({self.source.name}(x))"
        return f"codes, scales = {inside} with rule {self.format.rule}{outer}"

    @property
    def has_tensor_scale(self) -> bool:
        """Whether a static scale of the tensor is an input."""
        return bool(self.format.tensor_range)

    @property
    def inputs(self) -> dict[str, Format]:
        """Formats of the values, and of the tensor scale if the block format has a static one."""
        scale = {"tensor_scale": get_format(FLOAT32)} if self.has_tensor_scale else {}
        return {"x": self.source, **scale}

    @property
    def outputs(self) -> dict[str, Format]:
        """Empty: `texts` decodes codes and scales by the block format."""
        return {}

    @property
    def neutral(self) -> dict[str, int]:
        """A code for each input that has the least effect: 0, and a tensor scale of 1."""
        one = int(get_format(FLOAT32).encode([1.0])[0])
        return {name: one if name == "tensor_scale" else 0 for name in self.inputs}

    def without_tensor_scale(self, columns: Columns) -> Columns:
        """Return inputs with a tensor scale of 1, for a design that has none."""
        if not self.has_tensor_scale:
            return columns
        scale = np.full_like(columns["tensor_scale"], self.neutral["tensor_scale"])
        return columns | {"tensor_scale": scale}

    @cached_property
    def _sample(self) -> Quantized:
        return self._quantized(np.zeros((1, self.k)), np.ones((1, 1)))

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """``x``, the tensor scale, codes, scales, and further parts that the format stores."""
        found = self._sample
        layout = [("x", self.k, self.source.bits)]
        layout += [("tensor_scale", 1, 32)] * self.has_tensor_scale
        layout.append(("codes", self.k, self.format.element.bits))
        layout.append(("scales", found.scales.shape[1], 8 * found.scales.dtype.itemsize))
        if found.negative_scales is not None:
            lanes, item = found.negative_scales.shape[1], found.negative_scales.dtype.itemsize
            layout.append(("negative_scales", lanes, 8 * item))
        for name, bits in _PARTS.items():
            part = getattr(found, name)
            if part is not None and part.size:
                layout.append((name, part.shape[1], bits))
        return placed(layout)

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the type of a field's codes."""
        if name in self.inputs:
            return self.inputs[name].dtype
        width = next(f.lane_width for f in self.fields if f.name == name)
        return np.dtype(f"u{1 if width <= 8 else 2 if width <= 16 else 4}")

    def is_single(self, name: str) -> bool:
        """Whether columns of a field have one axis (n,)."""
        return name == "tensor_scale"

    def texts(self, name: str, codes: NDArray[Any]) -> list[str]:
        """Return the value of each code as text; elements without their scale."""
        if name == "codes":
            element = self.format.element
            held = (
                element.held
                if isinstance(element, Table)
                else element.decode(np.arange(1 << element.bits))
            )
            return [repr(value) for value in held[codes].reshape(-1).tolist()]
        if name == "scales" and self.format.scale is not None and not self.format.variants:
            return [repr(v) for v in self.format.scale.decode(codes).reshape(-1).tolist()]
        return super().texts(name, codes)

    def to_dict(self) -> dict[str, Any]:
        """Return kind, source, and the fields of the block format."""
        return {"kind": self.kind, "format": self.format.to_dict(), "source": self.source.name}

    def defined(self, columns: Columns) -> NDArray[np.bool_]:
        """Return the mask of rows with results: blocks of finite values."""
        return np.asarray(np.isfinite(self.source.decode(columns["x"])).all(axis=1))

    def _quantized(self, values: NDArray[np.float64], scale: NDArray[np.float64]) -> Quantized:
        if not self.has_tensor_scale:
            return self.format.quantize(values.astype(np.float32), axis=1)
        given, which = np.unique(scale.reshape(-1), return_inverse=True)
        order = np.argsort(which, kind="stable")
        found = [
            self.format.quantize(values[which == i].astype(np.float32), axis=1, tensor_scale=one)
            for i, one in enumerate(given.tolist())
        ]
        back = np.argsort(order, kind="stable")
        parts: dict[str, Any] = {
            name: np.concatenate([getattr(rows, name) for rows in found])[back]
            for name in ("codes", "scales", "negative_scales", *_PARTS)
            if getattr(found[0], name) is not None
        }
        return Quantized(axis=1, **parts)

    def results(self, columns: Columns, before: int = 0) -> Columns:
        """Return codes, scales and further parts that the format stores, (n, lanes) each."""
        if not len(columns["x"]):
            return {
                f.name: np.zeros((0, f.lanes), self.dtype_of(f.name)) for f in self.result_fields
            }
        scale = np.ones(len(columns["x"]))
        if self.has_tensor_scale:
            scale = get_format(FLOAT32).decode(columns["tensor_scale"])
        values = self.source.decode(columns["x"])
        found = (
            self._by_row(values, scale) if isinstance(self.format.block, Span)
            else self._quantized(values, scale)
        )  # fmt: skip
        return {
            f.name: getattr(found, f.name).astype(self.dtype_of(f.name)) for f in self.result_fields
        }

    def _by_row(self, values: NDArray[np.float64], scale: NDArray[np.float64]) -> Quantized:
        """Quantize each vector as a tensor."""
        rows = [
            self._quantized(values[i : i + 1], scale[i : i + 1]) for i in range(values.shape[0])
        ]
        return Quantized(
            codes=np.concatenate([row.codes for row in rows]),
            scales=np.concatenate([row.scales.reshape(1, -1) for row in rows]),
            axis=1,
        )


#: The text of each operation, as `parse_operation` reads it.
OPERATIONS = {
    "quantize": "quantize:BLOCKFORMAT[:SOURCE], such as quantize:mxfp4 or quantize:nvfp4:e8m7",
    "convert": "convert:SOURCE:TARGET[:ROUNDING[:OVERFLOW]], such as convert:e5m10:e4m3fn",
    "mul": "mul:A:B:RESULT[:ROUNDING[:OVERFLOW]], such as mul:e2m1:e2m1:e5m10, or mul and a unit",
    "add": "add:A:B:RESULT[:ROUNDING[:OVERFLOW]], such as add:e5m10:e5m10:e5m10, or add and a unit",
}


def parse_operation(text: str, unit: MacUnit | None = None) -> Operation:
    """Return the operation that a text names.

    Args:
        text: one of the forms in `OPERATIONS`.
        unit: gives formats to a bare ``mul`` (products of its operands) or ``add`` (sums of its
            accumulators), rounded as its accumulator is.

    Raises:
        FpsimError: no such operation, wrong formats, or too few or many parts.
    """
    kind, *parts = text.split(":")
    if kind not in OPERATIONS:
        raise not_one_of("op", kind, OPERATIONS)
    if kind == "quantize":
        if not 1 <= len(parts) <= 2:
            raise FpsimError(f"op: {text!r} is not {OPERATIONS[kind]}")
        source = _float(parts[1] if len(parts) > 1 else FLOAT32)
        return Quantize(get_block_format(parts[0]), source)
    formats, settings = {"convert": 2}.get(kind, 3), ["rne"]
    if kind != "convert" and not parts and unit is not None:
        parts, settings = _unit_parts(kind, unit)
    if not formats <= len(parts) <= formats + 2:
        raise FpsimError(f"op: {text!r} is not {OPERATIONS[kind]}")
    found = [get_element(name) for name in parts[:formats]]
    for fmt in found:
        if isinstance(fmt, FixedFormat) and fmt.bits > MAX_INTEGER_BITS:
            raise FpsimError(
                f"op: {fmt.name} has {fmt.bits} bits; fixed-point formats have up to "
                f"{MAX_INTEGER_BITS}"
            )
    settings = parts[formats:] or settings
    mode, overflow = _rounded_into(
        found[-1], settings[0], settings[1] if len(settings) > 1 else None
    )
    if kind == "convert":
        return Convert(found[0], found[1], mode, overflow)
    return TwoOperand(kind, found[0], found[1], found[2], mode, overflow)  # type: ignore[arg-type]


def _unit_parts(kind: str, unit: MacUnit) -> tuple[list[str], list[str]]:
    spec = unit.spec
    names = [spec.a.name, spec.b.name] if kind == "mul" else [spec.result.name] * 2
    rounding = getattr(spec.accumulate, "rounding", Rounding.RNE)
    return [*names, spec.result.name], [str(rounding)]


def _float(name: str) -> FloatFormat:
    fmt = get_format(name)
    if not isinstance(fmt, FloatFormat):
        raise FpsimError(f"op: {fmt.name} is not a floating-point format")
    return fmt


def operation_from(data: dict[str, Any]) -> Operation:
    """Return the operation described by a manifest.

    Raises:
        FpsimError: data that `Operation.to_dict` does not return.
    """
    try:
        if data["kind"] == "quantize":
            return Quantize(BlockFormat.from_dict(data["format"]), _float(data["source"]))
        return parse_operation(str(data["text"]))
    except (KeyError, TypeError):
        raise FpsimError("operation: it is not described as this version describes one") from None
