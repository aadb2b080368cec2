# SPDX-License-Identifier: Apache-2.0
"""Speed beside torch, in one process: how much slower (or faster) is the exact bit model?

Every figure is a ratio: the throughput of an fpsim kernel over that of `torch.matmul` in float32
(matrix products, and dot products MAC for MAC) or of a numpy copy of the same float32 array
(encoding and casts), same shape, same threads, best of several runs (of what takes seconds, fewer);
the spread is by what share the middle run took longer. The bound of a product is the time that its
kernel alone takes for a MAC, its operands packed and its results not yet codes, in units of the
time of one fused multiply-add in float32 on this processor: how many instructions of that cost a
MAC takes. It is empty where scalar code or limbs compute. Absolute numbers are shown only to make
the ratios readable. Some results of every product that is timed are computed again by the oracle.

    python analysis/bench.py [--threads 1 2] [--parts matmul tokens dots quantize casts] [--model]
                             [--machine host|avx512|avx2] [--json FILE]
    python analysis/bench.py --show FILE [FILE ...]

``--machine`` holds the planner, the compiler and torch to a smaller instruction set than the
processor has; ``--show`` prints what earlier runs wrote as one table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding
from rich.console import Console
from rich.table import Table
from timing import best, measured, processor

import fpsim
from fpsim import oracle
from fpsim.base.atomic_files import write_atomic
from fpsim.base.philox import Philox
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.compute.lanes.run import packed_job
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import BackEnd, plan_matmul
from fpsim.kernels.llvm.machine import Machine

Work = Callable[[], object]
SHAPE = (256, 1024, 256)
#: (unit, elements per scale, 0 for none): what the matrix product rows measure.
UNITS = (
    ("e2m1-chain-e5m10", 0),
    ("e2m1-chain-e5m10", 32),
    ("e2m1-chain-e5m10-saturate", 0),
    ("e2m1-chain-e5m10-rtz", 0),
    ("e2m1-chain-e5m10-sr8", 0),
    ("e2m1-chain-e8m7", 0),
    ("e2m1-chain-e8m7-sr8", 0),
    ("e2m1-chain-e8m23", 0),
    ("e2m1-chain-e8m23-rtz", 0),
    ("e2m1-chain-e4m3fn", 0),
    ("e2m1-chain-e4m3fn-sr8", 0),
    ("e4m3fn-chain-e5m10", 0),
    ("e2m1-exact-e8m23", 0),
    ("e2m1-exact-e8m23", 32),
    ("e4m3fn-exact-e8m23", 32),
    ("e5m10-exact-e8m23", 0),
    ("e2m1-fixed24q2", 0),
    ("e2m1-fixed16q2-saturate", 0),
    ("nvidia-a100-fp16", 0),
    ("nvidia-a100-tf32", 0),
    ("nvidia-h100-bf16", 0),
    ("nvidia-h100-e4m3", 0),
    ("e2m1-aligned32f13-e8m13", 0),
    ("amd-cdna1a", 0),
    ("amd-cdna1b", 0),
    ("amd-cdna2", 0),
    ("amd-cdna3-fp16", 0),
    ("intel-amx-bf16", 0),
    ("e2m1-tree8-e5m10", 0),
    ("e2m1-tree-e8m23", 0),
    ("e2m1-tree16-e8m23-radix4", 0),
    ("e2m1-tree-e8m23-lanes16", 0),
    ("e2m1-chunked128-of-aligned32f13-e8m13-into-chain-e8m23", 0),
    ("e2m1-chunked128-of-chain-e5m10-into-chain-e8m23", 0),
    ("e2m1-chunked128-of-chain-e5m10-sr8-into-chain-e8m23", 0),
    ("e2m1-chunked128-of-chain-e5m10-sr5-into-chain-e8m7-sr8", 0),
    ("e2m1-chunked256-of-chunked32-of-chain-e5m10-into-chain-e5m10-into-chain-e8m23", 0),
    ("e2m1-block16-into-chunked8-of-chain-e5m10-into-chain-e8m23", 16),
    ("e2m1-block32-into-chain-e8m23", 32),
    ("e2m1.ue4m3fn-block16-into-chain-e8m23", 16),
    ("e2m1.e5m2.split-block32-into-chain-e8m23", 32),
    ("e5m2-block32-into-chain-e8m23", 32),
    ("e4m3fn-block32-into-chain-e8m23", 32),
    ("e4m3fn.e8m23-block128-to-e8m23-into-chain-e8m23", 128),
    ("nvidia-b200-nvf4", 16),
    ("nvidia-b200-mxf4", 32),
)
#: What the rows of dot products measure, and how many there are of which length.
DOTS = (
    ("e2m1-chain-e5m10", 0),
    ("e2m1-chain-e5m10", 32),
    ("e2m1-chain-e5m10-sr8", 0),
    ("e4m3fn-chain-e8m23", 0),
    ("e5m10-chain-e8m23", 0),
    ("e8m7-chain-e8m7", 0),
    ("e2m1-fixed24q2", 0),
    ("e2m1-exact-e8m23", 0),
    ("e2m1-tree8-e5m10", 0),
    ("nvidia-a100-fp16", 0),
    ("nvidia-h100-e4m3", 0),
    ("amd-cdna3-fp16", 0),
    ("e2m1-chunked128-of-chain-e5m10-into-chain-e8m23", 0),
    ("e2m1-block32-into-chain-e8m23", 32),
    ("e2m1.e5m2.split-block32-into-chain-e8m23", 32),
    ("nvidia-b200-nvf4", 16),
)
DOTS_SHAPE = (1 << 14, 1 << 10)
#: (unit, elements per scale): products of one row, as in decoding token by token, and (K, N).
TOKENS = (
    ("e2m1-exact-e8m23", 32),
    ("e2m1-block32-into-chain-e8m23", 32),
    ("e2m1-chain-e5m10", 32),
    ("nvidia-b200-mxf4", 32),
)
TOKEN_SHAPES = ((576, 1536), (4096, 4096))
#: Shape of the product that finds the time of a fused multiply-add; its operands stay in the cache.
FUSED_SHAPE = (64, 512, 64)
ELEMENTS = 1 << 24
#: Results of a product that the oracle computes again.
CHECKED = 3
#: Instruction sets: the processor's name and features for LLVM, and what tells torch's libraries.
_AVX2 = (
    "64bit sse sse2 sse3 ssse3 sse4.1 sse4.2 popcnt cx16 fxsr mmx cmov avx avx2 fma f16c bmi bmi2 "
    "lzcnt movbe"
)
_AVX512 = f"{_AVX2} avx512f avx512bw avx512cd avx512dq avx512vl avx512vnni avx512vbmi"
MACHINES = {
    "avx2": ("haswell", _AVX2, ("avx2", "AVX2", "AVX2")),
    "avx512": ("icelake-server", _AVX512, ("avx512", "AVX512", "AVX512_CORE_VNNI")),
}
_TORCH = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")


@dataclass(frozen=True)
class Row:
    """One measurement: ``rate`` in 10^9 MACs or elements a second, and its ratio.

    ``spread`` is by what share the middle run took longer than the shortest, which counts.
    """

    what: str
    kernel: str
    threads: int
    rate: float
    reference: float
    ratio: float
    spread: float
    #: Fused multiply-adds of this processor in the time in which the kernel alone takes one MAC; 0
    #: without a kernel in lanes.
    bound: float = 0.0


def _codes(fmt: fpsim.FloatFormat, shape: tuple[int, ...], stream: int) -> np.ndarray:
    """Return random finite codes; of wide formats those of normally distributed numbers."""
    if fmt.bits > 8:  # any codes would spread over all exponents, as no data does
        return fmt.encode(np.random.default_rng(stream).normal(size=shape))
    words = Philox(1, stream).bits(fmt.bits, int(np.prod(shape)))
    codes = words.reshape(shape).astype(fmt.dtype)
    codes[~np.isfinite(fmt.decode(codes))] = 0
    return codes


def _scales(fmt: fpsim.FloatFormat, shape: tuple[int, ...], stream: int) -> np.ndarray:
    """Return codes of random powers of two around one."""
    powers = Philox(1, stream).bits(3, int(np.prod(shape))).astype(np.float64) - 4
    return fmt.encode(np.exp2(powers)).reshape(shape)


def _options(spec: fpsim.MacSpec, *shapes: tuple[int, ...]) -> dict[str, Any]:
    """Return scales of these shapes, if any, and what a unit needs besides."""
    more: dict[str, Any] = {"random": fpsim.RandomBits(4)} if spec.random_bits else {}
    for stream, (side, shape) in enumerate(zip("ab", shapes, strict=False), 2):
        signs = (2,) if spec.splits(side) else ()
        more[f"{side}_scale"] = _scales(getattr(spec, f"{side}_scale"), (*shape, *signs), stream)
    return more


def _check(unit: fpsim.MacUnit, a: np.ndarray, b: np.ndarray, more: dict[str, Any]) -> None:
    """Compute some results again, exactly.

    Raises:
        SystemExit: one differs.
    """
    codes, (m, n) = unit.matmul(a, b, **more), (a.shape[0], b.shape[1])
    for at in range(CHECKED):
        row, column = (7 * at) % m, (13 * at + n // 2) % n
        own = {"a_scale": more["a_scale"][row]} if "a_scale" in more else {}
        if "b_scale" in more:
            own["b_scale"] = more["b_scale"][:, column]
        if "random" in more:
            own["random"] = more["random"].after(row * n + column)
        wanted = oracle.dot(unit, a[row], b[:, column], **own)
        if int(wanted) != int(codes[row, column]):
            raise SystemExit(f"{unit.name}: result ({row}, {column}) is not what the oracle says")


def _kernel_seconds(unit: fpsim.MacUnit, a: Any, b: Any, more: dict[str, Any]) -> float:
    """Return the time of a product's kernel alone, operands packed, results not codes yet; or 0."""
    machine = Machine.host()
    args = MatmulOperands.check(unit.spec, a, b, **more)
    plan = plan_matmul(unit.spec, args, machine)
    if plan.back_end is not BackEnd.LANES:
        return 0.0
    job = packed_job(unit.spec, args.by_lane(plan.lanes) if plan.lanes > 1 else args, plan, machine)
    return best(lambda: job.accumulators(None, args.random), 10)


