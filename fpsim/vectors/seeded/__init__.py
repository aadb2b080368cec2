# SPDX-License-Identifier: Apache-2.0
"""Random vectors, which depend only on the seed, on every computer."""
