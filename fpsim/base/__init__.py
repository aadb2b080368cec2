# SPDX-License-Identifier: Apache-2.0
"""Services for all other packages, free of formats: errors, files, progress, random words."""
