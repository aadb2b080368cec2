# SPDX-License-Identifier: Apache-2.0
"""Running vectors through a design: beats, testbenches, simulators, replay."""
