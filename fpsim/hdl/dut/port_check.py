# SPDX-License-Identifier: Apache-2.0
"""A mapping held against the ports that the design has, before anything is planned or compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fpsim.base.errors import FpsimError, nearest
from fpsim.hdl.dut.dut import Dut, Place, Wires
from fpsim.hdl.dut.ports import Port, undriven

__all__ = ["check_ports", "with_arrays"]


def check_ports(
    dut: Dut, ports: Mapping[str, Port], inputs: Iterable[str] = (), outputs: Iterable[str] = ()
) -> None:
    """Refuse a mapping that the design's ports do not have, or inputs that it forgets.

    Args:
        dut: the design.
        ports: its ports.
        inputs: ports that an adapter drives besides the ports that ``dut`` names.
        outputs: ports that an adapter reads.

    Raises:
        FpsimError: a port that is not there or runs the other way, an input that nothing drives, a
            kind of port that no wrapper can connect; with the key.
    """
    driven = dut.driven() | dict.fromkeys(inputs, "adapter")
    read = _read(dut) | dict.fromkeys(outputs, "adapter")
    for wanted, direction in ((driven, "input"), (read, "output")):
        for name, key in wanted.items():
            _check_one(dut, ports, name, key, direction)
    for name, value in dut.input.tie.items():
        if value.bit_length() > ports[name].total:
            raise FpsimError(
                f"input.tie.{name}: {value} does not fit {ports[name].total} bits of {name}"
            )
    for name in dut.input.open:
        if name not in ports or ports[name].direction != "input":
            raise FpsimError(f"input.open: {dut.top} has no input {name!r}{nearest(name, ports)}")
    free = [port.name for port in undriven(ports, driven)]
    free = [name for name in free if ports[name].direction != "interface"]
    forgotten = [name for name in free if name not in dut.input.open and not dut.input.tie_rest]
    if forgotten:
        names = ", ".join(repr(name) for name in forgotten[:8])
        ties = ", ".join(f"{name} = 0" for name in forgotten[:3])
        words = {"rst": "[reset]", "reset": "[reset]", "clk": "[clock]", "clock": "[clock]"}
        tables = {table for word, table in words.items() if word in forgotten[0].lower()}
        mapped = f"name them in {tables.pop()}" if tables else "map them"
        raise FpsimError(
            f"input: nothing drives {names} of {dut.top}; {mapped}, or say in [input] "
            f"tie = {{ {ties} }}, tie = 0 for all, or open = [{names}]"
        )


def _read(dut: Dut) -> dict[str, str]:
    results = dut.output.results.items()
    found = {place.port: f"output.{name}" for name, wires in results for place in wires.places}
    found |= {place.port: "output.flags" for place in dut.output.flags.values()}
    single = {"input.ready": dut.input.ready, "output.valid": dut.output.valid}
    return found | {port.removeprefix("!"): key for key, port in single.items() if port}


def _check_one(dut: Dut, ports: Mapping[str, Port], name: str, key: str, direction: str) -> None:
    port = ports.get(name)
    if port is None:
        near = nearest(name, [p.name for p in ports.values()])
        raise FpsimError(f"port: {dut.top} has no port {name!r}{near} ({key})")
    if port.kind:
        members = [n for n in ports if n.startswith(f"{name}.")]
        raise FpsimError(
            f"wrapper: port {name} of {dut.top} is {port.kind}, which "
            + (
                f"has no wires itself; name its members, such as {members[0]} ({key})"
                if members
                else "no generated wrapper connects; write a module around it and name that in "
                f"top ({key})"
            )
        )
    if port.direction != direction and port.direction != "inout":
        raise FpsimError(
            f"port: {name} of {dut.top} is an {port.direction}, not an {direction} ({key})"
        )


def with_arrays(dut: Dut, ports: Mapping[str, Port]) -> Dut:
    """Return the design with places in unpacked arrays counted in bits: ``a[2]`` is an element.

    Element with the lowest index stands in the low bits.

    Raises:
        FpsimError: an index outside an array, or one of several dimensions.
    """

    def moved(wires: Wires) -> Wires:
        return replace(wires, places=tuple(_in_bits(place, ports) for place in wires.places))

    beats = tuple(
        replace(run, fields={name: moved(wires) for name, wires in run.fields.items()})
        for run in dut.input.beats
    )
    acc = dut.output.acc and moved(dut.output.acc)
    parts = {name: moved(wires) for name, wires in dut.output.parts.items()}
    output = replace(dut.output, acc=acc, parts=parts)
    return replace(dut, input=replace(dut.input, beats=beats), output=output)


def _in_bits(place: Place, ports: Mapping[str, Port]) -> Place:
    port = ports.get(place.port)
    if port is None or not port.ranges or place.width is None:
        return place
    low, high = min(port.ranges[0]), max(port.ranges[0])
    first, last = place.lsb, place.lsb + place.width - 1
    if len(port.ranges) > 1 or first < low or last > high:
        shown = "".join(f"[{left}:{right}]" for left, right in port.ranges)
        raise FpsimError(
            f"port: {place.port} is an array {shown}; elements {first} to {last} are none of its"
            if len(port.ranges) == 1
            else f"port: {place.port} is an array {shown}; name all of it"
        )
    return Place(place.port, (first - low) * port.bits, place.width * port.bits)
