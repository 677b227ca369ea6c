"""The settings of one account (an entry of ``accounts:``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from forwarder.transport.settings import (
    Duration,
    PluginSettings,
    Secret,
    Settings,
    TlsSettings,
    Url,
)

Scalar: TypeAlias = str | bool | int
Query: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]

_OURS = frozenset(
    {"since", "until", "direction", "limit", "page", "per_page", "fields", "idp_id", "account_id"}
)
"""Parameters that the tailing itself sets; another value would hide rows without a trace."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """One parameter: a pattern its value must match whole, and how people call that pattern."""

    pattern: str
    meaning: str
    repeats: bool = False
    operates_on: str = ""

    def text(self, name: str, value: Scalar) -> str:
        """Return the value as it goes into the request."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{name}: {value!r} is not allowed; it takes {self.meaning}")
        return text


def _one_of(*words: str, repeats: bool = False, operates_on: str = "") -> _Filter:
    return _Filter("|".join(words), f"one of {', '.join(words)}", repeats, operates_on)


def _operator(field: str, *more: str) -> _Filter:
    return _one_of("eq", "neq", *more, operates_on=field)


_FLAG = _Filter("true|false", "true or false")
_TEXT = _Filter(r"\S(.{0,510}\S)?", "a text of 1 to 512 characters")
_TEXTS = _Filter(_TEXT.pattern, _TEXT.meaning, repeats=True)
_UUID = _Filter(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID")

_ACCESS_REQUESTS: Mapping[str, _Filter] = {
    "email": _TEXT,
    "email_exact": _Filter("true|false", "true or false", operates_on="email"),
    "emailOp": _operator("email", "contains"),
    "user_id": _UUID,
    "user_idOp": _operator("user_id"),
    "allowed": _FLAG,
    "allowedOp": _operator("allowed"),
    "app_type": _TEXT,
    "app_typeOp": _operator("app_type"),
    "app_uid": _TEXT,
    "app_uidOp": _operator("app_uid"),
    "country_code": _Filter("[A-Za-z]{2}|T1", "two letters (ISO 3166), or T1 for Tor"),
    "country_codeOp": _operator("country_code"),
    "idp": _TEXT,
    "idpOp": _operator("idp"),
    "non_identity": _FLAG,
    "non_identityOp": _operator("non_identity"),
    "ray_id": _Filter("[0-9A-Fa-f]{1,16}", "up to 16 hexadecimal digits"),
    "ray_idOp": _operator("ray_id"),
}
_SCIM_UPDATES: Mapping[str, _Filter] = {
    "status": _one_of("FAILURE", "SUCCESS", repeats=True),
    "resource_type": _one_of("USER", "GROUP", repeats=True),
    "request_method": _one_of("DELETE", "PATCH", "POST", "PUT", repeats=True),
    "resource_user_email": _TEXTS,
    "resource_group_name": _TEXTS,
    "cf_resource_id": _TEXTS,
    "idp_resource_id": _TEXTS,
}
FILTERS: Mapping[str, Mapping[str, _Filter]] = {
    "access_requests": _ACCESS_REQUESTS,
    "scim_updates": _SCIM_UPDATES,
}
"""What each stream's ``query`` may name."""


def parameters(stream: str, query: Query) -> tuple[tuple[str, str], ...]:
    """Return ``query`` as request parameters, a list as repeated ones, in a fixed order.

    Raises ``ValueError`` with what is wrong and what is allowed.
    """
    found = tuple(pair for name in sorted(query) for pair in _pairs(stream, name, query[name]))
    for name in query:
        field = FILTERS[stream][name].operates_on
        if field and field not in query:
            raise ValueError(f"{name} says how to compare {field}, which is missing beside it")
    return found


def warnings(stream: str, query: Query) -> list[str]:
    """Return what an operator should know before using ``query``; one sentence each."""
    if not query:
        return []
    names = ", ".join(sorted(query))
    told = [f"{stream}: Cloudflare hides rows for us ({names}); what it hides cannot be counted"]
    if "user_id" in query:
        told.append("user_id is deprecated: Cloudflare accepts it and no longer applies it")
    return told


def _pairs(stream: str, name: str, value: Scalar | Sequence[Scalar]) -> list[tuple[str, str]]:
    known = FILTERS[stream].get(name)
    if known is None:
        raise ValueError(_unknown(stream, name))
    values = [value] if isinstance(value, str | bool | int) else list(value)
    if not values:
        raise ValueError(f"{name}: the list is empty; leave the filter out instead")
    if len(values) > 1 and not known.repeats:
        raise ValueError(f"{name}: takes one value, not {len(values)}")
    return [(name, known.text(name, one)) for one in values]


def _unknown(stream: str, name: str) -> str:
    if name in _OURS:
        return f"{name} is set by the forwarder itself and cannot be a filter"
    near = get_close_matches(name, FILTERS[stream], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FILTERS[stream])}"
    return f"{name} is no filter of {stream}; {hint}"


