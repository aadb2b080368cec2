# SPDX-License-Identifier: Apache-2.0
"""Seeded random operands, the same on every machine."""
