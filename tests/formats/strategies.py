"""Rows as Cloudflare sends them, as it might, and as nobody would."""

from __future__ import annotations

import ipaddress
import json
import uuid
from typing import Any

from hypothesis import strategies as st

from forwarder.core.timing import format_us
from forwarder.sources.logpush.mapping import LOGIN_NAMES
from forwarder.testing.samples import LOGIN, LOGINS, ROWS, SCIM, SCIM_UPDATES
from forwarder.testing.samples_of_pushes import HTTP_REQUESTS, SESSIONS

HOSTILE = (
    "",
    " ",
    " ann ",
    "a|b",
    "a=b",
    'a"b',
    "a\\b",
    "a\\",
    "a]b",
    "a\tb\r\nc\0d",
    "\x7f\x85\x9b",
    "\u2028\u2029\u202e\u2066",
    "\U0001f469\u200d\U0001f4bb",
    "\ue000\ue003\uf8fe\uf8ff",
    '"\uf8ff":0',
    "250000000000123",
    "x" * 65_536,
    "\u00e4" * 1_100,
    "\U0001f600" * 300,
)
"""Texts with a history: separators, escapes, controls, marks of our own templates, sizes."""

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))
"""Texts that JSON can hold."""

any_texts = st.one_of(texts, st.text(st.characters(), max_size=10), st.just("\ud800x\udfff"))
"""Texts that Python can hold: lone surrogates, too."""

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), texts)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)

addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(ipaddress.IPv6Address(number))),
    st.sampled_from(["::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3", "::", "01.2.3.4"]),
)
_letters = st.text("abcxyz", min_size=1, max_size=6)
emails = st.one_of(
    st.builds("{}@{}.example".format, _letters, _letters),
    st.sampled_from(["o'neil+x@a.co", "a=b@example.com", "\u00e4@example.com", "a@b", "e4.access"]),
)
times = st.one_of(
    st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(format_us),
    st.sampled_from(["2014-01-01T05:20:00.12345Z", "2016-12-31T23:59:60Z", "0001-01-01T00:00:00Z"]),
)
_ends = st.sampled_from(["", "", "/", "/a/b.js", ":8443/a", "/a?b=c"])
domains = st.builds("{}.example.com{}".format, _letters | st.just("*"), _ends)
_uuids = st.integers(0, 2**128 - 1).map(lambda number: str(uuid.UUID(int=number)))

_usual: dict[str, st.SearchStrategy[Any]] = {
    "created_at": times,
    "user_email": emails,
    "user_id": _uuids,
    "ip_address": addresses,
    "country": st.sampled_from(["US", "de", "T1", "XX", "t1"]),
    "app_domain": domains,
    "app_name": st.sampled_from(["Wiki", "HR Portal", "B\u00fcro"]),
    "app_uid": _uuids,
    "app_type": st.sampled_from(["self_hosted", "warp", "saas"]),
    "action": st.sampled_from(["login", "logout", "reauthenticate"]),
    "allowed": st.booleans(),
    "connection": st.sampled_from(["saml", "okta", "onetimepin", "nonidentity", "Acme SSO"]),
    "ray_id": st.integers(0, 2**64 - 1).map("{:016x}".format),
}
usual_logins = st.fixed_dictionaries(_usual)
"""Rows with every key, and in it what one expects."""

odd_logins = st.fixed_dictionaries(
    {},
    optional={key: usual | texts | json_values for key, usual in _usual.items()}
    | {"request_body": texts, "_forwarder": json_values, "device_id": json_values},
)
"""Rows with some keys, and anything in them."""


@st.composite
def _changed_logins(draw: st.DrawFn) -> dict[str, Any]:
    row = dict(draw(usual_logins))
    for key in draw(st.lists(st.sampled_from([*LOGIN, "new_key"]), max_size=2)):
        row[key] = draw(st.one_of(texts, json_values))
    return row


logins = st.one_of(
    usual_logins, _changed_logins(), odd_logins, st.sampled_from(list(LOGINS.values()))
)

_operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "Add", "remove", "Replace", "replace"])},
    optional={
        "path": st.sampled_from(["members", "active", "password", 'members[value eq "u-1"]']),
        "value": st.one_of(
            json_values,
            st.lists(st.fixed_dictionaries({"value": texts}, optional={"display": texts})),
            st.sampled_from(["True", "False", True, False]),
        ),
    },
)
bodies = st.one_of(
    st.builds(lambda ops: {"Operations": ops}, st.lists(_operations, max_size=3)), json_values
)


