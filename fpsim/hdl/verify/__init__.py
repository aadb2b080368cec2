# SPDX-License-Identifier: Apache-2.0
"""Whether a design computes its unit, and what went wrong where it does not."""
