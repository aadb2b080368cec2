# SPDX-License-Identifier: Apache-2.0
"""LLVM vector code: its generator, tiles of matrix products, and programs over blocks."""
