# SPDX-License-Identifier: Apache-2.0
"""The planner: bounds on exponents, and which kernel they prove exact."""
