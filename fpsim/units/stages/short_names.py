# SPDX-License-Identifier: Apache-2.0
"""Reads short names of stages, such as ``chain-e5m10`` or ``block16-into-chain-e8m23``.

A name is a head, a format where the stage has one, and words for every setting that is not the
default; `Stage.short_name` writes them.
"""

from __future__ import annotations

import re
from typing import Any

from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.stages.aligned import Addend
from fpsim.units.stages.simple import OverflowAt, ProductRounding
from fpsim.units.stages.tree import Joins

__all__ = ["parse_short_name"]

Table = dict[str, Any]

_HEAD = re.compile(
    r"(?P<kind>chain|exact)|fixed(?P<width>\d+)q(?P<q>-?\d+)"
    r"|aligned(?P<n>\d+)f(?P<f>\d+)|(?P<tree>tree)(?P<products>\d*)"
    r"|block(?P<block>\d+)|chunked(?P<size>\d+)|split(?P<parts>\d+)"
)


def parse_short_name(text: str) -> Table | None:
    """Return the table that a stage's `short_name` stands for, or None if it is not one."""
    # A "-" after "b" or "q" is the sign of a bias or of a count of fraction bits.
    words = re.split(r"(?<![bq])-", text)
    table = _stage(words)
    return None if words else table


def _stage(words: list[str]) -> Table | None:
    """Take a stage off the front of ``words``; None if they do not begin with one.

    An inner stage stands in full between ``of`` and ``into`` or after ``into``, so every ``into``
    belongs to the last head that has none yet.
    """
    match = _HEAD.fullmatch(words.pop(0)) if words else None
    if match is None:
        return None
    if match["size"] or match["parts"]:
        return _chunked(match, words)
    if match["block"]:
        return _block(int(match["block"]), words)
    own = _until_into(words)
    if match["width"]:
        table: Table = {"kind": "fixed", "width": int(match["width"]), "lsb": -int(match["q"])}
        return _settings(table, own)
    if not own:
        return None
    if match["n"]:
        table = {"kind": "aligned", "products": int(match["n"]), "fraction_bits": int(match["f"])}
    else:
        table = {"kind": match["kind"] or match["tree"]}
        if match["products"]:
            table["products"] = int(match["products"])
    return _settings(table | {"format": own[0]}, own[1:])


def _until_into(words: list[str]) -> list[str]:
    """Take the words up to the next ``into``, or all words."""
    cut = words.index("into") if "into" in words else len(words)
    own, words[:] = words[:cut], words[cut:]
    return own


def _after(word: str, words: list[str]) -> Table | None:
    """Take ``word`` and the stage after it; None if either is missing."""
    if words[:1] != [word]:
        return None
    words.pop(0)
    return _stage(words)


def _chunked(match: re.Match[str], words: list[str]) -> Table | None:
    inner = _after("of", words)
    outer = None if inner is None else _after("into", words)
    if inner is None or outer is None:
        return None
    size = {key: int(match[key]) for key in ("size", "parts") if match[key]}
    return {"kind": "chunked", **size, "inner": inner, "outer": outer}


def _block(size: int, words: list[str]) -> Table | None:
    table = _settings({"kind": "block", "size": size}, _until_into(words))
    into = _after("into", words)
    return None if table is None or into is None else table | {"into": into}


def _settings(table: Table, words: list[str]) -> Table | None:
    """Add the settings that the words stand for; None if a word is unknown."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        converted = "convert" in table
        if word == "to" and waiting:
            table["convert"] = waiting.pop(0)
        elif word in list(Rounding):
            table["convert_rounding" if converted else "rounding"] = word
        elif word.startswith("sr") and word[2:].isdecimal():
            table |= {"rounding": "sr", "random_bits": int(word[2:])}
        elif word in list(Overflow):
            table["overflow"] = word
        elif not _one_setting(table, word):
            return None
    return table


def _one_setting(table: Table, word: str) -> bool:
    """Add a setting of one kind of stage; return whether the word is such a setting."""
    kind = table["kind"]
    if kind == "fixed" and word in list(OverflowAt):
        table["overflow_at"] = word
    elif kind in ("chain", "tree") and word == ProductRounding.ROUNDED:
        table["product"] = word
    elif kind == "tree" and word in list(Joins):
        table["addend"] = word
    elif kind == "tree" and (match := re.fullmatch(r"(radix|lanes)(\d+)", word)):
        table[match[1]] = int(match[2])
    elif kind == "aligned" and word in list(Addend):
        table["addend"] = word
    elif kind == "aligned" and word.startswith("by."):
        table["align"] = word[3:]
    elif kind == "aligned" and word.startswith("in."):
        table["container"] = word[3:]
    elif kind == "block" and word.startswith("nan"):
        table["nan_scale"] = word[3:]
    else:
        return False
    return True
