# SPDX-License-Identifier: Apache-2.0
"""Units with one mistake, and which vectors find it."""
