# SPDX-License-Identifier: Apache-2.0
"""Scalar Numba code for any unit, one dot product at a time."""
