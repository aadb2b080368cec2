# SPDX-License-Identifier: Apache-2.0
"""How much do 4-bit formats lose, on which data, and how much of it is the scale's fault?

Measures the SQNR of INT4 (-7..7), E1M2, E2M1 and E3M0 on Gaussian and Laplace samples, and with
``--model`` on a language model's weights and activations, under four ways to scale. Writes
``quantization_error.svg`` and the numbers behind it, ``quantization_error.csv``.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpsim import plots
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.studies import sqnr

STEM = "quantization_error"


def captured_tensors(name: str, limit: int) -> dict[str, Any]:
    """Return real data: the linear layers' weights and inputs, ``limit`` values of each at most.

    The inputs are those of one window of 512 tokens of Python's help topics.
    """
    # Only here is PyTorch needed.
    from fpsim.bridge import capture
    from fpsim.bridge.measure.models import load
    from fpsim.bridge.measure.text import text_windows, topics_text

    loaded = load(name, report=lambda line: print(line, file=sys.stderr))
    tokens = text_windows(loaded.tokenizer, topics_text(), count=1)[0]
    tensors = capture(loaded.model, tokens, limit)
    return {f"{loaded.name} {kind}": values for kind, values in tensors.items()}


def csv_text(rows: Sequence[sqnr.SqnrRow]) -> str:
    """Return the rows as CSV, decibels to five significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "samples", "tensors", "format", "scaling", "clip_ratio", "sqnr_db"])
    for row in rows:
        ratio = "" if row.clip_ratio is None else f"{row.clip_ratio:.5g}"
        writer.writerow(
            [
                row.data,
                row.samples,
                row.tensors,
                row.format,
                row.scaling,
                ratio,
                f"{row.sqnr_db:.5g}",
            ]
        )
    return text.getvalue()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("analysis/results"), help="directory")
    parser.add_argument("--samples", type=int, default=1 << 20, help="values of each data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="also use this model's tensors, such as smollm2-135m")
    return parser.parse_args(argv)


def kept_figure(folder: Path) -> Any:
    """Return the picture of the table in a folder."""
    with (folder / f"{STEM}.csv").open(encoding="utf-8") as file:
        rows = [
            sqnr.SqnrRow(
                row["data"], int(row["samples"]), row["format"], sqnr.Scaling(row["scaling"]),
                float(row["clip_ratio"]) if row["clip_ratio"] else None, float(row["sqnr_db"]),
                int(row["tensors"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
    return plots.sqnr_figure(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the picture and the table, and return the exit status."""
    args = parse(argv)
    try:
        data = {name: sqnr.samples(name, args.samples, args.seed) for name in sqnr.DISTRIBUTIONS}
        stem = STEM
        if args.model:
            data |= captured_tensors(args.model, args.samples)
            stem += "-" + Path(args.model).name
        rows = sqnr.measure(data)
        table = write_atomic(args.out / f"{stem}.csv", csv_text(rows).encode())
        picture = plots.save(plots.sqnr_figure(rows), args.out / f"{stem}.svg")
    except FpsimError as error:
        print(f"quantization_error: {error}", file=sys.stderr)
        return 2
    print(csv_text(rows), end="")
    print(f"wrote {table} and {picture}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
