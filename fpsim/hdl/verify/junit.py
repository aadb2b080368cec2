# SPDX-License-Identifier: Apache-2.0
"""The result of a verification as JUnit XML, one test case per run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from fpsim.base.atomic_files import write_atomic
from fpsim.hdl.verify.verify import Report

__all__ = ["write", "write_error"]


def write(report: Report, top: str, path: Path) -> Path:
    """Write a report as JUnit XML; a failure carries the explanation of the first mismatch.

    Args:
        report: the report.
        top: name of the design.
        path: the file.

    Returns:
        The file.

    Raises:
        FpsimError: a path that cannot be written.
    """
    result = report.result
    case = _case(result.unit, top, result.build_seconds + result.run_seconds)
    case.set("name", f"{top} on {result.simulator} ({result.bench})")
    adequacy = report.adequacy
    said = [str(result)] + ([str(adequacy)] if adequacy is not None else [])
    ET.SubElement(case, "system-out").text = "\n".join(said)
    if not report.passed:
        message = str(result.mismatches[0]) if result.mismatches else str(result)
        if result.passed and adequacy is not None:
            message = f"mistakes that no vector would find: {', '.join(adequacy.missing)}"
        ET.SubElement(case, "failure", message=message).text = str(report)
    return _write(case, path, failures=int(not report.passed))


def write_error(unit: str, top: str, message: str, path: Path) -> Path:
    """Write a run that ended without a verdict as JUnit XML.

    Args:
        unit: name of the unit.
        top: name of the design.
        message: the error; its first line is the summary.
        path: the file.

    Returns:
        The file.

    Raises:
        FpsimError: a path that cannot be written.
    """
    case = _case(unit, top, 0.0)
    ET.SubElement(case, "error", message=message.splitlines()[0]).text = message
    return _write(case, path, errors=1)


def _case(unit: str, top: str, seconds: float) -> ET.Element:
    return ET.Element("testcase", classname=f"fpsim.{unit}", name=top, time=f"{seconds:.3f}")


def _write(case: ET.Element, path: Path, failures: int = 0, errors: int = 0) -> Path:
    counts = {"tests": "1", "failures": str(failures), "errors": str(errors)}
    suites = ET.Element("testsuites", counts)
    ET.SubElement(suites, "testsuite", {"name": "fpsim verify", **counts}).append(case)
    ET.indent(suites)
    return write_atomic(path, ET.tostring(suites, "utf-8", xml_declaration=True), "junit")
