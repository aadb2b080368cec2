# SPDX-License-Identifier: Apache-2.0
"""Random vectors, a function of the seed alone on every machine."""
