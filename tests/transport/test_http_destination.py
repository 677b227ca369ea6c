"""An HTTP destination: the preferred address that works or all in turn, one log-in, one packing."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from forwarder.core.contracts import Finding
from forwarder.core.errors import BatchRefusedError, NeedsOperatorError, TransientError
from forwarder.core.timing import SystemClock
from forwarder.testing.fake_server import FakeServer, body_of
from forwarder.testing.fake_sinks import sink_context
from forwarder.transport.http_destination import REST, HttpAuth, HttpDestination, choose

A, B, C = "http://a", "http://b", "http://c"


class Hand(SystemClock):
    """A clock whose hand the test moves."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def destination(*urls: str, clock: Hand | None = None, **settings: Any) -> HttpDestination:
    given = HttpAuth.model_validate({"urls": urls, **settings})
    return HttpDestination(given, sink_context(clock=clock or Hand()))


def used(http: HttpDestination, error: Exception | None = None) -> str:
    """Return the address of one attempt, which ends with ``error``."""
    url = ""
    try:
        with http.attempt() as url:
            if error is not None:
                raise error
    except (TransientError, BatchRefusedError):
        pass
    return url


AWAY = TransientError("away")


@given(st.lists(st.floats(0, 200), min_size=1, max_size=6), st.floats(0, 200), st.integers(0, 5))
def test_an_address_that_works_is_chosen_before_one_that_rests(
    rests_until: list[float], now: float, start: int
) -> None:
    chosen = choose(rests_until, now, start % len(rests_until))

    awake = [index for index, until in enumerate(rests_until) if until <= now]
    if awake:
        assert chosen in awake
    else:
        assert rests_until[chosen] == min(rests_until)


def test_failover_prefers_the_first_address_and_returns_to_it() -> None:
    clock = Hand()
    http = destination(A, B, C, clock=clock)

    assert [used(http, AWAY), used(http), used(http)] == [A, B, B]
    assert [used(http, AWAY), used(http)] == [B, C]
    clock.seconds += REST + 1
    assert used(http) == A


def test_an_answer_ends_the_rest_and_a_refused_batch_begins_none() -> None:
    http = destination(A, B)

    assert [used(http, AWAY), used(http, AWAY)] == [A, B]
    assert [used(http), used(http)] == [A, A]
    assert [used(http, BatchRefusedError("no")), used(http)] == [A, A]


def test_round_robin_uses_all_that_work_in_turn() -> None:
    http = destination(A, B, C, balance="round_robin")

    assert [used(http), used(http, AWAY)] == [A, B]
    assert [used(http) for _ in range(4)] == [C, A, C, A]


async def test_a_probe_is_content_with_one_address_that_works() -> None:
    http = destination(A, B)

    async def check(url: str) -> None:
        if url == A:
            raise AWAY

    await http.probe(check)

    assert used(http) == B


async def test_a_probe_of_addresses_that_all_fail_raises_the_first_error() -> None:
    async def check(url: str) -> None:
        raise NeedsOperatorError("token") if url == A else AWAY

    with pytest.raises(NeedsOperatorError):
        await destination(A, B).probe(check)


async def test_a_refused_probe_is_an_outage_and_a_bug_is_a_bug() -> None:
    async def refused(_: str) -> None:
        raise BatchRefusedError("answered 400")

    async def broken(_: str) -> None:
        raise LookupError

    with pytest.raises(TransientError, match="400"):
        await destination(A).probe(refused)
    with pytest.raises(LookupError):
        await destination(A, B).probe(broken)


async def test_each_address_has_its_finding() -> None:
    async def check(url: str) -> None:
        if url == B:
            raise NeedsOperatorError("no", hint="look there")

    findings = await destination(A, B).diagnosis(check, "fine")

    assert findings == [Finding("ok", A, "fine"), Finding("fault", B, "no", "look there")]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (f"{B}: answered 500", "answered 500"),
        (f"no connection to {B}: refused", "no connection: refused"),
        (f"no TLS connection with {B}: expired", "no TLS connection: expired"),
        (f"the name of {B} cannot be resolved", "the name cannot be resolved"),
        (f"{B} did not answer within 5 s", "did not answer within 5 s"),
        (f"no connection to {B}ee: refused", f"no connection to {B}ee: refused"),
    ],
)
async def test_a_finding_names_its_address_once(error: str, text: str) -> None:
    async def check(_: str) -> None:
        raise TransientError(error)

    (found,) = await destination(B).diagnosis(check, "fine")

    assert (B, text) == (found.subject, found.text)


class Mirror(FakeServer):
    """Keeps the headers and the body of the last request."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.headers = request.headers.copy()
        self.body = await body_of(request)
        return web.Response(status=429, headers={"Retry-After": "7"})


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_body_travels_compressed_unless_the_settings_say_otherwise(
    *, compressed: bool
) -> None:
    async with Mirror() as mirror:
        http = destination(mirror.url, gzip=compressed)
        packed = await http.packed(b"row")
        await http.send("POST", mirror.url, packed)
        sent = mirror.headers
        await http.ask("POST", mirror.url, body=b"question")
        asked = mirror.headers
        await http.aclose()

    assert sent.get("Content-Encoding") == ("gzip" if compressed else None)
    assert (gzip.decompress(packed) if compressed else packed) == b"row"
    assert "Content-Encoding" not in asked


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"bearer_token": "t"}, {"Authorization": "Bearer t"}),
        ({"username": "u", "password": "p"}, {"Authorization": "Basic dTpw"}),
        ({"headers": {"X-Key": "k"}, "bearer_token": "t"}, {"Authorization": "Bearer t"}),
    ],
)
async def test_every_request_logs_in(settings: dict[str, Any], expected: dict[str, str]) -> None:
    async with Mirror() as mirror:
        http = destination(mirror.url, **settings)
        await http.ask("GET", mirror.url)
        await http.aclose()

    assert {**mirror.headers, **expected} == dict(mirror.headers)
    assert mirror.headers.get("X-Key") == settings.get("headers", {}).get("X-Key")


async def test_a_secret_of_a_file_is_read_for_each_request(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("token", "key")}
    seen = []
    async with Mirror() as mirror:
        http = destination(
            mirror.url, bearer_token_file=files["token"], headers={"X-Key_file": str(files["key"])}
        )
        for secret in ("first", "second one"):
            for file in files.values():
                file.write_text(f"{secret}\n")
            await http.ask("GET", mirror.url)
            seen.append((mirror.headers["Authorization"], mirror.headers["X-Key"]))
        await http.aclose()

    assert seen == [("Bearer first", "first"), ("Bearer second one", "second one")]


async def test_the_status_becomes_an_error_with_the_time_to_wait() -> None:
    async with Mirror() as mirror:
        http = destination(mirror.url)
        answer = await http.ask("GET", f"{mirror.url}/secret-path")
        await http.aclose()

    with pytest.raises(TransientError) as caught:
        http.check(answer)

    assert caught.value.retry_after == 7.0
    assert str(caught.value) == f"{mirror.url} answered 429"


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "u"},
        {"username": "u", "password": "p", "bearer_token": "t"},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"two\nlines": "x"}},
        {"headers": {"Host_file": "/run/secrets/host"}},
    ],
)
def test_a_log_in_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpAuth.model_validate({"url": A, **settings})
