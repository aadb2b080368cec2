# SPDX-License-Identifier: Apache-2.0
"""Vectors of what surrounds a MAC: converters, multipliers, adders, quantizers."""
