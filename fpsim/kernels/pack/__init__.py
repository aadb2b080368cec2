# SPDX-License-Identifier: Apache-2.0
"""Numba and LLVM loops that lay codes out as the panels lane kernels read."""
