# SPDX-License-Identifier: Apache-2.0
"""Sets on disk: manifest, file formats, writer, checker, shards, interrupted runs."""
