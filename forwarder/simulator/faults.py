"""The endpoints by name, and everything that can go wrong at them, as data.

The exchange of a request asks the script at fixed points which faults strike. Of the faults that
replace the answer, one strikes at a time, in the order they were added; all others combine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

ACCESS_REQUESTS = "access_requests"
SCIM_UPDATES = "scim_updates"
ACCOUNT_AUDIT = "account_audit"
JIT_REQUESTS = "jit_requests"
NON_IDENTITY_LOGINS = "non_identity_logins"
SERVICE_TOKENS = "service_tokens"
IDENTITY_PROVIDERS = "identity_providers"
LOGPUSH_JOBS = "logpush_jobs"
VERIFY = "verify"

STREAMS = (ACCESS_REQUESTS, SCIM_UPDATES)
ENDPOINTS = (
    *STREAMS, ACCOUNT_AUDIT, JIT_REQUESTS, NON_IDENTITY_LOGINS, SERVICE_TOKENS,
    IDENTITY_PROVIDERS, LOGPUSH_JOBS, VERIFY,
)  # fmt: skip

TIME_KEY = {
    ACCESS_REQUESTS: "created_at",
    SCIM_UPDATES: "logged_at",
    ACCOUNT_AUDIT: "time",
    NON_IDENTITY_LOGINS: "datetime",
}
DISTINCT_KEY = {
    ACCESS_REQUESTS: "ray_id",
    SCIM_UPDATES: "cf_resource_id",
    NON_IDENTITY_LOGINS: "cfRayId",
}


Replacing = Literal["throttled", "html", "error", "unsuccessful", "body", "redirect"]
"""The request is answered without being read: 429; an HTML page; an error envelope; a 200 with
`success: false`; the bytes of `body`; a redirect to `body`."""

Silencing = Literal["hang", "reset"]
"""No answer: the connection stays open; the connection is reset."""

Damaging = Literal["truncated", "cut_off"]
"""The real answer, damaged: half the JSON in a complete response; a response that breaks off."""

Heading = Literal["clock_skew", "no_date"]
"""`Date` is `seconds` off; no `Date`."""

Bending = Literal[
    "ignore_page", "ignore_direction", "ignore_idp_id", "inclusive_since", "exclusive_since",
    "whole_second_since", "small_page", "outside_window",
]  # fmt: skip
"""The query is misread: always page 1; always newest first; rows of every IdP; `since` inclusive
or exclusive; `since` cut to the second; at most `count` rows; a window that is `seconds` wider at
both ends."""

Shaping = Literal["repeat_page", "shuffle_keys"]
"""The answer is the previous page, whatever was asked; the keys of rows have another order."""

Leading = Literal["repeat_cursor", "forget_cursors", "empty_page", "cursor_elsewhere"]
"""Of a log with cursors: the next cursor is the one that was sent; every cursor is refused from now
on; no rows, and a cursor that leads to them; the cursor is in `cursors.after`."""

Grouping = Literal["sampled", "lacking"]
"""Of the analytics: one of `count` logins is kept; the plan lacks the dimension `key`."""

Rewriting = Literal["expire", "new_key", "amend", "burst", "unreadable"]
"""The stored rows change permanently before an answer: rows older than `seconds` vanish; every row
gains `key`; the `count` rows shown last get `key` set to `value`; `count` rows appear in this
second; `count` rows appear that orjson refuses (`value`: `lone_surrogate`, `bad_utf8`,
`huge_number` or `deep`)."""

Delaying = Literal["slow"]
"""The answer comes after `seconds`."""

Arriving = Literal["late", "twins"]
"""Strikes generated rows, `times` counts rows: visible `seconds` after its time; `count` identical
rows instead of one."""

Kind = Replacing | Silencing | Damaging | Heading | Bending | Shaping | Rewriting | Delaying
AnyKind = Kind | Leading | Grouping | Arriving

ANSWERLESS = frozenset((*get_args(Replacing), *get_args(Silencing)))
DAMAGING = frozenset(get_args(Damaging))
HEADING = frozenset(get_args(Heading))
BENDING = frozenset(get_args(Bending))
SHAPING = frozenset(get_args(Shaping))
LEADING = frozenset(get_args(Leading))
GROUPING = frozenset(get_args(Grouping))
REWRITING = frozenset(get_args(Rewriting))
DELAYING = frozenset(get_args(Delaying))
ARRIVING = frozenset(get_args(Arriving))
_STRIKING = ANSWERLESS | DAMAGING | HEADING | BENDING | SHAPING | REWRITING | DELAYING
KINDS = _STRIKING | LEADING | GROUPING | ARRIVING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aim:
    """Which requests a fault strikes, and how often."""

    times: int | None = 1
    """How often it strikes; None: until removed."""
    stream: str | None = None
    """Only this endpoint (a name of `ENDPOINTS`); None: all."""
    account: str | None = None
    path: str | None = None
    """Only requests whose path and query contain this text."""
    after: int = 0
    """This many matching requests pass unharmed first."""
    share: float = 1.0
    """Probability that a matching request is struck."""


@dataclass(frozen=True, slots=True)
class Fault(_Aim):
    """One thing that goes wrong; `kind` determines which parameters matter.

    Raises:
        ValueError: there is no such kind.

    """

    kind: AnyKind
    status: int = 502
    seconds: float = 1.0
    retry_after: float | None = None
    count: int = 2
    code: int = 10000
    message: str = "Authentication error"
    body: str = ""
    key: str = "risk_score"
    value: Any = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = ", ".join(sorted(KINDS))
            raise ValueError(f"no fault is called {self.kind!r}; there are {known}")


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault is matched against: a request, or (without path) a row about to appear."""

    endpoint: str
    account: str | None
    path: str = ""


