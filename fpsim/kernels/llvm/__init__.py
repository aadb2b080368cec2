# SPDX-License-Identifier: Apache-2.0
"""A generator of LLVM vector code.

The lane steps, the tile loop and the drivers of matrix products.
"""
