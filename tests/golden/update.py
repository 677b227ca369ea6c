"""Rewrites the golden files, for ``make golden``. Review what changed; no test does this."""

from __future__ import annotations

import shutil

from tests.golden.cases import FOLDER, golden_files


def main() -> None:
    """Replace all golden files by what the formats give now."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, text in golden_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
