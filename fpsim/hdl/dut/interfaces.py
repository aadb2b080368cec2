# SPDX-License-Identifier: Apache-2.0
"""Ports of a module that are interfaces, from its text: only a module around it can have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Dut

__all__ = ["Holder", "interface_ports"]

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\(\*.*?\*\)", re.DOTALL)
_INTERFACE = re.compile(r"\binterface\s+(?:automatic\s+|static\s+)?(\w+)")
_PORT = re.compile(r"(\w+)\s*(?:\.\s*\w+)?\s+(\w+)\s*(\[.*)?", re.DOTALL)
_LAST_NAME = re.compile(r"(\w+)\s*(?:\[[^\]]*\]\s*)*(?:=.*)?$", re.DOTALL)


@dataclass(frozen=True)
class Holder:
    """The object between a port with members and its nets: a variable ``u_PORT`` or an interface.

    ``pins`` are the ports that an interface has itself, such as a clock.
    """

    port: str
    type: str
    pins: tuple[str, ...] = ()
    interface: bool = False


def interface_ports(dut: Dut) -> list[Holder]:
    """Return the ports of a design's top that are interfaces.

    Raises:
        FpsimError: an array of interfaces.
    """
    texts = [_COMMENT.sub(" ", path.read_text("utf-8", "replace")) for path in dut.sources]
    text = "\n".join(texts)
    known = set(_INTERFACE.findall(text))
    found = []
    for part in _port_list(text, "module", dut.top) if known else ():
        match = _PORT.fullmatch(part.strip())
        if match is None or match[1] not in known:
            continue
        if match[3]:
            raise FpsimError(
                f"wrapper: port {match[2]} of {dut.top} is an array of interfaces, which no "
                "generated wrapper connects; write a module around it and name that in top"
            )
        pins = (_LAST_NAME.search(pin.strip()) for pin in _port_list(text, "interface", match[1]))
        made = dut.interfaces.get(match[2], match[1])
        found.append(Holder(match[2], made, tuple(p[1] for p in pins if p), True))
    return found


def _port_list(text: str, what: str, name: str) -> Iterator[str]:
    """Yield the parts of the port list of a module or interface."""
    head = re.search(rf"\b{what}\s+(?:automatic\s+|static\s+)?{re.escape(name)}\b", text)
    if head is None:
        return
    at = head.end()
    lists = []
    depth = 0
    start = at
    for i in range(at, len(text)):
        if text[i] == "(":
            start = i + 1 if depth == 0 else start
            depth += 1
        elif text[i] == ")":
            depth -= 1
            if depth == 0:
                lists.append((text[at:start].rstrip(" (").endswith("#"), text[start:i]))
                at = i + 1
        elif text[i] == ";" and depth == 0:
            break
    ports = [inside for parameters, inside in lists if not parameters]
    yield from _split(ports[0]) if ports else ()


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    if text[start:].strip():
        yield text[start:]
