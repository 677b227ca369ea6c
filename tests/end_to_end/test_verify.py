"""What an auditor asks beside a running daemon, and what the answer is good for."""

from __future__ import annotations

import asyncio
import gzip
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from tests.end_to_end.processes import Cloudflare, Forwarder, caught_up
from tests.end_to_end.test_logpush import Receiving, push
from tests.end_to_end.test_operations import asked, command, reads_only_the_last


async def test_verify_says_that_everything_shown_was_delivered(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)

    verdicts = await asked(forwarder, "verify", "--since", "1h", "--until", "1m")

    assert {row["stream"] for row in verdicts} == {"access_requests", "scim_updates"}
    assert all(row["shown"] == row["delivered"] > 100 for row in verdicts)


async def test_verify_finds_what_the_live_reader_never_read(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    reads_only_the_last(forwarder, "10m")
    await forwarder.start()
    await caught_up(api, forwarder)

    code, out, err = await command(
        forwarder,
        "verify",
        "--since",
        "1h",
        "--until",
        "50m",
        "--stream",
        "access_requests",
        "--json",
    )

    assert code == 1, err
    (row,) = orjson.loads(out)
    assert row["missing"] == row["shown"] > 1000


async def test_what_verify_advises_delivers_what_it_misses(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    reads_only_the_last(forwarder, "10m")
    await forwarder.start()
    await caught_up(api, forwarder)
    now = datetime.now(UTC)
    since, until = ((now - timedelta(minutes=ago)).isoformat() for ago in (60, 50))
    asking = ("verify", "--since", since, "--until", until, "--stream", "access_requests")

    missing, _, advice = await command(forwarder, *asking)
    (advised,) = re.findall(r"`forwarder (backfill [^`]*)`", advice)
    done, _, said = await command(forwarder, *shlex.split(advised))
    async with asyncio.timeout(60):
        while (after := await asked(forwarder, *asking))[0]["waiting"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)

    assert missing == 1
    assert done == 0, said
    assert after[0]["shown"] == after[0]["delivered"] > 1000


async def test_rows_that_are_not_read_yet_need_no_backfill(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)
    await forwarder.kill()
    await asyncio.sleep(3)  # the API shows two logins a second
    where = ("--account", "acme", "--stream", "access_requests")
    asking = ("verify", "--since", "1h", "--until", "0s", *where)

    (due,) = await asked(forwarder, *asking)
    # As if the forwarder had stood still for long.
    await command(forwarder, "cursors", "set", *where, "--to", "30m", "--yes")
    code, _, advice = await command(forwarder, *asking)

    assert due["waiting"] > 0 == due["missing"]
    assert code == 1
    assert re.search(r"rows since .* it is read until .* so far", advice), advice
    assert "backfill" not in advice


PUSHED = {
    "action": "Action", "allowed": "Allowed", "app_domain": "AppDomain", "app_uid": "AppUUID",
    "created_at": "CreatedAt", "ray_id": "RayID", "user_email": "Email", "user_id": "UserUID",
}  # fmt: skip


async def test_verify_says_what_the_push_lacks_and_what_the_poll_lacks(
    api: Cloudflare, tmp_path: Path
) -> None:
    forwarder = Receiving(tmp_path, url=api.url)
    await forwarder.start()
    await caught_up(api, forwarder)
    shown = [orjson.loads(line) for line in (await api.shown()).elements()]
    logins = sorted((row for row in shown if "ray_id" in row), key=lambda row: row["created_at"])
    until = logins[-1]["created_at"]
    invented = {**logins[50], "ray_id": "ffffffffffffffff"}
    rows = [
        orjson.dumps({PUSHED[key]: value for key, value in row.items() if key in PUSHED})
        for row in (*logins[:100], *logins[110:], invented)
    ]
    await push(forwarder, gzip.compress(b"\n".join(rows)))

    asking = ("verify", "--since", "3h", "--until", until, "--stream", "logpush_access_requests")
    code, out, err = await command(forwarder, *asking, "--json")
    _, table, advice = await command(forwarder, *asking)
    await forwarder.kill()

    assert code == 1, err
    (found,) = orjson.loads(out)
    assert found["polled"] >= len(logins) > 1000
    assert (found["not_pushed"], found["not_polled"]) == (found["polled"] - len(logins) + 10, 1)
    assert found["pushed"] == found["both"] + 1
    # Rows that come late are shown to verify, and were not there to be pushed.
    assert found["first_not_pushed"][:19] <= logins[100]["created_at"][:19]
    assert "not pushed" in table
    assert "forwarder logpush job --check" in advice


async def test_verify_refuses_names_that_nothing_has(forwarder: Forwarder) -> None:
    await forwarder.start()

    for choice in ("--sink", "--account"):
        code, _, err = await command(forwarder, "verify", "--since", "1h", choice, "typo")

        assert code == 2
        assert "is called typo" in err
