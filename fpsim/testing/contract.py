# SPDX-License-Identifier: Apache-2.0
"""Calls of a user's function: arrays in, arrays out, one sentence if the contract is broken.

A function takes new arrays (numpy, or torch tensors on the processor), does not change them, and
returns arrays of the shape that the check states: integers are codes, floating-point numbers are
values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.floating import Format
from fpsim.formats.inputs import SMALL_FLOATS, as_real, is_tensor

__all__ = ["Arrays", "ContractError", "Returns", "Subject", "as_codes_or_values", "name_of"]

Arrays = Literal["numpy", "torch"]
Returns = Literal["either", "codes", "values"]
#: Most characters of an exception's message in an error.
MAX_QUOTE = 200


class ContractError(FpsimError):
    """A function that raises, changes its input, or returns a result of a wrong type or shape."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function for reports."""
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def importable(function: Callable[..., Any]) -> str:
    """Return the import statement of a function, or a comment if it cannot be imported."""
    name, module = name_of(function), getattr(function, "__module__", None)
    if not module or module == "__main__" or not name.isidentifier():
        return f"# with {name!r} as function"
    return f"from {module} import {name} as function"


@dataclass(frozen=True)
class Subject:
    """A user's function and the kind of arrays it takes."""

    function: Callable[..., Any]
    arrays: Arrays = "numpy"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise FpsimError(f"function: {self.function!r} cannot be called")
        if self.arrays not in ("numpy", "torch"):
            raise not_one_of("arrays", self.arrays, ("numpy", "torch"))

    @property
    def name(self) -> str:
        """Name of the function for reports."""
        return name_of(self.function)

    def call(self, *arrays: NDArray[Any]) -> Any:
        """Call the function with copies of ``arrays`` and return its result.

        Raises:
            ContractError: the function raised an exception or changed an input.
        """
        given = [self._given(array) for array in arrays]
        try:
            returned = self.function(*given)
        except ContractError:
            raise
        except Exception as error:
            what = ", ".join(f"{a.dtype} {a.shape}" for a in arrays)
            text = " ".join(str(error).split())[:MAX_QUOTE]
            raise ContractError(
                f"function: {self.name} raised {type(error).__name__} ({text}) for arrays {what}; "
                "it must return a result for each of them"
            ) from error
        for position, (before, after) in enumerate(zip(arrays, given, strict=True)):
            if _bytes(after) != before.tobytes():
                raise ContractError(
                    f"function: {self.name} changed its argument {position}; "
                    "it must leave its input as it is"
                )
        return returned

    def results(
        self, arrays: Sequence[NDArray[Any]], shapes: Sequence[tuple[int, ...]], names: str
    ) -> list[NDArray[Any]]:
        """Call the function and return its results as arrays of the given shapes.

        Args:
            arrays: the arguments of the function, in order.
            shapes: shapes of the results, in order.
            names: names of the results, for an error, such as ``codes, scales``.

        Returns:
            The results as arrays.

        Raises:
            ContractError: the function raises, changes its input, or returns a result of a wrong
                type or shape.
        """
        returned = self.call(*arrays)
        parts = list(returned) if isinstance(returned, tuple | list) else [returned]
        return self.checked(parts, shapes, names)

    def checked(
        self, parts: Sequence[Any], shapes: Sequence[tuple[int, ...]], names: str
    ) -> list[NDArray[Any]]:
        """Return results of the function as arrays of the given shapes.

        Args:
            parts: results of the function, in order.
            shapes: shapes of the results.
            names: names of the results, for an error, such as ``codes, scales``.

        Returns:
            The results as arrays.

        Raises:
            ContractError: a wrong number of results or a wrong shape, or neither integers nor
                floats.
        """
        if len(parts) != len(shapes):
            raise ContractError(
                f"function: {self.name} returned {len(parts)} results; it must return {names}"
            )
        found = []
        for part, shape in zip(parts, shapes, strict=True):
            array = self._array(part, names)
            if array.shape != shape:
                raise ContractError(
                    f"function: {self.name} returned shape {array.shape}; "
                    f"it must return {names} of shape {shape}"
                )
            found.append(array)
        return found

    def _given(self, array: NDArray[Any]) -> Any:
        if self.arrays == "numpy":
            return array.copy()
        try:
            import torch
        except ImportError:
            raise FpsimError("arrays: torch is not installed") from None
        return torch.from_numpy(array.copy())

    def _array(self, part: Any, names: str) -> NDArray[Any]:
        if is_tensor(part):
            import torch

            part = part.detach().cpu()
            if part.dtype.is_floating_point:
                part = part.to(torch.float64 if part.dtype == torch.float64 else torch.float32)
            part = part.numpy()
        array = np.asarray(part)
        if array.dtype.kind == "V" and array.dtype.name in SMALL_FLOATS:
            return as_real(array)
        if array.dtype.kind not in "iuf":
            raise ContractError(
                f"function: {self.name} returned {array.dtype}; it must return {names} as "
                "unsigned integers (codes) or floating-point numbers (values)"
            )
        return array


def _bytes(given: Any) -> bytes:
    array = given if isinstance(given, np.ndarray) else given.numpy()
    return bytes(array.tobytes())


def as_codes_or_values(
    subject: Subject, array: NDArray[Any], fmt: Format, returns: Returns
) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    """Return results as float64 values and, if they are codes, as codes too.

    Args:
        subject: the function, for an error.
        array: result of the function: integers are codes, floating-point numbers are values.
        fmt: the format of the codes.
        returns: the promised form, ``codes``, ``values`` or ``either``.

    Returns:
        The values, and the codes or None.

    Raises:
        ContractError: values where codes are promised, or codes where values are promised, or an
            integer that is no code of the format.
    """
    if returns not in ("either", "codes", "values"):
        raise not_one_of("returns", returns, ("either", "codes", "values"))
    values = array.dtype.kind == "f"
    if values and returns == "codes":
        raise ContractError(
            f"function: {subject.name} returned {array.dtype}; it was to return codes of "
            f"{fmt.name}, which are unsigned integers such as {fmt.dtype}"
        )
    if not values and returns == "values":
        raise ContractError(
            f"function: {subject.name} returned {array.dtype}; it was to return values, which are "
            "floating-point numbers"
        )
    if values:
        return array.astype(np.float64), None
    limit = 1 << fmt.bits
    outside = (array < 0) | (
        array.astype(object if array.dtype == np.uint64 else np.int64) >= limit
    )
    if outside.any():
        raise ContractError(
            f"function: {subject.name} returned {array[outside].flat[0]}, which is no code of "
            f"{fmt.name} (0..{limit - 1}); codes are bit patterns, unsigned"
        )
    codes = array.astype(fmt.dtype)
    return fmt.decode(codes), codes
