# SPDX-License-Identifier: Apache-2.0
"""Search for the cheapest unit for a model: layers, points of a space, costs."""
