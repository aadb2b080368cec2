# SPDX-License-Identifier: Apache-2.0
"""Block formats: elements that share a scale, described as data.

OCP MX v1.0: a block of k elements shares one E8M0 scale X, and element i means ``X * P_i``. Other
formats share a float scale, one scale per sign, a scale under a scale per tensor, or a zero point;
`BlockFormat` has a field for each of these choices, and `fpsim.block_names` the named formats.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.casts import Parts, cast, decode_elements
from fpsim.errors import FpsimError, nearest
from fpsim.formats import FixedFormat, FloatFormat, Format, check_codes
from fpsim.names import E8M0, get_format
from fpsim.rounding import Rounding, parse_rounding
from fpsim.scales import POWER_RULES, RANGE_RULES, Arithmetic, ScaleRule, ZeroScale

__all__ = [
    "BLOCK_FORMATS",
    "Arithmetic",
    "BlockFormat",
    "Choice",
    "NanPolicy",
    "Quantized",
    "ScaleRule",
    "Span",
    "ZeroScale",
    "get_block_format",
]


class Span(StrEnum):
    """A block that is not a number of elements."""

    ROW = "row"  #: all elements along the axis
    TENSOR = "tensor"  #: all elements


class Choice(StrEnum):
    """Error by which a block chooses between two candidates; see `BlockFormat`."""

    MSE = "mse"
    MAE = "mae"
    ABS_MAX = "abs_max"


class NanPolicy(StrEnum):
    """What a block that holds NaN or an infinity becomes; never silently a number."""

    ERROR = "error"  #: FpsimError
    SATURATE = "saturate"  #: infinities: the largest code, left out of the scale; NaN: FpsimError
    SCALE = "scale"  #: the NaN scale, codes 0; for scale formats that have NaN


@dataclass(frozen=True)
class Quantized:
    """A tensor in a block format.

    ``codes`` has the tensor's shape; ``scales`` has ceil(K / block) entries along ``axis`` and
    otherwise the same shape (all ones for one block per tensor). What follows is None unless the
    format stores it; ``scales`` then are those of elements with the sign bit clear.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    axis: int
    negative_scales: NDArray[Any] | None = None  #: of elements with the sign bit set
    zero_points: NDArray[np.int32] | None = None
    tensor_scale: np.float32 | None = None


