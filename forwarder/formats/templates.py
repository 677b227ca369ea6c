"""Fast rendering without a second mapping: templates are learned from the mapping itself.

A mapping is an ordinary function from an event to a JSON object or to the fields of a line. For a
login or a change it may branch on nothing but ``shape``, and may only pass texts on: copy them, put
constants beside them. So the first event of a shape is written with a mark in the place of each
text and time, and what comes out, cut at the marks, serves every other event of that shape:

    {"user":{"name":"<user_email>"},"time":<time>}

A template is used only if it gives the same bytes as the mapping for the event it was learned
from, and tests compare the two for any event. No template holds anything that somebody who logs in
can choose, so there is no memory to fill and a first sight costs as much as a second.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeGuard

from forwarder.core.identity import members
from forwarder.core.login import LOGIN_TEXTS, Login, Origin
from forwarder.core.schema import (
    BODY,
    CHANGE_TEXTS,
    Event,
    Member,
    Normaliser,
    Provisioning,
    Reading,
)
from forwarder.formats.lines import EXTRA, ID, SEEN, TIME, WriteLine, line_writer
from forwarder.formats.privacy import without_body

_MARKS = 0xE000
_TIME_MARK_US, _SEEN_MARK_US = 250_000_000_000_123_456, 251_000_000_000_654_321
_SIZE, _SIZE_MARK = BODY + 1, 252_000_000_000_777_777
_ID_MARK, _EXTRA_MARK = "\uf8fe", "\uf8ff"
_IN_SHAPE = frozenset(map(LOGIN_TEXTS.index, ("action", "connection")))
_MOST_TEMPLATES, _REMEMBERED_TIMES = 1024, 1024
"""Templates of one account, and times that were written lately."""

TimeText = Callable[[int], str]
"""How a format writes microseconds since 1970."""


class Templated(ABC):
    """A format that writes logins by templates and everything else by its mapping.

    Subclasses say how an event is written (``write``, slow and the one truth) and how a time is
    (``time_text``).
    """

    media_type: str

    def __init__(self, *, templates: bool = True) -> None:
        """Switch templates off where ``write`` passes on more than texts and times."""
        self._enabled = templates
        self._accounts: dict[tuple[str, str], dict[Any, WriteLine | None]] = {}
        self._time = lru_cache(_REMEMBERED_TIMES)(self.time_text)

    @abstractmethod
    def write(self, event: Event) -> bytes:
        """Map ``event`` and write it out. Pure and total."""

    @staticmethod
    @abstractmethod
    def time_text(time_us: int) -> str:
        """Return how this format writes microseconds since 1970."""

    def render(self, event: Any) -> bytes:
        """Return the event as one line without its end: what ``write`` gives, only sooner."""
        shape = event.shape if self._enabled else None
        if shape not in self._templates_of(event.origin):
            return self._write_and_learn(event)
        reading = shape, event.fillings, members(event.extra)
        (line,) = self._lines([reading], [event.id], [event.time_us], event.origin)
        return line or self.write(event)

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
        *,
        bodies: bool,
    ) -> list[bytes]:
        """Return the events of a page; no event is made of a row that a template serves.

        Without ``bodies``, each event is ``without_body``.
        """
        readings = normaliser.read_rows(rows, origin, times_us, bodies=bodies)
        lines = self._lines(readings, ids, times_us, origin)
        if b"" not in lines:
            return lines
        for at, line in enumerate(lines):
            if not line:
                event = normaliser.normalise(rows[at], origin, ids[at], times_us[at])
                lines[at] = self.render(event if bodies else without_body(event))
        return lines

    def _lines(
        self,
        readings: Iterable[Reading],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
    ) -> list[bytes]:
        """Return a line for each reading, an empty one where there is no template.

        This is the busiest loop of the program.
        """
        write_of, time_text = self._templates_of(origin).get, self._time
        seen = time_text(origin.seen_us)
        return [
            write(texts, id, time, seen, extra).encode() if (write := write_of(shape)) else b""
            for (shape, texts, extra), id, time in zip(  # noqa: A001
                readings, ids, map(time_text, times_us), strict=True
            )
        ]

    def _templates_of(self, origin: Origin) -> dict[Any, WriteLine | None]:
        """Return the templates of an account; its id and label are constants in them."""
        return self._accounts.setdefault((origin.account_id, origin.account), {})

    def _write_and_learn(self, event: Event) -> bytes:
        """Write the slow way, and see to it that the next login of this shape need not."""
        written = self.write(event)
        if self._enabled and self._can_be_learned(event):
            templates = self._templates_of(event.origin)
            if len(templates) >= _MOST_TEMPLATES:
                templates.clear()
            text = self.write(marked(event)).decode()
            templates[event.shape] = cut_at_marks(text, len(event.fillings), self.time_text)
            if self.render(event) != written:
                templates[event.shape] = None
        return written

    def _can_be_learned(self, event: Event) -> TypeGuard[Login | Provisioning]:
        """Say whether a template could write ``event``; bodies are escaped as JSON has it."""
        has_body = isinstance(event, Provisioning) and event.request_body
        return is_templatable(event) and (self.media_type == "application/json" or not has_body)


def is_templatable(event: Event) -> bool:
    """Say whether the texts of ``event`` need no escaping and no cutting."""
    if isinstance(event, Login):
        return event.facts.odd is None or event.facts.odd.plain
    return isinstance(event, Provisioning) and event.odd.plain and not event.odd.has_extra


def cut_at_marks(written: str, count: int, time_text: TimeText) -> WriteLine | None:
    """Return the template in what was ``written`` for an event ``marked`` with ``count`` marks.

    None if it has no place for id and time.
    """
    others = {
        _ID_MARK: ID,
        time_text(_TIME_MARK_US): TIME,
        time_text(_SEEN_MARK_US): SEEN,
        f'"{_EXTRA_MARK}":0': EXTRA,
    }
    texts = {chr(_MARKS + index): index for index in range(count)} | {str(_SIZE_MARK): _SIZE}
    meanings: dict[str, int | str] = {**texts, **others}
    parts = re.split(f"({'|'.join(map(re.escape, meanings))})", written)
    between = [meanings[mark] for mark in parts[1::2]]
    return line_writer(parts[::2], between) if {ID, TIME} <= {*between} else None


def marked(event: Login | Provisioning) -> Login | Provisioning:
    """Return ``event`` with a mark for each text, size and time that a mapping may pass on."""
    origin = event.origin._replace(seen_us=_SEEN_MARK_US)
    fillings = event.fillings
    marks = tuple(chr(_MARKS + at) if text else "" for at, text in enumerate(fillings))
    if isinstance(event, Login):
        texts = (fillings[at] if at in _IN_SHAPE else mark for at, mark in enumerate(marks))
        row = {_EXTRA_MARK: 0} if event.extra else {}
        event = event._replace(texts=tuple(texts), row=row)
    else:
        values, names = marks[_SIZE + 1 :][: len(event.members)], marks[_SIZE + 1 :]
        members = map(Member, values, names[len(event.members) :])
        texts_by_name: dict[str, Any] = dict(zip(CHANGE_TEXTS, marks, strict=False))
        texts_by_name["method"] = event.method
        size = _SIZE_MARK if event.body_bytes else 0
        event = event._replace(members=tuple(members), body_bytes=size, **texts_by_name)
    return event._replace(origin=origin, id=_ID_MARK, time_us=_TIME_MARK_US)
