# SPDX-License-Identifier: Apache-2.0
"""Matrix products in vector lanes: packing of operands, kernel parameters, the run."""
