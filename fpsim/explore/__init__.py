# SPDX-License-Identifier: Apache-2.0
"""Searches over units for a model: its layers, the points of a space, their costs."""
