# SPDX-License-Identifier: Apache-2.0
"""The aligned stage: N products and an addend shifted to one exponent, added as integers.

This is how tensor cores add. Per step of N products, with e(x) = max(floor(log2 |x|), emin) and
e_i = e(a_i) + e(b_i) + the scales' exponents (the product is not renormalised):

    E   = max(exponent_floor, e_i of the nonzero products, e(c))
    S   = sum_i A(p_i * 2^(F - E)) + A(c * 2^(F - E))             A: `align`, to an integer
    d   = R(S * 2^(E - F))                                        R: `rounding`, to `format`

Integers have no exponent of their own: e(x) of every value of a fixed-point operand is the exponent
of its format's largest magnitude, 3 for INT4 whose -8 is -2^3. So 1 * 1 of INT4 lies at 2^0 under
E >= 6 and is lost where F is 3. With ``normalised`` every product, of integers too, counts with
floor(log2 |p_i|), as after a normalising shift; fpsim knows of no recorded hardware with either.

The equation and its settings for real hardware come from Khattak and Mikaitis (arXiv 2512.07004)
and Xie et al., MMA-Sim (arXiv 2511.10909).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, NanCodes
from fpsim.formats.rounding import Overflow, Rounding, parse_overflow, parse_rounding
from fpsim.units.stages import fields

__all__ = ["Addend", "Aligned"]

#: Integers of the window: the aligned sum must fit an int64 with its sign.
MAX_WINDOW_BITS = 62
#: Magnitude bits of an aligned product above its exponent: p_i < 4 * 2^e_i.
PRODUCT_BITS = 2


class Addend(StrEnum):
    """Where the addend joins the sum."""

    EARLY = "early"  #: aligned with the products
    LATE = "late"  #: added to the rounded result, with `late_rounding`
    JOINED = "joined"  #: aligned with the sum in a second window; see `Aligned.join_sum_bits`


@dataclass(frozen=True)
class Aligned:
    """N products and an addend shifted to one exponent; the module has the equations.

    Defaults of the optional settings change nothing.

    Results and addends are codes of ``container`` (``format`` if absent), so that a result of 13
    fraction bits travels as a float32. A result beyond the largest finite value follows
    ``overflow`` in every rounding mode; a zero result is +0 unless ``signed_zero``.

    With ``addend = "joined"`` (AMD CDNA3) the sum and ``c`` are aligned once more to the larger of
    E and e(c), the sum with ``join_sum_bits`` and c with ``join_addend_bits`` fraction bits, both
    rounded by ``join_rounding``; c is dropped if it lies more than ``join_reach`` binades below.
    With ``lanes`` = 2 even and odd products have windows of their own, joined with F fraction bits.

    Raises:
        FpsimError: settings that contradict each other or a window that does not hold its sum.
    """

    products: int  #: N, terms per step; a partial last step is filled with zeros
    fraction_bits: int  #: F
    format: FloatFormat
    rounding: Rounding = Rounding.RTZ
    align: Rounding = Rounding.RTZ
    addend: Addend = Addend.EARLY
    late_rounding: Rounding = Rounding.RNE
    container: FloatFormat | None = None
    overflow: Overflow | None = None  #: None: `FloatFormat.default_overflow`
    exponent_floor: int | None = None
    normalised: bool = False  #: e_i is floor(log2 |p_i|), not a sum of the factors' exponents
    width: int | None = None  #: bits of S in two's complement; None: wide enough
    width_overflow: Overflow = Overflow.WRAP
    signed_zero: bool = False  #: IEEE 754's sign of zero
    nan_code: int | None = None  #: None: the container's
    product_limit: int | None = None  #: products of at least 2^product_limit are infinite
    lanes: int = 1
    join_sum_bits: int = 31
    join_addend_bits: int = 24
    join_rounding: Rounding = Rounding.RDN
    join_reach: int | None = None

    kind: ClassVar[str] = "aligned"

    def __post_init__(self) -> None:
        fields.count(self.products, "products", 1, 1024)
        fields.count(self.fraction_bits, "fraction_bits", 1, 56)
        fields.set_float(self)
        for name in ("align", "late_rounding", "join_rounding"):
            rounding = parse_rounding(getattr(self, name), name)
            object.__setattr__(self, name, fields.deterministic(rounding, name, self.kind))
        object.__setattr__(self, "addend", fields.choice(self.addend, Addend, "addend"))
        self._check_container()
        self._check_window()
        self._check_extras()

    def _check_container(self) -> None:
        if self.container is None:
            object.__setattr__(self, "container", self.format)
        outer, inner = fields.float_format(self.container, "a container", "container"), self.format
        same = ("exponent_bits", "bias", "nan", "infinity", "subnormals")
        wider = outer.mantissa_bits > inner.mantissa_bits and inner.nan is NanCodes.IEEE
        if not (wider or outer == inner) or any(
            getattr(outer, name) != getattr(inner, name) for name in same
        ):
            raise FpsimError(
                f"container: {outer.name} does not hold {inner.name}; it may differ in having "
                "more mantissa bits only, both as in IEEE 754"
            )
        if self.nan_code is not None:
            fields.count(self.nan_code, "nan_code", 0, (1 << outer.bits) - 1)

    def _check_window(self) -> None:
        if self.window_bits > MAX_WINDOW_BITS:
            raise FpsimError(
                f"fraction_bits: {self.fraction_bits} for {self.products} products need a sum of "
                f"{self.window_bits} bits; at most {MAX_WINDOW_BITS} are allowed"
            )
        overflow = parse_overflow(self.width_overflow, "width_overflow")
        object.__setattr__(self, "width_overflow", overflow)
        if overflow not in (Overflow.WRAP, Overflow.SATURATE):
            raise FpsimError(f"width_overflow: {overflow.value!r}; allowed: wrap, saturate")
        if self.width is None:
            if overflow is not Overflow.WRAP:
                raise FpsimError("width_overflow: without width the sum cannot overflow")
        else:
            least = self.fraction_bits + PRODUCT_BITS + 1
            fields.count(self.width, "width", least, MAX_WINDOW_BITS + 1)

    def _check_extras(self) -> None:
        if self.exponent_floor is not None:
            fields.count(self.exponent_floor, "exponent_floor", -400, 400)
        if self.product_limit is not None:
            fields.count(self.product_limit, "product_limit", -400, 400)
        for name in ("normalised", "signed_zero"):
            if not isinstance(getattr(self, name), bool):
                raise FpsimError(f"{name}: {getattr(self, name)!r} is not true or false")
        fields.count(self.lanes, "lanes", 1, 2)
        joined = self.addend is Addend.JOINED
        defaults = type(self).__dataclass_fields__
        for name in ("join_sum_bits", "join_addend_bits", "join_rounding", "join_reach"):
            if not joined and getattr(self, name) != defaults[name].default:
                raise FpsimError(f"{name}: only with addend = 'joined'")
        if self.addend is not Addend.LATE and self.late_rounding is not Rounding.RNE:
            raise FpsimError("late_rounding: only with addend = 'late'")
        if self.lanes > 1 and not joined:
            raise FpsimError("lanes: 2 windows are joined, so addend must be 'joined'")
        fields.count(self.join_sum_bits, "join_sum_bits", 1, 48)
        fields.count(self.join_addend_bits, "join_addend_bits", 1, 48)
        if self.join_reach is not None:
            fields.count(self.join_reach, "join_reach", 0, 400)

    @property
    def window_bits(self) -> int:
        """Bits of the largest |S|: F, two above the exponent, and the carries of N + 1 terms."""
        return self.fraction_bits + PRODUCT_BITS + self.products.bit_length()

    @property
    def result(self) -> FloatFormat:
        """Format of result codes."""
        assert self.container is not None
        return self.container

    @property
    def initial(self) -> FloatFormat:
        """Format of the codes of the addend ``c``."""
        return self.result

    @property
    def nan(self) -> int | None:
        """The NaN that results carry, None if there is none."""
        return self.result.nan_code if self.nan_code is None else self.nan_code

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name; rare settings give a name that cannot be read back."""
        plain = Aligned(
            self.products, self.fraction_bits, self.format, self.rounding,
            align=self.align, addend=self.addend, container=self.container,
        )  # fmt: skip
        assert self.container is not None
        parts = [f"aligned{self.products}f{self.fraction_bits}", self.format.name]
        parts += fields.suffixes(
            (self.rounding, Rounding.RTZ, str(self.rounding)),
            (self.align, Rounding.RTZ, f"by.{self.align}"),
            (self.addend, Addend.EARLY, str(self.addend)),
            (self.container, self.format, f"in.{self.container.name}"),
        )
        return "-".join(parts + ["custom"] * (self != plain))

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        f, n, align = self.fraction_bits, self.products, self.align
        early = self.addend is Addend.EARLY
        exponents = ["e_i"] + ["e(c)"] * early
        if self.exponent_floor is not None:
            exponents.append(str(self.exponent_floor))
        total = f"sum_i {align}(p_i 2^({f}-E))" + f" + {align}(c 2^({f}-E))" * early
        if self.width is not None:
            total = f"{self.width_overflow}[{self.width} bits]({total})"
        rounded = f"{self.rounding}[{self.format.name}]"
        result = f"{rounded}(S 2^(E-{f}))"
        if self.addend is Addend.LATE:
            result = f"{self.late_rounding}[{self.result.name}]({result} + c)"
        if self.addend is Addend.JOINED:
            join = self.join_rounding
            lanes = " (even and odd i apart)" * (self.lanes > 1)
            result = (
                f"{rounded}({join}(S 2^(E-{f}-E')){lanes} to {self.join_sum_bits} bits + "
                f"{join}(c 2^-E') to {self.join_addend_bits} bits) 2^E', E' = max(E, e(c))"
            )
        return f"per {n} products: E = max({', '.join(exponents)}), S = {total}, c <- {result}"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return 0, the number of random integers of a sum."""
        return 0
