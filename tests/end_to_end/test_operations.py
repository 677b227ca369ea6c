"""Operators' commands, beside a running daemon and without one."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from typing import Any

import orjson

from tests.end_to_end.processes import (
    ACCOUNT,
    SCRIPT,
    Cloudflare,
    Forwarder,
    caught_up,
    until,
)


async def command(forwarder: Forwarder, *words: str) -> tuple[int, str, str]:
    """Run one command with the forwarder's settings; return its exit code, stdout and stderr."""
    first, *rest = words
    group = [first, rest.pop(0)] if first in {"cursors", "gaps", "dead-letters"} else [first]
    process = await asyncio.create_subprocess_exec(
        SCRIPT, *group, "-c", forwarder.settings, *rest, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def asked(forwarder: Forwarder, *words: str) -> Any:
    """Run a command with --json that must succeed and return its answer."""
    code, out, err = await command(forwarder, *words, "--json")
    assert code == 0, err
    return orjson.loads(out)


def reads_only_the_last(forwarder: Forwarder, span: str) -> None:
    """Let the live reader start late, so that there is something to backfill."""
    text = forwarder.settings.read_text()
    text = text.replace("poll_interval: 1s", f"poll_interval: 1s, start_from: {span}")
    forwarder.settings.write_text(text)


async def test_a_backfill_beside_the_daemon_brings_the_older_rows_once(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    reads_only_the_last(forwarder, "10m")
    await forwarder.start()
    await caught_up(api, forwarder)
    before = forwarder.delivered().total()

    code, out, err = await command(forwarder, "backfill", "--since", "1h50m")

    assert code == 0, err
    assert "done" in out
    await caught_up(api, forwarder)
    ids = [event["_forwarder"]["id"] for event in forwarder.events()]
    ended = [line["stream"] for line in forwarder.log() if line["event"] == "backfill_ended"]
    assert forwarder.delivered().total() > before + 10_000
    assert len(set(ids)) == len(ids)
    assert sorted(ended) == ["access_requests", "scim_updates"]
    assert "acme/access_requests" in err


async def test_a_backfill_alone_delivers_and_leaves_the_live_position_alone(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    reads_only_the_last(forwarder, "10m")
    await forwarder.start()
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0
    cursors = await asked(forwarder, "cursors", "list")

    code, out, err = await command(forwarder, "backfill", "--since", "1h", "--until", "30m")

    assert code == 0, err
    events = [orjson.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len({event["_forwarder"]["id"] for event in events}) > 3_000
    assert await asked(forwarder, "cursors", "list") == cursors


async def test_a_backfill_of_what_was_seen_delivers_nothing_unless_again(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)
    ids = {event["_forwarder"]["id"] for event in forwarder.events()}

    await command(forwarder, "backfill", "--since", "1h", "--until", "50m")
    once = len(forwarder.events())
    code, _, err = await command(
        forwarder, "backfill", "--since", "1h", "--until", "50m", "--again"
    )

    assert code == 0, err
    await until(lambda: len(forwarder.events()) > once + 1000)
    repeated = {event["_forwarder"]["id"] for event in forwarder.events()[once:]}
    assert len(repeated & ids) > 500


async def test_a_replay_delivers_kept_events_again_with_the_same_ids(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)
    once = forwarder.delivered()

    code, out, err = await command(forwarder, "replay", "--sink", "console", "--since", "10m")

    assert code == 0, err
    assert "behind live ones" in out
    await until(lambda: not once - (forwarder.delivered() - once))


async def test_a_replay_without_a_daemon_is_delivered_by_the_next_one(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0
    once = forwarder.delivered()

    code, _, err = await command(forwarder, "replay", "--sink", "console", "--since", "10m")
    assert code == 0, err
    await forwarder.start()

    await until(lambda: not once - (forwarder.delivered() - once))


async def test_a_cursor_moved_forward_is_a_gap_that_is_listed_and_delivered(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    reads_only_the_last(forwarder, "1h")
    await forwarder.start()
    await caught_up(api, forwarder)
    where = ("--account", "acme", "--stream", "access_requests")

    back, _, err = await command(forwarder, "cursors", "set", *where, "--to", "30m", "--yes")
    assert back == 0, err
    assert await asked(forwarder, "gaps", "list") == []
    assert await forwarder.stop() == 0
    for ago in ("20m", "10m"):
        code, _, err = await command(forwarder, "cursors", "set", *where, "--to", ago, "--yes")
        assert code == 0, err
    await forwarder.start()

    (gap,) = await asked(forwarder, "gaps", "list")
    assert (gap["scope"], gap["reason"]) == (f"{ACCOUNT}/access_requests", "cursor_moved")
    await until(lambda: any(event.get("event") == "gap_opened" for event in forwarder.events()))


async def test_setting_a_cursor_asks_first(api: Cloudflare, forwarder: Forwarder) -> None:
    del api
    where = ("--account", "acme", "--stream", "access_requests", "--to", "1h")

    code, _, err = await command(forwarder, "cursors", "set", *where)

    assert code == 2
    assert "Nobody can answer here: add --yes" in err


async def test_preview_shows_what_the_sink_would_receive(forwarder: Forwarder) -> None:
    code, out, err = await command(forwarder, "preview", "--sink", "console")

    assert code == 0, err
    assert "_forwarder" in out


async def test_the_whole_journal_can_be_checked(api: Cloudflare, forwarder: Forwarder) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)

    code, out, err = await command(forwarder, "check", "--journal")

    assert code == 0, err
    assert "the journal is undamaged" in out


async def test_there_are_no_dead_letters_and_no_gaps_in_quiet_times(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await forwarder.start()
    await caught_up(api, forwarder)

    assert await asked(forwarder, "dead-letters", "list") == []
    assert await asked(forwarder, "gaps", "list") == []
