# SPDX-License-Identifier: Apache-2.0
"""The share of a model's multiply-accumulates on a unit, and the modules with the rest.

Simulated products count themselves; torch's products are counted by `torch.utils.flop_counter`,
which knows matrix products, convolutions and fused attention, except the processor's fused
attention, which is added here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fpsim.bridge.attention import simulated_attention
from fpsim.bridge.linear import simulated_layers
from fpsim.bridge.systems.layer import FormLinear

__all__ = ["MacShare", "counted", "mac_share"]


@dataclass
class MacShare:
    """Multiply-accumulates of some forward passes: on the unit, and elsewhere by module.

    In the names of ``rest`` stars replace numbers: ``model.layers.*.self_attn`` is all layers'
    attention.
    """

    simulated: int = 0
    rest: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Multiply-accumulates in all."""
        return self.simulated + sum(self.rest.values())

    @property
    def share(self) -> float:
        """Share on the unit, 0 to 1; 0 if there are no multiply-accumulates."""
        return self.simulated / self.total if self.total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"simulated": self.simulated, "share": self.share, "rest": dict(self.rest)}

    def __str__(self) -> str:
        """Return one line of text, with the largest parts of the rest first."""
        line = f"{100 * self.share:.1f} % of {self.total} multiply-accumulates on the unit"
        parts = sorted(self.rest.items(), key=lambda item: -item[1])
        shown = [f"{name} {100 * macs / self.total:.1f} %" for name, macs in parts[:5]]
        return line + ("; float: " + ", ".join(shown) if shown else "")


def _attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    """Return the operations of Q K^T and P V, for Q (B, H, T, D) and K, V (B, G, S, D)."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


#: Operators that torch's counter lacks.
_UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


def mac_share(model: nn.Module, batch: Mapping[str, Any]) -> MacShare:
    """Run a model, converted or not, once and return its multiply-accumulates."""
    with torch.no_grad(), counted(model) as share:
        model(**batch)
    return share


@contextmanager
def counted(model: nn.Module) -> Iterator[MacShare]:
    """Count multiply-accumulates of the model within a context, which fills in the result."""
    share = MacShare()
    before, apart = _simulated(model), _beside(model)
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
    with counter:
        yield share
    share.simulated = _simulated(model) - before
    share.rest = _by_module(counter.get_flop_counts(), type(model).__name__)
    beside = _beside(model) - apart
    if beside:
        share.rest["side paths"] = beside


def _simulated(model: nn.Module) -> int:
    layers, attention = simulated_layers(model), simulated_attention(model)
    return sum(x.macs for x in layers.values()) + sum(x.macs for x in attention.values())


def _beside(model: nn.Module) -> int:
    """Return multiply-accumulates of systems' side paths, which torch does not count."""
    layers = simulated_layers(model).values()
    return sum(layer.side_macs for layer in layers if isinstance(layer, FormLinear))


def _by_module(counts: Mapping[str, Mapping[Any, int]], root: str) -> dict[str, int]:
    """Return multiply-accumulates of each module, without its children's."""
    own = {name: sum(ops.values()) for name, ops in counts.items() if name.split(".")[0] == root}
    for name in sorted(own, key=len, reverse=True):
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent in own:
                break
        if parent != name:
            own[parent] -= sum(counts[name].values())
    rest: dict[str, int] = {}
    for name, flops in own.items():
        if flops:
            short = re.sub(r"\b\d+\b", "*", name.partition(".")[2]) or root
            rest[short] = rest.get(short, 0) + flops // 2
    return rest
