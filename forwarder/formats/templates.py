"""Fast rendering of logins by templates that are learned from a format's own mapping.

docs/templates.md explains what a template is, what it forbids a format, and what it buys. In short:
the first login of a shape is rendered with a mark in the place of each text and time; the result,
cut at the marks, writes every other login of that shape.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias, cast

from forwarder.core.schema import ARGUMENTS, IN_SHAPE, Event, Login, Normaliser, Origin
from forwarder.transport.settings import PluginSettings

# Private-use characters: no format escapes them, and no usual login has them, for they are not
# printable. The times lie in 1977: no login is as old.
_MARKS = 0xE000
_ID_MARK, _EXTRA_MARK = "\uf8fe", "\uf8ff"
_TIME_MARK_US, _SEEN_MARK_US = 250_000_000_000_123_456, 251_000_000_000_654_321
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
    """A format that renders usual logins by templates and every other event by its mapping.

    A subclass has ``render``, the one truth about what an event looks like, and ``time_text``. For
    logins ``render`` keeps to the rules in docs/templates.md; ``templates=False`` is for settings
    that break them.
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
        self._accounts: dict[tuple[str, str], dict[Hashable, WriteLine | None]] = {}
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

    def render_logins(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
    ) -> list[bytes]:
        """Return what ``render`` gives for the rows' logins; usual rows are written by a template.

        The normaliser has ``usual``. This is the busiest loop of the program.
        """
        usual, time_text, seen_us = normaliser.usual, self._time, origin.seen_us
        if usual is None or not self._enabled:
            events = map(normaliser.normalise, rows, [origin] * len(rows), ids, times_us)
            return list(map(self.render, events))
        view, seen = usual.view, time_text(seen_us)
        # The account's id and label are constants of a template.
        templates = self._accounts.setdefault((origin.account_id, origin.account), {})
        lines = []
        for row, id, time_us in zip(rows, ids, times_us, strict=True):  # noqa: A001
            shape, texts, extra = view(row, time_us, seen_us)
            write = templates.get(shape)
            if write is not None:
                lines.append(write(texts, id, time_text(time_us), seen, extra).encode())
                continue
            event = normaliser.normalise(row, origin, id, time_us)
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
        """Return the template for all logins of one shape; None if ``render`` breaks the rules."""
        if not isinstance(event, Login):
            return None
        return cut_at_marks(self.render(marked(event)).decode(), self.time_text)


def marked(login: Login) -> Login:
    """Return ``login`` with a mark for each text and time that a mapping may pass on."""
    marks = {
        name: chr(_MARKS + at)
        for at, name in enumerate(ARGUMENTS)
        # Formats leave empty fields out, so a mark there would write a field that no login has.
        if getattr(login, name) and name not in IN_SHAPE
    }
    return login._replace(
        origin=login.origin._replace(seen_us=_SEEN_MARK_US),
        id=_ID_MARK,
        time_us=_TIME_MARK_US,
        extra={_EXTRA_MARK: 0} if login.extra else {},
        **marks,  # type: ignore[arg-type]  # names of fields that are texts
    )


def cut_at_marks(written: str, time_text: TimeText) -> WriteLine | None:
    """Return the template in what was ``written`` for a login ``marked``.

    None if it has no place for id and time.
    """
    meanings: dict[str, int | str] = {
        **{chr(_MARKS + index): index for index in range(len(ARGUMENTS))},
        _ID_MARK: ID,
        time_text(_TIME_MARK_US): TIME,
        time_text(_SEEN_MARK_US): SEEN,
        f'"{_EXTRA_MARK}":0': EXTRA,
    }
    parts = re.split(f"({'|'.join(map(re.escape, meanings))})", written)
    between = [meanings[mark] for mark in parts[1::2]]
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
