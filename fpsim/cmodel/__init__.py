# SPDX-License-Identifier: Apache-2.0
"""A unit or an operation as a self-contained C99 header with integer arithmetic, also for DPI-C."""

from __future__ import annotations

from fpsim.cmodel.export import CFiles, export_c
from fpsim.cmodel.operations import export_operation

__all__ = ["CFiles", "export_c", "export_operation"]
