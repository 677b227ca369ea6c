"""The classes of OCSF that we write, the numbers and captions that OCSF gives them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from forwarder.core.schema import FAILURE, SUCCESS, UNKNOWN, Event
from forwarder.formats.json_events import Object, filled


class EventClass(NamedTuple):
    """A class of OCSF: uid and caption of its category and of itself."""

    category_uid: int
    category: str
    uid: int
    name: str


_IAM = (3, "Identity & Access Management")
AUTHENTICATION = EventClass(*_IAM, 3002, "Authentication")
ACCOUNT_CHANGE = EventClass(*_IAM, 3001, "Account Change")
ENTITY_MANAGEMENT = EventClass(*_IAM, 3004, "Entity Management")
GROUP_MANAGEMENT = EventClass(*_IAM, 3006, "Group Management")
USER_MANAGEMENT = EventClass(*_IAM, 3007, "User Management")
_NETWORK = (4, "Network Activity")
NETWORK_ACTIVITY = EventClass(*_NETWORK, 4001, "Network Activity")
HTTP_ACTIVITY = EventClass(*_NETWORK, 4002, "HTTP Activity")
API_ACTIVITY = EventClass(6, "Application Activity", 6003, "API Activity")
APPLICATION_LIFECYCLE = EventClass(6, "Application Activity", 6002, "Application Lifecycle")

# Elsewhere a class wants a number or a form of its own: an added text would break the event.
ADDABLE = (
    "activity_name",
    "api",
    "category_name",
    "class_name",
    "cloud",
    "message",
    "metadata",
    "raw_data",
    "severity",
    "status",
    "status_code",
    "status_detail",
    "type_name",
    "unmapped",
)
"""Attributes of all these classes that are a text or have texts in them."""

OTHER = 99
METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})
"""Methods of HTTP that every version has."""
ACCESS = {"name": "Access", "vendor_name": "Cloudflare"}
"""The product whose log it is."""
_STATUS = {UNKNOWN: (0, "Unknown"), SUCCESS: (1, "Success"), FAILURE: (2, "Failure")}


_is_email_1_1 = re.compile(r"[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+").fullmatch
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_is_hostname = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}").fullmatch


_LONGEST_TEXT = 65_535


class Version(NamedTuple):
    """A version of OCSF."""

    text: str
    number: tuple[int, int]

    @classmethod
    def of(cls, text: str) -> Version:
        """Return the version that is written like ``1.8.0``."""
        major, minor, _ = map(int, text.split("."))
        return cls(text, (major, minor))

    def email(self, address: str) -> str:
        """Return ``address`` if this version takes it for one: 1.1 knows fewer characters."""
        return address if self.has((1, 3)) or _is_email_1_1(address) else ""

    def hostname(self, host: str) -> str:
        """Return ``host`` if this version takes it for one: old ones take no wildcard."""
        return host if self.has(ANY_TEXT) or _is_hostname(host) else ""

    def has(self, since: tuple[int, int]) -> bool:
        """Return True if this version has what came with version ``since``."""
        return self.number >= since


# What came with which version, of all that we write: read out of the published schemas.
ACTOR_APP = REQUEST_EVERYWHERE = ENTITY_TYPE = APP_UPDATE = AUTH_FACTORS = COUNTRIES = (1, 3)
ANY_TEXT = ACTOR_EVERYWHERE = GROUP_ALONE = SECURITY_CONTROL = BODY_LENGTH = UID_OBSERVABLES = (
    1,
    5,
)
PATCH_METHOD = SERVICE_USERS = SUBGROUPS = (1, 6)
GROUP_UID_ALT = (1, 8)
USER_MANAGEMENT_CLASS = (1, 9)


class Severity(NamedTuple):
    """A severity of OCSF."""

    id: int
    name: str


INFORMATIONAL = Severity(1, "Informational")
MEDIUM = Severity(3, "Medium")
HIGH = Severity(4, "High")


def classify(kind: EventClass, activity_id: int, activity: str, severity: Severity) -> Object:
    """Return the attributes that say what kind of event it is.

    ``activity`` is the activity's caption; for ``OTHER`` it is the source's own word.
    """
    # type_name is a caption of the schema; the source's word may stand in activity_name only.
    caption = "Other" if activity_id == OTHER else activity
    return {
        "category_uid": kind.category_uid,
        "category_name": kind.category,
        "class_uid": kind.uid,
        "class_name": kind.name,
        "activity_id": activity_id,
        "activity_name": activity,
        # OCSF fixes how the number is made: a validator accepts no other.
        "type_uid": kind.uid * 100 + activity_id,
        "type_name": f"{kind.name}: {caption}",
        "severity_id": severity.id,
        "severity": severity.name,
    }


def status_of(outcome: str) -> Object:
    """Return the attributes for ``success``, ``failure`` or ``unknown``."""
    number, caption = _STATUS[outcome]
    return {"status_id": number, "status": caption}


def describe(
    event: Event, version: Version, profiles: list[str], product: Object, **more: Any
) -> Object:
    """Return what all classes share: times, ``metadata`` and ``cloud``."""
    origin = event.origin
    account = filled({"uid": origin.account_id, "name": origin.account})
    metadata = {
        "version": version.text,
        "product": product,
        "profiles": profiles,
        "uid": event.id,
        "tenant_uid": origin.account_id,
        "logged_time": origin.seen_us // 1000,
        "labels": [f"quality:{name}" for name in event.quality],
        **more,
    }
    return {
        "time": event.time_us // 1000,
        "metadata": filled(metadata),
        "cloud": filled({"provider": "Cloudflare", "account": account}),
    }


def observables(*found: tuple[str, int, str, str]) -> list[Object]:
    """Return observables for (path, type_id, its caption or nothing, value), where it has one."""
    return [
        filled({"name": name, "type_id": number, "type": caption, "value": value})
        for name, number, caption, value in found
        if value
    ]


def cut(value: Any) -> Any:
    """Return ``value`` with its texts cut to what OCSF allowed before 1.5."""
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, list):
        return [cut(item) for item in value]
    if isinstance(value, dict):
        return {key: cut(item) for key, item in value.items()}
    return value
