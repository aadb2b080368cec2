# SPDX-License-Identifier: Apache-2.0
"""What a set of vectors is: its record, its sections, the codes that are worth using."""
