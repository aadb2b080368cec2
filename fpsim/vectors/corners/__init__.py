# SPDX-License-Identifier: Apache-2.0
"""Directed vectors: one function per corner class."""
