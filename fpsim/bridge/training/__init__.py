# SPDX-License-Identifier: Apache-2.0
"""Training on units: forward, input-gradient and weight-gradient products, MAC by MAC.

`fpsim.bridge.convert` with a training recipe (`fpsim.bridge.training.recipe`) is the way in; the
modules of `fpsim.bridge.training.recipes` are the recipes that come with fpsim, and
`fpsim.bridge.training.run` trains a small language model with any of them.
"""