API_URL = "https://api.cloudflare.com/client/v4"
_MINUTE, _HOUR = 60.0, 3600.0

_QueryValue = bool | int | str | list[bool | int | str]


def _off(value: Any) -> Any:
    """Take ``off``, which YAML reads as false, for no limit."""
    return None if value is False or value == "off" else value


class RateLimit(Settings):
    """How many requests Cloudflare allows a token, and how much of that is used here."""

    # Cloudflare documents its limit for a user as a whole, other tokens and the dashboard
    # included: `share` leaves room for them.
    requests: int = Field(
        1200, ge=1, description="requests that Cloudflare allows one token in any `per`"
    )
    per: Duration = Field(5 * _MINUTE, ge=1, le=_HOUR, description="length of the sliding window")
    share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="part of it that is used here; the rest is left to others with this token",
    )


class _LogConfig(Settings):
    """What all streams take."""

    start_from: Duration = Field(
        24 * _HOUR, description="how far to look back at the very first start"
    )
    page_size: int = Field(
        1000,
        ge=1,
        le=1000,
        description="rows requested at once; 1000 is Cloudflare's most. Where answers are too "
        "large it is halved by itself",
    )

    @field_validator("reconcile", check_fields=False)
    @classmethod
    def _ascending(cls, ages: tuple[float, ...]) -> tuple[float, ...]:
        if any(age <= 0 for age in ages):
            raise ValueError("an age must be greater than 0; [] switches reconciliation off")
        return tuple(sorted(set(ages)))


class _StreamConfig(_LogConfig):
    """What the streams of Access' own log endpoints take."""

    overlap: Duration = Field(
        _MINUTE, ge=2, description="how much every round reads again, for rows that appear late"
    )
    reconcile: tuple[Duration, ...] = Field(
        (10 * _MINUTE, _HOUR, 20 * _HOUR),
        description="ages at which everything is read once more, for rows that appear later than "
        "`overlap`; ages at or beyond `retention` are passed over",
    )
    query: dict[str, _QueryValue] = Field(
        default_factory=dict,
        description="Cloudflare's own filters, to save volume; what they hide cannot be counted",
    )


class AccessRequestsConfig(_StreamConfig):
    """The authentication log."""

    poll_interval: Duration = Field(10.0, ge=1, description="time between the starts of two polls")

    @field_validator("query")
    @classmethod
    def _known_filters(cls, query: dict[str, Any]) -> dict[str, Any]:
        parameters("access_requests", query)
        return query


