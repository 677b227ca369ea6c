"""Reads a change out of a row without making an event of it; ``change_columns`` reads pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from forwarder.core.login import (
    FAILURE,
    SUCCESS,
    UNKNOWN,
    Oddities,
    Origin,
    is_easy,
    is_email,
    oddities,
)
from forwarder.core.masking import mask_request_bodies
from forwarder.core.schema import NOT_READ, Member, Reading, escaped, escaped_each
from forwarder.sources.cloudflare_access.normalise_scim_body import Asked, read_asked, read_masked

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
"""The keys of ``forwarder.core.provisioning.CHANGE_TEXTS``, in its order, without the method."""
METHODS = ("http_method", "request_method")
"""Live rows have another key for the method than the documented one."""
KNOWN_KEYS = frozenset({*TEXTS, *METHODS})
ALWAYS = ("resource_type", "cf_resource_id", "idp_id", "status")
"""Keys seen on every row; their absence is a fault of a row."""

_OUTCOMES = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "ERROR": FAILURE}
TIME, TYPE, EMAIL, IDENTITY, STATUS = map(
    TEXTS.index,
    ("logged_at", "resource_type", "resource_user_email", "cf_resource_id", "status"),
)
METHOD = len(TEXTS) - 1
"""Places of texts; the method's is the body's."""
_MOST_MEMBERS = 8
"""More members than that, and it takes an event: each number of them is a shape of its own."""


class Body(NamedTuple):
    """What a request body says, and how a template writes it.

    ``method`` is in capitals, ``members`` are the fillings for ids and names, ``size`` is the
    length in UTF-8 as digits. ``easy`` is False where it takes an event to write it.
    """

    resource: str
    activity: str
    method: str
    named: tuple[bool, ...]
    members: tuple[str, ...]
    escaped: str
    size: str
    easy: bool
    asked: Asked


def read_body(resource_type: str, method: str, text: str) -> Body:
    """Return what a body says about a resource; short ones that come again are read once.

    Raises ``TypeError`` for what is no text.
    """
    if len(text) <= _REMEMBERED_LENGTH:
        return _read_body(resource_type, method, text)
    return _read_body.__wrapped__(resource_type, method, text)


_REMEMBERED, _REMEMBERED_LENGTH = 128, 1000
_new_tuple = tuple.__new__  # a named tuple's own takes three times as long


@lru_cache(_REMEMBERED)
def _read_body(resource_type: str, method: str, text: str) -> Body:
    method = method.upper()
    asked = read_asked(resource_type, method, text)
    return _body(method, asked, escaped(asked.body))


def read_bodies(given: Sequence[tuple[str, str, str]]) -> list[Body]:
    """Return ``read_body`` of each type, method and text, looking at all together where it may."""
    types, methods, texts = zip(*given, strict=True)
    methods = tuple(map(str.upper, methods))
    asked = list(map(read_masked, types, methods, mask_request_bodies(texts)))
    contents = escaped_each([one.body for one in asked])
    return list(map(_body, methods, asked, contents))


def _body(method: str, asked: Asked, content: str) -> Body:
    resource, activity, members, body, whole = asked
    named: tuple[bool, ...] = ()
    fillings: tuple[str, ...] = ()
    size, is_ascii = len(body), body.isascii()
    easy = (whole or not body) and (is_ascii or is_text(body))
    if members:
        values, names = zip(*members, strict=True)
        easy = easy and are_easy(members)
        named, fillings = tuple(map(bool, names)), (*values, *names)
    if not is_ascii:
        size = len(body.encode("utf-8", "replace"))
    said = (resource, activity, method, named, fillings, content, str(size), easy, asked)
    return _new_tuple(Body, said)


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


def read_change(row: Mapping[str, Any], origin: Origin, time_us: int, bodies: bool) -> Reading:  # noqa: FBT001 - mapped
    """Return shape and fillings of a row whose values are what their keys promise."""
    pick, body_at, lacks, odd, usual = _layout(tuple(row))
    values = [*row.values(), ""]
    texts = pick(values)
    try:
        together = "".join(texts)
        body = read_body(texts[TYPE], texts[METHOD], values[body_at])
    except TypeError:
        content = "" if values[body_at] is None else values[body_at]
        texts = tuple(["" if text is None else text for text in texts])
        if not all([text.__class__ is str for text in (*texts, content)]):  # noqa: C419 - faster
            return NOT_READ
        together = "".join(texts)
        body = read_body(texts[TYPE], texts[METHOD], content)
    email, identity, status = texts[EMAIL], texts[IDENTITY], texts[STATUS]
    resource, activity, method, named, members, content, size, easy, _ = body
    if (
        not (usual and easy and texts[0])
        or not is_easy(together, email, timed=time_us != origin.seen_us)
        or (email and email == identity)
        or (members and not are_distinct(email, identity, members))
    ):
        return NOT_READ
    if texts[METHOD] != method:
        texts = (*texts[:METHOD], method)
    if texts.count("") != lacks:
        odd = odd_without(tuple(map(bool, texts)))
    if not bodies:
        content, size, many = "", "0", len(named)
        members, named = (*members[:many], *[""] * many), (False,) * many
    outcome = _OUTCOMES.get(status) or outcome_of(status)
    address = is_email(email) is not None
    shape = (resource, activity, outcome, method, address, named, odd[content != ""])
    return shape, (*texts, content, size, *members), ""


class _Layout(NamedTuple):
    """What all rows with the same keys, in the same order, have in common.

    ``pick`` takes texts and method out of a row's values and one empty text after those, which
    stands for each of the ``lacks`` that there is no key for; ``body_at`` is the body's place.
    ``odd`` is what that makes odd, without and with a body. ``usual`` says that there is one
    method and nothing unknown.
    """

    pick: Callable[[Sequence[Any]], tuple[Any, ...]]
    body_at: int
    lacks: int
    odd: tuple[Oddities, Oddities]
    usual: bool


@lru_cache(64)
def _layout(keys: tuple[str, ...]) -> _Layout:
    """Return the layout of rows with these keys."""
    method = next((key for key in METHODS if key in keys), METHODS[0])
    *places, body_at = (
        keys.index(key) if key in keys else -1 for key in (*TEXTS[:-1], method, TEXTS[-1])
    )
    return _Layout(
        itemgetter(*places),
        body_at,
        places.count(-1),
        odd_without(tuple(place >= 0 for place in places)),
        frozenset(keys) <= KNOWN_KEYS and not frozenset(METHODS) <= frozenset(keys),
    )


@lru_cache(256)
def odd_without(present: tuple[bool, ...]) -> tuple[Oddities, Oddities]:
    """Return what is odd about a row in which nothing is wrong, but something is missing."""
    wanted = zip((*TEXTS[:-1], METHODS[0]), present, strict=True)
    faults = [key for key, there in wanted if not there and key in (*ALWAYS, METHODS[0])]
    without, whole = (
        oddities(tuple(faults), (*present, body), has_extra=False, plain=True)
        for body in (False, True)
    )
    return without, whole
