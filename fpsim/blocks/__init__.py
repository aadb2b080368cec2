# SPDX-License-Identifier: Apache-2.0
"""Block formats: elements that share a scale, and the rules that choose the scale."""
