# SPDX-License-Identifier: Apache-2.0
"""Studies of a unit or a format on data.

Accumulator sizing, order of additions, quantization error.
"""
