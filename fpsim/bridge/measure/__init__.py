# SPDX-License-Identifier: Apache-2.0
"""Models, texts and tasks, and measurements of converted models."""
