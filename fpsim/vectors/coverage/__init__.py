# SPDX-License-Identifier: Apache-2.0
"""Which corner classes and coverage models a set reaches."""
