# SPDX-License-Identifier: Apache-2.0
"""Block formats: elements that share a scale, described as data.

OCP MX v1.0: a block of k elements shares one E8M0 scale X, and element i means ``X * P_i``. Other
formats share a float scale, one scale per sign, a scale under a scale per tensor, or a zero point;
`BlockFormat` has a field for each of these choices; `fpsim.blocks.named` lists the named formats.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError, nearest
from fpsim.blocks.casts import Parts, cast, decode_elements
from fpsim.blocks.fields import (
    DEFAULT_EXPANSION,
    FIELD_READERS,
    REQUIRED_FIELDS,
    Choice,
    NanPolicy,
    Span,
    check_fields,
    write_field,
)
from fpsim.blocks.named import named_block_formats
from fpsim.blocks.quantized import Quantized, check_axis, scales_shape, stored
from fpsim.blocks.scale_rules import POWER_RULES, RANGE_RULES, Arithmetic, ScaleRule, ZeroScale
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, check_codes
from fpsim.formats.inputs import as_floats
from fpsim.formats.names import E8M0
from fpsim.formats.rounding import Rounding

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


@dataclass(frozen=True)
class BlockFormat:
    """Elements of one format in blocks that share a scale.

    Every field may be given as `from_dict` takes it too, such as ``element="e2m1"``.

    Args:
        name: lower-case letters, digits, ``.``, ``_`` and ``-``; what messages call it.
        element: element format; finite or not, it is encoded with saturation.
        block: elements per scale (the last block along the axis may be shorter), or a `Span`.
        rule: how the scale follows from the block.
        rounding: how elements are rounded; outside MX to nearest: ``rne`` or ``rna``.
        scale: format of scales; None: a real number (float64).
        scale_rounding: how scales are rounded to it, saturating.
        tensor_range: R of `fpsim.blocks.scale_rules`; 0: no scale per tensor.
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
    expansion: float = DEFAULT_EXPANSION
    alternative: FixedFormat | None = None
    base_bits: int = 0
    nan: NanPolicy | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None or (f.default is not None and f.name != "scale"):
                object.__setattr__(self, f.name, FIELD_READERS[f.name](f.name, value))
        check_fields(self)

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
        return replace(self, rule=rule)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BlockFormat:
        """Return the format that a mapping of field names to TOML values describes.

        ``element``, ``scale`` and ``alternative`` are format names (``scale = "real"``: a real
        number). The rule defaults to ``floor`` under E8M0 and else to ``absmax``.

        Raises:
            FpsimError: an unknown or missing key, or a value that does not fit, naming the key.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(data, dict):
            raise FpsimError(f"block format: {data!r} is not a table of fields")
        for key in data:
            if key not in known:
                raise FpsimError(
                    f"{key}: not a field of a block format ({', '.join(known)})"
                    f"{nearest(str(key), known)}"
                )
        for key in ("name", "element", "block"):
            if key not in data:
                raise FpsimError(f"{key}: missing from the block format")
        values = {key: FIELD_READERS[key](key, value) for key, value in data.items()}
        if "rule" not in values and values.get("scale", E8M0) != E8M0:
            values["rule"] = ScaleRule.ABSMAX
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` reads back; fields at their defaults are left out."""
        return {
            f.name: write_field(getattr(self, f.name))
            for f in fields(self)
            if f.name in REQUIRED_FIELDS or getattr(self, f.name) != f.default
        }

    def to_toml(self) -> str:
        """Return the format as TOML text, which `from_toml` reads back from a file."""
        return tomli_w.dumps(self.to_dict())

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
            x: any floating-point numpy, ml_dtypes or (on the processor) torch type but longdouble,
                at least one dimension.
            axis: the axis blocks run along.
            nan: a `NanPolicy` to follow instead of the format's. The blocks left bad count for
                no tensor scale.

        Raises:
            FpsimError: an axis that does not exist, a wrong dtype, a policy without a code, or NaN
                or an infinity where the policy has no code for it.
        """
        policy = self._policy(nan)
        array = as_floats(x, "x")
        axis = check_axis(axis, array.ndim)
        rows = np.ascontiguousarray(np.moveaxis(array, axis, -1))
        length = rows.shape[-1]
        flat = rows.reshape(-1, length) if length else rows.reshape(0, 0)
        if self.block is Span.TENSOR:
            flat = flat.reshape(1, -1)
        # A longer block is padded no further than the one row it holds.
        block = flat.shape[1] if isinstance(self.block, Span) else min(self.block, length)
        parts = self._cast(flat, block, policy) if flat.size else self._empty()

        def back(array: NDArray[Any] | None, shape: tuple[int, ...]) -> Any:
            return None if array is None else np.moveaxis(array.reshape(shape), -1, axis)

        shape = scales_shape(self.block, rows.shape, rows.ndim - 1)
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
        wide = self.is_mx and isinstance(self.element, FloatFormat)
        with np.errstate(over="ignore"):
            infinite = np.isinf(rows if wide else rows.astype(np.float32))
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
            FpsimError: codes or scales wider than the formats, an axis that does not exist, or a
                part that is missing or has another shape than `Quantized` says.
        """
        if not isinstance(quantized, Quantized):
            raise FpsimError(f"quantized: {type(quantized).__name__} is not a Quantized")
        codes = check_codes(quantized.codes, self.element, "codes")
        axis = check_axis(quantized.axis, codes.ndim)
        shape = scales_shape(self.block, codes.shape, axis)

        def spread(array: NDArray[Any]) -> NDArray[Any]:
            if not codes.size:
                return np.zeros(codes.shape, dtype=array.dtype)
            if self.block is Span.TENSOR:
                return np.broadcast_to(array, codes.shape)
            length = codes.shape[axis]
            size = length if isinstance(self.block, Span) else min(self.block, length)
            return np.take(np.repeat(array, size, axis=axis), np.arange(length), axis=axis)

        if self.scale is None:
            real = stored(quantized.scales, "scales", shape, "f")
            return np.asarray(self.element.decode(codes) * spread(real))
        scales = spread(
            check_codes(stored(quantized.scales, "scales", shape), self.scale, "scales")
        )
        if self.signs:
            other = stored(quantized.negative_scales, "negative_scales", shape)
            other = check_codes(other, self.scale, "negative_scales")
            assert isinstance(self.element, FloatFormat)
            scales = np.where((codes & self.element.sign_bit) != 0, spread(other), scales)
        if self.rule in RANGE_RULES:
            zero = spread(stored(quantized.zero_points, "zero_points", shape, "iu"))
            return np.asarray((self.element.decode(codes) - zero) * self.scale.decode(scales))
        values = decode_elements(self, codes, scales)
        if self.tensor_range or self.base_bits:
            values = values * np.float64(stored(quantized.tensor_scale, "tensor_scale", (), "f"))
        return values


#: Named block formats; ``name-rule`` selects another scale rule where one fits.
BLOCK_FORMATS: dict[str, BlockFormat] = {
    data["name"]: BlockFormat.from_dict(data) for data in named_block_formats()
}


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
