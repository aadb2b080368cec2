# SPDX-License-Identifier: Apache-2.0
"""The reference RTL as a design under test: its port convention, in one place.

Ports of a top, of which it may leave some out:

    clk_i, rst_ni               rising edge; asynchronous reset, active low
    valid_i, ready_o, last_i    a beat is taken, and ends its vector
    op_i                        the codes of the vector files; beats after the first say mac
    a_i, b_i                    packed lanes of one beat, element 0 low
    a_scale_i, b_scale_i        packed scale codes of the beat; or exp_i, their exponent
    random_i                    packed random integers of the beat's roundings, the first one low
    c_i                         the code that load and dot take
    valid_o, ready_i, acc_o     results in order; without valid_o one clock after the beat
    flags_o                     the status flags of each, as wide as `FLAG_CODES`
"""

from __future__ import annotations

from dataclasses import replace

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Beats, Dut, Input, Output, Place, Reset, Wires
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.quantizer import quantizer_top
from fpsim.units.spec import MacSpec
from fpsim.vectors.operations.operation import Operation, Quantize
from fpsim.vectors.sets.record import OPS
from fpsim.vectors.sets.status_flags import FLAG_CODES

__all__ = ["quantizer_dut", "reference_dut"]

#: Operations of tops whose op_i has two bits.
_SHORT_OPS = ("idle", "clear", "mac", "load")


def reference_dut(spec: MacSpec, top: RtlTop | None = None) -> Dut:
    """Return the reference RTL of a unit, or another top with its ports, as a design under test.

    Raises:
        FpsimError: a unit that the RTL does not implement, or a top without a port that it needs.
    """
    top = top or rtl_top(spec)
    for port in ("a_i", "b_i", "op_i"):
        if port not in top.inputs:
            raise FpsimError(f"field {port.removesuffix('_i')}: {top.name} has no port {port}")
    lanes = top.inputs["a_i"] // top.tables.get("a", spec.a).bits
    carried = ("op", "a", "b", "exp", "a_scale", "b_scale", "random", "c")
    fields = {n: Wires((Place(f"{n}_i"),)) for n in carried if f"{n}_i" in top.inputs}
    for name, table in top.tables.items():
        fields[name] = replace(fields[name], element_bits=table.bits, table=table.patterns)
    streams = "valid_o" in top.outputs
    ops = {n: code for n, code in OPS.items() if top.inputs["op_i"] > 2 or n in _SHORT_OPS}
    return Dut(
        top=top.name,
        sources=top.sources,
        parameters=top.parameters,
        clock=top.clock,
        reset=Reset(top.reset, active_low=True),
        input=Input(
            (Beats(fields, elements=lanes),),
            valid="valid_i" if "valid_i" in top.inputs else None,
            ready="ready_o" if "ready_o" in top.outputs else None,
            last="last_i" if "last_i" in top.inputs else None,
            tie=dict.fromkeys(top.tied, 0),
        ),
        output=Output(
            Wires((Place("acc_o"),)),
            valid="valid_o" if streams else None,
            ready="ready_i" if "ready_i" in top.inputs else None,
            latency=None if streams else 1,
            flags={name: Place("flags_o", i, 1) for i, name in enumerate(FLAG_CODES)}
            if "flags_o" in top.outputs
            else {},
        ),
        ops=ops,
        lfsr=top.lfsr,
    )


def quantizer_dut(operation: Operation) -> Dut:
    """Return the reference RTL of a quantizer as a design under test.

    Raises:
        FpsimError: a block format that the RTL does not implement, naming the field.
    """
    assert isinstance(operation, Quantize)
    top, scale = quantizer_top(operation), operation.format.scale
    assert scale is not None
    fields = {"x": Wires((Place("x_i"),))}
    if operation.has_tensor_scale:
        fields["tensor_scale"] = Wires((Place("tensor_scale_i"),))
    parts = {"codes": Wires((Place("codes_o"),))}
    sides = ["scales", "negative_scales"] if operation.format.signs else ["scales"]
    for i, name in enumerate(sides):
        place = Place("scales_o", i * scale.bits, scale.bits)
        parts[name] = Wires((place,), element_bits=scale.bits)
    return Dut(
        top=top.name,
        sources=top.sources,
        parameters=top.parameters,
        clock=top.clock,
        reset=Reset(top.reset, active_low=True),
        input=Input(
            (Beats(fields),), valid="valid_i", ready="ready_o", tie=dict.fromkeys(top.tied, 0)
        ),
        output=Output(None, valid="valid_o", ready="ready_i", parts=parts),
    )
