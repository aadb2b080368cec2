# SPDX-License-Identifier: Apache-2.0
"""`check_block_cast`: a quantizer to a block format, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat, Quantized, get_block_format
from fpsim.blocks.fields import Errors, StoredIn
from fpsim.blocks.grids import Table
from fpsim.blocks.scale_rules import POWER_RULES, RANGE_RULES, Arithmetic, ScaleRule, ZeroScale
from fpsim.blocks.widen import wide_scales
from fpsim.formats.packing import unpack
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.testing.block_inputs import block_inputs, block_size
from fpsim.testing.contract import (
    Arrays,
    ContractError,
    Returns,
    Subject,
    as_codes_or_values,
    importable,
)
from fpsim.testing.neighbours import Neighbours, same_values
from fpsim.testing.result import (
    CheckResult,
    Counterexample,
    Mistake,
    Property,
    likely_mistakes,
    recorded,
)
from fpsim.testing.rounding import text_of
from fpsim.testing.rounding_mistakes import rounding_mistakes

__all__ = ["check_block_cast"]

Tensor = NDArray[np.float32]
Floats = NDArray[np.float64]
Packing = Literal["low-first", "high-first"]
#: Relative tolerance of values with a tensor scale: two roundings of float32.
TENSOR_TOLERANCE = 2.0**-22
#: Absolute tolerance below float32's normal numbers.
SUBNORMAL_TOLERANCE = 2.0**-149
SMALLEST_NORMAL = 2.0**-126
FLOAT32_END = 2.0**128
#: Most wrong blocks, and most right ones, on which mistakes are tried.
TRIED_ROWS = 512


def check_block_cast(
    function: Callable[..., Any],
    format: str | BlockFormat,
    *,
    returns: Returns = "either",
    packing: Packing | None = None,
    arrays: Arrays = "numpy",
    signed_zero: bool = True,
    seed: int = 1,
) -> CheckResult:
    """Check a quantizer of float32 tensors (rows, K), blocks along K.

    The quantizer returns codes (rows, K) and scales (rows, K / block), or one array of dequantized
    values (rows, K). Codes and scales are bit patterns or values (ml_dtypes and torch types too); a
    third result, the tensor scale, is ignored: codes and scales show its effect. A block is wrong
    if its scale or an element differs from the format's in any bit. Dequantized values of a format
    with a tensor scale may be off by 2^-22, the rounding of float32.

    Args:
        function: the quantizer; K is always a multiple of the block.
        format: a block format, the name of one, or a path to its TOML.
        returns: form of the results: ``codes`` (codes and scales), ``values`` or ``either``.
        packing: two codes to a byte, (rows, K / 2): ``low-first`` has element 0 in the low four
            bits; None: one code per element.
        arrays: ``numpy`` or ``torch``.
        signed_zero: whether the sign of zero elements counts.
        seed: seed of the random elements.

    Returns:
        The result, true only if every block was right; inputs are blocks.

    Raises:
        FpsimError: an argument out of range, or a format with more parts than codes and scales (use
            ``returns="values"``).
        ContractError: the function raises, changes its input, or returns a result of a wrong type
            or shape.
    """
    fmt = get_block_format(format)
    spelled = format if isinstance(format, str) else fmt.name
    if returns == "codes" and not _is_code_times_scale(fmt):
        raise FpsimError(
            f"returns: {fmt.name} is more than a code and a scale; only its values can be checked"
        )
    if packing not in (None, "low-first", "high-first"):
        raise not_one_of("packing", packing, ("low-first", "high-first"))
    if packing is not None and (returns == "values" or fmt.element.bits != 4):
        raise FpsimError(f"packing: {packing!r} needs codes of 4 bits")
    task = _Task(Subject(function, arrays), fmt, returns, packing, signed_zero)
    given = block_inputs(fmt, seed)
    parts = [(x, task.expected(x), task.seen(x)) for x in given.tensors]
    x = np.concatenate([task.blocks(tensor) for tensor, _, _ in parts])
    by_values = parts[0][2].values_only
    expected = np.concatenate([w.rows(by_values) for _, w, _ in parts])
    seen = np.concatenate([s.rows(by_values) for _, _, s in parts])
    wrong = ~task.same(expected, seen)
    properties = _properties(task, expected, seen, by_values)
    case = None
    mistakes: tuple[Mistake, ...] = ()
    if wrong.any():
        rows = np.concatenate([_spread(np.flatnonzero(part)) for part in (wrong, ~wrong)])
        some = x[rows]
        candidates = _candidates(task, given.tensors, by_values, rows)

        def example(chosen: NDArray[np.bool_]) -> str:
            block = some[_simplest(some, chosen)]
            return f"such as a block of largest magnitude {text_of(np.abs(block).max())}"

        mistakes = likely_mistakes(expected[rows], seen[rows], task.same, candidates, example)
        case = _counterexample(task, parts, by_values, spelled)
    notes = []
    if by_values:
        notes.append("dequantized values were compared; codes and scales were not seen")
    if by_values and task.inexact:
        notes.append("values within 2^-22 count as equal: float32 rounds a product of scales")
    return recorded(
        CheckResult(
            "block cast", task.subject.name, spelled, given.search, int(wrong.size),
            int(wrong.sum()), properties, mistakes, case, tuple(notes),
        )
    )  # fmt: skip


@dataclass(frozen=True)
class _Outcome:
    """The blocks of a tensor, cast by a quantizer."""

    values_only: bool
    scales: Floats  #: (n,)
    elements: Floats  #: (n, size)
    values: Floats  #: (n, size)
    parts: ClassVar[tuple[str, ...]] = ("scales", "elements", "values")

    def rows(self, by_values: bool) -> Floats:
        """Return a row per block: its scale and elements, or its values."""
        if by_values:
            return self.values
        return np.concatenate([self.scales[:, None], self.elements], axis=1)


@dataclass(frozen=True)
class _Task:
    """A quantizer, its block format, and the form of its results."""

    subject: Subject
    fmt: BlockFormat
    returns: Returns
    packing: Packing | None
    signed_zero: bool

    @property
    def size(self) -> int:
        """Elements of a block."""
        return block_size(self.fmt)

    def blocks(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor as rows, one block each."""
        return x.reshape(-1, self.size)

    def expected(self, x: Tensor, fmt: BlockFormat | None = None) -> _Outcome:
        """Return a tensor's blocks cast by the format, or by a changed one."""
        fmt = self.fmt if fmt is None else fmt
        quantized = fmt.quantize(x)
        values = self.blocks(fmt.dequantize(quantized))
        elements = self.blocks(fmt.element.decode(quantized.codes))
        return _Outcome(False, self._scales(fmt, quantized), elements, values)

    def _scales(self, fmt: BlockFormat, quantized: Quantized) -> Floats:
        """Return the scale of the first element of each block."""
        shape = quantized.codes.shape
        scales = wide_scales(fmt, quantized) if fmt.is_coded else quantized.scales
        values = np.asarray(scales if fmt.scale is None else fmt.scale.decode(scales))
        if not isinstance(fmt.block, int):
            each = np.broadcast_to(values, shape)
        else:
            each = np.repeat(values, fmt.block, axis=1)[:, : shape[1]]
        return self.blocks(each)[:, 0].astype(np.float64)

    def seen(self, x: Tensor) -> _Outcome:
        """Return a tensor's blocks cast by the function."""
        fmt, rows = self.fmt, x.shape[0]
        returned = self.subject.call(x)
        several = isinstance(returned, tuple | list)
        if self.returns == "codes" and not several:
            raise ContractError(
                f"function: {self.subject.name} returned one array; it was to return codes and "
                "scales"
            )
        if self.returns == "values" and several:
            raise ContractError(
                f"function: {self.subject.name} returned {len(returned)} results; it was to return "
                "one array of dequantized values"
            )
        nothing = np.full(x.size // self.size, np.nan)
        if not several:
            (array,) = self.subject.checked([returned], [x.shape], "dequantized values")
            if array.dtype.kind != "f":
                raise ContractError(
                    f"function: {self.subject.name} returned one array of {array.dtype}; codes "
                    "need their scales beside them: return (codes, scales)"
                )
            values = self.blocks(array.astype(np.float64))
            return _Outcome(True, nothing, values, values)
        if not _is_code_times_scale(fmt):
            raise ContractError(
                f"function: {self.subject.name} returned {len(returned)} results; "
                f"{fmt.name} is more than a code and a scale: return dequantized values"
            )
        width = x.shape[1] // (2 if self.packing else 1)
        shapes = [(rows, width), (rows, x.shape[1] // self.size)]
        names = "codes and scales" + f", {self.packing} two to a byte" * bool(self.packing)
        codes, scales = self.subject.checked(list(returned[:2]), shapes, names)
        if self.packing:
            codes = _unpacked(self.subject, codes, self.packing)
        assert not isinstance(fmt.element, Table)
        elements, _ = as_codes_or_values(self.subject, codes, fmt.element, "either")
        assert fmt.scale is not None
        decoded, _ = as_codes_or_values(self.subject, scales, fmt.scale, "either")
        per_block = decoded.reshape(-1)
        elements = self.blocks(elements)
        return _Outcome(False, per_block, elements, elements * per_block[:, None])

    @property
    def inexact(self) -> bool:
        """Whether float32 cannot hold dequantized values exactly."""
        fmt = self.fmt
        odd = isinstance(fmt.element, Table) or fmt.factor != 1
        return bool(fmt.tensor_range or fmt.base_bits or fmt.scale is None or odd)

    def scaled(self, rows: Floats) -> bool:
        """Return whether rows are dequantized values, without a scale in front."""
        return bool(rows.shape[1] == self.size)

    def same(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Return the mask of equal blocks."""
        equal = same_values(x, y)
        if self.scaled(x):  # values beyond float32 are infinite in it
            equal |= (np.abs(x) >= FLOAT32_END) & (np.abs(y) >= FLOAT32_END)
        if not self.signed_zero:
            equal |= (x == 0) & (y == 0)
        if self.inexact and self.scaled(x):
            with np.errstate(invalid="ignore"):
                tolerance = np.maximum(TENSOR_TOLERANCE * np.abs(x), SUBNORMAL_TOLERANCE)
                equal |= (np.abs(x - y) <= tolerance) & (x != 0)
        return np.asarray(equal.all(axis=1))


def _is_code_times_scale(fmt: BlockFormat) -> bool:
    """Return whether an element's value is its code's value times its block's scale."""
    one_scale = fmt.scale is not None and not (fmt.signs or fmt.base_bits)
    grids = fmt.variants or fmt.special or fmt.levels or fmt.top or fmt.macro
    own = isinstance(fmt.element, Table) or fmt.factor != 1 or fmt.rule in RANGE_RULES
    return bool(one_scale and not grids and not own)


def _unpacked(subject: Subject, packed: NDArray[Any], order: Packing) -> NDArray[np.uint8]:
    if packed.dtype != np.uint8:
        raise ContractError(
            f"function: {subject.name} returned {packed.dtype}; codes packed two to a byte are "
            "uint8"
        )
    codes = unpack(packed)
    return codes if order == "low-first" else _swapped(codes)


def _swapped(codes: NDArray[Any]) -> NDArray[Any]:
    """Return codes with each pair exchanged."""
    return codes.reshape(*codes.shape[:-1], -1, 2)[..., ::-1].reshape(codes.shape)


def _properties(
    task: _Task, expected: Floats, seen: Floats, by_values: bool
) -> tuple[Property, ...]:
    if by_values:
        return ()
    n = expected.shape[0]
    scale = ~same_values(expected[:, 0], seen[:, 0])
    elements = ~task.same(expected[:, 1:], seen[:, 1:]) & ~scale
    return (
        Property("scales", n, int(scale.sum())),
        Property("elements, where the scale is right", n - int(scale.sum()), int(elements.sum())),
    )


# -- mistakes ------------------------------------------------------------------------------------


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most `TRIED_ROWS` of the rows, evenly spread."""
    if rows.size <= TRIED_ROWS:
        return rows
    return rows[np.linspace(0, rows.size - 1, TRIED_ROWS).astype(np.int64)]


def _candidates(
    task: _Task, tensors: list[Tensor], by_values: bool, rows: NDArray[np.int64]
) -> Iterator[tuple[str, Floats]]:
    """Yield each mistake with its results for some blocks of all tensors."""
    for name, run in _mistakes(task):
        try:
            outcomes = [run(x) for x in tensors]
        except FpsimError:
            continue
        yield name, np.concatenate([o.rows(by_values) for o in outcomes])[rows]
    rights = [task.expected(x) for x in tensors]
    right = _Outcome(
        by_values,
        *(np.concatenate([getattr(o, n) for o in rights])[rows] for n in _Outcome.parts),
    )
    if not by_values:
        swapped = replace(right, elements=_swapped(right.elements))
        yield "the first of two codes sat in the other half of the byte", swapped.rows(False)
    x = np.concatenate([task.blocks(x) for x in tensors])[rows]
    yield from _element_mistakes(task, x, right, by_values)


_RULES = {
    ScaleRule.FLOOR: "the scale were rounded down to a power of two (floor)",
    ScaleRule.RCEIL: "the scale were rounded up so that nothing saturates (rceil)",
    ScaleRule.CEIL: "the scale were the next power of two of the largest magnitude (ceil)",
    ScaleRule.EVEN: "the largest magnitude were rounded to an element first (even)",
}
_MODES = {
    Rounding.RNA: "rounded to nearest, ties away",
    Rounding.RNE: "rounded to nearest, ties to even",
    Rounding.RUP: "rounded up",
    Rounding.RTZ: "rounded down",
}


def _mistakes(task: _Task) -> Iterator[tuple[str, Callable[[Tensor], _Outcome]]]:
    """Yield mistakes in scales, and in the order of operations."""
    fmt = task.fmt
    changes: list[tuple[str, dict[str, Any]]] = []
    if fmt.rule in POWER_RULES:
        changes += [(name, {"rule": rule}) for rule, name in _RULES.items()]
    plain = not (fmt.is_coded or fmt.macro)
    if fmt.rule in POWER_RULES and plain:
        yield "the exponent were floor(log2) in float32", lambda x: _scaled(task, x, _log2_bump)
        yield (
            "elements were divided by no less than 2^-126",
            lambda x: _divided(task, x, lambda scales: np.maximum(scales, SMALLEST_NORMAL)),
        )
        yield (
            "elements were not divided by the smallest scale",
            lambda x: _divided(task, x, lambda s: np.where(s < SMALLEST_NORMAL, 1.0, s)),
        )
        if fmt.rule is ScaleRule.RCEIL:
            yield (
                "the exponent were ceil(log2) in float32",
                lambda x: _scaled(task, x, lambda amax, _: _ceil_bump(task.fmt, amax)),
            )
        for step, name in ((1, "twice what it is"), (-1, "half of what it is")):
            yield f"the scale were {name}", lambda x, s=step: _scaled(task, x, lambda _, __: s)  # type: ignore[misc]
    if fmt.rule not in POWER_RULES:
        changes += [
            (f"the scale were {name}", {"scale_rounding": mode}) for mode, name in _MODES.items()
        ]
        changes += [
            (f"a zero scale became {name}", {"zero": zero})
            for zero, name in (
                (ZeroScale.ONE, "1"), (ZeroScale.SMALLEST, "the smallest normal one"),
                (ZeroScale.KEEP, "zero"),
            )
        ]  # fmt: skip
    if fmt.tensor_range:
        changes += [
            ("values were divided by scale times tensor scale", {"arithmetic": Arithmetic.DIVIDE}),
            ("values were multiplied by a reciprocal", {"arithmetic": Arithmetic.RECIPROCAL}),
            ("values were multiplied by a ratio's reciprocal", {"arithmetic": Arithmetic.RATIO}),
            ("the range of scales were 448", {"tensor_range": 448}),
            ("the range of scales were 256", {"tensor_range": 256}),
            ("there were no tensor scale", {"tensor_range": 0, "arithmetic": "divide"}),
        ]
    for mode in (Rounding.RNA, Rounding.RNE):
        text = _MODES[mode]
        changes.append((f"elements were {text}", {"rounding": mode}))
        changes.append(
            (f"elements and scales were {text}", {"rounding": mode, "scale_rounding": mode})
        )
    changes += [(f"the largest value mapped to {t}", {"target": t}) for t in (4, 6)]
    first: dict[str, Any] = {"choice": None, "variants": (), "stored": StoredIn.METADATA}
    first |= {
        "errors": Errors.FLOAT64,
        "expansions": fmt.expansions[:1],
        "special": fmt.special[:1],
    }
    changes.append(("the second candidate were never taken", first))
    if isinstance(fmt.block, int):
        for size in (fmt.block // 2, fmt.block * 2):
            changes.append((f"blocks had {size} elements", {"block": size}))
    for name, fields in changes:
        try:
            other = replace(fmt, **fields)
        except FpsimError:
            continue
        if other != fmt:
            yield name, lambda x, o=other: task.expected(x, o)  # type: ignore[misc]


def _log2_bump(amax: Tensor, exponent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the error of a float32 logarithm that is too high just below powers of two."""
    with np.errstate(divide="ignore"):
        seen = np.floor(np.log2(amax.astype(np.float32)))
    return np.where(amax > 0, seen, exponent).astype(np.int64) - exponent


def _ceil_bump(fmt: BlockFormat, amax: Tensor) -> NDArray[np.int64]:
    """Return the error of a float32 logarithm of a quotient, too low just above powers of two."""
    significand, exponent = np.frexp(amax.astype(np.float64) / fmt.limit)
    right = exponent - (significand == 0.5)
    with np.errstate(divide="ignore"):
        seen = np.ceil(np.log2((amax / np.float32(fmt.limit)).astype(np.float32)))
    low, high = -127, 127
    return np.asarray(np.clip(seen, low, high) - np.clip(right, low, high), dtype=np.int64)


def _divided(task: _Task, x: Tensor, divisor: Callable[[Floats], Floats]) -> _Outcome:
    """Return blocks with right scales whose elements were divided by other scales."""
    right = task.expected(x)
    blocks = task.blocks(x)
    assert not isinstance(task.fmt.element, Table)
    quotients = blocks / divisor(right.scales)[:, None]
    near = Neighbours.of(task.fmt.element, quotients.reshape(-1))
    elements = near.rounded(near.upward(task.fmt.rounding), Overflow.SATURATE)
    elements = elements.reshape(blocks.shape)
    return _Outcome(False, right.scales, elements, elements * right.scales[:, None])


def _scaled(task: _Task, x: Tensor, bump: Callable[..., Any]) -> _Outcome:
    """Return blocks whose power-of-two scale is off by some exponents."""
    fmt = task.fmt
    assert fmt.scale is not None
    right = task.expected(x)
    blocks = task.blocks(x)
    amax = np.abs(blocks).max(axis=1)
    exponent = np.frexp(amax.astype(np.float64))[1] - 1
    limits = fmt.scale.decode([0, fmt.scale.max_code])
    scales = np.clip(right.scales * 2.0 ** bump(amax, exponent), *limits)
    scales = np.where(amax > 0, scales, right.scales)
    assert not isinstance(fmt.element, Table)
    near = Neighbours.of(fmt.element, (blocks / scales[:, None]).reshape(-1))
    elements = near.rounded(near.upward(fmt.rounding), Overflow.SATURATE).reshape(blocks.shape)
    return _Outcome(False, scales, elements, elements * scales[:, None])


def _element_mistakes(
    task: _Task, x: Tensor, right: _Outcome, by_values: bool
) -> Iterator[tuple[str, Floats]]:
    """Yield mistakes in the rounding of elements, with right scales."""
    fmt = task.fmt
    if isinstance(fmt.element, Table) or fmt.is_coded or fmt.macro is not None:
        return  # elements do not lie on one grid
    if fmt.signs or fmt.rule in RANGE_RULES or fmt.base_bits:
        return
    with np.errstate(all="ignore"):
        ratio = np.abs(np.where(right.elements != 0, right.values / right.elements, 0))
        unit = ratio.max(axis=1)
        divisor = unit if fmt.rule in POWER_RULES else unit.astype(np.float32)
        y = np.where(divisor[:, None] > 0, x / divisor[:, None], np.copysign(0.0, x))
    if fmt.rule not in POWER_RULES:
        y = y.astype(np.float32).astype(np.float64)
    near = Neighbours.of(fmt.element, y.reshape(-1))
    expected = right.elements.reshape(-1)
    for name, elements in rounding_mistakes(near, expected, fmt.rounding, Overflow.SATURATE):
        made = elements.reshape(x.shape)
        with np.errstate(invalid="ignore"):
            changed = replace(right, elements=made, values=made * unit[:, None])
        yield f"in elements, {name}", changed.rows(by_values)


# -- the counterexample --------------------------------------------------------------------------


def _simplest(x: NDArray[Any], wrong: NDArray[np.bool_]) -> int:
    """Return the wrong block with the fewest distinct magnitudes, nearest to one."""
    index = np.flatnonzero(wrong)
    top = np.abs(x[index]).max(axis=1).astype(np.float64)
    exponent = np.abs(np.frexp(top)[1])
    kinds = (x[index] != 0).sum(axis=1)
    return int(index[np.lexsort((kinds, exponent))[0]])


def _counterexample(
    task: _Task, parts: list[tuple[Tensor, _Outcome, _Outcome]], by_values: bool, spelled: str
) -> Counterexample:
    """Return the wrong block with as many elements zero as possible while it stays wrong."""
    compared = [~task.same(w.rows(by_values), s.rows(by_values)) for _, w, s in parts]
    x, wrong = next((p[0], w) for p, w in zip(parts, compared, strict=True) if w.any())
    rows = task.blocks(x)
    block = rows[_simplest(rows, wrong)][None].copy()
    lines = []
    if not _fails(task, block, by_values):
        row = int(np.flatnonzero(wrong)[0])
        block, alone = x, False
        lines.append(f"block {row} of a tensor {x.shape}; alone it does not fail")
    else:
        alone = True
        for i in range(block.shape[1]):
            trial = block.copy()
            trial[0, i] = 0.0
            if (block[0, i] != 0 or np.signbit(block[0, i])) and _fails(task, trial, by_values):
                block = trial
    right, got = task.expected(block), task.seen(block)
    first = int(np.flatnonzero(~task.same(right.rows(by_values), got.rows(by_values)))[0])
    shown = task.blocks(block)[first]
    lines += _explained(task, shown, right, first)
    literal = np.array2string(
        shown.astype(np.float64), separator=", ", threshold=1 << 20, floatmode="unique",
        formatter={"float_kind": lambda v: repr(float(v))}, max_line_width=88,
    )  # fmt: skip
    torch = task.subject.arrays == "torch"
    tensor = f"torch.tensor([{literal}])" if torch else f"np.array([{literal}], dtype=np.float32)"
    setup = "import torch\n" if torch else ""
    replay = (
        f"import numpy as np\n{setup}from fpsim import get_block_format\n"
        f"{importable(task.subject.function)}\nx = {tensor}\n"
        f"print(function(x))\nprint(get_block_format({spelled!r}).quantize(x))"
    )
    if not alone:
        replay = (
            f"from fpsim import testing\n{importable(task.subject.function)}\n"
            f"print(testing.check_block_cast(function, {spelled!r}))"
        )
    return Counterexample(
        f"float32 block, zero but for {_listed(shown)}",
        _outcome_text(task, right, first, by_values),
        _outcome_text(task, got, first, by_values),
        tuple(lines),
        replay,
    )


def _fails(task: _Task, block: Tensor, by_values: bool) -> bool:
    right, got = task.expected(block), task.seen(block)
    return bool((~task.same(right.rows(by_values), got.rows(by_values))).any())


def _listed(block: NDArray[Any]) -> str:
    shown = [
        f"x[{i}] = {text_of(float(v))}" for i, v in enumerate(block) if v != 0 or np.signbit(v)
    ]
    more = len(shown) - 8
    return (", ".join(shown[:8]) + (f" and {more} more" if more > 0 else "")) or "nothing"


def _outcome_text(task: _Task, outcome: _Outcome, row: int, by_values: bool) -> str:
    if by_values:
        return f"values, zero but for {_listed(outcome.values[row])}".replace("x[", "v[")
    scale = text_of(outcome.scales[row])
    listed = _listed(outcome.elements[row]).replace("x[", "q[")
    return f"scale {scale}; elements, zero but for {listed}"


def _explained(task: _Task, block: NDArray[Any], right: _Outcome, row: int) -> list[str]:
    fmt = task.fmt
    top = float(np.abs(block).max())
    significand, exponent = np.frexp(top)
    lines = [f"its largest magnitude is {text_of(top)}"]
    if top:
        lines[0] += f" = {2 * float(significand)!r} * 2^{int(exponent) - 1}"
    lines.append(
        f"{fmt.name}: rule {fmt.rule}, {fmt.element.name} up to {fmt.limit:g}, elements rounded "
        f"{fmt.rounding}; the scale is {text_of(right.scales[row])}"
    )
    return lines
