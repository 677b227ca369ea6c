"""A command is carried out with arguments that fit, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.admin.client import RefusedError, ask
from forwarder.admin.control import (
    ControlSocket,
    checked,
    flag,
    moment,
    numbers,
    text,
    texts,
)
from forwarder.core.errors import BadRequestError

REQUIRED = {"sink": text, "since_us": moment}
OPTIONAL = {"ids": numbers, "streams": texts, "again": flag}
FITTING = {
    "sink": "a",
    "since_us": 1_790_000_000_000_000,
    "ids": [1, 2**40],
    "streams": ["x"],
    "again": True,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


class Recorder:
    """A command that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Mapping[str, Any]] = []

    async def __call__(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self.given.append(arguments)
        return {}


def run(recorder: Recorder, given: Mapping[str, Any]) -> None:
    async def work() -> None:
        await checked(recorder, REQUIRED, OPTIONAL)(given)

    asyncio.run(work())


def test_arguments_that_fit_arrive_and_unknown_ones_do_not() -> None:
    recorder = Recorder()
    run(recorder, {**FITTING, "unknown": 1})
    run(recorder, {"sink": "a", "since_us": 0, "ids": None})

    assert recorder.given == [FITTING, {"sink": "a", "since_us": 0}]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"since_us": 1}, "sink is missing"),
        ({"sink": "", "since_us": 1}, "sink must be a text"),
        ({"sink": ["a"], "since_us": 1}, "sink must be a text"),
        ({"sink": "a"}, "since_us is missing"),
        ({"sink": "a", "since_us": "1"}, "since_us must be microseconds"),
        ({"sink": "a", "since_us": 1.5}, "since_us must be microseconds"),
        ({"sink": "a", "since_us": True}, "since_us must be microseconds"),
        ({"sink": "a", "since_us": 2**63}, "since_us must be microseconds"),
        ({**FITTING, "ids": "1"}, "ids must be a list of numbers"),
        ({**FITTING, "ids": [1, 2**63]}, "ids must be a list of numbers"),
        ({**FITTING, "streams": "x"}, "streams must be a list of texts"),
        ({**FITTING, "streams": [1]}, "streams must be a list of texts"),
        ({**FITTING, "again": 1}, "again must be true or false"),
    ],
)
async def test_an_argument_that_does_not_fit_is_named_and_nothing_is_done(
    given: Mapping[str, Any], error: str, tmp_path: Path
) -> None:
    recorder = Recorder()
    control = ControlSocket(tmp_path, {"replay": checked(recorder, REQUIRED, OPTIONAL)})
    await control.start()
    try:
        with pytest.raises(RefusedError, match=error):
            await asyncio.to_thread(ask, tmp_path, "replay", given)
    finally:
        await control.aclose()

    assert recorder.given == []


@given(st.dictionaries(st.sampled_from([*REQUIRED, *OPTIONAL]), JSON))
def test_whatever_comes_the_command_gets_the_types_it_expects(given: Mapping[str, Any]) -> None:
    recorder = Recorder()
    with suppress(BadRequestError):
        run(recorder, given)

    for found in recorder.given:
        assert isinstance(found["sink"], str)
        assert type(found["since_us"]) is int
        assert all(isinstance(one, str) for one in found.get("streams", ()))
