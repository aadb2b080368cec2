# SPDX-License-Identifier: Apache-2.0
"""A block format in four lines, compared with MXFP4 and NVFP4."""

import numpy as np

import fpsim

mine = fpsim.BlockFormat.from_dict(
    {"name": "mine", "element": "e2m1", "block": 16, "scale": "e5m3", "rule": "absmax"}
)
rng = np.random.default_rng(1)
data = {"normal": rng.normal(size=(64, 512)), "student-t": rng.standard_t(3, size=(64, 512))}
for name, x in data.items():
    for fmt in (mine, fpsim.get_block_format("mxfp4"), fpsim.get_block_format("nvfp4")):
        error = x - fmt.dequantize(fmt.quantize(x))
        decibels = 10 * np.log10(np.mean(x**2) / np.mean(error**2))
        print(f"{name:10s} {fmt.name:6s} {fmt.bits_per_element:.2f} bits: {decibels:.2f} dB")
