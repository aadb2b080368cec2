# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4: joint search of formats and clipping, and its calibration files."""
