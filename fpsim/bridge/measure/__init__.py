# SPDX-License-Identifier: Apache-2.0
"""Models, texts and tasks, and the scores of converted models on them."""