def _bound(macs: int, unit: fpsim.MacUnit, a: Any, b: Any, more: dict[str, Any]) -> float:
    """Return how many fused multiply-adds take as long as the kernel alone takes for a MAC.

    Both are measured at once, so that both run at the clock that the processor has just now.
    """
    fused, (m, k, n) = fpsim.get_unit("e2m1-chain-e8m23"), FUSED_SHAPE
    x, y = _codes(fused.a, (m, k), 0), _codes(fused.b, (k, n), 1)
    one = _kernel_seconds(fused, x, y, {}) / (m * k * n)
    return _kernel_seconds(unit, a, b, more) / macs / one


def token_rows(threads: int) -> Iterator[Row]:
    """Measure products of one row with a prepared matrix beside `torch.matmul`."""
    for k, n in TOKEN_SHAPES:
        x, y = torch.randn(1, k), torch.randn(k, n)
        for name, block in TOKENS:
            unit = fpsim.get_unit(name)
            a, b = _codes(unit.a, (1, k), 0), _codes(unit.b, (k, n), 1)
            more = _options(unit.spec, (1, k // block), (k // block, n))
            kept = unit.prepare(b, more["b_scale"])
            work = partial(unit.matmul, a, kept, a_scale=more["a_scale"])
            seconds, spread = measured(work, 50)
            reference = best(lambda x=x, y=y: torch.matmul(x, y), 50)  # type: ignore[misc]
            _check(unit, a, b, more)
            label = f"1 x {k} x {n}: {name} + scales per {block}"
            micro = f"{seconds * 1e6:.0f} us, torch {reference * 1e6:.0f} us"
            rates = k * n / seconds / 1e9, k * n / reference / 1e9
            bound = _bound(k * n, unit, a, kept, {"a_scale": more["a_scale"]})
            yield Row(label, micro, threads, *rates, reference / seconds, spread, bound)


def matmul_rows(threads: int) -> Iterator[Row]:
    """Measure `MacUnit.matmul` with a prepared ``b`` beside `torch.matmul`.

    As in the bridge, weights are packed once; activations and result codes are in the time.
    """
    m, k, n = SHAPE
    x, y = torch.randn(m, k), torch.randn(k, n)
    macs = m * k * n
    for name, block in UNITS:
        unit = fpsim.get_unit(name)
        spec = unit.spec
        a, b = _codes(unit.a, (m, k), 0), _codes(unit.b, (k, n), 1)
        more = _options(spec, (m, k // block), (k // block, n)) if block else _options(spec)
        kept = unit.prepare(b, more.get("b_scale"))
        given = {name: value for name, value in more.items() if name != "b_scale"}
        seconds, spread = measured(partial(unit.matmul, a, kept, **given), 5)
        reference = best(lambda: torch.matmul(x, y), 30)
        kernel = unit.plan(a, kept, **given).kernel
        _check(unit, a, b, more)
        label = f"{name}{f' + scales per {block}' if block else ''}"
        yield Row(
            label,
            kernel,
            threads,
            macs / seconds / 1e9,
            macs / reference / 1e9,
            reference / seconds,
            spread,
            _bound(macs, unit, a, kept, given),
        )


def dot_rows(threads: int) -> Iterator[Row]:
    """Measure `MacUnit.dot` and one `accumulate`, MAC for MAC beside `torch.matmul`.

    The first row is what torch does: products of two float32 arrays, added along the last axis.
    """
    rows, k = DOTS_SHAPE
    m, depth, n = SHAPE
    x, y = torch.randn(m, depth), torch.randn(depth, n)
    macs = rows * k

    def row(what: str, kernel: str, work: Work) -> Row:
        seconds, spread = measured(work, 5)
        rate = macs / seconds / 1e9
        reference = m * depth * n / best(lambda: torch.matmul(x, y), 30) / 1e9
        return Row(what, kernel, threads, rate, reference, rate / reference, spread)

    p, q = torch.randn(rows, k), torch.randn(rows, k)
    yield row("torch: (a * b).sum(-1)", "", lambda: (p * q).sum(-1))
    for name, block in DOTS:
        unit = fpsim.get_unit(name)
        spec = unit.spec
        a, b = _codes(unit.a, (rows, k), 0), _codes(unit.b, (rows, k), 1)
        more = _options(spec, *2 * [(rows, k // block)]) if block else _options(spec)
        label = f"{name}{f' + scales per {block}' if block else ''}"
        yield row(label, "dot", partial(unit.dot, a, b, **more))
        if name == DOTS[0][0] and not block:
            yield row(label, "accumulate", partial(unit.accumulate, a, b))


#: (format, rounding, random bits, with flags): what the encoding rows measure.
ENCODINGS = (
    ("e2m1", "rne", 0, False),
    ("e2m1", "rup", 0, False),
    ("e2m1", "sr", 8, False),
    ("e2m1", "rne", 0, True),
    ("e4m3fn", "rne", 0, False),
    ("e8m0", "rdn", 0, False),
    ("e5m10", "rto", 0, False),
    ("e5m10", "sr", 16, False),
    ("e8m10", "rna", 0, False),
    ("e8m23", "rtz", 0, False),
)


def _encoding(name: str, rounding: str, bits: int, flags: bool, x: np.ndarray) -> Work:
    options: dict[str, Any] = {"flags": flags} if flags else {}
    if bits:
        words = Philox(1, 5).bits(bits, x.size).astype(f"uint{bits}")
        options |= {"random": words, "random_bits": bits}
    return partial(fpsim.get_format(name).encode, x, rounding, **options)


def quantize_rows(threads: int) -> Iterator[Row]:
    """Measure encoding and decoding beside a numpy copy."""
    x = np.asarray(torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(1)) * 2)
    target = np.empty_like(x)
    e2m1 = fpsim.get_format("e2m1")
    work: dict[str, Work] = {
        f"{name} encode {rounding}{f' {bits} bits' * (bits > 0)}{' with flags' * flags}": _encoding(
            name, rounding, bits, flags, x
        )
        for name, rounding, bits, flags in ENCODINGS
    }
    work["e2m1 decode to float32"] = partial(e2m1.decode, e2m1.encode(x), np.float32)
    for label, run in work.items():
        seconds, spread = measured(run, 5)
        reference = best(lambda: np.copyto(target, x), 10)
        rate, copy = ELEMENTS / seconds / 1e9, ELEMENTS / reference / 1e9
        yield Row(label, "", threads, rate, copy, reference / seconds, spread)


def cast_rows(threads: int) -> Iterator[Row]:
    """Measure the cast to each named block format in the process's own time, and a copy."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(ELEMENTS, dtype=np.float32).reshape(-1, 1024)
    target = np.empty_like(x)

    for name, fmt in BLOCK_FORMATS.items():
        reference = measured(lambda: np.copyto(target, x), 18, clock=time.process_time).best
        seconds, spread = measured(partial(fmt.quantize, x), 6, clock=time.process_time)
        rates = ELEMENTS / seconds / 1e9, ELEMENTS / reference / 1e9
        yield Row(f"{name} quantize", "", threads, *rates, reference / seconds, spread)


def model_rows(threads: int) -> Iterator[Row]:
    """Measure SmolLM2 over 2 048 tokens: MXFP4 on two units beside the float32 forward pass."""
    from fpsim.bridge import convert, restore
    from fpsim.bridge.measure import models, text

    loaded = models.load("smollm2-135m", lambda line: print(line, file=sys.stderr))
    windows = torch.as_tensor(text.text_windows(loaded.tokenizer, text.topics_text()))

    @torch.no_grad()
    def forward() -> None:
        for window in windows:
            loaded.model(input_ids=window[None], use_cache=False)

    reference = measured(forward, 3, 60).best
    for unit in ("exact", "e2m1-chain-e5m10"):
        convert(loaded.model, "mxfp4", unit)
        seconds, spread = measured(forward, 3, 60)
        restore(loaded.model)
        count = windows.numel()
        rates = (count / seconds / 1e9, count / reference / 1e9)
        label = f"SmolLM2-135M, mxfp4 on {unit}: {seconds / reference:.2f}x float32's time"
        yield Row(label, "", threads, *rates, reference / seconds, spread)


PARTS = {
    "matmul": matmul_rows,
    "tokens": token_rows,
    "dots": dot_rows,
    "quantize": quantize_rows,
    "casts": cast_rows,
    "model": model_rows,
}


def _instructions() -> str:
    """Return what is used of the processor."""
    host = Machine.host()
    if not host.directed:
        return "AVX2" if "avx2" in host.features else "neither AVX2 nor AVX-512"
    found = [("VNNI", host.byte_dots), ("FP16", host.half_lanes)]
    return "AVX-512" + "".join(f", {name}" if has else f", no {name}" for name, has in found)


def _hold_to(machine: str) -> None:
    """Start again with the planner, the compiler and torch held to an instruction set."""
    if machine == "host" or os.environ.get("FPSIM_BENCH_MACHINE") == machine:
        return
    name, features, told = MACHINES[machine]
    host = binding.get_host_cpu_features()
    missing = [x for x in features.split() if x not in ("64bit",) and not host.get(x, False)]
    if missing:
        raise SystemExit(f"--machine: this processor lacks {', '.join(missing)} of {machine}")
    listed = ",".join(f"+{feature}" for feature in features.split())
    more = dict(zip(_TORCH, told, strict=True)) | {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": listed,
        "FPSIM_BENCH_MACHINE": machine,
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | more)


def _show(rows: list[Row], header: dict[str, str]) -> None:
    title = "Throughput beside torch.matmul (or a numpy copy) in float32"
    table = Table(title=f"{title}\n{header['processor']} ({header['instructions']})")
    heads = ("what", "kernel", "threads", "G/s", "reference G/s", "ratio", "spread", "bound")
    for column in heads:
        table.add_column(column, justify="left" if column in ("what", "kernel") else "right")
    for r in rows:
        numbers = (f"{r.rate:.3g}", f"{r.reference:.3g}", f"{r.ratio:.3g}", f"{r.spread:.0%}")
        numbers += (f"{r.bound:.2g}" if r.bound else "",)
        table.add_row(r.what, r.kernel, str(r.threads), *numbers)
    Console(width=120).print(table)


def _markdown(files: list[Path]) -> str:
    """Return the ratios of several runs side by side, a column for each."""
    runs = [json.loads(file.read_text()) for file in files]
    heads = [f"{run['processor']}, {run['instructions']}" for run in runs]
    found = [{(r["what"], r["threads"]): r["ratio"] for r in run["rows"]} for run in runs]
    lines = [f"| | threads | {' | '.join(heads)} |", f"|---|---:|{'---:|' * len(runs)}"]
    for key in dict.fromkeys(key for ratios in found for key in ratios):
        numbers = (f"{ratios[key]:.2g}" if key in ratios else "" for ratios in found)
        lines.append(f"| `{key[0]}` | {key[1]} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", action="store_true", help="also the whole model (minutes)")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--machine", choices=("host", *MACHINES), default="host")
    parser.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="print earlier runs")
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=["matmul", "quantize"], metavar="PART"
    )
    args = parser.parse_args()
    if args.show:
        print(_markdown(args.show))
        return
    _hold_to(args.machine)
    parts = [PARTS[name] for name in (*args.parts, *(["model"] if args.model else []))]
    rows: list[Row] = []
    header = {"processor": processor(), "instructions": _instructions()}
    for threads in args.threads:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(threads)
        for part in parts:
            print(f"{part.__name__}, {threads} threads", file=sys.stderr)
            rows.extend(part(threads))
    _show(rows, header)
    if args.json:
        found = header | {"rows": [asdict(r) for r in rows]}
        write_atomic(args.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
