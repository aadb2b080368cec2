# SPDX-License-Identifier: Apache-2.0
"""HTML pages: of units, of the demonstration, and of searches."""