def _as_text(body: Any) -> str:
    return json.dumps(body)


scim_rows = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "cf_resource_id": _uuids | json_values,
            "idp_id": _uuids | json_values,
            "idp_resource_id": texts | json_values,
            "logged_at": times | json_values,
            "status": st.sampled_from(["SUCCESS", "FAILURE", "ERROR", "PENDING"]) | json_values,
            "error_description": texts | json_values,
            "resource_type": st.sampled_from(["USER", "GROUP", "group", "ROLE"]) | json_values,
            "resource_user_email": emails | texts | json_values,
            "resource_group_name": texts | json_values,
            "http_method": st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET"]) | json_values,
            "request_method": st.sampled_from(["POST", "patch"]) | json_values,
            "request_body": bodies.map(_as_text) | texts | json_values,
            "new_key": json_values,
        },
    ),
    st.fixed_dictionaries(
        {
            **{key: st.just(value) for key, value in SCIM.items()},
            "resource_type": st.sampled_from(["USER", "GROUP"]),
            "http_method": st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
            "request_body": bodies.map(_as_text),
        }
    ),
    st.sampled_from(list(SCIM_UPDATES.values())),
)

_named_members = st.fixed_dictionaries(
    {"value": _uuids.map("m-{}".format)},
    optional={
        "display": st.sampled_from(["Ann", "B\u00fcro", "x" * 64])
        | _letters.map("{}@example.com".format),
        "type": st.sampled_from(["User", "group", ""]),
    },
)
_memberships = st.builds(
    lambda op, path, given: {"op": op, "path": path, "value": given},
    st.sampled_from(["Add", "add", "remove", "replace"]),
    st.sampled_from(["members", "members", "displayName"]),
    st.lists(_named_members, max_size=3)
    | st.integers(30, 34).map(lambda n: [{"value": f"{n:030}-{at:030}"} for at in range(n)]),
)
_usual_bodies = st.one_of(
    st.just(""),
    st.sampled_from(["17", "true", '"{}"', "{", "[]"]),
    st.builds(lambda email: {"userName": email, "title": 'a "\\'}, emails),
    st.builds(
        lambda name, email, active: {
            "userName": name,
            "emails": [{"value": email}],
            "active": active,
        },
        emails | _letters,
        emails,
        st.booleans(),
    ),
    st.builds(lambda given: {"password": given, "members": "x"}, texts),
    st.builds(lambda given: {"Operations": given}, st.lists(_memberships, max_size=2)),
).map(lambda body: body if isinstance(body, str) else _as_text(body))
usual_changes = st.builds(
    lambda row, named, method: {**row, **named, **method},
    st.fixed_dictionaries(
        {
            "cf_resource_id": _uuids,
            "idp_id": _uuids,
            "idp_resource_id": _uuids,
            "logged_at": times,
            "status": st.sampled_from(["SUCCESS", "FAILURE", "ERROR", "error"]),
            "request_body": _usual_bodies,
        },
        optional={
            "error_description": st.sampled_from(["", None, "no such user", "password=hunter2"]),
            "new_key": st.sampled_from(["new", {"a": [1]}]),
        },
    ),
    st.one_of(
        st.fixed_dictionaries(
            {
                "resource_type": st.sampled_from(["USER", "user"]),
                "resource_user_email": _letters.map("{}@example.com".format)
                | st.sampled_from([None, "ann", "j\u00f6rg@example.com", "x" * 64]),
                "resource_group_name": st.sampled_from([None, ""]),
            }
        ),
        st.fixed_dictionaries(
            {
                "resource_type": st.just("GROUP"),
                "resource_group_name": st.sampled_from(["Engineering", "Team B\u00fcro"]),
            }
        ),
    ),
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "patch"]).flatmap(
        lambda method: st.sampled_from([{"http_method": method}, {"request_method": method}])
    ),
)
"""Changes with every value as one expects it, bodies of many kinds among them."""


