# SPDX-License-Identifier: Apache-2.0
"""Training recipes that come with fpsim, a module each; see `fpsim.bridge.training.recipe`."""
