# SPDX-License-Identifier: Apache-2.0
"""Systems with constants trained block by block: OmniQuant, AffineQuant, DB-LLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.checkpoint import checkpoint

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.product import float_rows
from fpsim.bridge.recipe import register
from fpsim.bridge.systems.casts import RangeCast
from fpsim.bridge.systems.forms import LayerForm, Segment
from fpsim.bridge.systems.learned import cast_through, forwards, frozen, recomputed
from fpsim.bridge.systems.recipe import BlockData, GroupData, StreamModel, SystemRecipe
from fpsim.bridge.systems.stream import Block, Group
from fpsim.bridge.systems.trainer import HeadMatrix, InputScales, LearnedLinear, train_block
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand, Scales

__all__ = ["AffineRecipe", "DbllmRecipe", "OmniRecipe", "Planes", "distillation_loss"]


@dataclass(frozen=True)
class TrainedRecipe(SystemRecipe):
    """A system that trains a block's constants before any of its groups is cast."""

    epochs: int = 10

    reads_float: ClassVar[bool] = True
    casts_inputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 0:
            raise FpsimError(f"recipe: epochs: {self.epochs!r} is not a number from 0 on")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return the forms from training."""
        forms = group.shared.get("forms")
        if forms is None:
            raise FpsimError(
                f"layer {group.names[0]}: it is in no block, where {self.name} trains nothing; "
                "name it in skip="
            )
        if group.shared["note"] not in group.notes:
            group.notes.append(group.shared["note"])
        return {name: forms[name] for name in group.names}


@dataclass(frozen=True)
class OmniRecipe(TrainedRecipe):
    """OmniQuant: learned clipping of weights, learned scales between layers.

    Source: arXiv 2308.13137 and its code. Clipping as in `LearnedLinear`. Scales: of norms'
    outputs, starting at max |x|^alpha / max |W|^(1 - alpha) of the first layer that reads the norm;
    between values and the layer that ends attention, starting the same way from that layer, one per
    channel of a head of keys and values, shared by the query heads that read the head. Weights:
    integers with a zero point per output channel (``element=int4``) or a floating-point element;
    inputs: a zero point per token, with ranges that need not hold zero. ``learn_scales=false``:
    clipping alone.

    Deviations: no scales between queries and keys: attention's products stay float, where they
    change nothing, and the paper's are not invariant under rotary positions; tokens of the batches
    given, one batch a step, in float32.
    """

    inputs: str = "int4-asym"
    element: str = "int4"
    alpha: float = 0.5
    rate: float = 0.005
    clipping_rate: float = 0.01
    learn_scales: bool = True
    clipping: bool = True

    needs_norms: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise FpsimError(f"recipe: alpha: {self.alpha!r} is not in 0..1")
        self._element()

    @property
    def freedom(self) -> tuple[float, bool]:
        """Share of heads' off-diagonal entries, and whether shifts are trained."""
        return 0.0, False

    def input_cast(self, clip: float = 1.0) -> Cast | None:
        """Return the cast of inputs; a range of integers need not hold zero."""
        cast = super().input_cast(clip)
        return RangeCast(cast.bits, clip, False) if isinstance(cast, RangeCast) else cast

    def _element(self) -> tuple[FloatFormat | None, int]:
        if self.element.removeprefix("int").isdecimal():
            return None, int(self.element.removeprefix("int"))
        found = get_format(self.element)
        if not isinstance(found, FloatFormat):
            raise FpsimError(
                f"recipe: element: {self.element!r} is no intN or floating-point format"
            )
        return found, found.bits

    def begin_block(self, data: BlockData) -> dict[str, Any]:
        """Train the block."""
        block = data.block
        scales: dict[str, InputScales] = {}
        reads: dict[str, HeadMatrix] = {}
        makes: dict[str, HeadMatrix] = {}
        for group in block.groups:
            name = group.names[0]
            if not self.learn_scales:
                continue
            start = self._start(block, group, data.statistics[name].maxima)
            if group.norm is not None:
                scales |= dict.fromkeys(group.names, InputScales(start, self.freedom[1]))
            elif block.ends_attention(group.names):
                self._between(block, start, reads, makes)
        element, bits = self._element()
        learners = {
            name: LearnedLinear(
                block.matrix(name), weight.bias, element, bits, self.input_cast(), scales.get(name),
                reads.get(name), makes.get(name), self.clipping,
            )
            for name, weight in block.layers.items()
        }  # fmt: skip
        transforms = [p for s in dict.fromkeys(scales.values()) for p in s.parameters]
        transforms += [matrix.raw for matrix in reads.values()]
        clips = [p for learner in learners.values() for p in learner.parameters]
        trained = train_block(
            block, data.outputs, data.states, learners,
            [(clips, self.clipping_rate), (transforms, self.rate)], self.epochs,
            list(reads.values()),
        )  # fmt: skip
        note = f"loss {trained.first:.3g} to {trained.last:.3g}"
        return {"forms": {name: x.form() for name, x in learners.items()}, "note": note}

    def _start(
        self, block: Block, group: Group, maxima: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        weight = float_rows(block.matrix(group.names[0])).astype(np.float64)
        column = np.abs(weight).max(axis=0).clip(1e-5)
        return np.asarray(maxima.clip(1e-5) ** self.alpha / column ** (1 - self.alpha)).clip(1e-5)

    def _between(
        self,
        block: Block,
        start: NDArray[np.float64],
        reads: dict[str, HeadMatrix],
        makes: dict[str, HeadMatrix],
    ) -> None:
        """Add the matrices between values and the layer that ends attention.

        There are none where the layer's input is transformed: the transform would stand between a
        matrix and its inverse.
        """
        heads = block.heads()
        if heads is None or block.changes.get(heads.reader):
            return
        shared = start.reshape(heads.number, heads.repeats, -1).max(axis=1).reshape(-1)
        matrix = HeadMatrix(shared, heads.number, heads.repeats, self.freedom[0])
        reads[heads.reader] = makes[heads.value] = matrix


@dataclass(frozen=True)
class AffineRecipe(OmniRecipe):
    """AffineQuant: OmniQuant with a full matrix per head between values and their readers.

    Source: arXiv 2403.12544 and its code (``--use_matrix``, the W4A4 setting). The matrix is
    masked: in epoch e of E its band is floor((D - 1) e / (E - 1)) + 1 wide, and what is off the
    diagonal counts by ``off_diagonal`` (0.1; 0, with the shifts off too, is OmniQuant bit for bit),
    which keeps it diagonally dominant, so it can be inverted. ``shifts``: of
    what norms make, trained from 0.

    Deviations: as `OmniRecipe`; the diagonal begins as OmniQuant's scales (the code takes the
    weight's largest value, not magnitude).
    """

    off_diagonal: float = 0.1
    shifts: bool = True

    @property
    def freedom(self) -> tuple[float, bool]:
        """Share of heads' off-diagonal entries, and whether shifts are trained."""
        return self.off_diagonal, self.shifts


# -- DB-LLM --------------------------------------------------------------------------------------


class Planes:
    """2-bit weights as two binary planes per row and group: W = a1 B1 + a2 B2.

    They start at a1 = 2 s, a2 = -s with s half the group's largest magnitude, levels -s, 0, s, 2 s;
    B1 = [w >= (a1 + a2) / 2], B2 = [w - a1 B1 <= a2 / 2]. Only a1 and a2 are trained.

    Args:
        weight: (N, K).
        bias: bias of the module.
        group: columns that share a1 and a2.
        cast: cast of inputs.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, group: int, cast: Cast | None
    ) -> None:
        if group < 1 or weight.shape[1] % group:
            raise FpsimError(
                f"recipe: group: {group} columns do not divide the layer's {weight.shape[1]}"
            )
        self.weight = weight.detach().float()
        self.bias = None if bias is None else bias.detach().float()
        self.group, self.cast = group, cast
        step = self.weight.reshape(len(weight), -1, group).abs().amax(2) / 2
        step = step.clamp(min=1e-6)
        self.first = (2 * step).requires_grad_(True)
        self.second = (-step).requires_grad_(True)

    def start_from(self, form: LayerForm) -> None:
        """Take a1 and a2 from a form that `form` returned, but for signs of empty planes."""
        with torch.no_grad():
            for scale, segment in zip((self.first, self.second), form.segments, strict=True):
                found = segment.weight
                scales = found.scales
                given = found.factor if scales is None else scales.format.decode(scales.given)
                signs = found.format.decode(found.codes).reshape(*scale.shape, self.group).sum(2)
                side = torch.from_numpy(np.sign(signs)).float()
                size = torch.from_numpy(np.asarray(given, np.float32))
                scale.copy_(torch.where(side == 0, scale.sign(), side) * size)

    def planes(self, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Return B1 and B2 of some rows, (N, G, g), for the present a1 and a2."""
        groups = self.weight[rows].reshape(-1, self.weight.shape[1] // self.group, self.group)
        a, b = self.first.detach()[rows, :, None], self.second.detach()[rows, :, None]
        one = (groups >= (a + b) / 2).float()
        rest = groups - a * one
        two = torch.where(b < 0, rest <= b / 2, rest >= b / 2).float()
        return one, two

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        found: torch.Tensor = _PlaneProduct.apply(  # type: ignore[no-untyped-call]
            cast_through(x, self.cast), self.first, self.second, self
        )
        return found if self.bias is None else found + self.bias

    def parts(self) -> list[slice]:
        """Return slices of some 2^16 weights in all, whole rows each."""
        rows, columns = self.weight.shape
        size = max((1 << 16) // columns, 1)
        return [slice(at, at + size) for at in range(0, rows, size)]

    def values(self) -> torch.Tensor:
        """Return a1 B1 + a2 B2, (N, K)."""
        found = torch.empty_like(self.weight)
        for rows in self.parts():
            one, two = self.planes(rows)
            a, b = self.first.detach()[rows, :, None], self.second.detach()[rows, :, None]
            found[rows] = (a * one + b * two).flatten(1)
        return found

    @torch.no_grad()
    def form(self) -> LayerForm:
        """Return two segments, one per plane, with FP16 scales."""
        parts = zip((self.first, self.second), self.planes(), strict=True)
        return LayerForm(tuple(self._plane(a.numpy(), b.numpy()) for a, b in parts))

    def _plane(self, scale: NDArray[np.float32], plane: NDArray[np.float32]) -> Segment:
        element, fmt = FixedFormat(2), get_format("e5m10")
        assert isinstance(fmt, FloatFormat)
        signed = (plane * np.sign(scale)[:, :, None]).reshape(self.weight.shape)
        codes = element.encode(signed.astype(np.float64))
        if self.group == self.weight.shape[1]:
            factor = np.abs(scale).astype(np.float16).astype(np.float32)
            return Segment(Operand(codes, element, factor=factor), self.cast)
        scales = fmt.encode(np.abs(scale).astype(np.float64), "rne", "saturate")
        return Segment(Operand(codes, element, Scales.of_rows(scales, fmt, self.group)), self.cast)


class _PlaneProduct(torch.autograd.Function):
    """A product with a layer's planes, which are made again for the backward pass.

    Planes in float take some eight times the memory of the weight, and a graph would keep them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, planes: Planes
    ) -> torch.Tensor:
        ctx.save_for_backward(x, first, second)
        ctx.planes = planes
        return x @ planes.values().T

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, first, second = ctx.saved_tensors
        planes: Planes = ctx.planes
        inputs = grad @ planes.values()
        weights = grad.flatten(0, -2).T @ x.flatten(0, -2)
        scales = torch.empty_like(first), torch.empty_like(second)
        for rows in planes.parts():
            part = weights[rows].reshape(-1, first.shape[1], planes.group)
            for scale, plane in zip(scales, planes.planes(rows), strict=True):
                scale[rows] = (part * plane).sum(2)
        return inputs, *scales, None


@dataclass(frozen=True)
class DbllmRecipe(TrainedRecipe):
    """DB-LLM: two binary planes per weight, each a product of additions alone.

    Source: arXiv 2402.11960, of which the abstract and third-party code are known. Planes as in
    `Planes`, their scales trained block by block (``epochs``), then all together for ``steps``
    steps of one batch by distillation from the float model (`distillation_loss`; the paper's
    "deviation-aware" weights are not known, these are). Both 0: planes as they begin. Weights only:
    ``inputs`` is the cast of inputs for the unit.
    """

    inputs: str = "fp16"
    group: int = 64
    rate: float = 0.001
    steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise FpsimError(f"recipe: steps: {self.steps!r} is not a number from 0 on")

    def begin_block(self, data: BlockData) -> dict[str, Any]:
        """Train the block's planes."""
        block = data.block
        learners = {name: self._planes(block, name) for name in block.layers}
        parameters = [p for x in learners.values() for p in (x.first, x.second)]
        trained = train_block(
            block, data.outputs, data.states, learners, [(parameters, self.rate)], self.epochs
        )
        note = f"loss {trained.first:.3g} to {trained.last:.3g}"
        return {"forms": {name: x.form() for name, x in learners.items()}, "note": note}

    def _planes(self, block: Block, name: str) -> Planes:
        weight = block.layers[name]
        group = _divisor(weight.sizes[0], self.group)
        return Planes(block.matrix(name), weight.bias, group, self.input_cast())

    def finish(self, stream: StreamModel, forms: dict[str, LayerForm]) -> dict[str, LayerForm]:
        """Return the forms after distillation, without errors.

        Raises:
            FpsimError: a model without logits, or a loss that is not finite.
        """
        if not self.steps:
            return forms
        learners: dict[str, Planes] = {}
        modules: dict[torch.nn.Module, Any] = {b.module: recomputed(b) for b in stream.blocks}
        for block in stream.blocks:
            for name, weight in block.layers.items():
                learners[name] = learner = self._planes(block, name)
                learner.start_from(forms[name])
                modules[weight.module] = block.computed(name, learner.forward)
        scales = [p for learner in learners.values() for p in (learner.first, learner.second)]
        optimizer = torch.optim.AdamW(scales, self.rate, weight_decay=0.0)
        with frozen(stream.model):
            for step in range(self.steps):
                batch = stream.batches[step % len(stream.batches)]
                with torch.no_grad():
                    teacher = _logits(stream.model, batch)
                with forwards(modules), torch.enable_grad():
                    student = _logits(stream.model, batch)
                    loss = distillation_loss(teacher, student, batch.get("input_ids"))
                    if not torch.isfinite(loss):
                        raise FpsimError(f"distillation: the loss is not finite in step {step + 1}")
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return forms | {name: learner.form() for name, learner in learners.items()}


def _logits(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    found = getattr(model(**batch), "logits", None)
    if found is None:
        raise FpsimError(
            f"recipe: steps: {type(model).__name__} has no logits to distil; give steps=0"
        )
    return torch.as_tensor(found).float()


def distillation_loss(
    teacher: torch.Tensor, student: torch.Tensor, tokens: torch.Tensor | None
) -> torch.Tensor:
    """Return KL(p_T || p_S), weighed up where either is uncertain, plus next tokens' cross entropy.

    Weights are the sums of both entropies, with mean 1; no gradient flows through them.

    Args:
        teacher: logits of the float model, (..., V).
        student: logits of the cast model, (..., V).
        tokens: (B, T) if logits (B, T, V) predict the next token, or None: no cross entropy.

    Returns:
        The loss, in nats.
    """
    logits = [torch.split(x.flatten(0, -2), _ROWS) for x in (teacher, student)]
    following: Sequence[torch.Tensor | None] = [None] * len(logits[0])
    if tokens is not None and student.shape[:-1] == tokens.shape:
        following = torch.split(tokens.roll(-1, dims=1).flatten(), _ROWS)
    found = [
        checkpoint(_row_losses, *part, use_reentrant=False)
        for part in zip(*logits, following, strict=True)
    ]
    uncertain, away, wrong = (torch.cat(rows) for rows in zip(*found, strict=True))
    loss = (uncertain / uncertain.mean() * away).mean()
    if tokens is None or following[0] is None:
        return loss
    return loss + wrong.reshape(tokens.shape)[:, :-1].mean()


#: Rows of logits whose distributions are held at a time.
_ROWS = 16


def _row_losses(
    teacher: torch.Tensor, student: torch.Tensor, following: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return both entropies' sum, KL(p_T || p_S) and cross entropy of next tokens, (R,) each."""
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    uncertain = -(p.exp() * p).sum(-1) - (q.exp() * q).sum(-1).detach()
    away = (p.exp() * (p - q)).sum(-1)
    if following is None:
        return uncertain, away, torch.zeros_like(away)
    return uncertain, away, -q.gather(-1, following[:, None])[:, 0]


def _divisor(width: int, wanted: int) -> int:
    return max(size for size in range(1, min(wanted, width) + 1) if width % size == 0)


register("omniquant")(OmniRecipe)
register("affinequant")(AffineRecipe)
register("db-llm")(DbllmRecipe)
