# SPDX-License-Identifier: Apache-2.0
"""The grammar of canonical unit names as a table, and the fault of a name that it does not fit.

    OPERANDS-STAGE[-SETTING...]     such as e2m1-chain-e5m10-rtz or e2m1xe4m3fn-fixed24q9

`MacSpec.from_name` reads names, `MacSpec.canonical_name` writes them; `name_fault` says which part
of a name is missing or unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fpsim.base.errors import FpsimError, nearest
from fpsim.blocks.block_format import get_element
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.spec import BETWEEN
from fpsim.units.stages.composite import NanScale
from fpsim.units.stages.short_names import parse_short_name

__all__ = ["GRAMMAR", "GrammarPart", "name_fault"]


@dataclass(frozen=True)
class GrammarPart:
    """One line of the grammar.

    Attributes:
        part: subject of the line: ``operands``, a stage kind, or ``setting``.
        form: spelling of the part; words in capitals stand for values.
        meaning: meaning of the part, in one sentence.
        example: a whole name with the part.
    """

    part: str
    form: str
    meaning: str
    example: str


#: Every part that a canonical name can have, in the order in which a name is read.
GRAMMAR: tuple[GrammarPart, ...] = (
    GrammarPart("operands", "FORMAT", "both operands have this format", "e2m1-chain-e5m10"),
    GrammarPart("operands", "FORMATxFORMAT", "formats of a and b", "e2m1xe4m3fn-chain-e8m23"),
    GrammarPart("operands", "FORMAT.SCALE", "scales other than E8M0", "e2m1.ue4m3fn-exact-e8m23"),
    GrammarPart(
        "operands",
        "FORMAT.SCALE.split",
        "one scale per sign, as AMXFP4 has",
        "e2m1.e5m2.split-block32-into-chain-e8m23",
    ),
    GrammarPart("chain", "chain-FORMAT", "acc = R(acc + p), in order", "e2m1-chain-e5m10"),
    GrammarPart("exact", "exact-FORMAT", "the real sum, rounded once", "e2m1-exact-e8m23"),
    GrammarPart(
        "fixed",
        "fixedWIDTHqBITS",
        "a register of WIDTH bits whose last bit weighs 2^-BITS",
        "e2m1-fixed24q2",
    ),
    GrammarPart(
        "aligned",
        "alignedNfF-FORMAT",
        "N products shifted to one exponent, F fraction bits kept, as tensor cores add",
        "e2m1-aligned32f13-e8m13",
    ),
    GrammarPart(
        "tree", "treeN-FORMAT", "balanced adds of N products (all K without N)", "e2m1-tree8-e5m10"
    ),
    GrammarPart(
        "block",
        "blockSIZE[-to-FORMAT]-into-STAGE",
        "exact sums of blocks, scaled, then added by STAGE",
        "e2m1-block32-into-chain-e8m23",
    ),
    GrammarPart(
        "chunked",
        "chunkedSIZE-of-STAGE-into-STAGE",
        "chunks of SIZE products by the first stage, their results by the second",
        "e2m1-chunked128-of-chain-e5m10-into-chain-e8m23",
    ),
    GrammarPart(
        "chunked",
        "splitPARTS-of-STAGE-into-STAGE",
        "K cut into PARTS chunks",
        "e2m1-split4-of-chain-e5m10-into-chain-e8m23",
    ),
    GrammarPart("setting", "rne rna rtz rup rdn rto", "rounding; else rne", "e2m1-chain-e5m10-rtz"),
    GrammarPart("setting", "srBITS", "stochastic, BITS random bits", "e2m1-chain-e5m10-sr8"),
    GrammarPart(
        "setting",
        "saturate inf nan wrap",
        "overflow; the format's or wrap if none",
        "e2m1-chain-e5m10-saturate",
    ),
    GrammarPart("setting", "end", "one overflow, at the end", "e2m1-fixed16q2-saturate-end"),
    GrammarPart("setting", "rounded", "products are rounded first", "e2m1-chain-e5m10-rounded"),
    GrammarPart("setting", "radixN lanesN", "of a tree", "e2m1-tree16-e8m23-radix4"),
)

_HEADS = ("chain", "exact", "fixed", "aligned", "tree", "block", "chunked", "split")
_HINT = "; see `fpsim units grammar`"


def name_fault(name: str) -> str | None:
    """Return which part of a would-be canonical name is missing or unknown.

    Args:
        name: lower-case text that `MacSpec.from_name` does not read.

    Returns:
        One sentence; None if the text does not begin with formats, as canonical names do.
    """
    # A "-" after "b" or "q" is the sign of a bias or of a count of fraction bits.
    operands, *words = re.split(r"(?<![bq])-", name)
    fault = _operand_fault(operands)
    stages = any(re.match(rf"({'|'.join(_HEADS)})\d*", word) for word in words[:1])
    if fault is not None:
        return fault + _HINT if stages else None
    if not words:
        return (
            f"{name} names operands only; a stage is missing, as in {operands}-chain-e5m10{_HINT}"
        )
    found = _stage_fault(operands, words)
    return None if found is None else found + _HINT


def _operand_fault(text: str) -> str | None:
    for operand in re.split(BETWEEN, text):
        fmt, *rest = operand.split(".")
        try:
            for one in (fmt, *rest[:1]):
                get_element(one)
        except FpsimError as error:
            return str(error)
        if rest[1:] not in ([], ["split"]):
            return f"{operand}: after the scale format only .split may stand"
    return None


def _stage_fault(before: str, words: list[str]) -> str | None:
    """Return the fault of the stage at the head of ``words``; ``before`` is the name up to it."""
    head, *rest = words
    so_far = f"{before}-{head}"
    kind = next((k for k in _HEADS if head.startswith(k)), None)
    numbers = "" if kind is None else head[len(kind) :]
    if kind is None or not re.fullmatch(r"[\dfq-]*", numbers):
        return f"{head!r} is no stage; allowed are {', '.join(_HEADS)}{nearest(head, _HEADS)}"
    if kind == "fixed" and not re.fullmatch(r"\d+q-?\d+", numbers):
        if not numbers[:1].isdigit():
            return f"a fixed register needs a width and an LSB: {before}-fixed14q6"
        width = re.match(r"\d+", numbers)
        return f"a fixed register needs an LSB: {before}-fixed{width[0] if width else 14}q6"
    if kind == "aligned" and not re.fullmatch(r"\d+f\d+", numbers):
        count = re.match(r"\d+", numbers)
        return (
            "an aligned window needs its number of products and fraction bits: "
            f"{before}-aligned{count[0] if count else 32}f13-e8m13"
        )
    if kind in ("block", "chunked", "split"):
        return _nested_fault(before, kind, numbers, rest)
    if kind != "fixed":
        fmt = rest[0] if rest else None
        if fmt is None or fmt in ("into", "of"):
            article = "an" if kind in ("aligned", "exact") else "a"
            return f"{article} {kind} stage needs the format of its results: {so_far}-e5m10"
        try:
            get_format(fmt)
        except FpsimError as error:
            return f"{kind}: {error}"
        rest = rest[1:]
    return _setting_fault(words[: len(words) - len(rest)], rest)


def _nested_fault(before: str, kind: str, numbers: str, rest: list[str]) -> str | None:
    if not numbers:
        return f"{kind} needs a number: {before}-{kind}32"
    if kind == "block":
        if "into" not in rest:
            return (
                "a block stage needs a stage that adds its sums: "
                f"{before}-block{numbers}-into-chain-e8m23"
            )
        end = rest.index("into")
        for i, word in enumerate(rest[:end]):
            settings = "-".join([f"block{numbers}", *rest[: i + 1], "into-chain-e8m23"])
            if word != "to" and parse_short_name(settings) is None:
                known = [f"nan{value}" for value in NanScale] + ["to"]
                return (
                    f"{word!r} is no setting of block{numbers}; allowed: {', '.join(known)} and a "
                    f"format with a rounding{nearest(word, known)}"
                )
        return _stage_fault(f"{before}-{kind}{numbers}-into", rest[end + 1 :] or [""])
    if rest[:1] != ["of"] or "into" not in rest:
        return (
            "a chunked stage needs a stage for its chunks and one for their results: "
            f"{before}-{kind}{numbers}-of-chain-e5m10-into-chain-e8m23"
        )
    return _stage_fault(f"{before}-{kind}{numbers}-of", rest[1:])


def _setting_fault(stage: list[str], settings: list[str]) -> str | None:
    """Return the fault of the first of ``settings`` with which the stage cannot be read."""
    for i, word in enumerate(settings):
        if word == "into":
            return _stage_fault("...-into", settings[i + 1 :] or [""])
        if parse_short_name("-".join([*stage, *settings[: i + 1]])) is None:
            known = [
                *(r.value for r in (*Rounding, *Overflow)),
                "sr8",
                "rounded",
                "end",
                "radix4",
                "lanes16",
            ]
            return (
                f"{word!r} is no setting of {'-'.join(stage)}; roundings are "
                f"{', '.join(Rounding)}, overflows {', '.join(Overflow)}{nearest(word, known)}"
            )
    return None
