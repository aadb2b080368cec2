# SPDX-License-Identifier: Apache-2.0
"""HTML tables for notebooks, without styles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_pairs", "html_table"]


def html_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table.

    Args:
        title: caption of the table.
        heads: heads of the columns; empty for none.
        rows: cells, row by row; None is left blank.

    Returns:
        HTML in which every text is escaped.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        texts = (escape("" if cell is None else str(cell)) for cell in cells)
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    head = line(heads, "th") if heads else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table><caption>{escape(title)}</caption>{head}{body}</table>"


def html_pairs(title: str, pairs: Iterable[tuple[str, object]]) -> str:
    """Return a table of names and values; values that are None or empty are left out."""
    return html_table(title, (), [pair for pair in pairs if pair[1] not in (None, "")])
