# SPDX-License-Identifier: Apache-2.0
"""Number formats: the meaning of a code.

Floating and fixed-point formats, rounding, packing, exchange with arrays of other libraries.
"""