def _section(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    section = st.fixed_dictionaries({}, optional={**keys, "new_key": json_values})
    return section | json_values


_uris = st.builds(
    "{}{}{}".format,
    st.sampled_from(["/accounts/023e105f4ecef8ad9ca31a8372d0c353", "/zones/1", "", "x"]),
    st.sampled_from(["/access/apps", "/access/policies/", "/members/a@b", "/tokens", "/dns", ""]),
    st.sampled_from(["", "?secret=1"]) | texts,
)
audit_rows = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "id": _uuids | json_values,
            "account": _section(id=_uuids, name=texts),
            "action": _section(
                description=st.sampled_from(["SSO_LOGIN", "logout"]) | texts,
                result=st.sampled_from(["success", "failure"]) | texts,
                time=times | json_values,
                type=st.sampled_from(["create", "view", "Update", "delete"]) | json_values,
            ),
            "actor": _section(
                id=_uuids | texts,
                email=emails | json_values,
                ip_address=addresses | texts,
                type=st.sampled_from(["user", "account", "system"]) | texts,
                context=texts,
                token_id=texts | json_values,
                token_name=texts,
            ),
            "raw": _section(
                cf_ray_id=texts,
                method=st.sampled_from(["PUT", "PATCH", "POST"]) | texts,
                status_code=st.integers(100, 599) | json_values,
                uri=_uris | json_values,
                user_agent=texts,
            ),
            "resource": _section(
                id=_uuids | json_values,
                product=texts,
                type=texts | json_values,
                scope=texts | json_values,
                request=json_values,
                response=json_values,
            ),
            "zone": _section(id=texts, name=texts),
            "new_key": json_values,
        },
    ),
    st.sampled_from(list(ROWS["account_audit"].values())),
)

jit_rows = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "knock_request_id": _uuids | json_values,
            "requester_email": emails | json_values,
            "app_hostname": texts | json_values,
            "purpose_justification": texts | json_values,
            "created_at": times | json_values,
            "event": _section(
                type=st.sampled_from(["CREATED", "APPROVER_DECISION", "LOGIN_SUCCESS"]) | texts,
                timestamp=times | json_values,
                actor_email=emails | json_values,
                actor_uuid=_uuids | json_values,
                decision_outcome=st.sampled_from(["APPROVED", "DENIED"]) | json_values,
                success=st.booleans() | json_values,
                ray_id=texts | json_values,
            ),
            "new_key": json_values,
        },
    ),
    st.sampled_from(list(ROWS["jit_requests"].values())),
)

_counts = st.integers(-1, 2**64 - 1) | json_values
_moments = times | st.integers(0, 2**63 - 1) | json_values
_request: dict[str, st.SearchStrategy[Any]] = {
    "RayID": texts | json_values,
    "ClientIP": addresses,
    "ClientSrcPort": st.integers(0, 2**16) | json_values,
    "ClientCountry": st.sampled_from(["us", "DE", "T1", "xx"]) | json_values,
    "ClientRequestHost": _letters.map("{}.example.com".format) | texts,
    "ClientRequestMethod": st.sampled_from(["GET", "PATCH", "PURGE"]) | texts,
    "ClientRequestURI": st.sampled_from(["/", "/a?b=c", "?"]) | texts | json_values,
    "ClientRequestScheme": st.sampled_from(["http", "https"]) | json_values,
    "ClientRequestProtocol": st.sampled_from(["HTTP/2", "HTTP/1.1"]) | texts | json_values,
    "ClientRequestUserAgent": texts | json_values,
    "ClientRequestReferer": texts | json_values,
    "ClientRequestBytes": _counts,
    "EdgeStartTimestamp": _moments,
    "EdgeEndTimestamp": _moments,
    "EdgeResponseStatus": st.integers(0, 1000),
    "EdgeResponseBytes": _counts,
    "OriginIP": addresses | texts | json_values,
    "RequestHeaders": st.fixed_dictionaries({"cf-access-user": emails | texts}),
    "new_key": json_values,
}
_session: dict[str, st.SearchStrategy[Any]] = {
    "SessionID": texts,
    "Email": emails | json_values,
    "UserID": _uuids | json_values,
    "SourceIP": addresses,
    "SourcePort": st.integers(0, 2**16) | json_values,
    "OriginIP": addresses | json_values,
    "OriginPort": st.integers(0, 2**16) | json_values,
    "ResolvedFQDN": texts | json_values,
    "Protocol": st.sampled_from(["TCP", "UDP", "ICMPV6"]) | texts,
    "DetectedProtocol": texts | json_values,
    "BytesSent": _counts,
    "BytesReceived": _counts,
    "ConnectionCloseReason": st.sampled_from(["CLIENT_CLOSED", "PROXY_CONN_REFUSED"]) | texts,
    "DeviceID": texts | json_values,
    "DeviceName": texts | json_values,
    "SessionStartTime": _moments,
    "SessionEndTime": _moments,
    "new_key": json_values,
}
request_rows = (
    st.fixed_dictionaries({}, optional=_request)
    | st.fixed_dictionaries(_request)
    | st.sampled_from(list(HTTP_REQUESTS.values()))
)
session_rows = (
    st.fixed_dictionaries({}, optional=_session)
    | st.fixed_dictionaries(_session)
    | st.sampled_from(list(SESSIONS.values()))
)

