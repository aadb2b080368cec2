# SPDX-License-Identifier: Apache-2.0
"""Services of every room, free of formats: errors, whole files, progress, random words."""
