"""Fast rendering of rows by templates that are learned from a format's own mapping.

docs/templates.md explains what a template is, what it forbids a format, and what it buys. In short:
the first row of a shape is rendered with a mark in the place of each text and time; the result,
cut at the marks, writes every other row of that shape.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias, cast

from forwarder.core.schema import Bodies, Event, Login, Normaliser, Origin, Provisioning
from forwarder.core.usual_rows import CHANGE_ARGUMENTS, IN_SHAPE, LOGIN_ARGUMENTS
from forwarder.formats.shape import showing
from forwarder.transport.settings import PluginSettings

# Private-use characters: no format escapes them, and no usual row has them, for they are not
# printable. The times lie in 1977: no row is as old.
_MARKS, _LAST_MARK = 0xE000, 0xF000
_ID_MARK, _EXTRA_MARK = "\uf8fe", "\uf8ff"
_TIME_MARK_US, _SEEN_MARK_US = 250_000_000_000_123_456, 251_000_000_000_654_321
_SIZE_MARK = 252_000_000_000_777_777
_MOST_TEMPLATES, _REMEMBERED_TIMES = 1024, 1024
"""Templates of one account, and times that were written lately."""

WriteLine: TypeAlias = Callable[[tuple[str, ...], str, str, str, str], str]
"""From (arguments, id, time, time first seen, members of what is extra) to a line."""
TimeText: TypeAlias = Callable[[int], str]
"""How a format writes microseconds since 1970."""

TEXTS, ID, TIME, SEEN, EXTRA = "texts", "id", "time", "seen", "extra"
_PARAMETERS = (TEXTS, ID, TIME, SEEN, EXTRA)


class FormatConfig(PluginSettings):
    """What a sink takes for a format that has no settings of its own."""


class Templated(ABC):
    """A format that renders usual rows by templates and every other event by its mapping.

    A subclass has ``render``, the one truth about what an event looks like, and ``time_text``. For
    usual rows ``render`` keeps to the rules in docs/templates.md; ``templates=False`` is for
    settings that break them.
    """

    Config: ClassVar[type[Any]] = FormatConfig
    media_type: str
    request_bodies: bool

    def __init__(
        self, config: Any, added: Mapping[str, str] | None = None, *, templates: bool = True
    ) -> None:
        """Take the settings, and the fields to add to every event."""
        self._config = config
        self._added = added or {}
        self._enabled = templates
        self._accounts: dict[Origin, dict[Hashable, WriteLine | None]] = {}
        self._time = lru_cache(_REMEMBERED_TIMES)(self.time_text)

    def adding(self, fields: Mapping[str, str]) -> Self:
        """Return this format with ``fields`` in every event."""
        return type(self)(self._config, fields)

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """Return ``event`` as one line without its end. Pure and total."""

    @staticmethod
    @abstractmethod
    def time_text(time_us: int) -> str:
        """Return how this format writes microseconds since 1970."""

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
        bodies: Bodies,
    ) -> list[bytes]:
        """Return what ``render`` gives for the rows; usual ones are written by a template.

        The normaliser has ``usual``. This is the busiest loop of the program.
        """
        usual, time_text, seen_us = normaliser.usual, self._time, origin.seen_us
        view = usual.view if usual and self._enabled else _not_usual
        seen = time_text(seen_us)
        # What all rows of a page share are constants of a template; when they were seen is none.
        templates = self._accounts.setdefault(origin._replace(seen_us=0), {})
        lines = []
        for row, id, time_us in zip(rows, ids, times_us, strict=True):  # noqa: A001
            shape, texts, extra = view(row, time_us, seen_us, bodies)
            write = templates.get(shape)
            if write is not None:
                lines.append(write(texts, id, time_text(time_us), seen, extra).encode())
                continue
            event = showing(normaliser.normalise(row, origin, id, time_us), bodies)
            lines.append(self.render(event))
            if shape is not None and shape not in templates:
                if len(templates) >= _MOST_TEMPLATES:
                    templates.clear()
                write = self._learn(event)
                told = write and write(texts, id, time_text(time_us), seen, extra).encode()
                # A template that does not write what `render` writes is never used: None says so.
                templates[shape] = write if told == lines[-1] else None
        return lines

    def _learn(self, event: Event) -> WriteLine | None:
        """Return the template for all rows of one shape; None if ``render`` breaks the rules."""
        if not isinstance(event, Login | Provisioning) or not self.has_template(event):
            return None
        return cut_at_marks(self.render(marked(event)).decode(), self.time_text)

    def has_template(self, event: Login | Provisioning) -> bool:  # noqa: ARG002 - subclasses look
        """Return False if a template would not give what ``render`` gives for this shape."""
        return True


def _not_usual(*_: Any) -> tuple[None, tuple[str, ...], str]:
    return None, (), ""


def marked(event: Login | Provisioning) -> Login | Provisioning:
    """Return ``event`` with a mark for each text, time and size that a mapping may pass on."""
    names = LOGIN_ARGUMENTS if isinstance(event, Login) else CHANGE_ARGUMENTS
    marks: dict[str, Any] = {
        name: chr(_MARKS + at)
        for at, name in enumerate(names)
        # Formats leave empty fields out, so a mark there would write a field that no row has.
        if getattr(event, name) and name not in IN_SHAPE
    }
    if isinstance(event, Provisioning):
        marks |= _marked_change(event, marks)
    return event._replace(
        origin=event.origin._replace(seen_us=_SEEN_MARK_US),
        id=_ID_MARK,
        time_us=_TIME_MARK_US,
        extra={_EXTRA_MARK: 0} if event.extra else {},
        **marks,
    )


def _marked_change(change: Provisioning, marks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the marks of a change that are more than a character in the place of a text."""
    found: dict[str, Any] = {"body_bytes": _SIZE_MARK if change.body_bytes else 0}
    # Which of a user's names are the same is a part of the shape: formats write them once.
    same: dict[str, str] = {}
    for name in ("user_email", "user_name", "email"):
        if name in marks:
            found[name] = same.setdefault(getattr(change, name), marks[name])
    places = iter(range(_MARKS + len(CHANGE_ARGUMENTS), _LAST_MARK))
    count = len(change.members)
    for key in ("members_added", "members_removed", "members_set"):
        found[key] = tuple(
            member._replace(value=chr(at), display=chr(at + count) if member.display else "")
            for member, at in zip(getattr(change, key), places, strict=False)
        )
    return found


