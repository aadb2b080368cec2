# SPDX-License-Identifier: Apache-2.0
"""Which published vector finds each mistake in the RTL? Writes reports/<top>.json.

python rtl_tests/fault_report.py [TOP ...]          some minutes for all of them
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from faults.fault_runs import FAMILIES, report, write_report

from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar
from fpsim.hdl.bench.simulator import find

REPORTS = Path(__file__).parent / "reports"


def main() -> int:
    """Simulate every fault and write a report per family of tops."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("top", nargs="*", help=f"of {', '.join(FAMILIES)}; default: all")
    chosen = parser.parse_args().top or list(FAMILIES)
    status = 0
    for family in chosen:
        if family not in FAMILIES:
            parser.error(f"top: {family!r} is not one of {', '.join(FAMILIES)}")
        try:
            with tempfile.TemporaryDirectory() as scratch, bar(f"faults of {family}") as update:
                table = report(family, find("icarus"), Path(scratch), update)
            write_report(table, REPORTS / f"{family}.json")
            for row in table["table"]:
                if "missed" in row:
                    print(f"{family}: no vector shows that {row['fault']}", file=sys.stderr)
                    status = 1
        except FpsimError as error:
            print(f"fault_report: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
