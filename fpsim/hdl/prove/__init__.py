# SPDX-License-Identifier: Apache-2.0
"""Proofs: a design equal to a unit for all inputs, and the reference RTL to the exact model."""
