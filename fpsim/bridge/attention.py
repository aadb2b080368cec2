# SPDX-License-Identifier: Apache-2.0
"""Attention's two matrix products on a simulated unit, through transformers' attention interface.

Every model that dispatches through `AttentionInterface` is supported, without further code:

    S = (Q K^T) * scaling   summed along the head, after positions are in; then mask and softmax
    O = P V                 summed along the keys

Scaling, soft caps, position biases, masks, sinks and softmax are float32. Under grouped-query
attention the query heads of a group share one cast of K and V. Keys that a mask hides from every
query (padding, unused slots of a static cache) count as zeros in K and V, so they do not affect
scales.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.product import Product, float_rows, replace_values, straight_through
from fpsim.bridge.recipe import AttentionCasts
from fpsim.unit import MacUnit
from fpsim.units.operands import Operand, Scales

__all__ = [
    "FLOAT_INSTEAD",
    "NAME",
    "SimulatedAttention",
    "attach",
    "attention_layers",
    "detach",
    "other_attention",
    "simulated_attention",
]

#: Name of the simulated attention in transformers.
NAME = "fpsim"
#: Advice in messages about attention that cannot be simulated.
FLOAT_INSTEAD = (
    "use a recipe that leaves attention in float, such as amxfp4-linear, or name these layers in "
    "skip="
)


class SimulatedAttention:
    """The products of one attention layer.

    Raises:
        FpsimError: on a call, an operand without codes; the message names layer, pass and operand.
    """

    def __init__(self, casts: AttentionCasts, unit: MacUnit, name: str, seed: int = 0) -> None:
        self.casts, self.unit, self.name, self.seed = casts, unit, name, seed
        self.passes = 0
        self.macs = 0  #: multiply-accumulates on the unit, over all passes
        self.passes_before = 0  #: `passes` when the layer's forward began
        self.hooks: list[RemovableHandle] = []
        #: Multiples of so many keys are block boundaries of both operands of P V.
        along = casts.value if casts.value_axis == "sequence" else None
        self.block = math.lcm(*map(_block, (casts.probability, along)))

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float,
        dropout: float,
        softcap: float | None,
        bias: torch.Tensor | None = None,
        sinks: torch.Tensor | None = None,
        first: NDArray[np.int64] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute softmax(Q K^T scaling + bias + mask) V.

        Args:
            module: the layer; in training mode dropout acts.
            query: (B, H, T, D).
            key: (B, G, S, D) with G dividing H.
            value: (B, G, S, D').
            mask: float, added to the scores: (B or 1, H or 1, T, S or more).
            scaling: factor of the scores.
            dropout: share of probabilities that training drops.
            softcap: scores x become softcap tanh(x / softcap).
            bias: position bias, added to the scores like the mask.
            sinks: (H), one more score per row, which takes part in the softmax but has no value.
            first: (B,), position of the first key, counted from the sequence's first token; blocks
                along the keys start at positions that are multiples of their size. Default 0.

        Returns:
            Outputs (B, T, H, D') and probabilities (B, H, T, S).

        Raises:
            FpsimError: an operand with NaN, infinities or values without a code.
        """
        self.passes += 1
        batch, heads, rows, width = query.shape
        groups, length = key.shape[1], key.shape[2]
        if mask is not None:
            mask = mask[..., :length]
            hidden = hidden_keys(mask)
            key, value = _without(key, hidden), _without(value, hidden)
        stacked = query.reshape(batch * groups, -1, width)
        flat_key = key.reshape(batch * groups, length, width)
        scores = self._product(stacked, flat_key, ("query", "key"))
        scores = scores.reshape(batch, heads, rows, length) * scaling
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if bias is not None:
            scores = scores + bias[..., :length]
        if mask is not None:
            scores = scores + mask
        if sinks is not None:
            column = sinks.reshape(1, -1, 1, 1).expand(batch, heads, rows, 1)
            scores = torch.cat([scores, column.to(scores.dtype)], dim=-1)
        probability = nn.functional.softmax(scores, dim=-1, dtype=torch.float32)[..., :length]
        dropped = nn.functional.dropout(probability, dropout, module.training)
        weights = dropped.reshape(batch, -1, length)
        columns = value.transpose(2, 3).reshape(batch, -1, length)
        if first is not None and (first % self.block).any():
            lead = first % self.block
            weights, columns = _shifted(weights, lead), _shifted(columns, lead)
        weights = weights.reshape(batch * groups, -1, weights.shape[2])
        columns = columns.reshape(batch * groups, -1, columns.shape[2])
        out = self._product(weights, columns, ("probability", "value"))
        out = out.reshape(batch, heads, rows, -1).transpose(1, 2)
        return out.to(query.dtype).contiguous(), probability.to(query.dtype)

    def _product(self, x: torch.Tensor, w: torch.Tensor, names: tuple[str, str]) -> torch.Tensor:
        """Return x (B, M, K) times w (B, N, K) transposed, in float32."""
        left, right = (getattr(self.casts, name) for name in names)
        if left is None or right is None:
            a, b = self._replaced(x, left, names[0]), self._replaced(w, right, names[1])
            return a @ b.transpose(1, 2)
        a_rows, b_rows = self._cast(x, left, names[0]), self._cast(w, right, names[1])
        pairs = list(zip(a_rows, b_rows, strict=True))
        product = Product(self.unit, f"{self.name}.{names[0]}", self.seed, self.passes)
        results = x.shape[1] * w.shape[1]
        self.macs += x.shape[0] * results * x.shape[2]
        parts = [product.run(a, b, i * results)[0] for i, (a, b) in enumerate(pairs)]
        out = torch.from_numpy(np.stack(parts)).to(x.device)
        return straight_through(x, w, out, pairs)

    def _cast(self, x: torch.Tensor, cast: Cast, name: str) -> list[Operand]:
        """Return one operand per batch entry of x (B, R, K), cast together as one tensor."""
        by_token = name == "value" and self.casts.value_axis == "token"
        tensor = x.transpose(1, 2) if by_token else x
        try:
            whole = cast.quantize(float_rows(tensor))
        except FpsimError as error:
            raise FpsimError(
                f"layer {self.name}: forward pass {self.passes}: {name}: {error}"
            ) from None
        count = tensor.shape[1]
        parts = [whole.at(slice(i * count, (i + 1) * count)) for i in range(tensor.shape[0])]
        return [_turned(part, self.name) for part in parts] if by_token else parts

    def _replaced(self, x: torch.Tensor, cast: Cast | None, name: str) -> torch.Tensor:
        x = x.to(torch.float32)
        if cast is None:
            return x
        values = np.stack([part.dequantize() for part in self._cast(x, cast, name)])
        return replace_values(x, torch.from_numpy(values.astype(np.float32)).to(x.device))


