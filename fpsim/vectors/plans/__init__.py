# SPDX-License-Identifier: Apache-2.0
"""Plans of sets: what a strategy asks for, every case of a unit, tiles of matrix products."""
