# SPDX-License-Identifier: Apache-2.0
"""Kernels compiled for AArch64 (NEON) and run by an emulator have the oracle's bits.

NEON is planned as a processor without any feature of x86. An emulator says nothing of speed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import binding, ir
from support.machines import On

from fpsim import RandomBits, get_unit, oracle
from fpsim.compute.lanes import run
from fpsim.compute.plan import BackEnd
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.matmul_driver import TILE, write_tile
from fpsim.kernels.llvm.tile_loop import Pointers
from fpsim.kernels.llvm.tiles import Source, Tile

TRIPLE, COMPILER, EMULATOR = "aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "qemu-aarch64"
missing = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
pytestmark = [
    pytest.mark.sweep,
    pytest.mark.skipif(
        bool(missing), reason=f"needs {', '.join(missing)} (gcc-aarch64-linux-gnu, qemu-user)"
    ),
]
#: Units of every family of steps, and elements of a scale (0: none).
UNITS = [
    ("e2m1-chain-e5m10", 0),
    ("e2m1-chain-e5m10-saturate", 32),
    ("e4m3fn-chain-e5m10-rdn", 0),
    ("e2m1-chain-e5m10-sr8", 0),
    ("e2m1-chain-e8m7", 0),
    ("e2m1-chain-e8m7-sr8", 0),
    ("e5m10-chain-e8m23-rtz", 0),
    ("e2m1-chain-e8m23-rna", 0),
    ("e2m1-chain-e4m3fn", 0),
    ("e2m1-exact-e8m23", 32),
    ("e4m3fn-exact-e8m23", 32),
    ("e5m10-exact-e8m23", 0),
    ("e2m1-fixed24q2", 0),
    ("e2m1-fixed16q2-saturate", 0),
    ("e2m1-fixed60q2-saturate", 0),
    ("nvidia-a100-fp16", 0),
    ("nvidia-h100-e4m3", 0),
    ("e4m3fn-aligned4f40-e8m13", 0),
    ("amd-cdna1b", 0),
    ("amd-cdna2", 0),
    ("amd-cdna3-fp16", 0),
    ("intel-amx-bf16", 0),
    ("e2m1-tree8-e5m10", 0),
    ("e2m1-tree16-e8m23-radix4", 0),
    ("e2m1-tree-e5m10-lanes16", 0),
    ("e2m1-chunked32-of-chain-e5m10-into-chain-e8m23", 0),
    ("e2m1-block32-into-chain-e8m23", 32),
    ("e2m1.e5m2.split-block32-into-chain-e8m23", 32),
    ("e5m2-block32-into-chain-e8m23", 32),
    ("nvidia-b200-nvf4", 16),
]
ROWS, LENGTH, COLUMNS = 3, 96, 7
#: Reads sizes and arrays from standard input, runs all tiles, writes the third array, ``c``.
MAIN = r"""
#include <fenv.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
void tile(void **arrays, int64_t row, int64_t column, int64_t k, int64_t n, int64_t m);
int main(void) {
    int64_t given[17], *sizes = given + 11;  /* bytes of arrays; rows, columns, K, N, M, mode */
    const int modes[] = {FE_TOWARDZERO, FE_TONEAREST, FE_UPWARD, FE_DOWNWARD};
    void *arrays[11];
    if (fread(given, 8, 17, stdin) != 17) return 1;
    for (int i = 0; i < 11; i++) {
        arrays[i] = aligned_alloc(64, (given[i] + 63) / 64 * 64);
        if (fread(arrays[i], 1, given[i], stdin) != (size_t)given[i]) return 1;
    }
    fesetround(modes[sizes[5]]);
    for (int64_t row = 0; row < sizes[4]; row += sizes[0])
        for (int64_t column = 0; column < sizes[3]; column += sizes[1])
            tile(arrays, row, column, sizes[2], sizes[3], sizes[4]);
    fesetround(FE_TONEAREST);
    return fwrite(arrays[2], 1, given[2], stdout) != (size_t)given[2];
}
"""
MODES = ["rtz", "", "rup", "rdn"]


def program(step: Any, source: Source, tile: Tile, random_bits: int, folder: Path) -> Path:
    """Return an AArch64 program that runs the tiles of a step."""
    module = ir.Module()
    module.triple = TRIPLE
    function = ir.Function(module, TILE, "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    write_tile(step, source, tile, random_bits, builder, function.args)
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(TRIPLE).create_target_machine(opt=3, reloc="pic")
    parsed = binding.parse_assembly(str(module))
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    (folder / "tile.o").write_bytes(machine.emit_object(parsed))
    (folder / "main.c").write_text(MAIN)
    parts, made = [folder / "main.c", folder / "tile.o"], folder / "program"
    subprocess.run([COMPILER, "-static", "-O1", *parts, "-lm", "-o", made], check=True)
    return made


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Run the tiles of all products to come on AArch64; the steps that ran so."""
    ran: list[str] = []

    def gemm(step: Any, tile: Tile, source: Source) -> Callable[..., None]:
        def product(*arrays: np.ndarray) -> None:
            given = Pointers(*arrays)
            made = program(step, source, tile, 8 * given.random.itemsize, tmp_path)
            depth, (m, n) = given.a.shape[2] * source.per_word, given.c.shape
            sizes = [tile.rows, tile.columns, depth, n, m, MODES.index(step.direction)]
            head = np.array([*(array.nbytes for array in given), *sizes], np.int64)
            text = b"".join(array.tobytes() for array in (head, *given))
            found = subprocess.run([EMULATOR, made], input=text, capture_output=True, check=True)
            given.c[:] = np.frombuffer(found.stdout, given.c.dtype).reshape(given.c.shape)
            ran.append(step.name)

        return product

    monkeypatch.setattr(run, "gemm", gemm)
    return ran


@pytest.mark.parametrize(("name", "block"), UNITS)
def test_every_family_has_the_oracles_bits(name: str, block: int, emulated: list[str]) -> None:
    unit, rng = get_unit(name), np.random.default_rng(len(name))
    a, b = (
        fmt.encode(rng.normal(size=shape) * 2.0 ** rng.integers(-2, 4, shape))
        for fmt, shape in ((unit.a, (ROWS, LENGTH)), (unit.b, (LENGTH, COLUMNS)))
    )
    more: dict[str, Any] = {"random": RandomBits(3)} if unit.spec.random_bits else {}
    if block:
        for side, shape in (("a", (ROWS, LENGTH // block)), ("b", (LENGTH // block, COLUMNS))):
            signs = (2,) if unit.spec.splits(side) else ()
            powers = 2.0 ** rng.integers(-3, 4, (*shape, *signs))
            more[f"{side}_scale"] = getattr(unit.spec, f"{side}_scale").encode(powers)
    c = unit.spec.initial.encode(rng.normal(size=(ROWS, COLUMNS)) * 8)
    on = On(unit, Machine())
    assert on.plan(a, b, c=c, **more).back_end is not BackEnd.SCALAR
    found = on.matmul(a, b, c, **more)
    assert emulated
    for row, column in np.ndindex(found.shape):
        own = {"c": c[row, column]}
        if block:
            own |= {"a_scale": more["a_scale"][row], "b_scale": more["b_scale"][:, column]}
        if "random" in more:
            own["random"] = more["random"].after(row * COLUMNS + column)
        assert found[row, column] == oracle.dot(unit, a[row], b[:, column], **own)
