"""The endpoints by name, and everything that can go wrong at them.

The endpoints by name, as faults, permissions, counters and control requests spell them.

Everything that can go wrong, as data: what, how often, for which requests.

A script of faults is asked at fixed points of an exchange which of them strike now. Faults that
replace the answer strike one at a time, in the order they were added; all others combine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from forwarder.simulator.company import seeded

ACCESS_REQUESTS = "access_requests"
SCIM_UPDATES = "scim_updates"
IDENTITY_PROVIDERS = "identity_providers"
VERIFY = "verify"

STREAMS = (ACCESS_REQUESTS, SCIM_UPDATES)
ENDPOINTS = (*STREAMS, IDENTITY_PROVIDERS, VERIFY)

TIME_KEY = {ACCESS_REQUESTS: "created_at", SCIM_UPDATES: "logged_at"}
DISTINCT_KEY = {ACCESS_REQUESTS: "ray_id", SCIM_UPDATES: "cf_resource_id"}


Replacing = Literal["throttled", "html", "error", "unsuccessful", "body", "redirect"]
"""Answered before the request is looked at: 429; an HTML page; an error envelope; a 200 with
`success: false`; any bytes; a redirect to `body`."""

Silencing = Literal["hang", "reset"]
"""No answer: the connection stays open for ever; the connection is reset."""

Damaging = Literal["truncated", "cut_off"]
"""The true answer, harmed: half the JSON in a whole response; a response that ends half-way."""

Heading = Literal["clock_skew", "no_date"]
"""`Date` is `seconds` off; no `Date`."""

Bending = Literal[
    "ignore_page", "ignore_direction", "ignore_idp_id", "inclusive_since", "exclusive_since",
    "whole_second_since", "small_page", "outside_window",
]  # fmt: skip
"""The query is read differently: page 1 always; newest first always; rows of every IdP; `since`
with or without its own instant; `since` cut to the second; at most `count` rows; a window wider
by `seconds` on both ends."""

Shaping = Literal["repeat_page", "shuffle_keys"]
"""The stream's previous page again, whatever was asked; the keys of rows in another order."""

Rewriting = Literal["expire", "new_key", "amend", "burst", "unreadable"]
"""The stored rows change for good just before an answer: rows older than `seconds` are gone;
every row gains `key`; the `count` rows shown last get `key` set to `value`; `count` rows appear
within this second; `count` rows appear that orjson refuses (`value`: `lone_surrogate`,
`bad_utf8`, `huge_number` or `deep`)."""

Delaying = Literal["slow"]
"""The answer comes after `seconds`."""

Arriving = Literal["late", "twins"]
"""Strikes generated rows as they appear, `times` counts rows: visible `seconds` after its time;
`count` identical rows instead of one."""

Kind = Replacing | Silencing | Damaging | Heading | Bending | Shaping | Rewriting | Delaying
AnyKind = Kind | Arriving

ANSWERLESS = frozenset((*get_args(Replacing), *get_args(Silencing)))
DAMAGING = frozenset(get_args(Damaging))
HEADING = frozenset(get_args(Heading))
BENDING = frozenset(get_args(Bending))
SHAPING = frozenset(get_args(Shaping))
REWRITING = frozenset(get_args(Rewriting))
DELAYING = frozenset(get_args(Delaying))
ARRIVING = frozenset(get_args(Arriving))
KINDS = ANSWERLESS | DAMAGING | HEADING | BENDING | SHAPING | REWRITING | DELAYING | ARRIVING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aim:
    """Which requests a fault strikes."""

    times: int | None = 1
    """How often it strikes; None: until removed."""
    stream: str | None = None
    """Only this endpoint (a name of `names.ENDPOINTS`); None: all."""
    account: str | None = None
    path: str | None = None
    """Only requests whose path and query contain this text."""
    after: int = 0
    """So many fitting requests pass unharmed first."""
    share: float = 1.0
    """Probability that a fitting request is struck."""


@dataclass(frozen=True, slots=True)
class Fault(_Aim):
    """One thing that goes wrong; which of the parameters count depends on `kind`.

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
    fault: Fault
    passed: int = 0
    struck: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times

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
        self._draw = seeded(seed, "faults")

    def add(self, *faults: Fault) -> None:
        """Put faults in force, after those there are."""
        self._entries.extend(_Entry(fault) for fault in faults)

    def remove(self, kind: str | None = None) -> None:
        """End all faults, or those of one kind."""
        kept = [entry for entry in self._entries if kind not in (None, entry.fault.kind)]
        self._entries = kept

    def active(self) -> list[tuple[Fault, int]]:
        """Return the faults in force, each with how often it struck."""
        return [(entry.fault, entry.struck) for entry in self._entries]

    def any_of(self, kinds: frozenset[str]) -> bool:
        """Say whether a fault of these kinds is in force."""
        return any(entry.fault.kind in kinds for entry in self._entries)

    def first(self, target: Target, kinds: frozenset[str]) -> Fault | None:
        """Return the first fault of these kinds that strikes `target`, and count it."""
        return next(self._striking(target, kinds), None)

    def all(self, target: Target, kinds: frozenset[str]) -> tuple[Fault, ...]:
        """Return all faults of these kinds that strike `target`, and count them."""
        return tuple(self._striking(target, kinds))

    def _striking(self, target: Target, kinds: frozenset[str]) -> Iterator[Fault]:
        for entry in tuple(self._entries):
            if entry.fault.kind in kinds and entry.fits(target) and self._strikes(entry):
                yield entry.fault

    def _strikes(self, entry: _Entry) -> bool:
        if entry.passed < entry.fault.after:
            entry.passed += 1
            return False
        if entry.fault.share < 1.0 and self._draw.random() >= entry.fault.share:
            return False
        entry.struck += 1
        if entry.spent:
            self._entries.remove(entry)
        return True
