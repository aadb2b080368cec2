# SPDX-License-Identifier: Apache-2.0
"""The steps of vector lanes, each with its lemma: see `fpsim.compute.lanes.steps.step`."""
