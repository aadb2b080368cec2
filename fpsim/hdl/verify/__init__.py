# SPDX-License-Identifier: Apache-2.0
"""Whether a design computes its unit, and the mistake if it does not."""
