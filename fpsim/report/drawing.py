# SPDX-License-Identifier: Apache-2.0
"""SVG documents as elements of a page."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from fpsim.base.errors import FpsimError

__all__ = ["inline"]

_DROPPED = {"metadata", "style"}
_DRAWING = {
    "svg", "defs", "g", "path", "text", "tspan", "use", "clipPath", "rect", "circle", "ellipse",
    "line", "polyline", "polygon", "title", "desc", "linearGradient", "radialGradient", "stop",
}  # fmt: skip


def inline(svg: str, prefix: str, label: str) -> Markup:
    """Return an SVG document as an element of a page.

    Identifiers get ``prefix``, so that figures do not share any; the document's style sheet is left
    out, because its rules would apply to the whole page, which has its own.

    Args:
        svg: the document.
        prefix: prefix of the document's identifiers.
        label: description of the figure, for people who cannot see it.

    Returns:
        The element.

    Raises:
        FpsimError: no XML, or content other than a drawing: scripts, handlers, outside references.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise FpsimError(f"figure {prefix}: not an SVG document ({error})") from None
    _clean(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    if element.tag not in _DRAWING:
        raise FpsimError(f"figure {prefix}: <{element.tag}> does not belong in a drawing")
    element.attrib = {
        _local(name): _own(_local(name), value, prefix) for name, value in element.attrib.items()
    }
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _own(name: str, value: str, prefix: str) -> str:
    """Return an attribute with prefixed identifiers, or refuse the attribute."""
    outside = name == "href" and not value.startswith("#")
    if outside or name.startswith("on") or re.search(r"url\((?!#)", value):
        raise FpsimError(f"figure {prefix}: {name}={value!r} does not belong in a drawing")
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return f"#{prefix}-{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}-")


def _local(name: Any) -> str:
    """Return an XML name without its namespace."""
    return str(name).rpartition("}")[2]
