"""Fast rendering without a second mapping: templates are learned from the mapping itself.

A mapping is an ordinary function from an event to a JSON object or to the fields of a line. For a
login it may branch on nothing but ``shape``, and may only pass texts on: copy them, put constants
beside them. So the first login of a shape is written with a mark in the place of each text and
time, and what comes out, cut at the marks, serves every other login of that shape:

    {"user":{"name":"<user_email>"},"time":<time>}

A template is used only if it gives the same bytes as the mapping for the login it was learned
from, and tests compare the two for any login. No template holds anything that somebody who logs in
can choose, so there is no memory to fill and a first sight costs as much as a second.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from forwarder.core.json_text import members
from forwarder.core.login import LOGIN_TEXTS, Login
from forwarder.core.origin import Origin
from forwarder.core.schema import Event, Normaliser

_MARKS = 0xE000
_TIME_MARK_US, _SEEN_MARK_US = 250_000_000_000_123_456, 251_000_000_000_654_321
_ID_MARK, _EXTRA_MARK = "\uf8fe", "\uf8ff"
_IN_SHAPE = frozenset(map(LOGIN_TEXTS.index, ("action", "connection")))
_MOST_TEMPLATES, _REMEMBERED_TIMES = 1024, 1024

TimeText = Callable[[int], str]
"""How a format writes microseconds since 1970."""


class Template(NamedTuple):
    """What all logins of one shape have in common, and what goes in between.

    Every other one of ``parts`` is constant; ``pick`` takes those between out of a login's texts.
    The four numbers are the places of what is no text: id, time, time first seen and the members
    of ``extra``; 0 where there is none.
    """

    parts: list[str]
    pick: Callable[[tuple[str, ...]], Any]
    id: int
    time: int
    seen: int
    extra: int


class Templated(ABC):
    """A format that writes logins by templates and everything else by its mapping.

    Subclasses say how an event is written (``write``, slow and the one truth) and how a time is
    (``time_text``).
    """

    media_type: str

    def __init__(self, *, templates: bool = True) -> None:
        """Switch templates off where ``write`` passes on more than texts and times."""
        self._enabled = templates
        self._templates: dict[Any, Template | None] = {}
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
        template = self._templates.get(event.shape)
        if template is None:
            return self._write_and_learn(event)
        extra = members(event.extra) if template.extra else ""
        seen = self.time_text(event.origin.seen_us)
        return fill(template, event.texts, event.id, self._time(event.time_us), seen, extra)

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
    ) -> list[bytes]:
        """Return the events of a page; no event is made of a row that a template serves.

        This is the busiest loop of the program.
        """
        normalise, read = normaliser.normalise, normaliser.read
        template_of, time_text, render = self._templates.get, self._time, self.render
        seen, bodies = time_text(origin.seen_us), []
        for row, id, time_us in zip(rows, ids, times_us, strict=True):  # noqa: A001
            reading = read(row, origin, time_us)
            if reading is not None and (template := template_of(reading[0])) is not None:
                bodies.append(fill(template, reading[1], id, time_text(time_us), seen))
            else:
                bodies.append(render(normalise(row, origin, id, time_us)))
        return bodies

    def _write_and_learn(self, event: Event) -> bytes:
        """Write the slow way, and see to it that the next login of this shape need not."""
        written = self.write(event)
        if self._enabled and isinstance(event, Login) and is_templatable(event):
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            if event.shape not in self._templates:
                text = self.write(marked(event)).decode()
                template = cut_at_marks(text, event, self.time_text)
                self._templates[event.shape] = template
                if self.render(event) != written:
                    self._templates[event.shape] = None
        return written


def fill(
    template: Template,
    texts: tuple[str, ...],
    id: str,  # noqa: A002
    time: str,
    seen: str,
    extra: str = "",
) -> bytes:
    """Return the line for a login of the template's shape."""
    constant, pick, id_at, time_at, seen_at, extra_at = template
    parts = constant.copy()
    parts[1::2] = pick(texts)
    parts[id_at] = id
    parts[time_at] = time
    if seen_at:
        parts[seen_at] = seen
    if extra_at:
        parts[extra_at] = extra
    return "".join(parts).encode()


def is_templatable(login: Login) -> bool:
    """Say whether the texts of ``login`` need no escaping and no cutting."""
    odd = login.facts.odd
    return odd is None or odd.plain


def cut_at_marks(written: str, login: Login, time_text: TimeText) -> Template | None:
    """Return the template in what was ``written`` for ``marked(login)``.

    None if it has no place for id and time, or more than one for what is no text.
    """
    texts = {chr(_MARKS + index): index for index in range(len(login.texts))}
    others = (
        _ID_MARK,
        time_text(_TIME_MARK_US),
        time_text(_SEEN_MARK_US),
        f'"{_EXTRA_MARK}":0',
    )
    pattern = "|".join(map(re.escape, (*texts, *others)))
    parts = re.split(f"({pattern})", written)
    marks = parts[1::2]
    if any(marks.count(mark) > 1 for mark in others) or not {*others[:2]} <= {*marks}:
        return None
    places = [2 * marks.index(mark) + 1 if mark in marks else 0 for mark in others]
    return Template(parts, itemgetter(*(texts.get(mark, 0) for mark in marks)), *places)


def marked(login: Login) -> Login:
    """Return ``login`` with a mark for each text and time that a mapping may pass on."""
    return login._replace(
        origin=login.origin._replace(seen_us=_SEEN_MARK_US),
        id=_ID_MARK,
        time_us=_TIME_MARK_US,
        row={_EXTRA_MARK: 0} if login.extra else {},
        texts=tuple(
            chr(_MARKS + index) if text and index not in _IN_SHAPE else text
            for index, text in enumerate(login.texts)
        ),
    )
