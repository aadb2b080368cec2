# SPDX-License-Identifier: Apache-2.0
"""A user's design as data: sources, ports, protocol, encodings."""
