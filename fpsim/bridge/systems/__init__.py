# SPDX-License-Identifier: Apache-2.0
"""Calibrated systems: the computation of a layer (forms), and the search of its constants."""
