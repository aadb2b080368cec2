# SPDX-License-Identifier: Apache-2.0
"""Mutants: units with one mistake, and the vectors that kill them."""
