# SPDX-License-Identifier: Apache-2.0
"""Findings: sentences made from measurements alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fpsim.explore.budget import FEW_TOKENS
from fpsim.studies.sqnr import Scaling, SqnrRow, data_label, format_label

if TYPE_CHECKING:
    from fpsim.report.page import PageData, PerplexityRow, RtlRow, UnitFacts
    from fpsim.studies.accumulation import AccumulationRow

__all__ = [
    "LENGTH",
    "best_db",
    "best_ratio",
    "datasets",
    "error_at",
    "formats",
    "layers",
    "leaders",
    "number",
    "perplexity",
    "perplexity_of",
    "rtl",
    "sentences",
]

#: Length of the dot products by which units are compared.
LENGTH = 1024

#: SQNRs nearer than this, in dB, count as equal.
_TIE = 0.005


def number(value: float) -> str:
    """Return a perplexity or ratio as text: two decimals, whole above 10 000, or ``inf``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.2f}"


# -- the whole page ------------------------------------------------------------------------------


def sentences(data: PageData) -> list[str]:
    """Return the findings of a page as sentences, most important first."""
    found = perplexity(data.perplexities)
    if found and data.model is not None and data.model.tokens < FEW_TOKENS:
        found.append(
            f"Perplexities are of {data.model.tokens:,} tokens: on so few, differences of some per "
            "cent are chance."
        )
    for unit in data.units:
        found += layers(unit)
    rows = [row for unit in data.units for row in unit.rtl]
    if rows:
        found.append(f"RTL: {_lower(rtl(rows))}")
    found += _vectors(data.units)
    found += _areas(data.units)
    found += _errors(data.units)
    for name in datasets(data.sqnr):
        best = leaders(data.sqnr, name, Scaling.BLOCK_E8M0)
        if best:
            db = best_db(data.sqnr, name, Scaling.BLOCK_E8M0)
            found.append(
                f"In power-of-two blocks of 32, {' and '.join(best)} "
                f"{'lose' if len(best) > 1 else 'loses'} least of "
                f"{data_label(name)} data: {db:.1f} dB."
            )
    return found


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _vectors(units: Sequence[UnitFacts]) -> list[str]:
    sets = [unit.vectors for unit in units if unit.vectors is not None]
    if not sets:
        return []
    text = f"{sum(one.count for one in sets):,} golden vectors for {_many(len(sets), 'unit')}"
    covered = [one for one in sets if one.bins]
    if covered:
        hit, there = sum(one.hit for one in covered), sum(one.possible for one in covered)
        text += f", which hit {hit:,} of {there:,} coverage bins that can be hit"
    judged = [one for one in sets if one.killed is not None]
    if judged:
        killed, all_of = sum(one.killed or 0 for one in judged), sum(o.mutants for o in judged)
        text += f" and find {killed:,} of {all_of:,} deliberate mistakes"
    return [f"{text}."]


def _areas(units: Sequence[UnitFacts]) -> list[str]:
    known = [(unit, unit.cost) for unit in units if unit.cost is not None]
    if not known:
        return []
    ordered = sorted(known, key=lambda pair: pair[1].area)
    small, large = ordered[0], ordered[-1]
    text = f"{small[0].name} takes {small[1].area:,.0f} NAND2 equivalents"
    if len(known) == 1:
        return [f"{text}, {small[1].depth} cells deep, with {small[1].flipflops} flip-flops."]
    ratio = large[1].area / small[1].area
    return [
        f"The smallest of {len(known)} units with RTL is {text.replace(' takes', ' with')}; "
        f"{large[0].name} is {ratio:.2f} times as large."
    ]


