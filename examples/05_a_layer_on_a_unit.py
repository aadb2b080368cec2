# SPDX-License-Identifier: Apache-2.0
"""A torch layer computed MAC by MAC, beside float32."""

import torch

import fpsim

torch.manual_seed(0)
layer = torch.nn.Sequential(torch.nn.Linear(256, 64))
x = torch.randn(16, 256)
with torch.no_grad():
    wanted = layer(x)
    for unit in ("exact", "e2m1-chain-e5m10", "e2m1-chain-e4m3fn"):
        fpsim.bridge.convert(layer, recipe="mxfp4", unit=unit)
        error = (layer(x) - wanted).pow(2).mean() / wanted.pow(2).mean()
        print(f"{fpsim.bridge.conversion_of(layer).units[0]}: relative error {error:.4f}")
        fpsim.bridge.restore(layer)
