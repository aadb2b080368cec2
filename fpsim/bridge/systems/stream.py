# SPDX-License-Identifier: Apache-2.0
"""A model block by block: inputs of each block, and the order in which its layers read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.layer_inputs import Batch, Changes, watched
from fpsim.bridge.transforms import apply_transforms
from fpsim.bridge.weights import LayerWeight

__all__ = ["CACHES", "Block", "Group", "Heads", "Hidden", "blocks_of", "first_inputs"]

#: Hidden states of every batch, the input of a block.
Hidden = list[torch.Tensor]


class _Stop(Exception):
    """Ends a forward pass once all needed inputs are known."""


@dataclass(frozen=True)
class Group:
    """Layers of a block that read one tensor; ``norm`` is the norm that made it, or None."""

    names: tuple[str, ...]
    norm: str | None = None


class Heads(NamedTuple):
    """Heads of values, between the layer that makes them and the layer that ends attention."""

    value: str
    reader: str
    number: int  #: heads that are made
    repeats: int  #: heads of queries that read each
    width: int  #: channels of a head


@dataclass
class Block:
    """One of the repeated blocks of a model, with the arguments of its forward.

    ``changes`` are the transforms of its layers' operands, which come before a layer's form.
    ``pre_norm``: norms read the hidden states, so their outputs go only into layers; a norm after
    the sum (BERT) also feeds the residual stream.
    """

    name: str
    module: nn.Module
    layers: dict[str, LayerWeight]
    changes: Changes = field(default_factory=dict)
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    pre_norm: bool = False

    def ends_attention(self, names: Sequence[str]) -> bool:
        """Whether the layers of a group mix attention's heads."""
        group = next((g for g in self.groups if names[0] in g.names), None)
        if group is None or group is self.groups[0] or group.norm is not None:
            return False
        return "att" in names[0].removeprefix(self.name)

    def heads(self) -> Heads | None:
        """Return the heads of values, if the model tells their width."""
        for group in self.groups:
            if not self.ends_attention(group.names):
                continue
            reader = group.names[0]
            home = reader.removeprefix(f"{self.name}.").rpartition(".")[0]
            size = getattr(self.module.get_submodule(home), "head_dim", None)
            values = [n for n in self.groups[0].names if "v_proj" in n or n.endswith("value")]
            width = self.layers[reader].sizes[0]
            if isinstance(size, int) and len(values) == 1 and width % size == 0:
                made = self.layers[values[0]].sizes[1]
                return Heads(values[0], reader, made // size, width // made, size)
        return None

    def matrix(self, name: str) -> torch.Tensor:
        """Return a layer's weight (N, K), transformed."""
        matrix = self.layers[name].matrix.detach()
        for change in self.changes.get(name, ()):
            matrix = change.weight(matrix)
        return matrix

    def computed(
        self, name: str, function: Callable[[torch.Tensor], torch.Tensor]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a layer's forward, if a function computes its output from transformed inputs."""
        changes, weight = self.changes.get(name, ()), self.layers[name].matrix.detach()

        def forward(x: torch.Tensor) -> torch.Tensor:
            x, _, beside = apply_transforms(changes, x, weight)
            return function(x) if beside is None else function(x) + beside

        return forward

    @torch.no_grad()
    def run(self, batch: int, hidden: torch.Tensor) -> torch.Tensor:
        """Return the block's output for the hidden states of a batch."""
        return self.call(batch, hidden)

    def call(self, batch: int, hidden: torch.Tensor) -> torch.Tensor:
        """Return the block's output for the hidden states of a batch, with gradients."""
        args, kwargs = self.arguments[batch]
        found = self.module(hidden, *args, **kwargs)
        out: torch.Tensor = found[0] if isinstance(found, tuple | list) else found
        return out

    @torch.no_grad()
    def inputs(
        self,
        hidden: Hidden,
        names: Sequence[str],
        see: Callable[[str, torch.Tensor, int], None],
        whole: bool = False,
    ) -> Hidden:
        """Call ``see`` with the inputs of some layers.

        Args:
            hidden: hidden states of every batch.
            names: layers of this block, by name.
            see: called with the layer's name, its input and the number of the batch.
            whole: whether passes go on to the end of the block, not only to the last such layer.

        Returns:
            The block's outputs; of passes that are not whole, none.

        Raises:
            FpsimError: a layer that no batch reaches.
        """
        wanted = {name: self.layers[name] for name in names}
        experts = any(weight.index is not None for weight in wanted.values())
        met: set[str] = set()
        outputs: Hidden = []
        for batch, states in enumerate(hidden):
            left = set(names)

            def call(
                name: str, x: torch.Tensor, _: torch.Tensor,
                batch: int = batch, left: set[str] = left,
            ) -> None:  # fmt: skip
                see(name, x, batch)
                met.add(name)
                left.discard(name)
                if not (left or experts or whole):
                    raise _Stop

            with watched(wanted, call), suppress(_Stop):
                output = self.run(batch, states)
                if whole:
                    outputs.append(output)
        for name in names:
            if name not in met:
                raise FpsimError(
                    f"layer {name}: no batch reached it; give more batches or skip it by pattern"
                )
        return outputs

    def find_groups(self, hidden: Hidden) -> None:
        """Find the groups of layers that read one tensor, in the order in which they run."""
        reads: list[tuple[str, torch.Tensor]] = []
        made: list[tuple[str, Any, torch.Tensor]] = []
        handles = [
            module.register_forward_hook(_kept(f"{self.name}.{name}", made))
            for name, module in self.module.named_modules()
            if "norm" in type(module).__name__.lower()
        ]
        try:
            with watched(self.layers, lambda name, x, _: reads.append((name, x))):
                self.run(0, hidden[0])
        finally:
            for handle in handles:
                handle.remove()
        groups: list[tuple[list[str], torch.Tensor | nn.Module]] = []
        done: set[str] = set()
        for name, x in reads:
            weight = self.layers[name]
            if name in done:
                continue
            key: Any = x if weight.index is None else weight.module
            if groups and groups[-1][1] is key:
                groups[-1][0].append(name)
            else:
                groups.append(([name], key))
            done.add(name)
        for name, weight in self.layers.items():  # experts without tokens in this batch
            if name not in done and weight.index is not None:
                home = next((g for g in groups if g[1] is weight.module), None)
                if home is None:
                    groups.append(([name], weight.module))
                else:
                    home[0].append(name)
                done.add(name)
        self.pre_norm = any(x is hidden[0] for _, x, _ in made)
        self.groups = [
            Group(tuple(names), next((norm for norm, _, out in made if out is key), None))
            for names, key in groups
        ]
        missing = [name for name in self.layers if name not in done]
        if missing:
            raise FpsimError(
                f"layer {missing[0]}: the first batch never reached it; skip it by pattern"
            )


def _kept(name: str, made: list[tuple[str, Any, torch.Tensor]]) -> Callable[..., None]:
    def hook(_: nn.Module, args: Any, output: Any) -> None:
        made.append((name, args[0] if args else None, output))

    return hook


def blocks_of(
    model: nn.Module, layers: Mapping[str, LayerWeight], changes: Changes = MappingProxyType({})
) -> tuple[list[Block], dict[str, LayerWeight]]:
    """Find the blocks of a model: the list of equal modules with most of the layers.

    Args:
        model: any model.
        layers: the layers to calibrate, by name.
        changes: their transforms.

    Returns:
        The blocks in order, and the layers outside them.

    Raises:
        FpsimError: a model without such a list.
    """
    best: tuple[int, str, nn.ModuleList] | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len({type(m) for m in module}) == 1:
            held = sum(layer.startswith(f"{name}.") for layer in layers)
            if held and (best is None or held > best[0]):
                best = held, name, module
    if best is None:
        raise FpsimError(
            "model: it has no list of blocks (nn.ModuleList) that holds linear layers, as "
            "calibration block after block needs"
        )
    _, home, modules = best
    blocks = []
    for index, module in enumerate(modules):
        prefix = f"{home}.{index}."
        inside = {name: weight for name, weight in layers.items() if name.startswith(prefix)}
        blocks.append(Block(f"{home}.{index}", module, inside, changes))
    taken = {name for block in blocks for name in block.layers}
    return blocks, {name: w for name, w in layers.items() if name not in taken}


@torch.no_grad()
def first_inputs(model: nn.Module, blocks: Sequence[Block], batches: Sequence[Batch]) -> Hidden:
    """Run the modules before the first block; blocks keep the arguments of their calls.

    The blocks do not run: each returns its hidden states.

    Args:
        model: the model.
        blocks: blocks in order; earlier arguments are replaced.
        batches: keyword arguments of the model's forward passes.

    Returns:
        The first block's hidden states of every batch.

    Raises:
        FpsimError: a block whose first argument is not hidden states.
    """
    found: Hidden = []
    for block in blocks:
        block.arguments.clear()
    with _stubbed(blocks, found):
        for batch in batches:
            with suppress(_Stop):
                model(**batch)
    if any(len(block.arguments) != len(batches) for block in blocks):
        raise FpsimError("model: it does not run each of its blocks once in a forward pass")
    return found


@contextmanager
def _stubbed(blocks: Sequence[Block], found: Hidden) -> Iterator[None]:
    originals = [block.module.__dict__.get("forward") for block in blocks]
    in_tuple: list[bool] = []

    def stub(index: int, block: Block) -> Callable[..., Any]:
        real = block.module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if args:
                hidden, args = args[0], args[1:]
            else:
                hidden = kwargs.pop("hidden_states", None)
            if not isinstance(hidden, torch.Tensor):
                raise FpsimError(f"model: block {block.name} is not called with hidden states")
            kwargs = {k: v for k, v in kwargs.items() if k not in CACHES}
            if not in_tuple:
                in_tuple.append(isinstance(real(hidden, *args, **kwargs), tuple))
            block.arguments.append((args, kwargs))
            if index == 0:
                found.append(hidden)
            if index == len(blocks) - 1:
                raise _Stop
            return (hidden,) if in_tuple[0] else hidden

        return forward

    try:
        for index, block in enumerate(blocks):
            block.module.__dict__["forward"] = stub(index, block)
        yield
    finally:
        for block, original in zip(blocks, originals, strict=True):
            block.module.__dict__.pop("forward")
            if original is not None:
                block.module.__dict__["forward"] = original


#: Arguments with earlier keys and values, which calibration does not need.
CACHES = ("past_key_values", "past_key_value", "use_cache")
