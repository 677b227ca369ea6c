"""No secret reaches a line, wherever it stands in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.telemetry import Level
from forwarder.observe.output import LogOutput, Redactor
from forwarder.transport.settings import Secret

SECRET = "hunter2-hunter2"


def written(fields: dict[str, Any], *secrets: Secret, style: Any = "json") -> str:
    stream = io.StringIO()
    LogOutput(stream, Redactor(secrets), style=style).write(Level.ERROR, "event", fields)
    return stream.getvalue()


@given(before=st.text(), after=st.text())
def test_a_known_secret_is_masked_wherever_it_stands(before: str, after: str) -> None:
    text = f"{before}{SECRET}{after}"

    line = written({"error": text, "deep": {"list": [text]}}, Secret(SECRET))
    assert SECRET not in line


def test_a_secret_out_of_a_file_is_masked_with_its_newest_content(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-secret")
    secret = Secret(path=path)
    assert "first-secret" not in written({"error": "got first-secret"}, secret)

    path.write_text("second-secret!")

    assert "second-secret" not in written({"error": "got second-secret!"}, secret)


def test_each_of_two_secrets_in_a_file_is_masked_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("the-next-one\nthe-one-before\n")

    line = written({"error": "got the-next-one, then the-one-before"}, Secret(path=path))
    assert "the-next-one" not in line
    assert "the-one-before" not in line


def test_a_secret_whose_file_is_gone_stops_no_line(tmp_path: Path) -> None:
    assert "text" in written({"error": "text"}, Secret(path=tmp_path / "none"))


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"Splunk {SECRET}",
        f"https://user:{SECRET}@host/path",
        f"GET /x?api_key={SECRET}&y=1",
        f"password={SECRET}",
    ],
)
@pytest.mark.parametrize("style", ["json", "console"])
def test_what_looks_like_a_secret_is_masked(text: str, style: str) -> None:
    assert SECRET not in written({"error": text}, style=style)


@pytest.mark.parametrize("key", ["api_token", "password", "Authorization", "client_secret"])
def test_a_key_that_names_a_secret_is_masked(key: str) -> None:
    assert SECRET not in written({key: SECRET, "nested": {key: SECRET}})


def test_a_traceback_is_masked_too() -> None:
    stream = io.StringIO()
    output = LogOutput(stream, Redactor([Secret(SECRET)]), style="json")
    try:
        raise ValueError(SECRET)  # noqa: TRY301 - its traceback is what is looked at
    except ValueError as error:
        output.write(Level.ERROR, "event", {}, error)

    assert "ValueError" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_plain_words_stay() -> None:
    assert "the token has expired" in written({"error": "the token has expired"})
