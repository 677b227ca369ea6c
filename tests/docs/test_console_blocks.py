"""Every command in a `console` block of the README and of docs/ does what the page says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.generate.artefacts import pages
from deploy.generate.markdown import blocks
from tests.docs.shell import ROOT, Command, Outcome, commands, run

pytestmark = pytest.mark.timeout(900)
_AT_ONCE = 4


def _commands_of(page: str) -> list[Command]:
    return [
        command
        for block in blocks(page)
        if block.language == "console"
        for command in commands(block.text, block.line)
    ]


PAGES = {path: found for path, text in pages(ROOT).items() if (found := _commands_of(text))}


@pytest.fixture(scope="module")
def shells(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[list[Outcome]]]]:
    """Run all pages beside each other: most of the time they wait."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        folders = {path: tmp_path_factory.mktemp("page") for path in PAGES}
        yield {path: pool.submit(run, found, folders[path]) for path, found in PAGES.items()}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_do_what_the_page_says(
    page: str, shells: Mapping[str, Future[list[Outcome]]]
) -> None:
    outcomes = shells[page].result()

    assert [found for outcome in outcomes if (found := outcome.complaint())] == []
    assert len(outcomes) == len(PAGES[page])


def test_a_wrong_page_is_noticed(tmp_path: Path) -> None:
    page = commands("$ echo one two three\none ... three\nfour\n$ false\n$ exit 3 # exit 3\n", 1)

    printed, failed, left = run(page, tmp_path)

    assert "no line 'four'" in printed.complaint()
    assert "exit 1, not 0" in failed.complaint()
    assert "exit None, not 3" in left.complaint()
