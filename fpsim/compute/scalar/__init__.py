# SPDX-License-Identifier: Apache-2.0
"""Any unit, one dot product at a time, in scalar Numba code."""
