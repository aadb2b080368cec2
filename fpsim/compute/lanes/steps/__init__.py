# SPDX-License-Identifier: Apache-2.0
"""Every step that vector lanes take, with its lemma: see `fpsim.compute.lanes.steps.step`."""
