# SPDX-License-Identifier: Apache-2.0
"""A parameter whose data are codes and scales of a file.

For torch it is a float32 tensor of the matrix's shape, whose numbers are computed whenever they are
read. Matrices can be stacked, joined along outputs and transposed as codes. Simulated layers take
the codes directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from fpsim.base.errors import FpsimError
from fpsim.blocks.grids import Table
from fpsim.bridge.checkpoints.stored import StoredMatrix

__all__ = ["CodedTensor", "as_parameter", "concatenated", "dense_state", "stacked", "table_note"]

_ATEN = torch.ops.aten


class CodedTensor(torch.Tensor):
    """A matrix, or the matrices of experts (experts, ...), held as `StoredMatrix`.

    Args:
        matrices: one matrix, or one per expert.
        transposed: whether the tensor's matrix is (in_features, out_features).
        which: the expert of the tensor's matrix; None: all experts, in three dimensions.
    """

    matrices: tuple[StoredMatrix, ...]
    transposed: bool
    which: int | None

    def __new__(
        cls,
        matrices: tuple[StoredMatrix, ...],
        transposed: bool = False,
        which: int | None = 0,
    ) -> CodedTensor:
        """Make a tensor of the matrices' shape without numbers."""
        rows, columns = matrices[0].shape
        shape = (columns, rows) if transposed else (rows, columns)
        whole = shape if which is not None else (len(matrices), *shape)
        made: CodedTensor = torch.Tensor._make_wrapper_subclass(
            cls, whole, dtype=torch.float32, device=torch.device("cpu"), requires_grad=False
        )
        made.matrices, made.transposed, made.which = matrices, transposed, which
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        first = self.matrices[0].parts[0]
        return f"CodedTensor({tuple(self.shape)}, {first.element.name}, blocks of {first.block})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Keep codes as codes in pickles."""
        is_parameter = isinstance(self, nn.Parameter)
        return _rebuilt, (self.matrices, self.transposed, self.which, is_parameter)

    def __deepcopy__(self, memo: Any) -> CodedTensor:
        """Share the file's bytes between copies, because nothing can change them."""
        copied: CodedTensor = _again(self)
        return copied

    def dense(self) -> torch.Tensor:
        """Return the numbers as an ordinary tensor."""
        if self.which is not None:
            whole = torch.from_numpy(self.matrices[self.which].values())
        else:
            whole = torch.stack([torch.from_numpy(m.values()) for m in self.matrices])
        return (whole.mT if self.transposed else whole).to(self.dtype)

    def turned(self) -> CodedTensor:
        """Return the transposed matrix or matrices."""
        return CodedTensor(self.matrices, not self.transposed, self.which)

    def expert(self, index: int) -> CodedTensor:
        """Return one matrix of several."""
        return CodedTensor(self.matrices, self.transposed, index % len(self.matrices))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on the numbers; operations that only rearrange matrices run on codes."""
        kwargs = kwargs or {}
        changed = args[0] if args and func._schema.is_mutable else None
        if isinstance(changed, CodedTensor):
            raise FpsimError(
                f"{changed.matrices[0].name}: its codes are a file's and cannot be written to by "
                f"{func.overloadpacket.__name__}"
            )
        moved = _MOVES.get(func)
        first = args[0] if args else None
        if moved is not None and isinstance(first, CodedTensor):
            out = moved(first, args[1:], kwargs)
            if out is not None:
                return out

        def plain(x: Any) -> Any:
            return x.dense() if isinstance(x, CodedTensor) else x

        return func(*tree_map(plain, args), **tree_map(plain, kwargs))


def _rebuilt(
    matrices: tuple[StoredMatrix, ...], transposed: bool, which: int | None, is_parameter: bool
) -> torch.Tensor:
    tensor = CodedTensor(matrices, transposed, which)
    return as_parameter(tensor) if is_parameter else tensor


def _plain(self: CodedTensor, *_: Any) -> CodedTensor:
    return CodedTensor(self.matrices, self.transposed, self.which)


def _again(self: CodedTensor) -> Any:
    return as_parameter(_plain(self)) if isinstance(self, nn.Parameter) else _plain(self)


def _select(self: CodedTensor, rest: Sequence[Any], _: Any) -> CodedTensor | None:
    dim, index = rest
    return self.expert(index) if self.which is None and dim in (0, -3) else None


def _transposed(self: CodedTensor, rest: Sequence[Any], _: Any) -> CodedTensor | None:
    dims = {dim % self.dim() for dim in rest} if rest else {0, 1}
    return self.turned() if dims == {self.dim() - 2, self.dim() - 1} else None


def _to(self: CodedTensor, _: Any, kwargs: Mapping[str, Any]) -> CodedTensor | None:
    dtype, device = kwargs.get("dtype"), kwargs.get("device")
    stays = dtype in (None, torch.float32) and torch.device(device or "cpu").type == "cpu"
    return _plain(self) if stays else None


_MOVES: dict[Any, Callable[..., CodedTensor | None]] = {
    _ATEN.detach.default: _plain,
    _ATEN.alias.default: _plain,
    _ATEN.clone.default: _plain,
    _ATEN.select.int: _select,
    _ATEN.t.default: _transposed,
    _ATEN.transpose.int: _transposed,
    _ATEN._to_copy.default: _to,
}


def as_parameter(tensor: CodedTensor) -> nn.Parameter:
    """Return codes as a parameter that is not trained."""
    parameter = nn.Parameter(tensor, requires_grad=False)
    assert isinstance(parameter, CodedTensor)
    return parameter


def stacked(tensors: Sequence[CodedTensor]) -> CodedTensor:
    """Return single matrices as one tensor of experts."""
    first = tensors[0]
    if any(t.shape != first.shape for t in tensors):
        raise FpsimError(f"{first.matrices[0].name}: the matrices of experts differ in shape")
    matrices = tuple(t.matrices[t.which or 0] for t in tensors)
    return CodedTensor(matrices, first.transposed, None)


def concatenated(tensors: Sequence[CodedTensor], dim: int) -> CodedTensor:
    """Return matrices joined along the axis of their outputs."""
    first = tensors[0]
    outputs = first.dim() - (1 if first.transposed else 2)
    if dim % first.dim() != outputs or any(len(t.matrices) != len(first.matrices) for t in tensors):
        raise FpsimError(
            f"{first.matrices[0].name}: the model joins matrices along their inputs, which codes "
            "cannot follow"
        )
    joined = (
        matrix.below([t.matrices[index] for t in tensors[1:]])
        for index, matrix in enumerate(first.matrices)
    )
    return CodedTensor(tuple(joined), first.transposed, first.which)


def dense_state(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Replace codes by numbers in a state dict, so that it can be saved.

    Args:
        module: the module of the state dict.
        state: the state dict, changed in place.
        prefix: prefix of the module's names.
        _: metadata, which `nn.Module.register_state_dict_post_hook` passes to its hooks.
    """
    for key, value in state.items():
        if key.startswith(prefix) and isinstance(value, CodedTensor):
            state[key] = value.dense().contiguous()


def table_note(matrix: StoredMatrix) -> str | None:
    """Return a remark if the unit's numbers differ from those of the file's table."""
    element = matrix.parts[0].element
    if not isinstance(element, Table) or not element.is_rounded:
        return None
    worst = np.abs(element.held - np.array(element.values)).max()
    return (
        f"the unit sees the file's table of 16 values rounded to {element.wide_format.name} "
        f"(by at most {worst:.1e})"
    )
