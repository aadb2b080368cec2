# SPDX-License-Identifier: Apache-2.0
"""The command line's parser with examples as literal blocks, for the page of commands."""

from __future__ import annotations

import argparse

from fpsim import cli

__all__ = ["parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of `fpsim` with epilogs in reStructuredText."""
    made = cli.parser()
    _literal(made)
    return made


def _literal(made: argparse.ArgumentParser) -> None:
    if made.epilog:
        head, *lines = made.epilog.splitlines()
        made.epilog = "\n".join([f"{head.capitalize()}:", "", *(f"    {line}" for line in lines)])
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _literal(sub)
