"""Delivering again to one sink: what is kept of the live lane, or its dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from forwarder.core.errors import StateError
from forwarder.journal.dead_letters import drop_letters, list_letters, revive
from forwarder.journal.lanes import close_lane, open_backfill, open_replay
from forwarder.journal.passed_over import REPLAYED
from forwarder.journal.streams import lane_id

_KEPT_SINCE = """
SELECT min(first_offset), coalesce(sum(count), 0) FROM page
WHERE lane = 1 AND size > 0 AND seen_us >= ?
"""


def sink_number(connection: sqlite3.Connection, sink: str) -> int:
    """Return a sink's number; raises ``StateError`` for one the journal does not know."""
    found = connection.execute("SELECT id FROM sink WHERE name = ?", (sink,)).fetchone()
    if found is None:
        raise StateError(f"the journal knows no sink called {sink}")
    return int(found[0])


def replay_since(
    connection: sqlite3.Connection, lane: str, sink: str, since_us: int, now_us: int
) -> int:
    """Open a lane over all kept rows that were first seen at or after a time; return how many.

    Raises ``StateError`` when nothing is kept from then on.
    """
    number = sink_number(connection, sink)
    first, count = connection.execute(_KEPT_SINCE, (since_us,)).fetchone()
    if not count:
        raise StateError(
            "no rows are kept from that time on; `journal.keep_delivered` says for how long "
            "delivered rows stay, and `forwarder backfill --again` reads them from Cloudflare"
        )
    open_replay(connection, lane, {"since_us": since_us}, number, first, now_us)
    return int(count)


def replay_letters(
    connection: sqlite3.Connection,
    lane: str,
    sink: str,
    letter_ids: Sequence[int] | None,
    now_us: int,
) -> int:
    """Move dead letters (all when no ids are given) into a lane of their own; return how many.

    They keep their ids and are rendered with today's settings.
    """
    number = sink_number(connection, sink)
    wanted = None if letter_ids is None else set(letter_ids)
    letters = [
        letter
        for letter in list_letters(connection, sink=sink)
        if wanted is None or letter.id in wanted
    ]
    if not letters:
        return 0
    spec = {"dead_letters": len(letters)}
    open_backfill(connection, lane, spec, [number], now_us, partial=True)
    revive(connection, lane_id(connection, lane), letters, now_us)
    drop_letters(connection, sink, [letter.id for letter in letters], REPLAYED)
    close_lane(connection, lane)
    return len(letters)
