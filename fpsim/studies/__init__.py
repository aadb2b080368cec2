# SPDX-License-Identifier: Apache-2.0
"""Effects of a unit or a format on data.

Accumulator sizing, order of additions, quantization error.
"""