def cut_at_marks(written: str, time_text: TimeText) -> WriteLine | None:
    """Return the template in what was ``written`` for an event ``marked``.

    None if it has no place for id and time.
    """
    meanings: dict[str, int | str] = {
        str(_SIZE_MARK): CHANGE_ARGUMENTS.index("body_bytes"),
        _ID_MARK: ID,
        time_text(_TIME_MARK_US): TIME,
        time_text(_SEEN_MARK_US): SEEN,
        f'"{_EXTRA_MARK}":0': EXTRA,
    }
    marks = f"[{chr(_MARKS)}-{chr(_LAST_MARK)}]"
    parts = re.split(f"({'|'.join([marks, *map(re.escape, meanings)])})", written)
    between = [meanings[mark] if mark in meanings else ord(mark) - _MARKS for mark in parts[1::2]]
    return line_writer(parts[::2], between) if {ID, TIME} <= {*between} else None


def line_writer(constants: Iterable[str], between: Iterable[int | str]) -> WriteLine:
    """Return a function that writes ``constants`` with something between each two of them.

    ``between`` has the place of an argument, or ``ID``, ``TIME``, ``SEEN`` or ``EXTRA``; it is one
    shorter than ``constants``.
    """
    # An f-string joins its parts without a list and without a step for each part. It is built as a
    # syntax tree, never as source text, so nothing in a row or a setting can become code.
    first, *others = constants
    values: list[ast.expr] = [ast.Constant(first)]
    for what, constant in zip(between, others, strict=True):
        values += [ast.FormattedValue(_read(what), conversion=-1), ast.Constant(constant)]
    taken = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(name) for name in _PARAMETERS],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(taken, ast.JoinedStr(values))))
    code = compile(tree, "<template>", "eval")
    made = eval(code, {"__builtins__": {}})  # noqa: S307 - our own tree  # nosec B307
    return cast("WriteLine", made)


def _read(what: int | str) -> ast.expr:
    if isinstance(what, str):
        return ast.Name(what, ast.Load())
    return ast.Subscript(ast.Name(TEXTS, ast.Load()), ast.Constant(what), ast.Load())
