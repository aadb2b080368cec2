# SPDX-License-Identifier: Apache-2.0
"""A set of vectors, one of them explained, and what a damaged file says."""

import tempfile
from pathlib import Path

import fpsim
from fpsim import FpsimError, vectors

unit = fpsim.get_unit("e2m1b2-fixed14q4-saturate")
with tempfile.TemporaryDirectory() as folder:
    made = vectors.write(vectors.plan(unit, count=200), Path(folder) / "mac")
    print(vectors.check(made).count, "vectors, every result anew")
    print(vectors.explain(made, line=300))

    words = made / "vectors.hex"
    text = words.read_text().splitlines()
    text[-1] = f"{int(text[-1], 16) ^ 1:0{len(text[-1])}x}"
    words.write_text("\n".join(text) + "\n")
    try:
        vectors.check(made)
    except FpsimError as error:
        print("one bit changed:", error)
