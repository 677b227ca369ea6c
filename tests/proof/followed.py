"""Connections to PostgreSQL that tell each statement, and may be given another one to run.

A subclass of psycopg's connection in its place; no code of the program is replaced.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import psycopg

ANSWERED = "answered"
"""Told after each statement, before the program gets to know the answer."""
Tell = Callable[[str], None]

POINTS = {
    "before the fence": ("UPDATE fence SET version",),
    "fence moved": ("UPDATE fence SET version", "SAVEPOINT"),
    "rows go in": ("INSERT INTO page",),
    "rows and position before commit": ("INSERT INTO reader", "COMMIT"),
    "rows committed, not answered": ("INSERT INTO page", "COMMIT", ANSWERED),
    "offset goes in": ("UPDATE progress",),
    "offset before commit": ("UPDATE progress", "COMMIT"),
    "offset committed, not answered": ("UPDATE progress", "COMMIT", ANSWERED),
    "dead letter goes in": ("INSERT INTO dead_letter",),
    "before a renewal": ("UPDATE lease SET expires_at = clock_timestamp()",),
    "renewal before commit": ("UPDATE lease SET expires_at = clock_timestamp()", ANSWERED),
    "journal taken": ("UPDATE fence SET epoch", ANSWERED),
}


def _local_clock(statement: str) -> str:
    return statement.replace("clock_timestamp()", f"to_timestamp({time.time()})")


FAULTS: dict[str, Callable[[str], str]] = {
    "no fence": lambda text: re.sub(r" AND epoch = \d+ AND version = \d+$", "", text),
    "epoch only": lambda text: re.sub(r" AND version = \d+$", "", text),
    "lease by the local clock": _local_clock,
}
"""Mistakes in statements, by name."""


class Followed(psycopg.Connection[Any]):
    """Tells ``followers`` each statement before it runs, and ``ANSWERED`` after it ran."""

    followers: ClassVar[Callable[[], Iterable[Tell]]] = tuple
    changed: ClassVar[Callable[[str], str]] = str

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._tell = tuple(Followed.followers())

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement, or several with a semicolon between them."""
        query = Followed.changed(query)
        for statement in query.split(";"):
            self._told(statement.strip())
        done = super().execute(query, params, **options)
        self._told(ANSWERED)
        return done

    def _told(self, statement: str) -> None:
        for tell in self._tell:
            tell(statement)


def follow(followers: Callable[[], Iterable[Tell]], fault: str) -> None:
    """Follow every connection that is opened from now on, each by ``followers`` of its own."""
    Followed.followers = staticmethod(followers)
    Followed.changed = staticmethod(FAULTS.get(fault, str))
    vars(psycopg)["connect"] = Followed.connect
