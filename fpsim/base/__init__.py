# SPDX-License-Identifier: Apache-2.0
"""What every room needs and no number depends on: errors, whole files, progress, random words."""
