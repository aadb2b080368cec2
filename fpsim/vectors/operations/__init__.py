# SPDX-License-Identifier: Apache-2.0
"""Vectors of the operations around a MAC: converters, multipliers, adders, quantizers."""
