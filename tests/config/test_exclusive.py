"""What only the sinks' own keys show is reported before anything starts: what two cannot share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forwarder.config import ForwarderSettings
from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.plugins import InstalledPlugins
from forwarder.core.errors import ConfigError

Told = Callable[[str], list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Return the faults of settings with these sinks, ``DIR`` being a folder."""
    text = f"""
version: 1
state_dir: {tmp_path}/state
accounts: [{{ account_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token: t }}]
sinks:
"""

    def faults(sinks: str) -> list[str]:
        document = parse_document(text + sinks.replace("DIR", str(tmp_path)), "config.yaml")
        try:
            assert isinstance(build(document, {}, InstalledPlugins()), ForwarderSettings)
        except ConfigError as error:
            return [str(fault) for fault in error.faults]
        return []

    return faults


def test_one_file_belongs_to_one_sink_however_it_is_written(told: Told, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    (fault,) = told("""
  a: { type: file, path: DIR/x.ndjson }
  b: { type: file, path: DIR/link/x.ndjson }
""")

    assert fault == (
        "config.yaml:8: sinks.b.path: the same as sinks.a.path, and two sinks cannot share it"
        " (give each its own)"
    )


def test_files_of_other_names_are_no_fault(told: Told) -> None:
    assert not told("""
  a: { type: file, path: DIR/x.ndjson }
  b: { type: file, path: DIR/y.ndjson }
""")


def test_no_sink_writes_into_the_folder_of_the_journal(told: Told, tmp_path: Path) -> None:
    (fault,) = told("""
  a: { type: file, path: DIR/state/journal.db }
""")

    assert fault == (
        f"config.yaml:7: sinks.a.path: {tmp_path}/state/journal.db is inside state_dir, which"
        " is for the journal only (choose another folder)"
    )


def test_a_transactional_id_belongs_to_one_sink_of_a_cluster(told: Told) -> None:
    faults = told("""
  a: { type: kafka, bootstrap_servers: "k1:9092,k2:9092", transactional_id: t }
  b: { type: kafka, bootstrap_servers: "k2:9092,k1:9092", transactional_id: t }
  c: { type: kafka, bootstrap_servers: "other:9092", transactional_id: t }
""")

    assert [fault.partition(":")[2].split(": ")[1] for fault in faults] == [
        "sinks.b.transactional_id"
    ]


def test_a_value_that_no_header_can_have_is_a_fault(told: Told) -> None:
    (fault,) = told("""
  a: { type: http, url: "https://h", headers: { X-Key: "t0p\\nsecret" } }
""")

    assert "sinks.a.headers.X-Key: holds a line end or another control character" in fault
    assert "t0p" not in fault