group_rows = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "datetime": times | json_values,
            "cfRayId": texts | json_values,
            "appId": _uuids | json_values,
            "isSuccessfulLogin": st.integers(0, 1) | json_values,
            "identityProvider": st.just("nonidentity") | json_values,
            "serviceTokenId": _uuids | json_values,
            "ipAddress": texts | json_values,
            "country": texts | json_values,
            "mtlsCommonName": texts | emails | json_values,
            "count": _counts,
            "sampleInterval": st.floats(allow_nan=False, allow_infinity=False) | json_values,
            "new_key": json_values,
        },
    ),
    st.sampled_from(list(ROWS["non_identity_logins"].values())),
)

own_rows = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["start", "stop", "gap_opened", "coverage"]) | json_values,
        "time": times | json_values,
        "account": texts | json_values,
        "account_id": texts | json_values,
        "stream": texts | json_values,
        "sink": texts | json_values,
        "reason": texts | json_values,
        "from": times | json_values,
        "to": times | json_values,
        "rows": st.integers(0, 2**63) | json_values,
        "detail": texts | json_values,
        "version": texts | json_values,
        "new_key": json_values,
    },
)

streams_and_rows = st.one_of(
    st.tuples(st.just("access_requests"), logins),
    st.tuples(st.just("scim_updates"), scim_rows),
    st.tuples(st.just("account_audit"), audit_rows),
    st.tuples(st.just("jit_requests"), jit_rows),
    st.tuples(st.just("logpush_http_requests"), request_rows),
    st.tuples(st.just("logpush_zero_trust_network_sessions"), session_rows),
    st.tuples(st.just("non_identity_logins"), group_rows),
    st.tuples(st.just("forwarder"), own_rows),
)
"""A stream and a row of it."""


@st.composite
def _changed_changes(draw: st.DrawFn) -> dict[str, Any]:
    row = dict(draw(usual_changes))
    for key in draw(st.lists(st.sampled_from([*row, "new_key"]), min_size=1, max_size=2)):
        row[key] = draw(st.one_of(st.sampled_from([False, 0, {}, []]), texts, json_values))
    return row


_changes = st.one_of(usual_changes, _changed_changes(), scim_rows)
_PUSHED_NAMES = {ours: theirs for theirs, ours in LOGIN_NAMES.items()}
pushed_logins = st.builds(
    lambda row, more: {**{_PUSHED_NAMES.get(key, key): row[key] for key in row}, **more},
    logins,
    st.fixed_dictionaries(
        {},
        optional={
            "PurposeJustificationResponse": texts,
            "CreatedAt": times | st.sampled_from([1_783_004_645, "1783004645"]) | json_values,
        },
    ),
)
pages_of_rows = st.one_of(
    st.tuples(st.just("access_requests"), st.lists(logins, min_size=1, max_size=4)),
    st.tuples(st.just("logpush_access_requests"), st.lists(pushed_logins, min_size=1, max_size=4)),
    st.tuples(st.just("scim_updates"), st.lists(_changes, min_size=1, max_size=4)),
    st.tuples(st.just("account_audit"), st.lists(audit_rows, min_size=1, max_size=2)),
    st.tuples(st.just("jit_requests"), st.lists(jit_rows, min_size=1, max_size=2)),
    st.tuples(st.just("logpush_http_requests"), st.lists(request_rows, min_size=1, max_size=2)),
    st.tuples(st.just("non_identity_logins"), st.lists(group_rows, min_size=1, max_size=2)),
    st.tuples(st.just("forwarder"), st.lists(own_rows, min_size=1, max_size=2)),
)
"""A stream and the rows of a page of it."""
