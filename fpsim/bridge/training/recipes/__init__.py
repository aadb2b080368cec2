# SPDX-License-Identifier: Apache-2.0
"""Training recipes of fpsim, one module each; see `fpsim.bridge.training.recipe`."""
