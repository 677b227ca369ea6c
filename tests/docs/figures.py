"""``python -m tests.docs.figures [NAME...]``: measures, and writes what it found.

The figures stand between ``<!-- figures: NAME -->`` and ``<!-- end -->`` in the pages of docs/.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.docs.journal_size import measure_journal
from tests.docs.newcomer import measure_newcomer
from tests.docs.request_cost import measure_requests
from tests.docs.shell import ROOT

_MEASURES = {
    "newcomer": (ROOT / "docs/getting-started.md", measure_newcomer),
    "journal": (ROOT / "docs/sizing.md", measure_journal),
    "requests": (ROOT / "docs/sizing.md", measure_requests),
}


def main(names: Sequence[str]) -> None:
    for name in names or _MEASURES:
        page, measure = _MEASURES[name]
        table = f"{measure()}\n\n{_machine()}"
        page.write_text(with_figures(page.read_text(encoding="utf-8"), name, table))
        print(f"{page.relative_to(ROOT)}:\n{table}")  # noqa: T201 - a program's output


def with_figures(page: str, name: str, table: str) -> str:
    """Return the page with ``table`` between the marks called ``name``."""
    marks = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}{table}\n{found[2]}", page)


def _machine() -> str:
    """Say where the figures come from."""
    name = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    python = platform.python_version()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, CPython {python}."


if __name__ == "__main__":
    main(sys.argv[1:])
