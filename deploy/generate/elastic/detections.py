"""What is detected: one table, from which the rules of Elastic and the monitors of OpenSearch come.

Filters are written in what KQL and Lucene share: quoted values, capital AND, OR and NOT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

AUDIT, SCIM, OWN = (f"logs-cloudflare_access.{name}-*" for name in ("audit", "scim", "forwarder"))
Unit: TypeAlias = Literal["h", "d"]
UNIT_NAMES = {"h": "hour", "d": "day"}


@dataclass(frozen=True, slots=True)
class Matching:
    """Every event that the filter finds."""


@dataclass(frozen=True, slots=True)
class Many:
    """At least ``least`` values of ``distinct`` for one ``by`` in one hour or day of event time."""

    by: str
    distinct: str
    least: int
    unit: Unit = "h"


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """A ``by`` without ``value`` is new itself; otherwise a new ``value`` of a known ``by``."""

    by: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Then:
    """At least ``least`` events of ``first``, and after the last of them one of ``second``.

    Not more than ``hours`` lie between the first of all and the last. An event of ``undone`` after
    ``first`` makes up for it. With ``people``, only values with an @ count.
    """

    by: str
    distinct: str
    least: int
    hours: int
    first: str
    second: str
    undone: str = ""
    people: bool = False


@dataclass(frozen=True, slots=True)
class GapOrSilence:
    """A gap, or no ``coverage`` in the whole window."""


Logic: TypeAlias = Matching | Many | FirstSeen | Then | GapOrSilence


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection; ``every`` and ``window`` are minutes of the time of arrival."""

    id: str
    title: str
    text: str
    tuning: str
    severity: Literal["low", "medium", "high"]
    technique: tuple[str, str, str]
    index: str
    query: str
    logic: Logic
    every: int = 10
    window: int = 70


# A service token that has expired tries for ever; it says nothing about people.
_LOGIN = 'event.action:"login" AND user.name:* AND NOT cloudflare.access.user_type:"service"'
_REFUSED = f'{_LOGIN} AND event.outcome:"failure"'
_ACCEPTED = f'{_LOGIN} AND event.outcome:"success"'
_LEAVES = 'event.outcome:"success" AND event.action:("scim-user-disable" OR "scim-user-delete")'
_BRUTE = ("TA0006", "T1110", "Brute Force")
_VALID = ("TA0001", "T1078", "Valid Accounts")
_MANIPULATION = ("TA0003", "T1098", "Account Manipulation")
_REMOVAL = ("TA0040", "T1531", "Account Access Removal")
_DAY = 24 * 60

