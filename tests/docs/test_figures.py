"""The newcomer's path is short, and no page has a place for figures without figures."""

from __future__ import annotations

import re

import pytest

from deploy.generate.artefacts import pages
from deploy.generate.markdown import blocks
from tests.docs.figures import with_figures
from tests.docs.newcomer import steps
from tests.docs.shell import ROOT

PAGES = pages(ROOT)
_OUTSIDE = {"docker", "git", "helm", "install", "kubectl", "pip"}
"""Programs that change a machine or need one that tests do not have."""


@pytest.mark.parametrize("step", ["clone", "own token", "splunk"])
def test_a_step_of_the_newcomers_path_takes_three_commands(step: str) -> None:
    assert 0 < len(steps()[step]) <= 3


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if "figures:" in text])
def test_figures_were_measured(page: str) -> None:
    places = re.findall(r"<!-- figures: \w+ -->\n(.*?)<!-- end -->", PAGES[page], re.DOTALL)

    assert [place for place in places if not re.search(r"\| *\d", place)] == []


def test_figures_are_written_in_their_place() -> None:
    page = "a\n<!-- figures: one -->\nold\n<!-- end -->\n<!-- figures: two -->\n<!-- end -->\n"

    written = with_figures(page, "one", "| 1 |")

    assert written == page.replace("old", "| 1 |")


@pytest.mark.parametrize("page", PAGES)
def test_only_what_needs_something_outside_is_left_out_of_the_run(page: str) -> None:
    """A block that could be run is marked `console`."""
    left_out = [block.text for block in blocks(PAGES[page]) if block.language == "sh"]

    assert [text for text in left_out if not set(text.split()) & _OUTSIDE] == []
