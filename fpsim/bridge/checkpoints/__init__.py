# SPDX-License-Identifier: Apache-2.0
"""FP4 checkpoints: models whose layers hold the codes and scales of a file, and files of models."""