class ScimUpdatesConfig(_StreamConfig):
    """The provisioning log."""

    poll_interval: Duration = Field(30.0, ge=1, description="time between the starts of two polls")
    identity_providers: Literal["auto"] | tuple[str, ...] = Field(
        "auto",
        description="`auto` asks Cloudflare which identity providers provision over SCIM; a list "
        "of their ids does without that permission",
    )
    refresh: Duration = Field(
        5 * _MINUTE, ge=10, description="how often `auto` asks for the identity providers"
    )

    @field_validator("query")
    @classmethod
    def _known_filters(cls, query: dict[str, Any]) -> dict[str, Any]:
        parameters("scim_updates", query)
        return query

    @field_validator("identity_providers")
    @classmethod
    def _distinct(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(given, str):
            return given
        if not given or not all(one.strip() for one in given):
            raise ValueError("give at least one id, or `auto`")
        return tuple(dict.fromkeys(one.strip() for one in given))


class AccountAuditConfig(_LogConfig):
    """The account's audit log."""

    poll_interval: Duration = Field(60.0, ge=1, description="time between the starts of two polls")
    hold_back: Duration = Field(
        10 * _MINUTE,
        le=20 * _MINUTE,
        description="how long Cloudflare may take to show a row (3 to 8 minutes were measured). "
        "Rows are delivered as soon as they are seen, and a moment counts as covered this much "
        "later",
    )
    overlap: Duration = Field(
        15 * _MINUTE, ge=2, description="how much every round reads again, beyond `hold_back`"
    )
    reconcile: tuple[Duration, ...] = Field(
        (_HOUR, 24 * _HOUR),
        description="ages at which everything is read once more, for rows that appear later than "
        "`hold_back` and `overlap`",
    )
    products: Literal["access", "all"] | tuple[str, ...] = Field(
        "access",
        description="`access` keeps what concerns Access, Zero Trust, logins to the dashboard, "
        "members, API tokens and Logpush; `all` keeps every row; a list names Cloudflare's "
        "product categories, which Cloudflare then filters by",
    )
    bodies: bool = Field(
        default=True,
        description="keep requests and answers of changes, without the secrets in them; false "
        "leaves them out before a row is stored",
    )

    @field_validator("products")
    @classmethod
    def _named(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(given, str) and (not given or not all(one.strip() for one in given)):
            raise ValueError("give at least one category, `access` or `all`")
        return given


class JitRequestsConfig(_LogConfig):
    """Requests for temporary access."""

    poll_interval: Duration = Field(60.0, ge=1, description="time between the starts of two polls")
    overlap: Duration = Field(_MINUTE, ge=2, description="how much every round reads again")
    reconcile: tuple[Duration, ...] = Field(
        (_HOUR, 20 * _HOUR),
        description="ages at which everything is read once more, for steps that appear late",
    )
    follow: Duration = Field(
        7 * 24 * _HOUR,
        description="how long a request is followed after it was made; an approval that runs "
        "longer is not seen to its end",
    )


class NonIdentityLoginsConfig(_LogConfig):
    """Logins without identity."""

    poll_interval: Duration = Field(60.0, ge=1, description="time between the starts of two polls")
    hold_back: Duration = Field(
        5 * _MINUTE,
        le=20 * _MINUTE,
        description="how long Cloudflare may take to show a login. Logins are delivered as soon "
        "as they are seen, and a moment counts as covered this much later",
    )
    overlap: Duration = Field(
        5 * _MINUTE, ge=2, description="how much every round reads again, beyond `hold_back`"
    )
    reconcile: tuple[Duration, ...] = Field(
        (_HOUR, 24 * _HOUR),
        description="ages at which everything is read once more, for logins that appear late",
    )
    page_size: int = Field(
        10_000,
        ge=1,
        le=10_000,
        description="groups of logins requested at once. An answer that is full is not taken: "
        "half of its time is requested",
    )


class StreamsConfig(Settings):
    """Which logs are read. A stream that is left out is off; ``{}`` takes the defaults."""

    access_requests: AccessRequestsConfig | None = Field(
        None, description="the authentication log; needs `Access: Audit Logs Read`"
    )
    scim_updates: ScimUpdatesConfig | None = Field(
        None, description="the provisioning log; needs `Access: SCIM Logs Read`"
    )
    account_audit: AccountAuditConfig | None = Field(
        None,
        description="the account's audit log: who changed what; needs `Account Settings Read`",
    )
    jit_requests: JitRequestsConfig | None = Field(
        None, description="requests for temporary access, and what became of them"
    )
    non_identity_logins: NonIdentityLoginsConfig | None = Field(
        None,
        description="logins without identity (service tokens, client certificates, refused "
        "requests): groups, sampled when there are many; needs `Account Analytics Read`",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_means_on(cls, given: Any) -> Any:
        """Take ``access_requests:`` with nothing behind it for its defaults."""
        if not isinstance(given, dict):
            return given
        # YAML reads a key with nothing behind it as null, which would mean off.
        return {name: {} if value is None else value for name, value in given.items()}

    @model_validator(mode="after")
    def _some(self) -> StreamsConfig:
        names = list(type(self).model_fields)
        if all(getattr(self, name) is None for name in names):
            raise ValueError(f"name at least one of {', '.join(names)}")
        return self


class AccountConfig(PluginSettings):
    """One Cloudflare account."""

    account_id: str = Field(description="Cloudflare's id of the account, 32 hexadecimal digits")
    name: str | None = Field(
        None, min_length=1, description="label in events, metrics and logs; default: the id"
    )
    api_token: Secret | None = Field(None, description="API token; or give `email` and `api_key`")
    email: str | None = Field(None, min_length=3, description="e-mail that `api_key` belongs to")
    api_key: Secret | None = Field(None, description="global API key, the way before tokens")
    api_url: Url = Field(API_URL, description="base URL of the API")
    retention: Duration = Field(
        24 * _HOUR,
        gt=0,
        description="how long the plan keeps its logs (24h on Free, 30d on Standard, 180d on "
        "Enterprise); decides what start-up and the retention alarm call a gap",
    )
    rate_limit: Annotated[
        RateLimit | None,
        BeforeValidator(_off, json_schema_input_type=RateLimit | Literal[False, "off"] | None),
    ] = Field(
        default_factory=RateLimit,
        description="budget of the token, shared by everything that uses it; `off` waits only "
        "when Cloudflare says so",
    )
    proxy: Url | None = Field(
        None, description="URL of an HTTP proxy; otherwise https_proxy and no_proxy of the process"
    )
    proxy_username: str | None = Field(None, description="user for the proxy")
    proxy_password: Secret | None = Field(None, description="password for the proxy")
    tls: TlsSettings = Field(
        default_factory=TlsSettings, description="how the connection to the API is protected"
    )
    streams: StreamsConfig = Field(
        default_factory=lambda: StreamsConfig(
            access_requests=AccessRequestsConfig(), scim_updates=ScimUpdatesConfig()
        ),
        description="which logs are read; default: access_requests and scim_updates",
    )

    @property
    def label(self) -> str:
        """Return what people call the account."""
        return self.name or self.account_id

    @field_validator("account_id")
    @classmethod
    def _hex_id(cls, given: str) -> str:
        if len(given) != 32 or set(given.lower()) - set("0123456789abcdef"):  # noqa: PLR2004
            raise ValueError(
                "an account id has 32 hexadecimal digits; the dashboard shows it in its address"
            )
        # The id goes into the identity of each row: two spellings would make each row two.
        return given.lower()

    @model_validator(mode="after")
    def _one_credential(self) -> AccountConfig:
        key = self.api_key is not None and self.email is not None
        if (self.api_key is None) != (self.email is None):
            raise ValueError("email and api_key belong together")
        if key and self.api_token is not None:
            raise ValueError("give api_token, or email and api_key, not both")
        if not key and self.api_token is None:
            raise ValueError("api_token is missing (or api_token_file; or email and api_key)")
        return self
