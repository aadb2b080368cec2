# SPDX-License-Identifier: Apache-2.0
"""Vector sets on disk: formats, writer, reader, checker, shards, resumable runs."""
