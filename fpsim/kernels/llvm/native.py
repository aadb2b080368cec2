# SPDX-License-Identifier: Apache-2.0
"""Native functions from LLVM IR that this package writes itself, kept on disk like other kernels.

Numba's code generator compiles them, for the processor that it compiles everything for; its front
end, which takes ten times as long as a tile's machine code, has no part in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fpsim.kernels.cache import Stored

__all__ = ["function_address"]

#: Libraries of machine code in use: the code lives as long as they do.
_loaded: list[Any] = []


@global_compiler_lock
def function_address(
    variant: str,
    kind: ir.FunctionType,
    build: Callable[[Any, Any], None],
    sources: tuple[str, ...] = (),
) -> int:
    """Return the address of a native function, compiled if it is not on disk.

    Args:
        variant: names everything that the code depends on besides the sources of kernels.
        kind: LLVM type of the function, which returns nothing.
        build: writes the function's body, given a builder and the arguments.
        sources: files outside of the kernels that the code depends on.

    Returns:
        The address, valid until the process ends.
    """
    codegen = cpu_target.target_context.codegen()
    name = f"fpsim_{hashlib.sha256(variant.encode()).hexdigest()[:16]}"
    stored = Stored(function_address, name, sources)
    key = (codegen.magic_tuple(), variant)
    found = stored.load(key)
    if found is not None:
        library = codegen.unserialize_library(found)
    else:
        with event.trigger_event("numba:compile", data={"dispatcher": None, "variant": variant}):
            library = _compiled(codegen, name, kind, build)
        stored.save(key, library.serialize_using_object_code())
    _loaded.append(library)
    return int(library.get_pointer_to_function(name))


def _compiled(codegen: Any, name: str, kind: Any, build: Callable[[Any, Any], None]) -> Any:
    library = codegen.create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    function = ir.Function(module, kind, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    build(builder, function.args)
    builder.ret_void()
    library.add_ir_module(module)
    library.finalize()
    return library
