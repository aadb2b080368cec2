# SPDX-License-Identifier: Apache-2.0
"""What a code means.

Floating and fixed-point formats, rounding, packing, exchange with arrays of other libraries.
"""
