# SPDX-License-Identifier: Apache-2.0
"""A unit as one self-contained C99 header: integers only, for testbenches and for DPI-C."""

from __future__ import annotations

from fpsim.cmodel.export import CFiles, export_c

__all__ = ["CFiles", "export_c"]
