# SPDX-License-Identifier: Apache-2.0
"""Systems that rotate the residual stream: QuaRot, QUAD, SpinQuant.

A rotation that the papers fold into weights on both sides is applied here where a layer reads and
undone where it writes (`LayerForm.maps` and ``back``); weights, codes and products equal the fused
model's, up to float32 roundings of the rotation. The official codes also subtract the row means of
the embedding, which RMS norms do not compensate; this is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.cast import Cast
from fpsim.bridge.recipe import AttentionCasts, register
from fpsim.bridge.recipes.gptq import SEARCH, WeightOptions, rounded, weight_cast
from fpsim.bridge.systems.casts import GridCast, GroupCast, TurnedCast, input_cast
from fpsim.bridge.systems.forms import (
    BlockHadamard,
    Divide,
    FloatColumns,
    LayerForm,
    Matrix,
    Segment,
)
from fpsim.bridge.systems.hadamard import random_hadamard
from fpsim.bridge.systems.learned import RESIDUAL, learn_rotations
from fpsim.bridge.systems.recipe import GroupData, StreamModel, SystemRecipe, rms_gain
from fpsim.bridge.transforms import orthogonal
from fpsim.formats.names import get_format

__all__ = ["QuadRecipe", "QuarotRecipe", "SpinquantRecipe", "residual_projection"]


def _random_rotation(width: int, seed: int) -> NDArray[np.float64]:
    """Return a random Hadamard matrix, or a random orthogonal one if none exists of this size."""
    try:
        return random_hadamard(width, seed)
    except FpsimError:
        return orthogonal(width, seed).double().numpy()


def _width(stream: StreamModel) -> int:
    return int(stream.first[0].shape[-1])


@dataclass(frozen=True)
class QuarotRecipe(SystemRecipe):
    """QuaRot: all cast operands are rotated first, so that no channel has outliers.

    Source: arXiv 2404.00456 and its code. Gains of RMS norms go into the layers that read them; the
    residual stream is rotated by a random Hadamard matrix (or by `orthogonal` if none exists of its
    width), attention's output and the MLP's hidden values by a Hadamard matrix online. Weights:
    ``element`` per output channel, GPTQ, a search for a clipped range (both off with
    ``solver=false``); inputs: symmetric per token, times ``clip`` (paper 0.9, code 1). ``kv`` is
    ``float`` or ``int4-asym``: keys and values per token and head with a zero point, clipped at
    0.95, keys and queries rotated after their positions; queries and probabilities are then FP16.
    ``wide`` casts layers that end an MLP with 8 bits. ``rotate=false``: no rotations.

    Deviations: one online Hadamard matrix over all heads in place of one fused into the values and
    one across heads (it is their product; and for 9 heads none exists), so values are not rotated;
    no centring of the embedding, which would change the function.
    """

    element: str = "int4"
    clip: float = 1.0
    kv: str = "float"
    wide: bool = False
    rotate: bool = True
    solver: bool = True
    damping: float = 0.01
    seed: int = 0

    needs_norms: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kv not in ("float", "int4-asym"):
            raise not_one_of("recipe: kv", self.kv, ("float", "int4-asym"))
        if not 0 < self.clip <= 1:
            raise FpsimError(f"recipe: clip: {self.clip!r} is not in 0..1")
        weight_cast(self.element)

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration needs inputs at all; not for rounding to nearest."""
        return self.solver

    def begin(self, stream: StreamModel) -> dict[str, Any]:
        """Return the rotation of the residual stream."""
        return {RESIDUAL: _random_rotation(_width(stream), self.seed).astype(np.float32)}

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with one segment after the layer's rotation."""
        maps = self._maps(group)
        wide = self.wide and group.ends_mlp
        cast = input_cast("int8", self.clip) if wide else self.input_cast(self.clip)
        forms = {}
        for name in group.names:
            weight, hessian = group.mapped(name, maps)
            back = self._back(group, name)
            if back is not None:
                weight = back.astype(np.float64) @ weight
            element = weight_cast("int8" if wide else self.element, SEARCH if self.solver else 0)
            options = WeightOptions(self.solver, "natural", self.damping)
            operand, note = rounded(weight, hessian, element, options)
            if note:
                group.notes.append(f"{name}: {note}")
            forms[name] = LayerForm((Segment(operand, cast),), maps, back=back)
        return forms

    def _maps(self, group: GroupData) -> tuple[Any, ...]:
        """Return the maps of a group's input."""
        if not self.rotate:
            return ()
        if group.norm is not None:
            return _gain(group), Matrix(group.shared[RESIDUAL])
        if group.number < 0:
            raise FpsimError(
                f"layer {group.names[0]}: it is in no block, so {self.name} does not know whether "
                "its output is rotated; name it in skip="
            )
        return (BlockHadamard(group.width),)

    def _back(self, group: GroupData, name: str) -> NDArray[np.float32] | None:
        """Return the rotation that is undone after a layer's output, or None."""
        if not self.rotate or group.reads_norm:
            return None
        rotation = group.shared[RESIDUAL]
        if len(group.weights[name]) != len(rotation):
            raise FpsimError(
                f"layer {name}: it neither reads a norm nor writes the residual stream of width "
                f"{len(rotation)}, so {self.name} cannot rotate it; name it in skip="
            )
        return np.ascontiguousarray(rotation.T)

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return FP16 queries and probabilities, and the cache's casts."""
        if self.kv == "float":
            return None
        half: Cast = GridCast(get_format("e5m10"), scale=1.0)
        cache = GroupCast(4, 0, 0.95)
        if not self.rotate:
            return AttentionCasts(half, cache, half, cache, "token")
        return AttentionCasts(TurnedCast(half), TurnedCast(cache), half, cache, "token")


