# SPDX-License-Identifier: Apache-2.0
"""Plans of sets: by strategy, all cases of a unit, tiles of matrix products."""
