# SPDX-License-Identifier: Apache-2.0
"""Calibrated systems: what a layer computes under one (forms), and how its constants are found."""
