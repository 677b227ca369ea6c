"""Phrases that read as translated stay out of every text."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"mend(ed|s|ing)?": "fix, repair",
    r"anew": "again",
    r"looks? whether": "check",
    r"how it is": "name the thing",
    r"(is|are|be|was|were) told": "is reported, is shown",
    r"goes on": "continues, resumes",
    r"in vain": "without success",
    r"says? whether": "True if, reports",
    r"(if|that) it is none": "name the thing",
    r"such a one": "name the thing",
    r"thereby": "say it in two sentences",
    r"hammered": "say what happens",
    r"without a word": "silently",
    r"all the same": "still, anyway",
    r"and the like": "such as",
    r"in whatever": "in any",
    r"(that|what|which|it|those) (is|are) no (?!longer|more|newer)\w+": "is not a",
}
# These pages and tests name the phrases.
_NAME_THEM = {"tests/docs/test_words.py", "CONTRIBUTING.md"}


@cache
def _texts() -> dict[str, str]:
    kinds = ["*.py", "*.md", "*.yaml", "*.toml", "Makefile"]
    listed = subprocess.run(
        ["git", "ls-files", *kinds], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    paths = {name: ROOT / name for name in listed if name not in _NAME_THEM}
    return {name: path.read_text("utf-8") for name, path in paths.items() if path.exists()}


@pytest.mark.parametrize("phrase", INSTEAD)
def test_no_text_has_a_phrase_that_reads_as_translated(phrase: str) -> None:
    pattern = re.compile(rf"\b{phrase}\b", re.IGNORECASE)

    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in _texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == [], f"write instead: {INSTEAD[phrase]}"


def test_the_glossary_is_in_order_and_has_the_words_that_pages_use() -> None:
    rows = re.findall(r"^\| ([a-z-]+(?: [a-z]+)?) \|", _texts()["docs/glossary.md"], re.MULTILINE)
    words = [word for word in rows if word != "word"]
    pages = "\n".join(
        text.lower().replace("_", "-")
        for name, text in _texts().items()
        if name.endswith(".md") and "glossary" not in name
    )

    assert len(words) > 30
    assert words == sorted(words)
    assert [word for word in words if word not in pages] == []
