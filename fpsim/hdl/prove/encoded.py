# SPDX-License-Identifier: Apache-2.0
"""Codes on wires as SystemVerilog: the encodings of `fpsim.hdl.dut.encodings`, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fpsim.formats.floating import FloatFormat, Format, NanCodes
from fpsim.hdl.dut.dut import Wires

__all__ = ["WireText"]


class WireText:
    """Declarations of wires; each method adds some and returns the name of a result."""

    def __init__(self, prefix: str) -> None:
        self.lines: list[str] = []
        self._prefix = prefix

    def wire(self, width: int, expression: str) -> str:
        """Return the name of a wire with a value."""
        name = f"{self._prefix}{len(self.lines)}"
        self.lines.append(f"  wire [{width - 1}:0] {name} = {expression};")
        return name

    def encoded(self, code: str, width: int, wires: Wires, signed: bool) -> str:
        """Return the pattern on the wires for a code.

        Args:
            code: name of a wire.
            width: its bits.
            wires: how a design writes the code.
            signed: whether wider wires repeat the top bit.

        Returns:
            Name of the pattern, of as many bits as the wires of an element.
        """
        bits = wires.element_bits or width
        if wires.table:
            return self._looked_up(code, width, bits, wires.table)
        out = code
        if bits > width:
            top = f"{code}[{width - 1}]" if signed else "1'b0"
            out = self.wire(bits, f"{{{{{bits - width}{{{top}}}}}, {code}}}")
        elif bits < width:
            out = self.wire(bits, f"{code}[{bits - 1}:0]")
        for name in wires.encoding:
            out = self._step(out, bits, name, back=False)
        return out

    def decoded(self, pattern: str, width: int, wires: Wires) -> str:
        """Return the code of a pattern; 0 for patterns that a table of codes does not use.

        Args:
            pattern: name of a wire with as many bits as an element's wires.
            width: bits of the code.
            wires: how a design writes the code.

        Returns:
            Name of the code.
        """
        bits = wires.element_bits or width
        if wires.table:
            back = [0] * (1 << bits)
            for code, value in enumerate(wires.table):
                if value >= 0:
                    back[value] = code
            return self._looked_up(pattern, bits, width, back)
        out = pattern
        for name in reversed(wires.encoding):
            out = self._step(out, bits, name, back=True)
        if bits < width:
            top = f"{out}[{bits - 1}]" if wires.signed else "1'b0"
            return self.wire(width, f"{{{{{width - bits}{{{top}}}}}, {out}}}")
        return out if bits == width else self.wire(width, f"{out}[{width - 1}:0]")

    def fits(self, code: str, width: int, wires: Wires, signed: bool) -> str:
        """Return one bit: whether wires have a pattern for a code.

        Args:
            code: name of a wire.
            width: its bits.
            wires: how a design writes the code.
            signed: whether narrower wires drop copies of the top bit.

        Returns:
            Name of the bit.
        """
        bits = wires.element_bits or width
        if wires.table:
            known = [int(value >= 0) for value in wires.table]
            return self._looked_up(code, width, 1, known)
        conditions = ["1'b1"]
        if {"sign-magnitude", "ones-complement"} & set(wires.encoding):
            shown = min(bits, width)
            if bits <= width:
                conditions.append(f"{code}[{shown - 1}:0] != {shown}'d{1 << (shown - 1)}")
        if bits < width:
            low = bits - int(signed)
            conditions.append(
                f"(({code}[{width - 1}:{low}] == 0)"
                + (f" | (&{code}[{width - 1}:{low}]))" if signed else ")")
            )
        return self.wire(1, " & ".join(f"({c})" for c in conditions))

    def is_nan(self, code: str, fmt: Format) -> str:
        """Return one bit: whether a code is NaN."""
        if not isinstance(fmt, FloatFormat) or fmt.nan_code is None:
            return "1'b0"
        if fmt.nan is NanCodes.NEGATIVE_ZERO:
            return self.wire(1, f"{code} == {fmt.bits}'d{fmt.sign_bit}")
        last = fmt.max_code if fmt.inf_code is None else fmt.inf_code
        bits = fmt.magnitude_bits
        return self.wire(1, f"{code}[{bits - 1}:0] > {bits}'d{last}")

    def is_zero(self, code: str, fmt: Format) -> str:
        """Return one bit: whether a code is a zero of either sign."""
        if not isinstance(fmt, FloatFormat) or not fmt.has_zero:
            return "1'b0"
        return self.wire(1, f"{code}[{fmt.magnitude_bits - 1}:0] == 0")

    def _looked_up(self, index: str, width: int, bits: int, table: Sequence[int]) -> str:
        entries = [entry & ((1 << bits) - 1) for entry in table]
        # Of 65 536 codes in front of a table of 16, all others have the common one.
        common = Counter(entries).most_common(1)[0][0]
        text = f"{bits}'d{common}"
        for value, entry in reversed(list(enumerate(entries))):
            if entry != common:
                text = f"{index} == {width}'d{value} ? {bits}'d{entry} : {text}"
        return self.wire(bits, text)

    def _step(self, code: str, width: int, name: str, back: bool) -> str:
        top = f"{code}[{width - 1}]"
        if name == "inverted":
            return self.wire(width, f"~{code}")
        if name == "offset-binary":
            return self.wire(width, f"{code} ^ {width}'d{1 << (width - 1)}")
        if name == "sign-magnitude":
            low = self.wire(width, f"~{code} + {width}'d1")
            if width == 1:
                return code
            return self.wire(width, f"{top} ? {{1'b1, {low}[{width - 2}:0]}} : {code}")
        if name == "ones-complement":
            sign = "+" if back else "-"
            return self.wire(width, f"{top} ? {code} {sign} {width}'d1 : {code}")
        if name == "bits-reversed":
            return self.wire(width, "{" + ", ".join(f"{code}[{i}]" for i in range(width)) + "}")
        parts = (f"{code}[{low + 7}:{low}]" for low in range(0, width, 8))
        return self.wire(width, "{" + ", ".join(parts) + "}")
