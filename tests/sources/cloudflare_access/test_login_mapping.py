"""A row of the authentication log becomes an event: nothing is guessed, nothing is lost."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.schema import Login, Origin
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.login_mapping import LOGINS, TEXTS, ip_version
from forwarder.testing.optional_samples import NON_IDENTITY_LOGINS
from forwarder.testing.samples import LOGIN, event_of
from forwarder.testing.samples import LOGINS as ROWS
from tests.formats.strategies import addresses, logins

_SEEN_US = 1_783_004_700_000_000


def _login(row: dict[str, Any], time_us: int = 1) -> Login:
    origin = Origin("a" * 32, "acme", "access_requests", _SEEN_US)
    event = LOGINS.normalise(row, origin, "0" * 32, time_us)
    assert isinstance(event, Login)
    return event


def test_a_live_row_has_no_faults() -> None:
    login = _login(dict(LOGIN))

    assert login.quality == ()
    assert login.extra == {}
    assert (login.user_email, login.user_id) == (LOGIN["user_email"], LOGIN["user_id"])
    assert (login.host, login.path) == ("kibana.example.com", "")
    assert (login.outcome, login.user_kind, login.ip_version) == ("success", "email", 4)


def test_a_documented_row_lacks_nothing() -> None:
    assert _login(dict(ROWS["login_as_documented"])).quality == ()


@given(logins)
def test_what_is_not_in_the_event_is_in_extra(row: dict[str, Any]) -> None:
    """Each value of the row is a text of the event, ``allowed``, or kept as it came."""
    login = _login(row)
    known = {key: getattr(login, key) for key in TEXTS}

    for key, value in row.items():
        if key in login.extra:
            assert login.extra[key] == value or key == "request_body"
        elif key == "allowed":
            assert value in (True, False, None, "") and login.allowed in (value, None)  # noqa: PT018
        elif key == "country":
            code = (value or "").upper()
            assert known[key] == ("" if code in {"T1", "XX"} else code)
            assert login.network == ("tor" if code == "T1" else "")
        else:
            assert known[key] == (value or "")


@given(logins)
def test_what_is_missing_or_wrong_is_named(row: dict[str, Any]) -> None:
    login = event_of("access_requests", row)
    assert isinstance(login, Login)

    documented = {*TEXTS, "allowed"} - {"user_id", "country", "app_name", "app_type"}
    missing = {key for key in documented if row.get(key) in (None, "")} - {"created_at"}
    wrong = {key for key in login.extra if key in {*TEXTS, "allowed"}} - {"created_at"}
    untimed = {"time"} if parse_us(row.get("created_at")) is None else set()
    if "_forwarder_malformed" in row:
        assert login.quality == ("malformed",)
    else:
        assert set(login.quality) == missing | wrong | untimed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ann@example.com", "email"),
        ("e461d898a6b14a3f8f0d6f2a3c5b7e91.access", "service"),
        ("ann", "name"),
        ("\u00e4nn@example.com", "address"),
        ("", ""),
    ],
)
def test_what_names_a_user_is_told_apart(text: str, kind: str) -> None:
    assert _login({**LOGIN, "user_email": text}).user_kind == kind


def test_whoever_has_no_identity_is_a_service() -> None:
    row = {**LOGIN, "user_email": "printer-17", "connection": "nonidentity"}

    assert _login(row).user_kind == "service"


@pytest.mark.parametrize(
    ("code", "country", "network"),
    [("de", "DE", ""), ("T1", "", "tor"), ("t1", "", "tor"), ("XX", "", ""), ("", "", "")],
)
def test_tor_and_nowhere_are_no_countries(code: str, country: str, network: str) -> None:
    login = _login({**LOGIN, "country": code})

    assert (login.country, login.network) == (country, network)
    assert (login.quality, login.extra) == ((), {})


@pytest.mark.parametrize(
    ("domain", "host", "port", "path", "query", "url"),
    [
        ("a.example.com:8443/b", "a.example.com", 8443, "/b", "", "https://a.example.com:8443/b"),
        ("a.example.com/b?c=d", "a.example.com", None, "/b", "c=d", "https://a.example.com/b?c=d"),
        ("*.example.com", "*.example.com", None, "", "", ""),
        ("a.example.com:x", "a.example.com:x", None, "", "", "https://a.example.com:x"),
        ("https://a.example.com/b", "a.example.com", None, "/b", "", "https://a.example.com/b"),
        ("/b", "", None, "/b", "", ""),
    ],
)
def test_a_domain_is_taken_apart(
    domain: str, host: str, port: int | None, path: str, query: str, url: str
) -> None:
    login = _login({**LOGIN, "app_domain": domain})

    parts = (login.host, login.port, login.path, login.query, login.url)
    assert parts == (host, port, path, query, url)


@pytest.mark.parametrize(
    ("domain", "host", "path"),
    [
        ("a.example.com", "a.example.com", ""),
        ("a.example.com/", "a.example.com", "/"),
        ("a.example.com/b/c", "a.example.com", "/b/c"),
        ("https://a.example.com/b", "a.example.com", "/b"),
        ("/b", "", "/b"),
        ("", "", ""),
    ],
)
def test_a_domain_has_a_host_and_perhaps_a_path(domain: str, host: str, path: str) -> None:
    login = _login({**LOGIN, "app_domain": domain})

    assert (login.host, login.path, login.app_domain) == (host, path, domain)


@pytest.mark.parametrize(
    ("ip", "version"),
    [
        ("203.0.113.9", 4),
        ("2001:db8::1", 6),
        ("::ffff:1.2.3.4", 6),
        ("fe80::1%eth0", 0),
        ("1.2.3", 0),
        ("01.2.3.4", 0),
    ],
)
def test_what_is_no_address_is_kept_aside(ip: str, version: int) -> None:
    login = _login({**LOGIN, "ip_address": ip})

    assert login.ip_version == version
    assert login.ip_address == (ip if version else "")
    assert login.extra == ({} if version else {"ip_address": ip})


_looks_like_an_address = st.one_of(
    addresses,
    st.lists(st.sampled_from(["", "0", "1f", "ABCD", "12345", "1.2.3.4", "g"]), max_size=10).map(
        ":".join
    ),
    st.lists(st.sampled_from(["", "0", "9", "10", "255", "256", "01", "a"]), max_size=5).map(
        ".".join
    ),
)


@given(_looks_like_an_address)
def test_addresses_are_what_the_standard_library_says(text: str) -> None:
    try:
        version = 0 if "%" in text or len(text) > 40 else ipaddress.ip_address(text).version
    except ValueError:
        version = 0

    assert ip_version(text) == version


def test_a_row_without_a_usable_time_says_so() -> None:
    login = event_of("access_requests", {**LOGIN, "created_at": "soon"})

    assert login.quality == ("time",)
    assert login.time_us == _SEEN_US


def test_a_row_that_lacks_its_time_says_so_whatever_time_it_was_given() -> None:
    row = {key: value for key, value in LOGIN.items() if key != "created_at"}

    assert _login(row, time_us=1).quality == ("time",)


@pytest.mark.parametrize("count", [0, -1, 2**31, 2**63, 2**64 - 1, True, 1.5, "3"])
def test_a_count_that_no_destination_can_store_is_kept_aside(count: object) -> None:
    row = {**NON_IDENTITY_LOGINS["group_certificate"], "count": count}
    login = event_of("non_identity_logins", row)

    assert isinstance(login, Login)
    assert (None, ("count",)) == (login.login_count, login.quality)
    assert count == login.extra["count"]


@pytest.mark.parametrize("interval", [-1, 2**31, 2**64 - 1, 1e300, True, "3"])
def test_a_sample_interval_that_no_destination_can_store_is_kept_aside(interval: object) -> None:
    row = {**NON_IDENTITY_LOGINS["group_certificate"], "sampleInterval": interval}
    login = event_of("non_identity_logins", row)

    assert isinstance(login, Login)
    assert (None, ("sampleInterval",)) == (login.sample_interval, login.quality)
    assert interval == login.extra["sampleInterval"]


def test_huge_texts_are_judged_too() -> None:
    huge = "1" * 100_000

    assert _login({**LOGIN, "ip_address": huge}).quality == ("ip_address",)
    assert _login({**LOGIN, "user_email": huge}).user_kind == "name"
