# SPDX-License-Identifier: Apache-2.0
"""The recipe of a loaded checkpoint: weights are its codes, inputs are cast as its files say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.checkpoints.coded import table_note
from fpsim.bridge.checkpoints.stored import StoredMatrix
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.recipes.rtn import rtn_cast
from fpsim.bridge.recipes.tensor_scales import per_token
from fpsim.bridge.weights import weights_of
from fpsim.formats.floating import FixedFormat
from fpsim.formats.names import E8M0

__all__ = ["CheckpointRecipe", "checkpoint_recipe"]

FLOAT = "float"


@dataclass(frozen=True)
class CheckpointRecipe(Recipe):
    """The codes in a model's layers; other layers stay float.

    `checkpoint_recipe` makes it. ``casts`` are casts of inputs by layer, ``others`` the names of
    layers without codes.
    """

    casts: dict[str, Cast | None] = field(default_factory=dict, repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)
    remarks: tuple[str, ...] = ()

    takes_given: ClassVar[bool] = True
    skip_output: ClassVar[bool] = False

    @property
    def skip(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of layers without codes."""
        return self.others

    @property
    def weights_only(self) -> bool:
        """Whether inputs stay float everywhere."""
        return not any(self.casts.values())

    def weight(self, layer: str) -> Cast | None:
        """Return None: codes are given."""
        return None

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of a layer's inputs."""
        return self.casts.get(layer)

    def notes(self) -> tuple[str, ...]:
        """Return a sentence on each choice that the checkpoint leaves open."""
        return self.remarks


def checkpoint_recipe(
    model: nn.Module, activations: str | BlockFormat | None = None
) -> CheckpointRecipe:
    """Return the recipe that runs a loaded checkpoint on a unit.

    Args:
        model: from `fpsim.bridge.load_checkpoint`.
        activations: a block format of all inputs, or ``float``. None: as the files say; if they
            leave inputs float, MXFP8 for MXFP4 weights, NVFP4 with a tensor scale per token for
            NVFP4 weights, and INT8 with a scale per token for INT4 weights.

    Returns:
        The recipe.

    Raises:
        FpsimError: a model without codes of a checkpoint, or an unknown format.
    """
    weights, others, _ = weights_of(model)
    given = {name: weight.given for name, weight in weights.items()}
    coded = {name: matrix for name, matrix in given.items() if matrix is not None}
    if not coded:
        raise FpsimError("model: no layer holds codes of a checkpoint; load_checkpoint makes such")
    wanted = None
    if activations is not None and activations != FLOAT:
        wanted = BlockCast(get_block_format(activations))
    casts: dict[str, Cast | None] = {}
    remarks: dict[str, None] = {}
    for name, matrix in coded.items():
        if activations is not None:
            casts[name] = wanted
        else:
            casts[name] = matrix.inputs.cast or _usual(matrix)
            if matrix.inputs.cast is None:
                remarks[_left_open(casts[name])] = None
            elif (rule := _rule_left_open(casts[name])) is not None:
                remarks[rule] = None
        if (remark := table_note(matrix)) is not None:
            remarks[remark] = None
    skip = tuple(name for name in (*weights, *others) if name not in coded)
    return CheckpointRecipe("checkpoint", casts=casts, others=skip, remarks=tuple(remarks))


def _usual(matrix: StoredMatrix) -> Cast | None:
    """Return the cast of inputs that hardware pairs with weights, for files without a cast."""
    part = matrix.parts[0]
    if isinstance(part.element, FixedFormat):
        return _INT8_TOKENS
    if part.scale == E8M0:
        return _MXFP8
    return _NVFP4_ROWS if part.scale.bits == 8 else None


_MXFP8 = BlockCast(get_block_format("mxfp8-e4m3"))
_INT8_TOKENS = rtn_cast("int8s", "token")
_NVFP4_ROWS = BlockCast(per_token(get_block_format("nvfp4")))


def _rule_left_open(cast: Cast | None) -> str | None:
    """Return which scale rule is taken for inputs whose file names a power of two per block."""
    if not isinstance(cast, BlockCast) or cast.fmt.scale != E8M0:
        return None
    fmt = cast.fmt
    return (
        f"the checkpoint leaves the scale rule of inputs open; that of {fmt.name} is "
        f"'{fmt.rule.value}' here (activations=)"
    )


def _left_open(cast: Cast | None) -> str:
    name = cast.fmt.name if isinstance(cast, BlockCast) else None
    then = f"they are cast to {name}" if name else "no unit multiplies them"
    return f"the checkpoint leaves inputs float; {then} (activations=)"