@dataclass(slots=True)
class _Entry:
    """A fault in force, and how often it let a request pass or struck one."""

    fault: Fault
    passed: int = 0
    struck: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times

    def strikes(self, draw: Random) -> bool:
        """Decide about one matching request, and count it."""
        if self.passed < self.fault.after:
            self.passed += 1
            return False
        if self.fault.share < 1.0 and draw.random() >= self.fault.share:
            return False
        self.struck += 1
        return True

    def fits(self, target: Target) -> bool:
        fault = self.fault
        return (
            fault.stream in (None, target.endpoint)
            and fault.account in (None, target.account)
            and (fault.path is None or fault.path in target.path)
        )


class FaultScript:
    """The faults in force, in the order they were added."""

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        self._entries = [_Entry(fault) for fault in faults]
        # A generator of its own: a fault more must not change the traffic.
        self._draw = Random(f"{seed}/faults")  # noqa: S311 - not cryptography  # nosec B311

    def add(self, *faults: Fault) -> None:
        """Add faults after those in force."""
        self._entries.extend(_Entry(fault) for fault in faults)

    def remove(self, kind: str | None = None) -> None:
        """End all faults, or those of one kind."""
        kept = [entry for entry in self._entries if kind not in (None, entry.fault.kind)]
        self._entries = kept

    def active(self) -> list[tuple[Fault, int]]:
        """Return the faults in force, each with how often it struck."""
        return [(entry.fault, entry.struck) for entry in self._entries]

    def any_of(self, kinds: frozenset[str]) -> bool:
        """Return True if a fault of these kinds is in force."""
        return any(entry.fault.kind in kinds for entry in self._entries)

    def first(self, target: Target, kinds: frozenset[str]) -> Fault | None:
        """Return the first fault of these kinds that strikes `target`, and count it."""
        return next(self._striking(target, kinds), None)

    def all(self, target: Target, kinds: frozenset[str]) -> tuple[Fault, ...]:
        """Return all faults of these kinds that strike `target`, and count them."""
        return tuple(self._striking(target, kinds))

    def _striking(self, target: Target, kinds: frozenset[str]) -> Iterator[Fault]:
        # A copy: a fault that is spent leaves the list meanwhile.
        for entry in tuple(self._entries):
            if entry.fault.kind not in kinds or not entry.fits(target):
                continue
            if entry.strikes(self._draw):
                if entry.spent:
                    self._entries.remove(entry)
                yield entry.fault
