# SPDX-License-Identifier: Apache-2.0
"""What a unit or a format does to data.

Accumulator sizing, order of additions, quantization error.
"""
