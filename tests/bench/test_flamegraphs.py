"""The images say what they show, and nothing of the machine they were drawn on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.flamegraphs import DRAWN, IMAGES, titled
from bench.scenarios import SCENARIOS

MOST_BYTES = 300_000


def test_a_title_takes_the_place_of_the_command() -> None:
    drawn = '<svg><text id="title" x="50%">py-spy record --pid 7</text><text>all</text></svg>'

    assert titled(drawn, "hec") == '<svg><text id="title" x="50%">hec</text><text>all</text></svg>'


@pytest.mark.parametrize("name", DRAWN)
def test_each_image_is_small_and_has_its_title(name: str) -> None:
    drawn = (IMAGES / f"flame-{name}.svg").read_text()

    assert len(drawn) < MOST_BYTES
    assert f">catch-up into {' + '.join(SCENARIOS[name])}</text>" in drawn
    assert str(Path.home()) not in drawn
    assert "--pid" not in drawn
