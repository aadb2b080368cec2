# SPDX-License-Identifier: Apache-2.0
"""Vectors of converters, multipliers, adders and quantizers, the operations around a MAC."""
