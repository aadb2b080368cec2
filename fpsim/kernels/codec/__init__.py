# SPDX-License-Identifier: Apache-2.0
"""Numba loops between values and codes, and between codes and packed bits."""
