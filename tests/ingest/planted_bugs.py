"""What other collectors got wrong, planted into this one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import orjson

from forwarder.core.contracts import Page, Window
from forwarder.core.log import Addition, Appended, StreamLog, StreamMemory
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.timing import format_seconds, format_us
from forwarder.journal.storage import Place, Session
from forwarder.journal.stream_log import SeenPages
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates
from forwarder.sources.cloudflare_access.walk import SECOND_US, Move, Seen, Step
from tests.ingest.scripted_cloudflare import TOTAL_COUNT


def a_second_later(step: Step, window: Window, seen: Seen) -> Move:
    """Go on a second after the newest row, to see none of them again."""
    times = [t for t in seen.times_us if t is not None]
    since_us = max(times, default=step.since_us) // SECOND_US * SECOND_US + SECOND_US
    if not times or since_us > window.until_us:
        return None, None
    return Step(max(since_us, step.since_us)), None


def a_short_page_is_the_last(step: Step, window: Window, seen: Seen) -> Move:
    """Believe that an answer smaller than what was asked for is the end."""
    del window
    if len(seen.times_us) < seen.asked:
        return None, None
    return replace(step, page=step.page + 1), None


def until_the_total(step: Step, window: Window, seen: Seen) -> Move:
    """Turn pages until as many rows have come as ``total_count`` says there are."""
    del window
    read = (step.page - 1) * (seen.per_page or seen.asked) + len(seen.times_us)
    return (None if read >= TOTAL_COUNT else replace(step, page=step.page + 1)), None


def page_by_page(step: Step, window: Window, seen: Seen) -> Move:
    """Number the pages of a window whose rows expire."""
    del window
    return (replace(step, page=step.page + 1) if seen.times_us else None), None


def times_as_texts(step: Step, window: Window, seen: Seen) -> Move:
    """Take the greatest text for the newest time; ``05Z`` is greater than ``05.9Z``."""
    del window
    texts = {_text(t): t for t in seen.times_us if t is not None}
    newest_us = texts[max(texts)] if texts else step.since_us
    if newest_us <= step.since_us:
        return None, None
    return Step(newest_us), None


def _text(time_us: int) -> str:
    return format_us(time_us) if time_us % SECOND_US else format_seconds(time_us)


class LastPageOnly(SeenPages):
    """Remembers the identities of the page that was stored last, and replaces them."""

    def touching(
        self, session: Session, place: Place, bounds: tuple[int, int] | None
    ) -> Iterator[frozenset[bytes]]:
        del bounds
        last = session.execute(
            "SELECT max(first_offset) FROM page WHERE stream = ?", (place.stream,)
        ).fetchone()[0]
        return iter([] if last is None else [self._identities(session, last)])


class PassesOverInSilence(ScimUpdates):
    """Leaves out a refused identity provider silently."""

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        page = await super().fetch(window, position, parts=parts, purpose=purpose)
        return replace(page, lost=())


class OnlyThoseListed(ScimUpdates):
    """Reads no more of an identity provider once it is gone, though its last rows matter most."""

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        parts = await super().parts(memory, now_us)
        members = (parts.memory or {})["members"]
        return replace(parts, ids=tuple(m["id"] for m in members if m["vanished_us"] is None))


class RayIsIdentity:
    """Takes the ray id for what makes a row itself."""

    def __init__(self, log: StreamLog) -> None:
        self._log = log

    async def load(self) -> StreamMemory:
        return await self._log.load()

    async def append(self, addition: Addition) -> Appended:
        records = [record._replace(identity=_ray(record.row)) for record in addition.records]
        return await self._log.append(replace(addition, records=records))

    async def forget(self, reader: str) -> None:
        await self._log.forget(reader)

    async def recall(self, key: str) -> Any | None:
        return await self._log.recall(key)

    async def keep(self, key: str, value: Any) -> None:
        await self._log.keep(key, value)


def _ray(row: bytes) -> bytes:
    body: Mapping[str, Any] = orjson.loads(row)
    return blake2b(str(body["ray_id"]).encode(), digest_size=16).digest()
