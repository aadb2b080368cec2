# SPDX-License-Identifier: Apache-2.0
"""Numba kernels on plain arrays and integers; the layer below everything else.

A kernel validates nothing and knows no objects of the package: its callers pass codes that are in
range and contiguous arrays of the stated type.
"""
