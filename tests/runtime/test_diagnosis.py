"""Findings of ``check --live`` say whose they are."""

from __future__ import annotations

from pathlib import Path

from forwarder.config import load
from forwarder.runtime.inspection import diagnose
from forwarder.simulator import DEFAULT_ACCOUNT, DEFAULT_TOKEN, Simulator, SimulatorSettings


async def test_every_finding_begins_with_its_account_or_sink(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    async with Simulator(SimulatorSettings(history=60)) as simulator:
        path.write_text(f"""
version: 1
accounts:
  - {{ account_id: {DEFAULT_ACCOUNT}, name: acme, api_token: {DEFAULT_TOKEN},
      api_url: "{simulator.url}" }}
sinks:
  one: {{ type: relp, host: 127.0.0.1, port: 1 }}
  two: {{ type: relp, host: 127.0.0.1, port: 1 }}
  out: {{ type: stdout }}
""")
        subjects = [finding.subject for finding in await diagnose(load(path, {}))]

    owners = [subject.partition(":")[0] for subject in subjects]
    assert list(dict.fromkeys(owners)) == ["account acme", "sink one", "sink two", "sink out"]
    assert "account acme: token" in subjects
    assert "sink two: connection" in subjects


async def test_a_shared_journal_that_cannot_be_reached_is_a_fault_without_its_password(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"""
version: 1
accounts:
  - {{ account_id: {DEFAULT_ACCOUNT}, api_token: t, api_url: "http://127.0.0.1:1/client/v4" }}
sinks:
  out: {{ type: stdout }}
journal: {{ type: postgres, dsn: "postgresql://forwarder:hidden@127.0.0.1:1/siem" }}
""")

    (journal,) = [one for one in await diagnose(load(path, {})) if one.subject == "journal"]

    assert journal.level == "fault"
    assert "127.0.0.1" in journal.text
    assert "hidden" not in str(journal)
