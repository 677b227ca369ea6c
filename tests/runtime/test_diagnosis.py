"""Findings of ``check --live`` say whose they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forwarder.config import load
from forwarder.core.contracts import Finding
from forwarder.runtime.inspection import diagnose
from forwarder.simulator import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    Fault,
    Simulator,
    SimulatorSettings,
    Token,
)
from forwarder.simulator.faults import LOGPUSH_JOBS
from forwarder.simulator.pushing import Job, run
from forwarder.simulator.settings import ALL_PERMISSIONS


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
    assert "sink out" in subjects


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


ADDRESS = "https://push.example.com/acme/access_requests"


async def of_pushes(
    simulator: Simulator, tmp_path: Path, *datasets: str, token: str = DEFAULT_TOKEN
) -> list[Finding]:
    """Return what ``check --live`` says of the jobs that push to a receiver."""
    path, secret = tmp_path / "c.yaml", tmp_path / "secret"
    secret.write_text("hidden")
    path.write_text(f"""
version: 1
accounts:
  - {{ account_id: {DEFAULT_ACCOUNT}, name: acme, api_token: {token}, api_url: "{simulator.url}" }}
sinks: {{ out: {{ type: stdout }} }}
logpush: {{ listen: "127.0.0.1:0", secret_file: {secret}, datasets: {list(datasets)} }}
""")
    found = await diagnose(load(path, {}))
    assert "hidden" not in str(found)
    return [one for one in found if "logpush" in f"{one.subject} {one.text}"]


async def test_the_jobs_of_each_account_are_judged(tmp_path: Path) -> None:
    answered: dict[str, Any] = {"destination_conf": f"{ADDRESS}?header_Authorization=hidden"}
    answered |= {"output_options": {"field_names": ["Email"], "sample_rate": 0.5}}
    async with Simulator(SimulatorSettings(history=60)) as simulator:
        add = simulator.add_job
        add(DEFAULT_ACCOUNT, dataset="access_requests", enabled=False, **answered)
        add(DEFAULT_ACCOUNT, dataset="gateway_dns", destination_conf="s3://bucket/gateway_dns")
        add("a-zone", dataset="http_requests", destination_conf=ADDRESS)
        found = await of_pushes(
            simulator, tmp_path, "access_requests", "gateway_dns", "http_requests"
        )

    logins = "account acme: logpush access_requests"
    assert [(one.level, one.subject) for one in found] == [
        ("fault", logins),
        *(3 * [("warning", logins)]),
        ("warning", "account acme: logpush gateway_dns"),
        ("ok", "logpush"),
    ]
    assert f"job 1 to {ADDRESS} is disabled" in found[0].text
    assert "jobs of http_requests belong to zones" in found[-1].text
    assert "--zone ID --check" in found[-1].hint


async def test_no_job_and_no_expectation_is_no_fault(tmp_path: Path) -> None:
    async with Simulator(SimulatorSettings(history=60)) as simulator:
        (found,) = await of_pushes(simulator, tmp_path)

    assert ("ok", "account acme: logpush") == (found.level, found.subject)


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault(
            "error", stream=LOGPUSH_JOBS, status=400, code=1004, message="reading is not allowed"
        ),
    ],
)
async def test_a_token_that_may_not_read_jobs_is_a_warning_with_the_permission(
    tmp_path: Path, fault: Fault | None
) -> None:
    reader = Token("reader", permissions=ALL_PERMISSIONS - {LOGPUSH_JOBS})
    tokens = SimulatorSettings().tokens if fault else (reader,)
    faults = (fault,) if fault else ()
    settings = SimulatorSettings(history=60, tokens=tokens, faults=faults)
    async with Simulator(settings) as simulator:
        (found,) = await of_pushes(simulator, tmp_path, token=tokens[0].value)

    assert ("warning", "account acme: logpush") == (found.level, found.subject)
    assert {"Logs Edit", "Zero Trust: PII Read"} <= set(found.hint.split("`"))


async def test_an_outage_of_the_list_of_jobs_is_a_fault(tmp_path: Path) -> None:
    settings = SimulatorSettings(
        history=60, faults=(Fault("html", stream=LOGPUSH_JOBS, status=502),)
    )
    async with Simulator(settings) as simulator:
        (found,) = await of_pushes(simulator, tmp_path)

    assert ("fault", "account acme") == (found.level, found.subject)


async def test_a_job_whose_uploads_are_refused_fails(tmp_path: Path) -> None:
    async with Simulator(SimulatorSettings(history=60)) as simulator:
        # Nothing listens there, so that every upload fails.
        job = Job("http://127.0.0.1:1/acme/access_requests?header_Authorization=hidden", 1)
        pushing = asyncio.create_task(run(simulator, job, 0.01))
        while not job.happened["0"]:  # noqa: ASYNC110 - the simulator tells nobody
            await asyncio.sleep(0.01)
        found = await of_pushes(simulator, tmp_path)
        pushing.cancel()

    assert found[0].level == "fault"
    assert "(error uploading); it has pushed nothing yet" in found[0].text
