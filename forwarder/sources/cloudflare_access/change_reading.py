"""Reads changes out of whole pages of the SCIM log, without making an event of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from forwarder.core.login import FAILURE, SUCCESS, UNKNOWN, Oddities, is_email, oddities
from forwarder.core.origin import Origin, is_easy
from forwarder.core.provisioning import BODY, Member, escaped
from forwarder.core.schema import NOT_READ, Reading
from forwarder.sources.cloudflare_access.normalise_scim_body import Asked, read_asked

TEXTS = (
    "logged_at",
    "resource_type",
    "resource_user_email",
    "resource_group_name",
    "cf_resource_id",
    "idp_resource_id",
    "idp_id",
    "status",
    "error_description",
    "request_body",
)
"""The keys of ``forwarder.core.provisioning.CHANGE_TEXTS``, in its order."""
METHODS = ("http_method", "request_method")
"""Live rows have another key for the method than the documented one."""
KNOWN_KEYS = frozenset({*TEXTS, *METHODS})
ALWAYS = ("resource_type", "cf_resource_id", "idp_id", "status")
"""Keys seen on every row; their absence is a fault of a row."""

_OUTCOMES = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "ERROR": FAILURE}
_MOST_MEMBERS = 8
"""More members than that, and it takes an event: each number of them is a shape of its own."""


class Body(NamedTuple):
    """What a request body says, and how a template writes it.

    ``method`` is in capitals, ``members`` are the fillings for ids and names, ``size`` is the
    length in UTF-8 as digits. ``easy`` is False where it takes an event to write it.
    """

    asked: Asked
    method: str
    named: tuple[bool, ...]
    members: tuple[str, ...]
    escaped: str
    size: str
    easy: bool


def read_body(resource_type: str, method: str, text: str) -> Body:
    """Return what a body says about a resource; short ones that come again are read once.

    Raises ``TypeError`` for what is no text.
    """
    if len(text) <= _REMEMBERED_LENGTH:
        return _read_body(resource_type, method, text)
    return _read_body.__wrapped__(resource_type, method, text)


_REMEMBERED, _REMEMBERED_LENGTH = 128, 1000


@lru_cache(_REMEMBERED)
def _read_body(resource_type: str, method: str, text: str) -> Body:
    method = method.upper()
    asked = read_asked(resource_type, method, text)
    values = tuple(member.value for member in asked.members)
    names = tuple(member.display for member in asked.members)
    return Body(
        asked,
        method,
        tuple(map(bool, names)),
        (*values, *names),
        escaped(asked.body),
        str(len(asked.body.encode("utf-8", "replace"))) if asked.body else "0",
        easy=(asked.whole or not text) and are_easy(asked.members) and is_text(asked.body),
    )


def are_easy(members: Sequence[Member]) -> bool:
    """Say whether members are few and no format has to escape or cut their texts."""
    together = "".join(text for member in members for text in member)
    return len(members) <= _MOST_MEMBERS and is_easy(together, "", timed=True)


def is_text(text: str) -> bool:
    """Say whether UTF-8 can hold ``text``: there are no lone surrogates."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def are_distinct(email: str, identity: str, members: tuple[str, ...]) -> bool:
    """Say whether no two of the texts that are there are the same."""
    found = [text for text in (email, identity, *members) if text]
    return len(set(found)) == len(found)


def outcome_of(status: str) -> str:
    """Return the outcome of a row with this status, in capitals or not."""
    return _OUTCOMES.get(status.upper(), UNKNOWN)


def read_changes(
    rows: Sequence[Mapping[str, Any]], origin: Origin, times_us: Sequence[int], *, bodies: bool
) -> Iterable[Reading]:
    """Return the reading of each row; see ``core.schema.ReadRows``."""
    return map(_read_change, rows, repeat(origin), times_us, repeat(bodies))


def _read_change(row: Mapping[str, Any], origin: Origin, time_us: int, bodies: bool) -> Reading:  # noqa: FBT001 - mapped
    """Return shape and fillings of a row whose values are what their keys promise."""
    layout = _layout(tuple(row))
    picked = layout.pick([*row.values(), ""])
    try:
        together = "".join(picked[:-1])
        body = read_body(picked[1], picked[-2], picked[-1])
    except TypeError:
        picked = tuple(["" if value is None else value for value in picked])
        if not all([text.__class__ is str for text in picked]):  # noqa: C419 - faster
            return NOT_READ
        together = "".join(picked[:-1])
        body = read_body(picked[1], picked[-2], picked[-1])
    logged_at, _, email, _, identity, _, _, status, _, _, _ = picked
    asked, method, named, members, content, size, easy = body
    if (
        not (layout.usual and logged_at and easy)
        or not is_easy(together, email, timed=time_us != origin.seen_us)
        or (email and email == identity)
        or (members and not are_distinct(email, identity, members))
    ):
        return NOT_READ
    odd = layout.odd if picked.count("") == layout.lacks else _odd(tuple(map(bool, picked)))
    if not bodies:
        content, size, named = "", "0", tuple([False] * len(named))
    outcome = _OUTCOMES.get(status) or outcome_of(status)
    address = is_email(email) is not None
    shape = (asked.resource, asked.activity, outcome, method, address, named, odd[bodies])
    return shape, (*picked[:BODY], content, size, *members), ""


class _Layout(NamedTuple):
    """What all rows with the same keys, in the same order, have in common.

    ``pick`` takes texts, method and body out of a row's values and one empty text after those,
    which stands for each of the ``lacks`` that there is no key for. ``odd`` is what that makes
    odd, without and with a body. ``usual`` says that there is one method and nothing unknown.
    """

    pick: Callable[[Sequence[Any]], tuple[Any, ...]]
    lacks: int
    odd: tuple[Oddities, Oddities]
    usual: bool


@lru_cache(64)
def _layout(keys: tuple[str, ...]) -> _Layout:
    """Return the layout of rows with these keys."""
    method = next((key for key in METHODS if key in keys), METHODS[0])
    wanted = (*TEXTS[:BODY], method, TEXTS[BODY])
    present = tuple(key in keys for key in wanted)
    return _Layout(
        itemgetter(*(keys.index(key) if key in keys else -1 for key in wanted)),
        present.count(False),
        _odd(present),
        frozenset(keys) <= KNOWN_KEYS and not frozenset(METHODS) <= frozenset(keys),
    )


@lru_cache(256)
def _odd(present: tuple[bool, ...]) -> tuple[Oddities, Oddities]:
    """Return what is odd about a row in which nothing is wrong, but something is missing."""
    *texts, method, body = present
    quality = [key for key, there in zip(TEXTS, texts, strict=False) if not there and key in ALWAYS]
    faults = tuple(quality if method else [*quality, "http_method"])
    without, whole = (
        oddities(faults, (*texts, there), has_extra=False, plain=True) for there in (False, body)
    )
    return without, whole
