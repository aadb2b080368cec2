# SPDX-License-Identifier: Apache-2.0
"""Storage codes with a fixed meaning each, as the wide codes that a unit multiplies.

Hardware of such a format (nf4, af4, any table of 16 values) looks each code up: 16 entries of the
wide format stand before an ordinary multiplier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.blocks.grids import TABLE_CODES, Table
from fpsim.blocks.meaning import has_row_tables, meaning, stored_grids
from fpsim.formats.floating import Format

__all__ = ["CodeTable"]


@dataclass(frozen=True)
class CodeTable:
    """The wide code of each storage code.

    Args:
        name: of the block format.
        wide: the format of the wide codes: the operand format of a unit that takes them.
        codes: the wide code of every storage code, in order.
    """

    name: str
    wide: Format
    codes: tuple[int, ...]

    @classmethod
    def of(cls, format_or_name: str | Path | BlockFormat, where: str = "table") -> CodeTable:
        """Return the table of a block format.

        Raises:
            FpsimError: no such block format, or one whose codes do not mean one number each.
        """
        try:
            fmt = get_block_format(format_or_name)
        except FpsimError as error:
            raise FpsimError(f"{where}: {error}") from None
        allowed = "a block format whose 16 codes mean one number each, such as nf4"
        if not fmt.is_coded or fmt.element.bits != TABLE_CODES.bit_length() - 1:
            own = "a table" if isinstance(fmt.element, Table) else fmt.element.name
            raise FpsimError(f"{where}: {fmt.name} has {own} and no table; allowed: {allowed}")
        what = meaning(fmt)
        matter = {
            "a table for each row": has_row_tables(fmt),
            f"{stored_grids(fmt)} grids per block": stored_grids(fmt) > 1,
            f"{len(what.ratios)} ratios within a block": len(what.ratios) > 1,
            "a top element per block": fmt.top is not None,
        }
        for text, has in matter.items():
            if has:
                raise FpsimError(f"{where}: {fmt.name} has {text}; allowed: {allowed}")
        return cls(fmt.name, what.wide, tuple(int(code) for code in what.wide_codes[0, 0]))

    @property
    def bits(self) -> int:
        """Bits of a storage code."""
        return (len(self.codes) - 1).bit_length()

    def check(self, name: str, fmt: Format) -> None:
        """Raise FpsimError unless the numbers have the format of operand ``a`` or ``b``."""
        if self.wide != fmt:
            raise FpsimError(
                f"{name}_table: the numbers of {self.name} stand in {self.wide.name}, and operand "
                f"{name} of the unit is {fmt.name}; allowed: a unit whose operand {name} is "
                f"{self.wide.name}"
            )

    @property
    def patterns(self) -> tuple[int, ...]:
        """The storage code of every wide code, the first of several; -1 where there is none."""
        found = [-1] * (1 << self.wide.bits)
        for storage, code in reversed(list(enumerate(self.codes))):
            found[code] = storage
        return tuple(found)
