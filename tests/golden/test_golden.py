"""What each format makes of each sample row is what a person has reviewed."""

from __future__ import annotations

from tests.golden.cases import FOLDER, golden_files

_HINT = "run `make golden` and review the difference"


def test_a_golden_file_holds_what_the_format_gives() -> None:
    differing = [
        str(path.relative_to(FOLDER))
        for path, text in golden_files()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]

    assert differing == [], _HINT


def test_there_are_no_other_golden_files() -> None:
    expected = {path for path, _ in golden_files()}

    assert {path for path in FOLDER.rglob("*") if path.is_file()} == expected, _HINT
