# SPDX-License-Identifier: Apache-2.0
"""Models, texts and tasks, and what a converted model scores on them."""
