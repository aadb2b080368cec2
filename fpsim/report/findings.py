# SPDX-License-Identifier: Apache-2.0
"""Findings of measurements, as sentences made from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fpsim.studies.sqnr import Scaling, SqnrRow, format_label

if TYPE_CHECKING:
    from fpsim.report.page import PerplexityRow, RtlRow

__all__ = [
    "best_db",
    "best_ratio",
    "datasets",
    "formats",
    "leaders",
    "number",
    "perplexity",
    "rtl",
]

#: SQNRs closer than this, in dB, are called equal.
_TIE = 0.005


def number(value: float) -> str:
    """Return a perplexity or ratio as text: two decimals, whole above 10 000, or ``inf``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.2f}"


# -- RTL -----------------------------------------------------------------------------------------


def rtl(rows: Sequence[RtlRow]) -> str:
    """Return one sentence on how many accumulators of all replays equal the model's."""
    compared = sum(row.compared for row in rows)
    wrong = sum(row.mismatches for row in rows)
    short = sum(row.vectors - row.compared for row in rows)
    if wrong:
        return f"{wrong:,} of {compared:,} accumulators differ from the model."
    text = f"All {compared:,} accumulators are equal to the model's, bit for bit"
    return f"{text}, but {short:,} vectors were not compared." if short else f"{text}."


# -- perplexity ----------------------------------------------------------------------------------


def perplexity(rows: Sequence[PerplexityRow]) -> list[str]:
    """Return sentences on what each recipe costs, and what each further unit changes.

    A recipe's first row stands for it; other units are compared with that row.
    """
    reference = next((row for row in rows if row.recipe is None), None)
    first: dict[str, PerplexityRow] = {}
    sentences: list[str] = []
    for row in rows:
        if row.recipe is None:
            continue
        if row.recipe not in first:
            first[row.recipe] = row
            if reference is not None:
                sentences.append(
                    _against(row, reference, f"The {row.recipe} recipe takes perplexity")
                )
        else:
            base = first[row.recipe]
            start = f"Accumulating in {row.unit} instead of {base.unit} takes it"
            sentences.append(_against(row, base, start))
    return sentences


def _against(row: PerplexityRow, base: PerplexityRow, start: str) -> str:
    old, new = base.perplexity, row.perplexity
    text = f"{start} from {number(old)} to {number(new)}"
    if not math.isfinite(old) or not math.isfinite(new):
        return f"{text}."
    if number(old) == number(new):
        return f"{text}: no difference in these digits."
    return f"{text} ({100 * (new / old - 1):+.3g} %)."


# -- quantization error --------------------------------------------------------------------------


def datasets(rows: Sequence[SqnrRow]) -> list[str]:
    """Return the names of the data, in order."""
    return list(dict.fromkeys(row.data for row in rows))


def formats(rows: Sequence[SqnrRow]) -> list[str]:
    """Return the names of the formats, in order."""
    return list(dict.fromkeys(row.format for row in rows))


def best_db(rows: Sequence[SqnrRow], data: str, scaling: Scaling) -> float:
    """Return the highest SQNR of any format on a data set.

    Args:
        rows: measurements.
        data: name of the data set.
        scaling: kind of scale.

    Returns:
        SQNR in dB; -inf if nothing was measured.
    """
    values = [row.sqnr_db for row in rows if (row.data, row.scaling) == (data, scaling)]
    return max(values, default=-math.inf)


def best_ratio(rows: Sequence[SqnrRow], data: str, fmt: str) -> float | None:
    """Return the best clip ratio of a format on a data set.

    Args:
        rows: measurements.
        data: name of the data set.
        fmt: name of the format.

    Returns:
        Clip ratio of the row with the best scale per tensor; None if it was not measured.
    """
    key = (data, fmt, Scaling.TENSOR_BEST)
    found = (row.clip_ratio for row in rows if (row.data, row.format, row.scaling) == key)
    return next(found, None)


def leaders(rows: Sequence[SqnrRow], data: str, scaling: Scaling) -> list[str]:
    """Return the labels of the formats with the highest SQNR.

    Args:
        rows: measurements.
        data: name of the data set.
        scaling: kind of scale.

    Returns:
        Labels in the order of the rows, several if they tie.
    """
    best = best_db(rows, data, scaling)
    here = [row for row in rows if (row.data, row.scaling) == (data, scaling)]
    return [format_label(row.format) for row in here if row.sqnr_db >= best - _TIE]
