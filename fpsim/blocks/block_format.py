# SPDX-License-Identifier: Apache-2.0
"""Block formats: elements that share a scale, described as data.

OCP MX v1.0: a block of k elements shares one E8M0 scale X, and element i means ``X * P_i``. Other
formats share a float scale, one scale per sign, a scale under a scale per tensor, or a zero point;
`BlockFormat` has a field for each of these choices; `fpsim.blocks.named` lists the named formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError, nearest, not_one_of
from fpsim.base.input_files import read_toml
from fpsim.base.notebook import html_pairs
from fpsim.blocks.fields import (
    FIELD_READERS,
    REQUIRED_FIELDS,
    Choice,
    Errors,
    NanPolicy,
    Span,
    StoredIn,
    check_fields,
    write_field,
)
from fpsim.blocks.grids import Fit, Level, Macro, Table, Ties, Top, Variant
from fpsim.blocks.meaning import has_row_tables, meaning, stored_grids
from fpsim.blocks.named import ALIASES, LEARNED, named_block_formats
from fpsim.blocks.parts import Parts, RandomIntegers, Tall
from fpsim.blocks.quantized import Quantized, Tiles, check_axis, scales_shape, spread, stored
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    RANGE_RULES,
    Arithmetic,
    ScaleEncoder,
    ScaleRule,
    ZeroScale,
)
from fpsim.blocks.widen import Wide, check_row_tables, numbers, wide_element, widen
from fpsim.formats.floating import FloatFormat, Format, check_codes
from fpsim.formats.inputs import as_floats, random_array
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.rounding import Rounding

__all__ = [
    "BLOCK_FORMATS",
    "Arithmetic",
    "BlockFormat",
    "Choice",
    "Errors",
    "Fit",
    "Level",
    "Macro",
    "NanPolicy",
    "Quantized",
    "ScaleEncoder",
    "ScaleRule",
    "Span",
    "StoredIn",
    "Table",
    "Ties",
    "Top",
    "Variant",
    "Wide",
    "ZeroScale",
    "get_block_format",
    "get_element",
    "split_name",
]


#: Fields that a file must have.
NEEDED_FIELDS = ("name", "element", "block")


@dataclass(frozen=True)
class BlockFormat:
    """Elements of one format in blocks that share a scale.

    Every field may be given in the form that `from_dict` takes too, such as ``element="e2m1"``.

    Args:
        name: lower-case letters, digits, ``.``, ``_``, ``-`` and ``+``; used in messages.
        element: element format or a `Table`; finite or not, it is encoded with saturation.
        block: elements per scale (the last block along the axis may be shorter), a `Span`, or two
            numbers: tiles of so many elements across the axis (the last other one) and along it.
        rule: how the scale follows from the block.
        rounding: how elements are rounded; outside MX to nearest: ``rne`` or ``rna``.
        scale: format of scales; None: a real number (float64).
        scale_rounding: how scales are rounded to their format, saturating.
        tensor_range: R of `fpsim.blocks.scale_rules`; 0: no scale per tensor.
        target: element value that the largest magnitude maps to; 0: the largest.
        signs: one scale for elements with the sign bit clear, one for elements with it set.
        zero: the scale that replaces a scale of zero.
        arithmetic: order of the float32 operations.
        choice: how a block chooses one of several variants and expansions: the smallest error, the
            first of several, or a rule.
        errors: arithmetic of the errors that a choice compares: ``float64``, or ``float32`` in the
            order of Four Over Six's code; `Errors`.
        expansions: factors on the scales of candidates, in the order they are tried.
        base_bits: width of the integers that ``razor`` starts from, 0 for other rules.
        nan: policy for NaN and infinities; None: ``scale`` if the scale has NaN, else ``error``.
        variants: further grids that a block may choose instead of ``element``.
        special: values that the code of -0 may have instead; a block chooses one of several.
        stored: where the number of the chosen grid is stored: ``metadata``, or ``scale`` for bits
            above the scale's magnitude, such as the sign of E4M3.
        levels: ratios on the scale for ever smaller sub-blocks.
        top: one element per (sub-)block with a wider code.
        macro: a significand that several blocks share.
        signed_max: the scale has the sign of the block's largest magnitude, the first of several.
        factor: multiplies element values; a number or text such as ``"1/3"``.
        ties: where ties go; None: by ``rounding``.
        outer: the elements that share a tensor scale: ``tensor`` or ``row``.
        scale_encoder: who rounds scales; `ScaleEncoder`.
        source: where the definition is from, and which parts of it are inferred.

    Raises:
        FpsimError: fields that do not fit each other, naming one of them.
    """

    name: str
    element: Format | Table
    block: int | Span | tuple[int, int]
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
    errors: Errors = Errors.FLOAT64
    expansions: tuple[float, ...] = (1.0,)
    base_bits: int = 0
    nan: NanPolicy | None = None
    variants: tuple[Variant, ...] = ()
    special: tuple[float, ...] = ()
    stored: StoredIn = StoredIn.METADATA
    levels: tuple[Level, ...] = ()
    top: Top | None = None
    macro: Macro | None = None
    signed_max: bool = False
    factor: Fraction = Fraction(1)
    ties: Ties | None = None
    outer: Span = Span.TENSOR
    scale_encoder: ScaleEncoder = ScaleEncoder.FORMAT
    source: str = field(default="", compare=False)

    def __repr__(self) -> str:
        block = self.block.value if isinstance(self.block, Span) else self.block
        scale = "real" if self.scale is None else self.scale.name
        return f"<BlockFormat {self.name}: {self.element.name}, block {block}, {scale} scales>"

    def _repr_html_(self) -> str:
        return html_pairs(self.name, self.to_dict().items())

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

    @cached_property
    def is_coded(self) -> bool:
        """Whether codes mean more than an element times a scale; see `fpsim.blocks.grids`."""
        more = self.variants or self.special or self.levels or self.expansions != (1.0,)
        other = self.top is not None or self.ties is not None or self.signed_max
        return bool(more or other or self.factor != 1 or isinstance(self.element, Table))

    @cached_property
    def wide(self) -> Format:
        """The format of the codes that a unit sees; `widen`."""
        return wide_element(self)

    @property
    def bits_per_element(self) -> float:
        """Storage per element: codes, and scales and metadata of blocks.

        Left out are parts that do not grow with the tensor (scales and tables of rows, scales of
        tensors) and zero points, whose width their source does not fix.
        """
        if isinstance(self.block, Span) or self.scale is None:
            return self.element.bits
        size = self.block if isinstance(self.block, int) else self.block[0] * self.block[1]
        per_block = self.scale.bits * (1 + self.signs)
        choice = (stored_grids(self) - 1).bit_length()
        if self.stored is StoredIn.SCALE and choice:
            per_block = self.scale.magnitude_bits
        bits = self.element.bits + (per_block + choice) / size
        bits += sum(level.bits / level.block for level in self.levels)
        if self.top is not None:
            bits += self.top.bits / self.top.block
        return bits + (self.macro.bits / self.macro.block if self.macro is not None else 0)

    def with_rule(self, rule: str) -> BlockFormat:
        """Return a copy of this format under another scale rule that its fields allow."""
        return replace(self, rule=rule)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BlockFormat:
        """Return the format that a mapping of field names to TOML values describes.

        ``element`` and ``scale`` are format names (``scale = "real"``: a real number); an element
        may be a table ``{table = [...], wide = "e5m10"}`` of 16 numbers, or of one list of 16 for
        each row of a matrix. Variants, levels, top and macro are
        tables of the fields of `fpsim.blocks.grids`. The rule defaults to ``floor`` under E8M0 and
        else to ``absmax``.

        Raises:
            FpsimError: an unknown or missing key, or a value that does not fit, naming the key.
        """
        return cls(**cls._read(data))

    @classmethod
    def _checked_elsewhere(cls, data: dict[str, Any]) -> BlockFormat:
        """Return a format of the package, whose fields its tests have found to fit each other."""
        values = cls._read(data)
        made = object.__new__(cls)
        for f in fields(cls):
            object.__setattr__(made, f.name, values.get(f.name, f.default))
        return made

    @classmethod
    def _read(cls, data: dict[str, Any]) -> dict[str, Any]:
        known = [f.name for f in fields(cls)]
        if not isinstance(data, dict):
            raise FpsimError(f"block format: {data!r} is not a table of fields")
        for key in data:
            if key not in known:
                raise FpsimError(
                    f"{key}: not a field of a block format ({', '.join(known)})"
                    f"{nearest(str(key), known)}"
                )
        for key in NEEDED_FIELDS:
            if key not in data:
                raise FpsimError(f"{key}: missing from the block format")
        values = {key: FIELD_READERS[key](key, value) for key, value in data.items()}
        if "rule" not in values and values.get("scale", E8M0) != E8M0:
            values["rule"] = ScaleRule.ABSMAX
        return values

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
        data = read_toml(path)
        try:
            return cls.from_dict(data)
        except FpsimError as error:
            raise FpsimError(f"{path}: {error}") from None

    def quantize(
        self,
        x: ArrayLike,
        axis: int = -1,
        nan: str | None = None,
        *,
        tensor_scale: ArrayLike | None = None,
        random: ArrayLike | None = None,
        scale_random: ArrayLike | None = None,
        random_bits: int = 0,
    ) -> Quantized:
        """Cast an array to the format.

        An all-zero block of an E8M0 format gets scale code 0 (AMXINT: 1.0), of any other format
        the scale that the field ``zero`` names. E8M0 exponents clamp to -127..127. -0 keeps its
        sign where the element has one. Formats other than MX take float64 rounded to float32 first.

        Args:
            x: any floating-point numpy, ml_dtypes or (on the processor) torch type but longdouble,
                at least one dimension.
            axis: the axis blocks run along.
            nan: a `NanPolicy` to follow instead of the format's. The blocks left bad count for
                no tensor scale.
            tensor_scale: a static tensor scale, positive and finite, in place of one found from
                ``x``; one number or, in a format with one per row, an array with 1 along ``axis``.
            random: for elements rounded by ``sr``: integers in 0..2^random_bits - 1, broadcast to
                ``x``.
            scale_random: for scales rounded by ``sr``: integers in 0..2^random_bits - 1, broadcast
                to the scales.
            random_bits: bits of the random integers, 1..32.

        Returns:
            Codes, scale codes and the format's other parts.

        Raises:
            FpsimError: an axis that does not exist, another number of rows than there are tables
                for, a wrong dtype, NaN or an infinity where the policy has no code for it, a tensor
                scale that the format does not have or that is not positive, or missing or
                impossible random integers.
        """
        policy = self._policy(nan)
        array = as_floats(x, "x")
        axis = check_axis(axis, array.ndim)
        last = axis == array.ndim - 1
        rows = np.ascontiguousarray(array if last else np.moveaxis(array, axis, -1))
        shape = scales_shape(self.block, rows.shape, rows.ndim - 1)
        length = rows.shape[-1]
        check_row_tables(self, rows.shape[:-1])
        flat = rows.reshape(-1, length) if length else rows.reshape(0, 0)
        # A longer block is padded no further than the one row it holds.
        block = flat.shape[1] if isinstance(self.block, Span) else self._size(length)
        tiles = tall = None
        if isinstance(self.block, tuple) and flat.size:
            if self._shares_scales(rows.dtype):
                block, tall = self.block[1], Tall(rows.shape[-2], self.block[0])
            else:
                tiles = Tiles(rows.shape, self.block)
                flat = tiles.rows(rows)
        elif self.block is Span.TENSOR:
            flat = flat.reshape(1, -1)
            block = flat.shape[1]
        given = self._given(tensor_scale, rows.shape)
        draw = self._draw(random, scale_random, random_bits, array.shape, axis, shape)
        parts = self._cast(flat, block, policy, given, draw, tall) if flat.size else self._empty()
        if tall is not None:
            parts.scales = tall.first(parts.scales)

        def back(array: Any, shape: tuple[int, ...]) -> Any:
            if array is None:
                return None
            array = array.reshape(shape)
            return array if axis == array.ndim - 1 else np.moveaxis(array, -1, axis)

        def parted(array: NDArray[Any] | None, part: int) -> Any:
            """Return the values stored per sub-block, padding of the last block included."""
            each = block // part if part and isinstance(self.block, int) else 1
            return back(array, (*rows.shape[:-1], shape[-1] * each))

        macros = 0 if self.macro is None else -(-length // self.macro.block)
        codes = parts.codes if tiles is None else tiles.array(parts.codes)
        scale = parts.tensor_scale
        if self.outer is Span.ROW and scale is not None:
            one = scales_shape(Span.ROW, rows.shape, rows.ndim - 1)
            scale = back(scale if rows.size else np.zeros(one, np.float32), one)
        return Quantized(
            codes=back(codes, rows.shape),
            scales=back(parts.scales, shape),
            axis=axis,
            negative_scales=back(parts.negative_scales, shape),
            zero_points=back(parts.zero_points, shape),
            tensor_scale=scale,
            variants=back(parts.variants, shape),
            ratios=parted(parts.ratios, self.levels[-1].block if self.levels else block),
            tops=parted(parts.tops, self.top.block if self.top is not None else block),
            macros=back(parts.macros, (*rows.shape[:-1], macros)),
            format=self,
        )

    def _shares_scales(self, dtype: np.dtype[Any]) -> bool:
        """Return whether rows are cast each on its own, once the largest magnitudes are known."""
        from fpsim.blocks.chosen import decides_scales_only, fits_loops

        return fits_loops(self, mx=dtype == np.float32) and decides_scales_only(self)

    @property
    def fills_blocks(self) -> bool:
        """Whether a row is filled up to whole blocks: tiles and sub-blocks need them."""
        parts = self.levels or self.top or self.macro or self.choice is Choice.DIALECT
        return isinstance(self.block, tuple) or bool(parts)

    def _size(self, length: int) -> int:
        """Return the elements of a block in rows of ``length``."""
        if isinstance(self.block, tuple):
            return self.block[0] * self.block[1]
        assert isinstance(self.block, int)
        return self.block if self.fills_blocks else min(self.block, length)

    def _given(self, tensor_scale: ArrayLike | None, shape: tuple[int, ...]) -> Any:
        if tensor_scale is None:
            return None
        if not self.tensor_range:
            raise FpsimError(f"tensor_scale: {self.name} has no tensor scale")
        array = np.asarray(tensor_scale, dtype=np.float32)
        if not (np.isfinite(array) & (array > 0)).all():
            raise FpsimError("tensor_scale: every value must be positive and finite")
        if array.ndim == 0:
            rows = int(np.prod(shape[:-1]))
            return np.full((rows, 1), array) if self.outer is Span.ROW else array[()]
        if self.outer is not Span.ROW or array.size != int(np.prod(shape[:-1])):
            raise FpsimError(f"tensor_scale: shape {array.shape} does not fit {self.name}")
        return array.reshape(-1, 1)

    def _draw(
        self,
        random: ArrayLike | None,
        scale_random: ArrayLike | None,
        bits: int,
        shape: tuple[int, ...],
        axis: int,
        scales: tuple[int, ...],
    ) -> RandomIntegers | None:
        """Return checked random integers in the rows that `fpsim.blocks.casts` takes."""
        wanted = self.rounding is Rounding.SR or self.scale_rounding is Rounding.SR
        if not wanted:
            if random is not None or scale_random is not None or bits:
                raise FpsimError(f"random: {self.name} rounds nothing by 'sr'")
            return None
        elements = own = None
        if self.rounding is Rounding.SR:
            full = random_array(Rounding.SR, random, bits, shape)
            elements = np.moveaxis(full, axis, -1).reshape(-1, shape[axis])
        elif random is not None:
            raise FpsimError(f"random: {self.name} does not round elements by 'sr'")
        if self.scale_rounding is Rounding.SR:
            groups = (*scales[:-1][:axis], scales[-1], *scales[:-1][axis:])
            try:
                full = random_array(Rounding.SR, scale_random, bits, groups)
            except FpsimError as error:
                raise FpsimError(f"scale_{error}") from None
            own = np.moveaxis(full, axis, -1).reshape(-1, scales[-1])
        elif scale_random is not None:
            raise FpsimError(f"scale_random: {self.name} does not round scales by 'sr'")
        return RandomIntegers(elements, own, bits)

    def _policy(self, nan: str | None) -> NanPolicy:
        if nan is None:
            return self.default_nan
        try:
            policy = NanPolicy(nan)
        except ValueError:
            raise not_one_of("nan", nan, NanPolicy) from None
        if policy is NanPolicy.SCALE and not self._scale_has_nan:
            raise FpsimError(f"nan: 'scale' is not possible in {self.name}: its scale has no NaN")
        return policy

    def _empty(self) -> Parts:
        scale = np.dtype(np.float64) if self.scale is None else self.scale.dtype
        none, byte = np.empty(0, dtype=scale), np.empty(0, dtype=np.uint8)
        several = stored_grids(self) > 1 and self.stored is StoredIn.METADATA
        zero_points = self.rule in RANGE_RULES and not self.is_coded
        return Parts(
            codes=np.empty(0, dtype=self.element.dtype),
            scales=none,
            bad=np.empty(0, dtype=bool),
            negative_scales=none if self.signs else None,
            zero_points=np.empty(0, dtype=np.int32) if zero_points else None,
            tensor_scale=np.float32(0) if self.tensor_range or self.base_bits else None,
            variants=byte if several else None,
            ratios=byte if self.levels else None,
            tops=byte if self.top is not None else None,
            macros=byte if self.macro is not None else None,
        )

    def _cast(
        self,
        rows: NDArray[Any],
        block: int,
        policy: NanPolicy,
        given: Any,
        draw: RandomIntegers | None,
        tall: Tall | None,
    ) -> Parts:
        from fpsim.blocks.casts import cast  # needs a compiler, which takes its time to load

        parts = cast(self, rows, block, given, draw, tall)
        if policy is NanPolicy.SCALE or not parts.bad.any():
            return parts
        row = int(np.flatnonzero(parts.bad.any(axis=1))[0])
        if policy is NanPolicy.ERROR or np.isnan(rows).any():
            raise FpsimError(f"x: NaN or infinity in row {row} has no value in {self.name}")
        wide = self.is_mx and isinstance(self.element, FloatFormat) and not self.is_coded
        with np.errstate(over="ignore"):
            infinite = np.isinf(rows if wide else rows.astype(np.float32))
        parts = cast(
            self, np.where(infinite, 0.0, rows).astype(rows.dtype), block, given, draw, tall
        )
        if not self.is_coded:
            assert not isinstance(self.element, Table)
            largest = np.array([np.finfo(np.float64).max, -np.finfo(np.float64).max])
            top, low = self.element.encode(largest, "rtz", "saturate")
            parts.codes[infinite] = np.where(rows[infinite] > 0, top, low)
            return parts
        what = meaning(self)
        ends = np.array([(grid.codes[-1], grid.codes[0]) for grid in what.grids])
        variant = np.zeros(parts.scales.shape, dtype=np.intp)
        if parts.variants is not None:
            variant = parts.variants.astype(np.intp)
        elif has_row_tables(self):
            variant += np.arange(len(rows))[:, None]
        elif len(what.grids) > 1:
            assert self.scale is not None
            variant = parts.scales.astype(np.intp) >> self.scale.magnitude_bits
        each = np.repeat(variant, block, axis=1)[:, : rows.shape[1]]
        below = rows < 0
        if self.signed_max:
            assert self.scale is not None
            negative = (parts.scales & self.scale.sign_bit) != 0
            below = below ^ np.repeat(negative, block, axis=1)[:, : rows.shape[1]]
        parts.codes[infinite] = ends[each, below.astype(np.intp)][infinite]
        return parts

    def widen(self, quantized: Quantized) -> Wide:
        """Return wide codes and plain scales, which mean the values that `dequantize` returns.

        Raises:
            FpsimError: codes or scales that do not fit the format, and formats without one plain
                scale per block: real scales, a scale per sign, blocks that are rows or tensors.
        """
        return widen(self, quantized)

    def dequantize(self, quantized: Quantized) -> NDArray[np.float64]:
        """Return the values as float64; NaN under a NaN scale.

        ``X * P_i`` and its extensions by sign, tensor scale and zero point are exact. Real scales
        and factors with an odd denominator (IF4) are rounded once to float64, and a tensor scale
        after them once more.

        Raises:
            FpsimError: codes or scales wider than the formats, an axis that does not exist, or a
                part that is missing or has another shape than `Quantized` states.
        """
        if not isinstance(quantized, Quantized):
            raise FpsimError(f"quantized: {type(quantized).__name__} is not a Quantized")
        if self.is_coded or self.macro is not None:
            return numbers(self, quantized)
        element = self.element
        assert not isinstance(element, Table)
        codes = check_codes(quantized.codes, element, "codes")
        axis = check_axis(quantized.axis, codes.ndim)
        shape = scales_shape(self.block, codes.shape, axis)

        def each(array: NDArray[Any]) -> NDArray[Any]:
            return spread(array, self.block, codes.shape, axis)

        if self.scale is None:
            real = stored(quantized.scales, "scales", shape, "f")
            return np.asarray(element.decode(codes) * each(real))
        scales = each(check_codes(stored(quantized.scales, "scales", shape), self.scale, "scales"))
        if self.signs:
            other = stored(quantized.negative_scales, "negative_scales", shape)
            other = check_codes(other, self.scale, "negative_scales")
            assert isinstance(element, FloatFormat)
            scales = np.where((codes & element.sign_bit) != 0, each(other), scales)
        if self.rule in RANGE_RULES:
            zero = each(stored(quantized.zero_points, "zero_points", shape, "iu"))
            return np.asarray((element.decode(codes) - zero) * self.scale.decode(scales))
        values = element.decode(codes) * self.scale.decode(scales)
        if self.tensor_range or self.base_bits:
            wanted = scales_shape(Span.ROW, codes.shape, axis) if self.outer is Span.ROW else ()
            above = stored(quantized.tensor_scale, "tensor_scale", wanted, "f")
            values = values * above.astype(np.float64)
        return np.asarray(values)


class _Named(Mapping[str, BlockFormat]):
    """The named formats, each made when it is first asked for."""

    def __init__(self) -> None:
        self._fields = {data["name"]: data for data in named_block_formats()}
        self._made: dict[str, BlockFormat] = {}

    def __getitem__(self, name: str) -> BlockFormat:
        if name not in self._made:
            self._made[name] = BlockFormat._checked_elsewhere(self._fields[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


#: Named block formats; ``name-rule`` selects another scale rule where one fits.
BLOCK_FORMATS: Mapping[str, BlockFormat] = _Named()


def get_block_format(name: str | Path | BlockFormat) -> BlockFormat:
    """Return the block format called ``name``, such as ``mxfp4``, ``mxfp4-rceil`` or ``nvfp4``.

    A `Path`, and a name that ends in ``.toml``, is read by `BlockFormat.from_toml`.

    Raises:
        FpsimError: no such format, with the nearest name.
    """
    if isinstance(name, BlockFormat):
        return name
    if isinstance(name, Path) or str(name).endswith(".toml"):
        return BlockFormat.from_toml(name)
    base, rule = split_name(str(name))
    if base in BLOCK_FORMATS:
        return BLOCK_FORMATS[base] if rule is None else BLOCK_FORMATS[base].with_rule(rule)
    if base in LEARNED:
        raise FpsimError(f"block format: {base} {LEARNED[base]}")
    known = [*BLOCK_FORMATS, *ALIASES]
    raise not_one_of("block format", name, known, "a path ending in .toml")


def get_element(name: str | Format) -> Format:
    """Return the element format called ``name``, as `get_format` does.

    Raises:
        FpsimError: not the name of one; of a block format's name the message says so.
    """
    try:
        return get_format(name)
    except FpsimError:
        if isinstance(name, str) and split_name(name)[0] in BLOCK_FORMATS:
            raise FpsimError(
                f"format: {name!r} is a block format, elements under scales, where the format of "
                f"one element is wanted, such as e2m1; `fpsim formats {name}` says what a unit "
                "multiplies"
            ) from None
        raise


def split_name(name: str) -> tuple[str, str | None]:
    """Return the name of a block format in lower case and the scale rule after it, or None."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    base, _, rule = key.rpartition("-")
    known = key not in BLOCK_FORMATS and base in BLOCK_FORMATS
    # A format of powers of two is told which rules there are, others are other names.
    fits = known and (rule in list(ScaleRule) or BLOCK_FORMATS[base].rule in POWER_RULES)
    return (base, rule) if fits else (key, None)
