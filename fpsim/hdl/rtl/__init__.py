# SPDX-License-Identifier: Apache-2.0
"""A unit as SystemVerilog: parameters, instantiation, synthesis and proof of its leaves."""
