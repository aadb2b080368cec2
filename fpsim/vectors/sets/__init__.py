# SPDX-License-Identifier: Apache-2.0
"""What a vector set contains: records, plans, exhaustive sets, tiles, flags."""