DETECTIONS = (
    Detection(
        "brute_force_against_one_user",
        "Brute force against one user",
        "One user was refused at least ten times within an hour.",
        "If a page of yours sends several requests (ray ids) at a load, raise the number.",
        "medium",
        _BRUTE,
        AUDIT,
        _REFUSED,
        Many("user.name", "http.request.id", 10),
    ),
    Detection(
        "spray_from_one_address",
        "Password spray from one address",
        "At least five users were refused from one address within an hour.",
        "Exclude your offices and proxies.",
        "high",
        ("TA0006", "T1110.003", "Password Spraying"),
        AUDIT,
        f"{_REFUSED} AND source.ip:*",
        Many("source.ip", "user.name", 5),
    ),
    Detection(
        "first_login_from_country",
        "First login from a country",
        "A user was accepted from a country not seen for this user in 30 days.",
        "Exclude users who travel, and countries where most users are.",
        "medium",
        _VALID,
        AUDIT,
        f"{_ACCEPTED} AND source.geo.country_iso_code:*",
        FirstSeen("user.name", "source.geo.country_iso_code"),
    ),
    Detection(
        "first_login_of_service_token",
        "First login of a service token",
        "A service token not seen in 30 days was accepted.",
        "Expected only after you create a token.",
        "medium",
        _VALID,
        AUDIT,
        'event.action:"login" AND event.outcome:"success" AND user.name:* AND '
        'cloudflare.access.user_type:"service"',
        FirstSeen("user.name"),
    ),
    Detection(
        "refused_then_accepted",
        "Refused several times, then accepted",
        "A user was refused at least five times and then accepted, all within an hour.",
        "If you use one-time pins, raise the number.",
        "medium",
        _BRUTE,
        AUDIT,
        _LOGIN,
        Then(
            "user.name",
            "http.request.id",
            5,
            1,
            'event.outcome:"failure"',
            'event.outcome:"success"',
        ),
    ),
    Detection(
        "login_after_disable",
        "Login after disable",
        "A user was accepted within a day after being disabled or deleted by SCIM.",
        "A session or another identity provider still lets the user in. Revoke the sessions.",
        "high",
        _VALID,
        "logs-cloudflare_access.*-*",
        'event.outcome:"success" AND event.action:("login" OR "scim-user-disable" OR '
        '"scim-user-delete" OR "scim-user-enable" OR "scim-user-create")',
        Then(
            "related.user",
            "event.id",
            1,
            24,
            'event.action:("scim-user-disable" OR "scim-user-delete")',
            'event.action:"login"',
            'event.action:("scim-user-enable" OR "scim-user-create")',
            people=True,
        ),
        window=_DAY + 60,
    ),
    Detection(
        "disable_failed",
        "Disable failed",
        "A request to disable or delete a user, or to remove a group member, failed.",
        "The user may keep access: read event.reason, disable the user by hand.",
        "medium",
        _MANIPULATION,
        SCIM,
        'event.outcome:"failure" AND event.action:("scim-user-disable" OR "scim-user-delete" OR '
        '"scim-group-remove_member")',
        Matching(),
    ),
    Detection(
        "bulk_deprovisioning",
        "Bulk deprovisioning",
        "An identity provider disabled or deleted at least ten users within an hour.",
        "Raise the number above your largest usual change.",
        "high",
        _REMOVAL,
        SCIM,
        f"{_LEAVES} AND cloudflare.scim.idp_id:*",
        Many("cloudflare.scim.idp_id", "user.target.id", 10),
    ),
    Detection(
        "group_admin_added",
        "Member added to a group of administrators",
        "A group with admin in its name got a member, or all its members were set.",
        "Replace *admin* by your privileged groups.",
        "high",
        _MANIPULATION,
        SCIM,
        'event.outcome:"success" AND group.name:(*admin* OR *Admin* OR *ADMIN*) AND '
        "(cloudflare.scim.members_added.value:* OR cloudflare.scim.members_set.value:*)",
        Matching(),
    ),
    Detection(
        "tor_login",
        "Login through Tor",
        "A login came through Tor, accepted or refused.",
        'If refusals are too many, add event.outcome:"success".',
        "high",
        ("TA0011", "T1090.003", "Multi-hop Proxy"),
        AUDIT,
        'event.action:"login" AND tags:"tor"',
        Matching(),
    ),
    Detection(
        "login_at_two_places",
        "Login at two places",
        "A user was accepted from two countries within an hour.",
        "Exclude users of a VPN with exits abroad.",
        "medium",
        _VALID,
        AUDIT,
        f"{_ACCEPTED} AND source.geo.country_iso_code:*",
        Many("user.name", "source.geo.country_iso_code", 2),
    ),
    Detection(
        "idp_changed_for_user",
        "Another identity provider for a user",
        "A user was accepted through two identity providers within a day.",
        "Exclude users with several, such as a one-time pin.",
        "low",
        ("TA0003", "T1556", "Modify Authentication Process"),
        AUDIT,
        _ACCEPTED,
        Many("user.name", "cloudflare.access.connection", 2, "d"),
        window=_DAY + 60,
    ),
    Detection(
        "forwarder_gap_or_silence",
        "Gap or silence of the forwarder",
        "The forwarder reported missing events, or sent no report for 15 minutes.",
        "Read the forwarder's status and log. It reports every five minutes.",
        "high",
        ("TA0005", "T1562", "Impair Defenses"),
        OWN,
        'event.action:("gap_opened" OR "coverage")',
        GapOrSilence(),
        every=15,
        window=15,
    ),
)
