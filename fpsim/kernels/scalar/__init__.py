# SPDX-License-Identifier: Apache-2.0
"""Numba loops that compute any unit's dot products one step at a time."""