def _errors(units: Sequence[UnitFacts]) -> list[str]:
    known = [(unit, row) for unit in units if (row := error_at(unit)) is not None]
    found = []
    exact = [unit.name for unit, row in known if row.max_error == 0 and not row.not_finite]
    if exact:
        found.append(f"No error at all in sums of {LENGTH} random products: {', '.join(exact)}.")
    lossy = [(unit, row) for unit, row in known if row.max_error > 0 and not row.not_finite]
    if lossy:
        unit, row = max(lossy, key=lambda pair: pair[1].max_error)
        found.append(
            f"{unit.name} loses {'most' if len(lossy) > 1 else 'bits'} in sums of {LENGTH} "
            f"products: up to {100 * row.max_error:.2g} % of the sum of magnitudes; "
            f"{100 * row.swamped:.0f} % of its steps move nothing."
        )
    lost = [(unit, row) for unit, row in known if row.not_finite]
    found += [
        f"{unit.name} overflows in {row.not_finite} of {row.dots} sums of {LENGTH} products."
        for unit, row in lost
    ]
    return found


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def error_at(unit: UnitFacts, length: int = LENGTH) -> AccumulationRow | None:
    """Return the errors of a unit in dot products of ``length``, or None if there are none."""
    return next((row for row in unit.errors if row.length == length), None)


def perplexity_of(data: PageData, unit: str) -> PerplexityRow | None:
    """Return the perplexity measured on a unit, or None."""
    return next((row for row in data.perplexities if row.unit == unit), None)


def layers(unit: UnitFacts) -> list[str]:
    """Return sentences on a model's layers: the worst layer, and the accumulators needed."""
    if not unit.layers:
        return []
    rows = sorted(unit.layers, key=lambda row: row.output_db)
    worst, middle = rows[0], rows[len(rows) // 2]
    widest = max(unit.layers, key=lambda row: row.fixed_bits)
    lossless = sum(math.isinf(row.unit_db) and row.unit_db > 0 for row in rows)
    kept = f"nothing in {lossless} of them" if lossless else "something in every one"
    return [
        f"Of {_many(len(rows), 'layer')} on {unit.name}, {worst.layer} suffers most: "
        f"{worst.output_db:.1f} dB, where half of them have {middle.output_db:.1f} dB or more. The "
        f"accumulator loses {kept}; a lossless register would need "
        f"{widest.fixed_bits} bits ({widest.layer})."
    ]


# -- RTL -----------------------------------------------------------------------------------------


def rtl(rows: Sequence[RtlRow]) -> str:
    """Return one sentence on the share of accumulators in all replays that equal the model's."""
    compared = sum(row.compared for row in rows)
    wrong = sum(row.mismatches for row in rows)
    short = sum(row.due - row.compared for row in rows)
    if wrong:
        return f"{wrong:,} of {compared:,} accumulators differ from the model."
    text = f"All {compared:,} accumulators are equal to the model's, bit for bit"
    return f"{text}, but {short:,} results were not compared." if short else f"{text}."


# -- perplexity ----------------------------------------------------------------------------------


def perplexity(rows: Sequence[PerplexityRow]) -> list[str]:
    """Return sentences on the cost of each recipe, and on the difference between units.

    Each recipe's first row stands for the recipe, and its other rows are compared with it.
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
    """Return the names of data sets, in order."""
    return list(dict.fromkeys(row.data for row in rows))


def formats(rows: Sequence[SqnrRow]) -> list[str]:
    """Return the names of formats, in order."""
    return list(dict.fromkeys(row.format for row in rows))


def best_db(rows: Sequence[SqnrRow], data: str, scaling: Scaling) -> float:
    """Return the highest SQNR of any format on a data set.

    Args:
        rows: measurements.
        data: name of the data set.
        scaling: kind of scale.

    Returns:
        SQNR in dB; -inf if there are no measurements.
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
        Clip ratio of the row with the best scale per tensor; None without such a row.
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
        Labels in the order of the rows; several for equal SQNRs.
    """
    best = best_db(rows, data, scaling)
    here = [row for row in rows if (row.data, row.scaling) == (data, scaling)]
    return [format_label(row.format) for row in here if row.sqnr_db >= best - _TIE]
