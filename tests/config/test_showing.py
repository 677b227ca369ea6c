"""`config show` gives the effective settings back, without a secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from forwarder.config.models import ForwarderSettings
from forwarder.config.showing import as_yaml
from tests.config.conftest import GOOD

Build = Callable[..., ForwarderSettings]


def test_no_secret_is_shown(settings_of: Build) -> None:
    text = GOOD + (
        "  s: { type: splunk_hec, url: 'https://u:hunter2@h', token: hunter2,"
        " hash_key: hunter2, headers: { Authorization: hunter2 }, marks: { X: hunter2 } }\n"
    )

    shown = as_yaml(settings_of(text))
    assert "hunter2" not in shown
    assert "t0ken" not in shown
    assert "https://**********@h" in shown


@pytest.mark.parametrize("rest", ["/hooks/hunter2", "/?key=hunter2", "?key=hunter2", "/a/b?c=d"])
def test_paths_and_queries_of_a_sinks_url_are_hidden(rest: str, settings_of: Build) -> None:
    """A webhook's path or query is often all that protects it."""
    text = f"{GOOD}  s: {{ type: splunk_hec, url: 'https://h:8088{rest}', token: t }}\n"

    shown = yaml.safe_load(as_yaml(settings_of(text)))

    assert shown["sinks"]["s"]["url"] == "https://h:8088/**********"


def test_units_and_aliases_are_shown_as_they_are_written(settings_of: Build) -> None:
    text = GOOD + "  s: { type: stdout, except: { stream: forwarder } }\n"

    shown = yaml.safe_load(as_yaml(settings_of(text)))
    assert shown["journal"]["max_size"] == "2GiB"
    assert shown["journal"]["keep_delivered"] == "1d"
    assert shown["journal"]["schema"] == "forwarder"
    assert shown["admin"]["listen"] == "127.0.0.1:9464"
    assert shown["sinks"]["s"]["except"]["stream"] == ["forwarder"]
    assert shown["accounts"][0]["streams"]["logins"]["poll_interval"] == "10s"


def test_what_is_shown_with_its_secrets_put_back_are_the_same_settings(
    settings_of: Build, tmp_path: Path
) -> None:
    (tmp_path / "t").write_text("t0ken")
    (tmp_path / "t").chmod(0o600)
    text = GOOD.replace("api_token: t0ken", f"api_token_file: {tmp_path / 't'}")
    text += f"  s: {{ type: splunk_hec, url: u, token_file: {tmp_path / 't'},"
    text += f" marks: {{ X-Key_file: {tmp_path / 't'} }} }}\n"

    first = settings_of(text)
    again = settings_of(as_yaml(first))
    assert (again.root, again.accounts, again.sinks) == (first.root, first.accounts, first.sinks)
