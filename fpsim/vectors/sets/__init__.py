# SPDX-License-Identifier: Apache-2.0
"""Sets of vectors: their record, their sections, and codes for operands."""
