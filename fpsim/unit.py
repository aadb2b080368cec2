# SPDX-License-Identifier: Apache-2.0
"""`MacUnit`: a unit that computes on codes, by its spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from numpy.typing import ArrayLike, NDArray

from fpsim import oracle
from fpsim.base.errors import MAX_UNIT_NAME, FpsimError, nearest
from fpsim.base.notebook import html_pairs
from fpsim.base.resources import golden_dir
from fpsim.formats.floating import Format
from fpsim.oracle import Trace
from fpsim.units.given_operands import OperandLike
from fpsim.units.grammar import name_fault
from fpsim.units.operands import DotOperands, DotOptions, OperandOptions, ScaleOptions
from fpsim.units.presets import presets
from fpsim.units.spec import MacSpec

if TYPE_CHECKING:  # these modules import compiled kernels, slow to load
    from fpsim.compute.operands import Prepared
    from fpsim.compute.plan import Plan
    from fpsim.studies.sizing import Sizing

__all__ = ["MacUnit", "get_unit", "preset_names", "unit_names"]

#: Units that need no file: any canonical name works too.
ALIASES = {"exact": "e2m1-exact-e8m23"}


@dataclass(frozen=True)
class MacUnit:
    """A multiply-accumulate unit that computes by its spec, bit for bit.

    Operands and results are codes (unsigned integers), scales are codes of the unit's scale formats
    along K; see `fpsim.units.operands`. Arrays of ml_dtypes and tensors of torch whose type is the
    format count as codes too. With stochastic rounding every call takes ``random``:
    integers of ``random_bits`` bits, one per rounding, of shape (..., K) for `dot` and (M, N, K)
    for `matmul` (last axis 1 for an exact unit; see `MacSpec.roundings` for others).
    """

    spec: MacSpec

    def __repr__(self) -> str:
        return f"<MacUnit {self.name}: {self.spec.equation}>"

    def _repr_html_(self) -> str:
        spec = self.spec
        return html_pairs(
            self.name,
            (
                ("what it is", spec.description),
                ("equation", spec.equation),
                ("operands", f"{spec.a.name}, {spec.b.name}"),
                ("result", spec.result.name),
                ("canonical name", spec.canonical_name),
                ("evidence", str(spec.evidence)),
                ("source", spec.source),
            ),
        )

    @property
    def name(self) -> str:
        """Name of the unit."""
        return self.spec.name

    @property
    def a(self) -> Format:
        """Format of the ``a`` operand."""
        return self.spec.a

    @property
    def b(self) -> Format:
        """Format of the ``b`` operand."""
        return self.spec.b

    @property
    def result(self) -> Format:
        """Format of accumulator codes."""
        return self.spec.result

    def dot(
        self,
        a: OperandLike,
        b: OperandLike,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        values: bool = False,
        **options: Unpack[DotOptions],
    ) -> NDArray[Any]:
        """Compute dot products over the last axis of ``a`` and ``b``.

        NaN operands or scales, and infinity minus infinity, give the accumulator format's NaN.

        Args:
            a, b: operand codes (..., K), or results of `BlockFormat.quantize`; leading shapes
                broadcast.
            c: initial accumulator codes (...); +0 if absent.
            a_scale, b_scale: scale codes (..., G), one per block of K; (..., G, 2) where the
                operand is split by sign.
            values: return float64 values, each times the tensor or row scales of quantized
                operands, which no unit sees.
            options: ``block``, elements per scale where G does not divide K; ``random``, random
                integers for stochastic rounding or a `RandomBits` that makes them.

        Returns:
            Accumulator codes (...), or with ``values`` their values.

        Raises:
            FpsimError: wrong dtypes, codes out of range, shapes that do not fit, or a NaN that the
                accumulator has no code for.
        """
        args = DotOperands.check(self.spec, a, b, c=c, a_scale=a_scale, b_scale=b_scale, **options)
        from fpsim.compute.dot import dot_codes

        codes = dot_codes(self.spec, args)
        return args.results(self.result.decode(codes)) if values else codes

    def accumulate(
        self,
        a: OperandLike,
        b: OperandLike,
        c: ArrayLike | None = None,
        **options: Unpack[ScaleOptions],
    ) -> NDArray[Any]:
        """Compute dot products and keep the accumulator after every step.

        The accumulator is rounded, and kept, after each product (chain, fixed), after N terms
        (aligned, tree), after each scaled block sum (block), or after each outermost chunk
        (chunked). An exact unit, and a unit that converts at the end, has one result: S is 1.

        Args:
            a, b: operand codes (..., K); leading shapes broadcast.
            c: initial accumulator codes (...); +0 if absent.
            options: ``a_scale``, ``b_scale``, ``block`` and ``random`` as in `dot`.

        Returns:
            Accumulator codes (..., S), step by step.

        Raises:
            FpsimError: wrong dtypes, codes out of range, shapes that do not fit, or a NaN that the
                accumulator has no code for.
        """
        args = DotOperands.check(self.spec, a, b, c=c, **options)
        from fpsim.compute.dot import step_codes

        return step_codes(self.spec, args)

    def matmul(
        self,
        a: OperandLike,
        b: OperandLike | Prepared,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        *,
        values: bool = False,
        **options: Unpack[DotOptions],
    ) -> NDArray[Any]:
        """Compute a matrix product, each result with the bits that `dot` gives.

        Args:
            a: operand codes (M, K), or a result of `BlockFormat.quantize` with axis 1.
            b: operand codes (K, N), a result of `BlockFormat.quantize` with axis 0, or either of
                them prepared by `prepare`.
            c: initial accumulator codes (M, N); +0 if absent.
            a_scale: scale codes (M, G), one per block of K; (M, G, 2) where split by sign.
            b_scale: scale codes (G, N); (G, N, 2) where split by sign.
            values: return float64 values, each times the tensor or row scales of quantized
                operands, which no unit sees.
            options: ``block``, elements per scale where G does not divide K; ``random``, integers
                (M, N, K) for stochastic rounding or a `RandomBits` that makes them.

        Returns:
            Accumulator codes (M, N), or with ``values`` their values.

        Raises:
            FpsimError: wrong dtypes, codes out of range, shapes that do not fit, or a NaN that the
                accumulator has no code for.
        """
        from fpsim.compute.matmul import matmul_codes
        from fpsim.compute.operands import MatmulOperands

        args = MatmulOperands.check(
            self.spec, a, b, c=c, a_scale=a_scale, b_scale=b_scale, **options
        )
        codes = matmul_codes(self.spec, args)[0]
        return args.results(self.result.decode(codes)) if values else codes

    def prepare(
        self, b: OperandLike, b_scale: ArrayLike | None = None, *, block: int | None = None
    ) -> Prepared:
        """Check a second operand of `matmul` once, and keep it in the layout that kernels read.

        Checks and layout take most of the time of a product of few rows, as in decoding token by
        token. The prepared operand takes one byte an element for FP4 and INT4 sums of blocks, else
        up to eight.

        Args:
            b: operand codes (K, N), or a result of `BlockFormat.quantize` with axis 0.
            b_scale: scale codes (G, N); (G, N, 2) where split by sign.
            block: elements per scale where G does not divide K.

        Returns:
            An operand for ``b`` of `matmul`, of this unit or another with these operand formats.
            The codes must not change afterwards.

        Raises:
            FpsimError: a wrong dtype, a code out of range, or shapes that do not fit.
        """
        from fpsim.compute.lanes.pack import keep
        from fpsim.compute.operands import Prepared

        prepared = Prepared.of(self.spec, b, b_scale, block)
        keep(prepared.operand)
        return prepared

    def trace(
        self,
        a: OperandLike,
        b: OperandLike,
        c: ArrayLike | None = None,
        a_scale: ArrayLike | None = None,
        b_scale: ArrayLike | None = None,
        **options: Unpack[DotOptions],
    ) -> Trace:
        """Compute every internal node of one dot product, step by step, exactly.

        Args:
            a, b: operand codes (K,).
            c: initial accumulator code; +0 if absent.
            a_scale, b_scale: scale codes (G,), one per block of K; (G, 2) where split by sign.
            options: ``block`` and ``random`` as in `dot`.

        Returns:
            Products, alignment exponents, aligned terms, sums, values before and after every
            rounding with their flags, and the result.

        Raises:
            FpsimError: wrong dtypes, codes out of range, shapes that do not fit, or a NaN that the
                accumulator has no code for.
        """
        return oracle.trace(self.spec, a, b, c, a_scale, b_scale, **options)

    def size(
        self,
        a: OperandLike,
        b: OperandLike,
        c: ArrayLike | None = None,
        **options: Unpack[ScaleOptions],
    ) -> Sizing:
        """Count the accumulator's losses on a matrix product, and the bits that avoid them.

        `fpsim.studies.sizing.study` takes dot products too.

        Args:
            a, b: operand codes (M, K) and (K, N).
            c: initial accumulator codes (M, N); +0 if absent.
            options: ``a_scale``, ``b_scale``, ``block`` and ``random`` as in `matmul`.

        Returns:
            Counts of overflows and losses, errors, and the narrowest lossless accumulators.

        Raises:
            FpsimError: a wrong dtype, a code out of range, shapes that do not fit, or a NaN or an
                infinity among the operands.
        """
        from fpsim.studies.sizing import study

        return study(self.spec, a, b, c, **options)

    def plan(self, a: OperandLike, b: OperandLike, **options: Unpack[OperandOptions]) -> Plan:
        """Choose the kernel that `matmul` would use, without computing anything.

        Args:
            a, b: operand codes (M, K) and (K, N).
            options: ``c``, ``a_scale``, ``b_scale``, ``block`` and ``random`` as in `matmul`.

        Returns:
            The kernel, and the reason why its bits are the unit's.

        Raises:
            FpsimError: wrong operands.
        """
        from fpsim.compute.operands import MatmulOperands
        from fpsim.compute.plan import plan_matmul

        return plan_matmul(self.spec, MatmulOperands.check(self.spec, a, b, **options))


def unit_names() -> list[str]:
    """Return the names of the published units, sorted; `preset_names` has those of real silicon."""
    return sorted(path.stem for path in golden_dir().glob("*.toml"))


def preset_names() -> list[str]:
    """Return the names of the units of real silicon, sorted."""
    return sorted(presets())


def get_unit(name: str | Path | MacSpec | MacUnit) -> MacUnit:
    """Return a unit by name (published, of real silicon, or canonical) or TOML path.

    A canonical name describes a unit completely, such as ``e2m1-chain-e5m10-rtz`` (operand format,
    stage, accumulator format, settings) or ``e2m1xe4m3fn-fixed24q9``; ``fpsim units grammar``
    prints every part of a name, `fpsim.units.grammar` holds them.

    Raises:
        FpsimError: no such unit (with the nearest name), or a TOML file that does not describe one.
    """
    if isinstance(name, MacUnit):
        return name
    if isinstance(name, MacSpec):
        return MacUnit(name)
    if not isinstance(name, str | Path):
        raise FpsimError(f"unit: {name!r} is not a name or a path")
    if isinstance(name, Path) or str(name).endswith(".toml"):
        return MacUnit(MacSpec.from_toml(name))
    if len(name) > MAX_UNIT_NAME:
        raise FpsimError(
            f"unit: {name!r} has {len(name)} characters; names have at most {MAX_UNIT_NAME}"
        )
    if not name.isprintable():
        raise FpsimError(f"unit: {name!r} has characters that no name has")
    key = ALIASES.get(name, name)
    if key in unit_names():
        return MacUnit(MacSpec.from_toml(golden_dir() / f"{key}.toml"))
    spec = presets().get(key) or MacSpec.from_name(key)
    if spec is None:
        fault = name_fault(key.lower())
        if fault is not None:
            raise FpsimError(f"unit: {name!r}: {fault}")
        known = [*unit_names(), *presets(), *ALIASES]
        raise FpsimError(
            f"unit: {name!r} is neither a published unit, a canonical name such as "
            f"e2m1-chain-e5m10, nor a path ending in .toml{nearest(name, known)}"
        )
    return MacUnit(spec)