@dataclass(frozen=True)
class BlockFormat:
    """Elements of one format in blocks that share a scale.

    Args:
        name: what messages call it.
        element: element format; finite or not, it is encoded with saturation.
        block: elements per scale (the last block along the axis may be shorter), or a `Span`.
        rule: how the scale follows from the block.
        rounding: how elements are rounded; outside MX to nearest: ``rne`` or ``rna``.
        scale: format of scales; None: a real number (float64).
        scale_rounding: how scales are rounded to it, saturating.
        tensor_range: R of `fpsim.scales`; 0: no scale per tensor.
        target: element value that the largest magnitude maps to; 0: the largest.
        signs: one scale for elements with the sign bit clear, one for those with it set.
        zero: what a zero scale becomes.
        arithmetic: order of the float32 operations.
        choice: if given, the better of two candidates by this error: scales and ``expansion``
            times them or, with ``alternative``, elements and alternative elements.
        expansion: factor on the scales of the second candidate.
        alternative: fixed-point grid, stretched to the element's largest value, that the sign bit
            of the scale selects (IF4).
        base_bits: width of the integers that ``razor`` starts from, 0 for other rules.
        nan: policy for NaN and infinities; None: ``scale`` if the scale has NaN, else ``error``.

    Raises:
        FpsimError: fields that do not fit each other, naming one of them.
    """

    name: str
    element: Format
    block: int | Span
    rule: ScaleRule = ScaleRule.FLOOR
    rounding: Rounding = Rounding.RNE
    scale: FloatFormat | None = field(default=E8M0)
    scale_rounding: Rounding = Rounding.RNE
    tensor_range: float = 0.0
    target: float = 0.0
    signs: bool = False
    zero: ZeroScale = ZeroScale.SMALLEST
    arithmetic: Arithmetic = Arithmetic.DIVIDE
    choice: Choice | None = None
    expansion: float = 1.5
    alternative: FixedFormat | None = None
    base_bits: int = 0
    nan: NanPolicy | None = None

    def __post_init__(self) -> None:
        _check_format(self)

    @property
    def is_mx(self) -> bool:
        """Whether this is an OCP MX format: one E8M0 scale per block, by a power-of-two rule."""
        return self.scale == E8M0 and self.rule in POWER_RULES and not self.signs

    @property
    def limit(self) -> float:
        """The element value that the largest magnitude of a block maps to."""
        return self.target or self.element.max_value

    @property
    def default_nan(self) -> NanPolicy:
        """The policy that `quantize` follows unless told otherwise."""
        if self.nan is not None:
            return self.nan
        return NanPolicy.SCALE if self._scale_has_nan else NanPolicy.ERROR

    @property
    def _scale_has_nan(self) -> bool:
        return self.scale is None or self.scale.nan_code is not None

    @property
    def bits_per_element(self) -> float:
        """Storage per element: codes and scales of blocks.

        Left out are what does not grow with the tensor (scales of rows and tensors) and zero
        points, whose width their source does not fix.
        """
        if isinstance(self.block, Span) or self.scale is None:
            return self.element.bits
        return self.element.bits + self.scale.bits * (1 + self.signs) / self.block

    def with_rule(self, rule: str) -> BlockFormat:
        """Return the same format under another scale rule that its other fields allow."""
        try:
            return replace(self, rule=ScaleRule(rule))
        except ValueError as error:
            if isinstance(error, FpsimError):
                raise
            allowed = [r.value for r in ScaleRule]
            raise FpsimError(
                f"rule: {rule!r} is not one of {', '.join(allowed)}{nearest(rule, allowed)}"
            ) from None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BlockFormat:
        """Return the format that a mapping of field names to TOML values describes.

        ``element``, ``scale`` and ``alternative`` are format names (``scale = "real"``: a real
        number). The rule defaults to ``floor`` under E8M0 and else to ``absmax``.

        Raises:
            FpsimError: an unknown or missing key, or a value that does not fit, naming the key.
        """
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                raise FpsimError(
                    f"{key}: not a field of a block format ({', '.join(known)})"
                    f"{nearest(str(key), known)}"
                )
        for key in ("name", "element", "block"):
            if key not in data:
                raise FpsimError(f"{key}: missing from the block format")
        values = {key: _FIELDS[key](key, value) for key, value in data.items()}
        if "rule" not in values and values.get("scale", E8M0) != E8M0:
            values["rule"] = ScaleRule.ABSMAX
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> BlockFormat:
        """Return the format that a TOML file describes; see `from_dict`.

        Raises:
            FpsimError: a file that cannot be read or does not describe a format, naming it.
        """
        path = Path(path)
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise FpsimError(f"block format: cannot read {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, FpsimError) as error:
            raise FpsimError(f"{path}: {error}") from None

    def quantize(self, x: ArrayLike, axis: int = -1, nan: str | None = None) -> Quantized:
        """Return codes and scale codes of ``x``.

        An all-zero block of an E8M0 format gets scale code 0 (AMXINT: 1.0), of others what ``zero``
        says. E8M0 exponents clamp to -127..127. -0 keeps its sign where the element has one.
        Formats other than MX take float64 rounded to float32 first.

        Args:
            x: float16, float32 or float64, at least one dimension.
            axis: the axis blocks run along.
            nan: a `NanPolicy` to follow instead of the format's. The blocks left bad count for
                no tensor scale.

        Raises:
            FpsimError: an axis that does not exist, a wrong dtype, a policy without a code, or NaN
                or an infinity where the policy has no code for it.
        """
        policy = self._policy(nan)
        array = np.asarray(x)
        if array.dtype.kind != "f":
            raise FpsimError(f"x: dtype {array.dtype} is not floating point")
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
        axis = _check_axis(axis, array.ndim)
        rows = np.ascontiguousarray(np.moveaxis(array, axis, -1))
        leading, length = rows.shape[:-1], rows.shape[-1]
        flat = rows.reshape(-1, length) if length else rows.reshape(0, 0)
        if self.block is Span.TENSOR:
            flat = flat.reshape(1, -1)
        block = flat.shape[1] if isinstance(self.block, Span) else self.block
        groups = 1 if isinstance(self.block, Span) else -(-length // block)
        if self.block is Span.TENSOR:
            leading = (1,) * len(leading)
        parts = self._cast(flat, block, policy) if flat.size else self._empty()

        def back(array: NDArray[Any] | None, shape: tuple[int, ...]) -> Any:
            return None if array is None else np.moveaxis(array.reshape(shape), -1, axis)

        shape = (*leading, groups) if flat.size else (*leading, 0)
        return Quantized(
            codes=back(parts.codes, rows.shape),
            scales=back(parts.scales, shape),
            axis=axis,
            negative_scales=back(parts.negative_scales, shape),
            zero_points=back(parts.zero_points, shape),
            tensor_scale=parts.tensor_scale,
        )

    def _policy(self, nan: str | None) -> NanPolicy:
        if nan is None:
            return self.default_nan
        try:
            policy = NanPolicy(nan)
        except ValueError:
            raise FpsimError(f"nan: {nan!r} is not one of {', '.join(NanPolicy)}") from None
        if policy is NanPolicy.SCALE and not self._scale_has_nan:
            raise FpsimError(f"nan: 'scale' is not possible in {self.name}: its scale has no NaN")
        return policy

    def _empty(self) -> Parts:
        scale = np.dtype(np.float64) if self.scale is None else self.scale.dtype
        none = np.empty(0, dtype=scale)
        return Parts(
            codes=np.empty(0, dtype=self.element.dtype),
            scales=none,
            bad=np.empty(0, dtype=bool),
            negative_scales=none if self.signs else None,
            zero_points=np.empty(0, dtype=np.int32) if self.rule in RANGE_RULES else None,
            tensor_scale=np.float32(0) if self.tensor_range or self.base_bits else None,
        )

    def _cast(self, rows: NDArray[Any], block: int, policy: NanPolicy) -> Parts:
        parts = cast(self, rows, block)
        if policy is NanPolicy.SCALE or not parts.bad.any():
            return parts
        row = int(np.flatnonzero(parts.bad.any(axis=1))[0])
        if policy is NanPolicy.ERROR or np.isnan(rows).any():
            raise FpsimError(f"x: NaN or infinity in row {row} has no value in {self.name}")
        with np.errstate(over="ignore"):
            infinite = np.isinf(rows if self.is_mx else rows.astype(np.float32))
        parts = cast(self, np.where(infinite, 0.0, rows).astype(rows.dtype), block)
        largest = np.array([np.finfo(np.float64).max, -np.finfo(np.float64).max])
        top, low = self.element.encode(largest, "rtz", "saturate")
        if self.alternative is None:
            parts.codes[infinite] = np.where(rows[infinite] > 0, top, low)
            return parts
        assert self.scale is not None
        grid = np.repeat(parts.scales & self.scale.sign_bit, block, axis=1)[:, : rows.shape[1]] != 0
        other_top, other_low = self.alternative.encode(largest, "rtz", "saturate")
        highs, lows = np.where(grid, other_top, top), np.where(grid, other_low, low)
        parts.codes[infinite] = np.where(rows > 0, highs, lows)[infinite]
        return parts

    def dequantize(self, quantized: Quantized) -> NDArray[np.float64]:
        """Return the values as float64; NaN under a NaN scale.

        ``X * P_i`` and its extensions by sign, tensor scale and zero point are exact. Real scales
        and stretched grids (IF4) are rounded once to float64.

        Raises:
            FpsimError: codes or scales wider than the formats, or a part that is missing.
        """
        codes = check_codes(quantized.codes, self.element, "codes")

        def spread(array: NDArray[Any]) -> NDArray[Any]:
            if self.block is Span.TENSOR:
                return np.broadcast_to(array, codes.shape)
            length = codes.shape[quantized.axis]
            size = length if isinstance(self.block, Span) else self.block
            wide = np.repeat(array, size, axis=quantized.axis)
            return np.take(wide, np.arange(length), axis=quantized.axis)

        if self.scale is None:
            return self.element.decode(codes) * spread(quantized.scales)
        scales = spread(check_codes(quantized.scales, self.scale, "scales"))
        if self.signs:
            other = check_codes(
                _stored(quantized.negative_scales, "negative_scales"), self.scale, "negative_scales"
            )
            assert isinstance(self.element, FloatFormat)
            scales = np.where((codes & self.element.sign_bit) != 0, spread(other), scales)
        if self.rule in RANGE_RULES:
            zero = spread(_stored(quantized.zero_points, "zero_points"))
            return (self.element.decode(codes) - zero) * self.scale.decode(scales)
        values = decode_elements(self, codes, scales)
        if self.tensor_range or self.base_bits:
            values = values * np.float64(_stored(quantized.tensor_scale, "tensor_scale"))
        return values


def _stored(part: Any, name: str) -> Any:
    if part is None:
        raise FpsimError(f"{name}: missing from the quantized tensor")
    return part


def _check_axis(axis: int, ndim: int) -> int:
    if not isinstance(axis, int | np.integer) or not -ndim <= axis < ndim:
        raise FpsimError(f"axis: {axis!r} does not exist in an array of {ndim} dimensions")
    return int(axis) % ndim


# -- which fields fit each other -----------------------------------------------------------------


def _check_format(fmt: BlockFormat) -> None:
    block = fmt.block
    if not isinstance(block, Span) and (
        not isinstance(block, int) or isinstance(block, bool) or block < 1
    ):
        raise FpsimError(f"block: {block!r} is not a positive integer, 'row' or 'tensor'")
    if fmt.rounding is Rounding.SR:
        raise FpsimError("rounding: a block format rounds deterministically, not 'sr'")
    if fmt.scale_rounding is Rounding.SR:
        raise FpsimError("scale_rounding: a block format rounds deterministically, not 'sr'")
    nearest_only = not (fmt.is_mx or fmt.rule is ScaleRule.RAZOR)
    if nearest_only and fmt.rounding not in (Rounding.RNE, Rounding.RNA):
        raise FpsimError(
            f"rounding: {fmt.rounding.value!r} is possible only in MX; {fmt.name} takes rne or rna"
        )
    for name in ("tensor_range", "target", "expansion"):
        value = getattr(fmt, name)
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise FpsimError(f"{name}: {value!r} is not a non-negative number")
    _check_rule(fmt)
    _check_options(fmt)


def _check_rule(fmt: BlockFormat) -> None:
    rule, scale, fixed = fmt.rule, fmt.scale, isinstance(fmt.element, FixedFormat)
    name = "real" if scale is None else scale.name
    powers = (*POWER_RULES, ScaleRule.RANGE_FLOOR, ScaleRule.RANGE_ROUND)
    if rule in powers and scale != E8M0:
        raise FpsimError(f"rule: {rule.value!r} gives powers of two; scale {name} is not e8m0")
    if rule in (ScaleRule.ABSMAX, ScaleRule.RANGE) and scale == E8M0:
        allowed = POWER_RULES if rule is ScaleRule.ABSMAX else RANGE_RULES[1:]
        raise FpsimError(
            f"rule: {rule.value!r} does not fit scale e8m0; allowed: {', '.join(allowed)}"
        )
    integers = fixed and fmt.element.bits <= 16
    if rule in RANGE_RULES and (
        not (integers and scale)
        or not isinstance(fmt.element, FixedFormat)
        or not fmt.element.signed
        or fmt.element.lsb
        or fmt.element.symmetric
    ):
        raise FpsimError(
            f"rule: {rule.value!r} needs a scale format and two's complement integers of up to 16 "
            f"bits, such as int4, not {fmt.element.name}"
        )
    razor = rule is ScaleRule.RAZOR
    if razor != bool(fmt.base_bits) or (razor and not isinstance(fmt.base_bits, int)):
        raise FpsimError(f"base_bits: {fmt.base_bits!r} does not fit rule {rule.value!r}")
    if razor:
        _check_razor(fmt)
    elif scale is not None and scale != E8M0 and not scale.has_zero:
        raise FpsimError(f"scale: {name} has no zero; allowed without one is e8m0")
    if isinstance(fmt.element, FloatFormat) and not fmt.element.has_zero and not fmt.is_mx:
        raise FpsimError(f"element: {fmt.element.name} has no zero")
    if not fixed and not fmt.is_mx and not fmt.element.signed:
        raise FpsimError(f"element: {fmt.element.name} is unsigned")


def _check_razor(fmt: BlockFormat) -> None:
    element, scale = fmt.element, fmt.scale
    if not isinstance(element, FixedFormat) or not element.symmetric or element.lsb:
        raise FpsimError(
            f"element: {element.name} is not a symmetric integer such as int4s, as 'razor' needs"
        )
    if not element.width <= fmt.base_bits <= 24:
        raise FpsimError(f"base_bits: {fmt.base_bits!r} is not in {element.width}..24")
    dropped = fmt.base_bits - element.width
    if scale is None or scale.mantissa_bits or scale.exponent_min or scale.max_code < dropped:
        raise FpsimError(
            f"scale: 'razor' needs powers of two from 2^0 to 2^{dropped}, such as ue4m0b0_nozero"
        )


def _check_options(fmt: BlockFormat) -> None:
    scale = fmt.scale
    float_scale = scale is not None and fmt.rule is ScaleRule.ABSMAX
    for name, used in (
        ("tensor_range", bool(fmt.tensor_range)),
        ("target", bool(fmt.target)),
        ("choice", fmt.choice is not None),
    ):
        if used and not float_scale:
            raise FpsimError(f"{name}: needs rule 'absmax' and a scale format")
    if fmt.arithmetic is not Arithmetic.DIVIDE and not fmt.tensor_range:
        raise FpsimError(f"arithmetic: {fmt.arithmetic.value!r} needs a tensor_range")
    if fmt.signs and (not isinstance(fmt.element, FloatFormat) or fmt.choice is not None):
        raise FpsimError("signs: needs sign-magnitude float elements and no choice")
    if fmt.signs and (scale is None or fmt.rule not in (*POWER_RULES, ScaleRule.ABSMAX)):
        raise FpsimError("signs: needs a scale format and a rule on the largest magnitude")
    if fmt.alternative is not None:
        if fmt.choice is None:
            raise FpsimError("alternative: needs a choice: mse, mae or abs_max")
        if scale is None or not scale.signed:
            raise FpsimError("alternative: needs a scale with a sign bit, such as e4m3fn")
        if fmt.alternative.bits != fmt.element.bits:
            raise FpsimError(
                f"alternative: {fmt.alternative.name} is not as wide as {fmt.element.name}"
            )
    if fmt.nan is NanPolicy.SCALE and scale is not None and scale.nan_code is None:
        raise FpsimError(f"nan: 'scale' is not possible: scale {scale.name} has no NaN")


# -- reading -------------------------------------------------------------------------------------


def _enum(kind: type[StrEnum]) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            allowed = [str(member) for member in kind]
            raise FpsimError(
                f"{key}: {value!r} is not one of {', '.join(allowed)}{nearest(str(value), allowed)}"
            ) from None

    return read


def _typed(kind: type) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        number = kind is float and isinstance(value, int)
        if not (isinstance(value, kind) or number) or (isinstance(value, bool) and kind != bool):
            raise FpsimError(f"{key}: {value!r} is not a {kind.__name__}")
        return value

    return read


def _format(key: str, value: Any) -> Any:
    if key == "scale" and value == "real":
        return None
    try:
        fmt = get_format(value)
    except FpsimError as error:
        raise FpsimError(f"{key}: {error}") from None
    wanted = {"scale": FloatFormat, "alternative": FixedFormat}.get(key)
    if wanted is not None and not isinstance(fmt, wanted):
        kind = "floating-point" if wanted is FloatFormat else "fixed-point"
        raise FpsimError(f"{key}: {fmt.name} is not a {kind} format")
    return fmt


def _block(key: str, value: Any) -> Any:
    return _enum(Span)(key, value) if isinstance(value, str) else _typed(int)(key, value)


def _rounding(key: str, value: Any) -> Rounding:
    return parse_rounding(value, key)


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "name": _typed(str),
    "element": _format,
    "block": _block,
    "rule": _enum(ScaleRule),
    "rounding": _rounding,
    "scale": _format,
    "scale_rounding": _rounding,
    "tensor_range": _typed(float),
    "target": _typed(float),
    "signs": _typed(bool),
    "zero": _enum(ZeroScale),
    "arithmetic": _enum(Arithmetic),
    "choice": _enum(Choice),
    "expansion": _typed(float),
    "alternative": _format,
    "base_bits": _typed(int),
    "nan": _enum(NanPolicy),
}


# -- names ---------------------------------------------------------------------------------------


def _named(**data: Any) -> BlockFormat:
    return BlockFormat.from_dict(data)


def _formats() -> list[BlockFormat]:
    mx = {
        "mxfp4": "e2m1",
        "mxfp6-e2m3": "e2m3",
        "mxfp6-e3m2": "e3m2",
        "mxfp8-e4m3": "e4m3fn",
        "mxfp8-e5m2": "e5m2",
    }
    nv: dict[str, Any] = {"element": "e2m1", "block": 16, "scale": "e4m3fn", "tensor_range": 448}
    six = {**nv, "arithmetic": "ratio", "zero": "keep"}
    adaptive = {**six, "tensor_range": 256}
    amx: dict[str, Any] = {"element": "e2m1", "block": 32, "signs": True, "rounding": "rna"}
    fp8: dict[str, Any] = {"scale": "e5m2", "scale_rounding": "rna", "zero": "one"}
    amxint: dict[str, Any] = {"element": "int4", "block": 32, "rounding": "rna"}
    razor: dict[str, Any] = {"element": "int4s", "rule": "razor", "rounding": "rna"}
    flags = {"w": (8, "ue3m0b0_nozero"), "a": (16, "ue4m0b0_nozero")}
    return [
        *(_named(name=name, element=element, block=32) for name, element in mx.items()),
        _named(name="nvfp4", zero="one", **nv),
        _named(name="nvfp4-torchao", arithmetic="reciprocal", **nv),
        _named(name="amxfp4", **amx, **fp8),
        _named(
            name="amxfp4-rne",
            **{**amx, "rounding": "rne"},
            **{**fp8, "scale_rounding": "rne"},
        ),
        _named(name="amxfp4-pot", **amx),
        _named(name="amxfp4-pot-r", rule="even", **amx),
        _named(name="amxint4", rule="range", **amxint, **fp8),
        _named(name="amxint4-pot", rule="range-floor", **amxint),
        _named(name="amxint4-pot-r", rule="range-round", **amxint),
        _named(name="fouroversix", choice="mse", **adaptive),
        _named(name="fouroversix-mae", choice="mae", **adaptive),
        _named(name="fouroversix-abs-max", choice="abs_max", **adaptive),
        _named(name="fouroversix-static-6", **six),
        _named(name="fouroversix-static-4", target=4, **six),
        _named(name="if4", choice="mse", alternative="int4s", **six),
        *(
            _named(
                name=f"llmfp4-{element}-{span}",
                element=element,
                block=span,
                scale="real",
                rule="absmax",
                zero="one",
            )
            for element in ("e2m1", "e1m2", "e3m0")
            for span in ("row", "tensor")
        ),
        *(
            _named(name=f"qrazor-{kind}4-g{size}", block=size, base_bits=bits, scale=flag, **razor)
            for kind, (bits, flag) in flags.items()
            for size in (8, 16, 32, 128)
        ),
    ]


#: Named block formats; ``name-rule`` selects another scale rule where one fits.
BLOCK_FORMATS: dict[str, BlockFormat] = {fmt.name: fmt for fmt in _formats()}


def get_block_format(name: str | Path | BlockFormat) -> BlockFormat:
    """Return the block format called ``name``, such as ``mxfp4``, ``mxfp4-rceil`` or ``nvfp4``.

    A `Path`, and a name that ends in ``.toml``, is read as `BlockFormat.from_toml` does.

    Raises:
        FpsimError: no such format, with the nearest name.
    """
    if isinstance(name, BlockFormat):
        return name
    if isinstance(name, Path) or str(name).endswith(".toml"):
        return BlockFormat.from_toml(name)
    key = str(name).strip().lower()
    if key in BLOCK_FORMATS:
        return BLOCK_FORMATS[key]
    base, _, rule = key.rpartition("-")
    if base in BLOCK_FORMATS:
        return BLOCK_FORMATS[base].with_rule(rule)
    known = list(BLOCK_FORMATS)
    raise FpsimError(
        f"block format: {name!r} is not one of {', '.join(known)}, nor a path ending in .toml"
        f"{nearest(key, known)}"
    )
