# SPDX-License-Identifier: Apache-2.0
"""``python -m fpsim`` is the ``fpsim`` command."""

import sys

from fpsim.cli import main

sys.exit(main())