def _block(cast: Cast | None) -> int:
    """Return the elements of a row that share a scale under a cast; 1 if all or none do."""
    if cast is None:
        return 1
    operand = cast.quantize(np.zeros((1, 64), np.float32))
    return 1 if operand.scales is None else operand.block


def hidden_keys(mask: torch.Tensor) -> torch.Tensor:
    """Return the mask (B or 1, S) of keys that a float mask hides from every query."""
    return (mask <= torch.finfo(mask.dtype).min / 2).flatten(1, 2).all(1)


def _without(x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return x (B, G, S, D) with zeros at hidden keys (B or 1, S)."""
    if not bool(hidden.any()):
        return x
    return x.masked_fill(hidden[:, None, :, None], 0.0)


def _shifted(x: torch.Tensor, lead: NDArray[np.int64]) -> torch.Tensor:
    """Return x (B, R, S) with ``lead`` (B,) zeros before the last axis, and zeros after it."""
    widest = int(lead.max())
    out = x.new_zeros((*x.shape[:2], x.shape[2] + widest))
    for row, count in enumerate(lead.tolist()):
        out[row, :, count : count + x.shape[2]] = x[row]
    return out


def _turned(operand: Operand, layer: str) -> Operand:
    """Return rows (S, D), cast along D, as an operand (D, S) that is summed along S.

    Scales then differ from one product to the next: each is a block of one element along K.
    """
    if operand.factor is not None and operand.factor.shape[0] > 1:
        raise FpsimError(
            f"layer {layer}: value_axis: 'token' with a scale per token varies along the sum; "
            "use a block format or value_axis=sequence"
        )
    codes = np.ascontiguousarray(operand.codes.T)
    if operand.scales is None:
        return replace(operand, codes=codes)
    spread = np.ascontiguousarray(operand.scales.spread(1, operand.length).swapaxes(0, 1))
    return replace(operand, codes=codes, scales=Scales(spread, operand.scales.format))


# -- transformers --------------------------------------------------------------------------------

#: Attribute of an attention layer, kept in its ``__dict__`` so that copies and pickles include it.
_ATTACHED = "_fpsim_attention"
#: Arguments that some models pass and that change the computation: sinks, key indices, paged keys.
_UNKNOWN = ("sinks", "indices", "block_indices", "cache")


def attach(module: nn.Module, simulated: SimulatedAttention) -> None:
    """Let an attention layer compute with ``simulated`` while its model dispatches to `NAME`.

    A later forward pass of the layer that does not call ``simulated`` raises `FpsimError`.
    """
    detach(module)
    simulated.hooks = [
        module.register_forward_pre_hook(_note_passes),
        module.register_forward_hook(_check_passes),
    ]
    object.__setattr__(module, _ATTACHED, simulated)


def detach(module: nn.Module) -> None:
    """Undo `attach`."""
    simulated = module.__dict__.pop(_ATTACHED, None)
    if simulated is not None:
        for hook in simulated.hooks:
            hook.remove()


def simulated_attention(model: nn.Module) -> dict[str, SimulatedAttention]:
    """Return the simulated attention of a model's layers, by name."""
    found = {name: m.__dict__.get(_ATTACHED) for name, m in model.named_modules()}
    return {name: simulated for name, simulated in found.items() if simulated is not None}


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose products go through transformers' attention interface, by name."""
    return {name: m for name, m in model.named_modules() if _uses_interface(m.__class__)}


def other_attention(model: nn.Module) -> dict[str, nn.Module]:
    """Return layers that do not compute attention through transformers' interface, by name.

    Such layers are recognised by class name; of nested ones the innermost is returned.
    """
    through = attention_layers(model)
    named = {n: m for n, m in model.named_modules() if _ATTENTION.search(type(m).__name__)}
    return {
        name: module
        for name, module in named.items()
        if not any(other == name or _inside(name, other) for other in through)
        and not any(_inside(other, name) for other in (*through, *named))
    }


def _inside(name: str, outer: str) -> bool:
    return name != outer and (not outer or name.startswith(f"{outer}."))


_ATTENTION = re.compile(r"Att(n|ention)(?!\w*Output$)")


@cache
def _uses_interface(kind: type[nn.Module]) -> bool:
    """Whether a method of the class looks up an attention function, as transformers' layers do."""
    methods = (
        inspect.unwrap(method)
        for base in kind.__mro__
        if base not in PreTrainedModel.__mro__  # which itself sets implementations
        for method in vars(base).values()
        if inspect.isfunction(method)
    )
    return any("ALL_ATTENTION_FUNCTIONS" in method.__code__.co_names for method in methods)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _note_passes(module: nn.Module, _: Any) -> None:
    simulated = module.__dict__[_ATTACHED]
    simulated.passes_before = simulated.passes


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _check_passes(module: nn.Module, _: Any, __: Any) -> None:
    simulated = module.__dict__[_ATTACHED]
    if simulated.passes == simulated.passes_before:
        found = getattr(getattr(module, "config", None), "_attn_implementation", None)
        raise FpsimError(
            f"layer {simulated.name}: it is converted, but its attention was computed in float: "
            f"the model's attention implementation is {found!r}, not {NAME!r}; call "
            f"set_attn_implementation({NAME!r}), or restore() the model to compute in float"
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: torch.Tensor | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute attention with the signature of transformers' attention functions."""
    simulated = module.__dict__.get(_ATTACHED)
    for name in _UNKNOWN:
        if others.get(name) is not None:
            layer = type(module).__name__ if simulated is None else simulated.name
            raise FpsimError(
                f"layer {layer}: attention with {name} is not simulated; {FLOAT_INSTEAD}"
            )
    if simulated is None:
        # Another model with an equal config object, or a layer that a pattern leaves float.
        if softcap is None and s_aux is None:
            sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
            result: tuple[torch.Tensor, torch.Tensor | None] = sdpa(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
                position_bias=position_bias, **others,
            )  # fmt: skip
            return result
        simulated = SimulatedAttention(AttentionCasts(None, None, None, None), _NO_UNIT, "")
    if attention_mask is not None:
        attention_mask = _float_mask(attention_mask, query.dtype, simulated.name)
    first = _first_tokens(module, query, key, attention_mask, others)
    if attention_mask is None and getattr(module, "is_causal", False) and query.shape[2] > 1:
        attention_mask = _causal(query, key)
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    return simulated(
        module, query, key, value, attention_mask, factor, dropout, softcap, position_bias, s_aux,
        first,
    )  # fmt: skip


def _float_mask(mask: torch.Tensor, dtype: torch.dtype, layer: str) -> torch.Tensor:
    """Return a mask as scores to add; True in a bool mask lets a key through."""
    if mask.dtype == torch.bool:
        lowest = torch.finfo(dtype).min
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
    if not mask.is_floating_point():
        raise FpsimError(
            f"layer {layer}: attention_mask: a mask of {mask.dim()} dimensions is bool or floating "
            f"point, not {mask.dtype}"
        )
    return mask


def _first_tokens(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    others: Mapping[str, Any],
) -> NDArray[np.int64] | None:
    """Return the position (B,) of the first key; negative inside padding before a sequence.

    A cache with a sliding window holds only the last keys; the queries' positions, which models
    pass on, show which. Without positions the first key belongs to token 0 or, if the mask hides
    the first keys from every query and no window explains this, to the padding before token 0.
    """
    batch, rows, length = query.shape[0], query.shape[2], key.shape[2]
    hidden = np.zeros((1, length), bool)
    if mask is not None:
        hidden = hidden_keys(mask[..., :length]).cpu().numpy()
    leading = np.logical_and.accumulate(hidden, axis=1).sum(1)
    last = length - 1 - np.logical_and.accumulate(hidden[:, ::-1], axis=1).sum(1)
    first = np.zeros(batch, np.int64)
    positions = others.get("position_ids")
    causal = getattr(module, "is_causal", False)
    if causal and positions is not None and positions.dim() == 2 and positions.shape[1] == rows:
        first = first + positions[:, -1].cpu().numpy() - last
    window = others.get("sliding_window")
    beyond = 0 if not window else np.maximum(last - rows + 2 - window, 0)
    padding = np.where((leading > beyond) & (leading < length), leading, 0)
    first = np.where(first == 0, -padding, first)
    return first if first.any() else None


def _causal(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    rows, length = query.shape[2], key.shape[2]
    lowest = torch.finfo(query.dtype).min
    full = torch.full((rows, length), lowest, dtype=query.dtype, device=query.device)
    return full.triu(length - rows + 1)[None, None]


_NO_UNIT: Any = None
ALL_ATTENTION_FUNCTIONS.register(NAME, _forward)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
