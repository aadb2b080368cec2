# SPDX-License-Identifier: Apache-2.0
"""A MAC unit as data.

`spec` (TOML and canonical names), `presets` (real silicon), `stages` (the datapath's parts).
"""