def _gain(group: GroupData) -> Divide:
    """Return a map that removes a norm's gain from its output; zero gains stay."""
    assert group.norm is not None
    gain = rms_gain(group.norm, group.width)
    return Divide(np.where(gain != 0, gain, 1.0).astype(np.float32))


# -- QUAD ----------------------------------------------------------------------------------------


def residual_projection(moments: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Return Q = [P, 1 - P P^T], (d, r + d), with P the r strongest directions; Q Q^T = 1.

    Args:
        moments: second moments of the residual stream, (d, d).
        columns: r.

    Returns:
        The projection.
    """
    strongest = np.linalg.eigh(moments)[1][:, ::-1][:, :columns]
    return np.concatenate([strongest, np.eye(len(moments)) - strongest @ strongest.T], axis=1)


@dataclass(frozen=True)
class QuadRecipe(QuarotRecipe):
    """QUAD: the residual stream's strongest directions become FP16 columns; QuaRot on the rest.

    Source: arXiv 2503.19353 and its code. P holds the ``columns`` strongest singular vectors of the
    norms' inputs in all blocks; readers get x [P, 1 - P P^T], rotated, whose first r columns are
    multiplied in FP16 beside the unit. Layers that end attention or an MLP have no such columns,
    and 8-bit inputs (``narrow=true``: 4 bits, the paper's W4A4). Scales of inputs are 0.9 times the
    maximum; GPTQ's second moments leave out the FP16 columns.

    Deviations: both norms of every block have equal weight (the code's running mean nearly loses
    the first); 64 columns are 11 % of SmolLM2's width and 1.6 % of LLaMA-7B's, so the default is a
    sixteenth of the width; no fine-tuning.
    """

    clip: float = 0.9
    columns: int = 0
    narrow: bool = False

    def begin(self, stream: StreamModel) -> dict[str, Any]:
        """Return the projection, rotated."""
        width = _width(stream)
        count = self.columns or max(width // 16, 1)
        if not 0 < count <= width:
            raise FpsimError(f"recipe: columns: {self.columns!r} is not in 1..{width}")
        projection = residual_projection(_norm_inputs(stream, width), count)
        turn = np.zeros((count + width, count + width))
        turn[:count, :count] = _random_rotation(count, self.seed)
        turn[count:, count:] = _random_rotation(width, self.seed + 1)
        return {RESIDUAL: (projection @ turn).astype(np.float32), "count": count}

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return forms: a segment and FP16 columns for readers, one segment for other layers."""
        if not group.reads_norm:
            if self.narrow:
                return super().prepare(group)
            wide = replace(self, inputs="int8" if self.inputs == "int4" else "mxfp8-e4m3")
            return QuarotRecipe.prepare(wide, group)
        count = int(group.shared["count"])
        maps = self._maps(group)
        rest = np.arange(count, count + group.width)
        forms = {}
        for name in group.names:
            weight, hessian = group.mapped(name, maps)
            cast = weight_cast(self.element, SEARCH if self.solver else 0)
            options = WeightOptions(self.solver, "natural", self.damping)
            inner = None if hessian is None else hessian[np.ix_(rest, rest)]
            operand, _ = rounded(weight[:, rest], inner, cast, options)
            side = FloatColumns(np.arange(count), weight[:, :count].astype(np.float32))
            segment = Segment(operand, self.input_cast(self.clip), rest)
            forms[name] = LayerForm((segment,), maps, (side,))
        return forms


@torch.no_grad()
def _norm_inputs(stream: StreamModel, width: int) -> NDArray[np.float64]:
    """Return the second moments of the inputs of all blocks' norms, with equal weights."""
    moments = np.zeros((width, width))

    def see(_: torch.nn.Module, args: Any, __: Any) -> None:
        x = args[0].detach().reshape(-1, args[0].shape[-1]).float()
        if x.shape[1] == width:
            moments.__iadd__((x.T @ x).double().numpy())

    states = list(stream.first)
    for block in stream.blocks:
        norms = [m for m in block.module.modules() if "norm" in type(m).__name__.lower()]
        handles = [norm.register_forward_hook(see) for norm in norms]
        try:
            states = [block.run(batch, x) for batch, x in enumerate(states)]
        finally:
            for handle in handles:
                handle.remove()
    if not moments.any():
        raise FpsimError(f"model: {type(stream.model).__name__} has no norms in its blocks to fold")
    return moments


# -- SpinQuant -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpinquantRecipe(QuarotRecipe):
    """SpinQuant: QuaRot with learned rotations of the residual stream and of heads of values.

    Source: arXiv 2405.16406 and its code. R1 turns the residual stream as QuaRot's rotation does;
    R2, one matrix a block, turns every head between the layer that makes values and the one that
    ends attention, in place of QuaRot's matrix over all heads (``heads=false``: as QuaRot). They
    start as random Hadamard matrices and take ``steps`` steps of Cayley SGD (momentum 0.9, rate
    ``rate`` falling by a cosine, step at most 1 / ||skew||_1) on the next-token cross entropy of
    the model with cast inputs and float weights, as for GPTQ in the paper. The rest is QuaRot with
    GPTQ; inputs have a zero point per token.

    Deviations: one window per step; inputs of the layer that ends attention have a scale per token,
    not per head; ``kv`` casts values before R2 turns them; a model that does not tell the width of
    its heads is turned as by QuaRot there.
    """

    inputs: str = "int4-asym"
    steps: int = 100
    rate: float = 1.5
    heads: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise FpsimError(f"recipe: steps: {self.steps!r} is not a number from 0 on")

    def begin(self, stream: StreamModel) -> dict[str, Any]:
        """Return the learned rotations: of the residual stream, and by block of its heads."""
        widths = {RESIDUAL: _width(stream)}
        if self.heads:
            for block in stream.blocks:
                block.find_groups(stream.first)
                heads = block.heads()
                if heads is not None:
                    widths[block.name] = heads.width
        start = {
            name: torch.from_numpy(_random_rotation(width, self.seed + number)).float()
            for number, (name, width) in enumerate(widths.items())
        }
        cast = self.input_cast(self.clip)
        learned = learn_rotations(stream, start, cast, self.steps, self.rate)
        return {name: turn.numpy().astype(np.float32) for name, turn in learned.items()}

    def _maps(self, group: GroupData) -> tuple[Any, ...]:
        """Return the maps of a group's input: of attention's end, the rotation of heads."""
        turn = group.shared.get(group.block.name)
        if self.rotate and turn is not None and group.ends_attention:
            return (Matrix(turn),)
        return super()._maps(group)

    def _back(self, group: GroupData, name: str) -> NDArray[np.float32] | None:
        """Return the rotation that is undone after a layer's output, or None."""
        turn, heads = group.shared.get(group.block.name), group.block.heads()
        if self.rotate and turn is not None and heads is not None and name == heads.value:
            return np.kron(np.eye(heads.number, dtype=np.float32), turn.T)
        return super()._back(group, name)


register("quarot")(QuarotRecipe)
register("quad")(QuadRecipe)
register("spinquant")(SpinquantRecipe)
