"""200 means stored; everything else is refused before it is read, or said in one line."""

from __future__ import annotations

import asyncio
import gc
import gzip
import random
import ssl
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from aiohttp import web
from pydantic import ValidationError

from forwarder.core.errors import DamagedError
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.core.source_contract import PushedPart
from forwarder.sources.logpush.config import LogpushConfig
from forwarder.sources.logpush.events import (
    PushDelayed,
    PushGivenUp,
    PushStored,
    RequestAnswered,
    SecretRefused,
)
from forwarder.sources.logpush.receiver import UNREADABLE
from forwarder.testing.source_contract import MemoryIntake, PushSourceContract
from forwarder.transport.settings import Secret
from tests.sources.logpush.conftest import PATH, SECRET, Sender, packed, row

MIB = 2**20


class TestReceiver(PushSourceContract):
    """The contract of push sources."""

    @pytest.fixture
    async def origin(self) -> AsyncIterator[Sender]:
        async with Sender(MemoryIntake()) as sender:
            yield sender


def results(sender: Sender) -> list[str]:
    return [event.result for event in sender.said(RequestAnswered)]


async def test_gzip_is_known_by_header_or_by_its_first_bytes_and_plain_lines_are_taken(
    sender: Sender,
) -> None:
    plain = b"\r\n".join([row(1), b"", row(2)])
    answers = [
        await sender.post(packed([row(1), row(2)])),
        await sender.post(packed([row(1), row(3)]), headers={"Content-Encoding": ""}),
        await sender.post(plain, headers={"Content-Encoding": ""}),
    ]

    assert [(200, "accepted")] * 3 == answers
    assert len(sender.intake.records) == 6


async def test_a_body_of_several_parts_and_members_is_whole(sender: Sender) -> None:
    rows = [orjson.dumps({"n": number, "text": "x" * 500}) for number in range(12_000)]
    half = len(rows) // 2
    body = packed(rows[:half]) + packed(rows[half:])

    async def chunks() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 1000):
            yield body[place : place + 1000]

    status, _ = await sender.post(chunks())

    assert status == 200
    assert len(sender.intake.parts) > 2
    assert [orjson.loads(one.row)["n"] for one in sender.intake.records] == list(range(12_000))


@pytest.mark.parametrize("body", [b'{"content":"tests"}', b'{"content": "test"}\n', b"test", b""])
async def test_the_validation_upload_is_answered_and_not_stored(
    sender: Sender, body: bytes
) -> None:
    answers = [
        await sender.post(gzip.compress(body)),
        await sender.post(body, headers={"Content-Encoding": ""}),
    ]

    assert [(200, "validation")] * 2 == answers
    assert not sender.intake.parts


async def test_who_does_not_have_the_secret_is_answered_401_without_a_word_about_the_path(
    sender: Sender,
) -> None:
    wrong = [await sender.post(b"x", secret=given) for given in ("", "wrong", SECRET + "x", "é")]
    elsewhere = await sender.post(b"x", secret="wrong", path="/nobody/nothing")

    assert {401} == {status for status, _ in (*wrong, elsewhere)}
    assert ["refused_secret"] * 5 == results(sender)
    assert {"127.0.0.1"} == {event.peer for event in sender.said(SecretRefused)}


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def test_two_secrets_are_valid_while_they_change(secret_file: Path) -> None:
    async with Sender(MemoryIntake(), secret=Secret(path=secret_file)) as sender:
        before = await sender.post(packed([row(1)]))
        write(secret_file, f"the-next-secret\n{SECRET}\n")
        both = [
            await sender.post(packed([row(2)])),
            await sender.post(packed([row(3)]), secret="the-next-secret"),
        ]
        write(secret_file, "the-next-secret\n")
        old = await sender.post(packed([row(4)]))

    assert [200, 200, 200, 401] == [before[0], both[0][0], both[1][0], old[0]]


async def test_another_header_may_hold_the_secret() -> None:
    async with Sender(MemoryIntake(), header="X-Logpush-Secret") as sender:
        answers = [
            await sender.post(packed([row(1)])),
            await sender.post(packed([row(1)]), headers={"X-Logpush-Secret": SECRET}),
        ]

    assert [401, 200] == [status for status, _ in answers]


async def test_only_networks_of_the_list_may_push() -> None:
    async with (
        Sender(MemoryIntake(), allow=("198.51.100.0/24",)) as elsewhere,
        Sender(MemoryIntake(), allow=("198.51.100.0/24", "127.0.0.0/8")) as here,
    ):
        refused = await elsewhere.post(packed([row(1)]))
        taken = await here.post(packed([row(1)]))

    assert [403, 200] == [refused[0], taken[0]]
    assert ["refused_network"] == results(elsewhere)


@pytest.mark.parametrize("network", [12, 2**32, True, "198.51.100.1/24", "example.com"])
def test_what_is_no_network_is_refused_with_what_to_write(network: Any) -> None:
    with pytest.raises(ValidationError, match=r"is not a network, such as 198"):
        LogpushConfig(secret=Secret(SECRET), allow=(network,))


async def test_an_account_is_named_by_its_id_or_its_name(sender: Sender) -> None:
    answers = [
        await sender.post(packed([row(1)]), path=f"/{account}/access_requests")
        for account in ("acme", "a" * 32, "nobody")
    ]

    assert [200, 200, 404] == [status for status, _ in answers]
    assert ["accepted", "duplicate", "refused_account"] == results(sender)


async def test_datasets_may_be_limited_to_some() -> None:
    async with Sender(MemoryIntake(), datasets=("gateway_dns",)) as sender:
        answers = [
            await sender.post(packed([row(1)]), path=f"/acme/{dataset}")
            for dataset in ("gateway_dns", "gateway_http")
        ]

    assert [200, 404] == [status for status, _ in answers]


async def test_names_of_datasets_are_bounded(sender: Sender) -> None:
    for number in range(300):
        await sender.post(b"", path=f"/acme/empty{number}")
    answers = [
        await sender.post(packed([row(number)]), path=f"/acme/d{number}") for number in range(260)
    ]
    odd = await sender.post(b"", path="/acme/Not-A-Dataset")
    await sender.restart()
    stored = await sender.post(packed([row(1)]), path="/acme/d255")
    another = await sender.post(packed([row(1)]), path="/acme/e0")

    assert [200] * 256 + [404] * 4 == [status for status, _ in answers]
    assert "logpush.datasets" in answers[-1][1]
    assert odd[0] == 404
    assert [200, 404] == [stored[0], another[0]]


@pytest.mark.parametrize(("secret", "first"), [(SECRET, b"100 Continue"), ("wrong", b"401")])
async def test_a_client_that_waits_is_asked_for_its_body_only_if_it_is_wanted(
    sender: Sender, secret: str, first: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sender.port)
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\n"
        "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    if b"100" in head:
        writer.write(b"{}\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert answer.startswith(b"HTTP/1.1 200")
    writer.close()

    assert first in head


async def test_other_paths_are_refused(sender: Sender) -> None:
    answers = [
        await sender.post(b"", path=path) for path in ("/", "/acme", "/acme/access_requests/x")
    ]

    assert {(404, "the path must be /ACCOUNT/DATASET")} == set(answers)
    assert ["refused_account"] * 3 == results(sender)


async def test_a_health_check_is_answered_without_secret_and_state() -> None:
    """From any address, and while nothing can be stored."""
    intake = MemoryIntake()
    intake.close()
    async with Sender(intake, allow=["198.51.100.0/24"]) as sender:
        asked = [await sender.ask(method, "/") for method in ("GET", "HEAD")]
        pushed = await sender.post(b"")

    assert [(200, "ok"), (200, "")] == asked
    assert 403 == pushed[0]
    assert ["refused_network"] == results(sender)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_answered_in_one_line(sender: Sender, method: str) -> None:
    asked = [await sender.ask(method, path) for path in (PATH, "/acme", "/healthz/x/y")]

    assert {(405, "only POST is taken, of a batch to /ACCOUNT/DATASET")} == set(asked)
    assert not sender.events


async def test_while_the_journal_is_full_a_body_is_not_read(sender: Sender) -> None:
    """The answer comes although the body never does."""
    sender.intake.close()
    answer = await sender.refused("Content-Length: 5000000")

    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 30" in answer
    assert ["gate_closed"] == [event.result for event in sender.said(PushDelayed)]


class Closing(MemoryIntake):
    """Full after the first part of a body."""

    admitted = 0

    async def admit(self, account_id: str) -> None:
        self.admitted += 1
        if self.admitted == 3:
            self.close()
        await super().admit(account_id)


async def test_a_gate_that_closes_in_the_middle_loses_and_repeats_nothing() -> None:
    rows = [orjson.dumps({"n": number, "text": "x" * 500}) for number in range(12_000)]
    async with Sender(Closing()) as sender:
        refused = await sender.post(packed(rows))
        stored = len(sender.intake.records)
        sender.intake.open()
        taken = await sender.post(packed(rows))

    assert [503, 200] == [refused[0], taken[0]]
    assert 0 < stored < len(rows)
    assert len(sender.intake.records) == len(rows)


@pytest.mark.parametrize("first", [90_000, 230_000])
async def test_nor_does_one_if_the_network_cuts_the_body_elsewhere_when_it_comes_again(
    first: int,
) -> None:
    """Each part that is known must have the rows that it had."""
    rows = [orjson.dumps({"n": number, "text": "x" * 500}) for number in range(8_000)]
    body = b"\n".join(rows)

    async def cut(length: int) -> AsyncIterator[bytes]:
        for place in range(0, len(body), length):
            yield body[place : place + length]
            await asyncio.sleep(0.002)

    async with Sender(Closing()) as sender:
        refused = await sender.post(cut(first), headers={"Content-Encoding": ""})
        sender.intake.open()
        taken = await sender.post(cut(320_000 - first), headers={"Content-Encoding": ""})
        stored = [orjson.loads(one.row)["n"] for one in sender.intake.records]

    assert [503, 200] == [refused[0], taken[0]]
    assert list(range(len(rows))) == sorted(stored)


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"no gzip at all", {}, 400, "does not begin as gzip does"),
        (packed([row(1)])[:-4], {}, 400, "cut short"),
        (packed([row(1)])[:-8] + b"\0" * 8, {}, 400, "cannot be unpacked"),
        (packed([row(1)]), {"Content-Encoding": "br"}, 415, "as gzip or as it is"),
        (b"x" * 200_000, {"Content-Encoding": ""}, 413, "more than 102400 bytes"),
        (gzip.compress(b"x" * 400_000), {}, 413, "unpacks to more than 204800 bytes"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_refused_with_a_reason(
    body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    limits = {"body": 102_400, "decompressed": 204_800}
    async with Sender(MemoryIntake(), limits=limits) as sender:
        answer = await sender.post(body, headers=headers)

    assert answer[0] == status
    assert reason in answer[1]
    assert "\n" not in answer[1]
    assert not sender.intake.parts


async def test_a_bomb_holds_neither_memory_nor_the_loop(sender: Sender) -> None:
    squeezed = zlib.compressobj(9, wbits=31)
    zeros = b"\0" * MIB
    bomb = b"".join([*(squeezed.compress(zeros) for _ in range(100)), squeezed.flush()])
    longest, running = 0.0, True

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while running:
            began = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - began)

    watching = asyncio.create_task(watch())
    status, _ = await sender.post(bomb)
    running = False
    await watching

    assert status == 413
    assert longest < 0.5


async def test_members_of_gzip_are_bounded(sender: Sender) -> None:
    """Empty ones cost ten seconds of the processor for 16 MiB."""
    few = await sender.post(b"".join(packed([row(number)]) for number in range(60)))
    many = await sender.post(gzip.compress(b"") * 1000)

    assert (200, "accepted") == few
    assert (413, "the body has too many members of gzip") == many


async def test_a_body_refused_often_enough_becomes_one_malformed_event_and_a_gap() -> None:
    body = gzip.compress(b"x" * 100_000)[:-8]
    async with Sender(MemoryIntake(), limits={"refusals": 3}) as sender:
        answers = [await sender.post(body) for _ in range(4)]
        again = await sender.post(body)

    (part,) = sender.intake.parts
    (stored,) = [orjson.loads(record.row) for record in part.records]
    assert [400, 400, 400, 200] == [status for status, _ in answers]
    assert again[0] == 200
    assert stored["bytes"] == len(body)
    assert "cut short" in stored[MALFORMED_KEY]
    assert len(stored["sha256"]) == 64
    assert [(UNREADABLE, None)] == [(lost.reason, lost.rows) for lost in part.lost]
    assert sender.said(PushGivenUp)[0].refusals == 3


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8b\xff" + b"x" * 200_000, gzip.compress(random.Random(1).randbytes(200_000))],
    ids=["broken", "too large once unpacked"],
)
async def test_an_invalid_body_is_recognised_however_the_network_cuts_it(body: bytes) -> None:
    async def cut_at(place: int) -> AsyncIterator[bytes]:
        yield body[:place]
        await asyncio.sleep(0.05)
        yield body[place:]

    limits = {"refusals": 2, "decompressed": 1024}
    async with Sender(MemoryIntake(), limits=limits) as sender:
        answers = [await sender.post(cut_at(place)) for place in (2000, 5000, 40_000, 7000)]

    assert [False, False, True, True] == [status == 200 for status, _ in answers]
    assert len(sender.intake.records) == 1


async def test_a_bound_below_what_is_kept_of_a_body_holds() -> None:
    async with Sender(MemoryIntake(), limits={"body": 1024}) as sender:
        answer = await sender.post(row(1) * 100, headers={"Content-Encoding": ""})

    assert answer[0] == 413
    assert not sender.intake.records


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversized_body_is_never_stored_whole(*, declared: bool) -> None:
    body = b"x" * (3 * MIB)

    async def chunks() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 65_536):
            yield body[place : place + 65_536]

    limits = {"body": MIB, "refusals": 1}
    async with Sender(MemoryIntake(), limits=limits) as sender:
        given = [body if declared else chunks() for _ in range(2)]
        answers = [await sender.post(one, headers={"Content-Encoding": ""}) for one in given]

    (record,) = sender.intake.records
    assert [413, 200] == [status for status, _ in answers]
    assert len(record.row) < 100_000


async def test_a_row_that_is_too_long_is_cut_and_the_others_are_stored() -> None:
    long = orjson.dumps({"text": "x" * 300_000})
    async with Sender(MemoryIntake(), limits={"line": 200_000}) as sender:
        status, _ = await sender.post(packed([row(1), long, row(2)]))

    (part,) = sender.intake.parts
    rows = [orjson.loads(record.row) for record in part.records]
    assert status == 200
    assert ["user1@example.com", None, "user2@example.com"] == [one.get("Email") for one in rows]
    assert rows[1]["bytes"] == len(long)
    assert len(rows[1][RAW_BYTES_KEY]) < 90_000
    assert [(UNREADABLE, 1)] == [(lost.reason, lost.rows) for lost in part.lost]


async def test_a_body_that_takes_too_long_is_refused() -> None:
    async with Sender(MemoryIntake(), limits={"time": "200ms"}) as sender:
        answer = await sender.refused("Content-Length: 500", body=b"half")

    assert answer.startswith(b"HTTP/1.1 408")
    assert ["incomplete"] == results(sender)


async def test_a_client_that_stalls_after_what_is_invalid_learns_what_was_invalid() -> None:
    async with Sender(MemoryIntake(), limits={"time": "200ms"}) as sender:
        answer = await sender.refused(
            "Content-Encoding: gzip", "Content-Length: 500", body=b"no gzip"
        )

    assert answer.startswith(b"HTTP/1.1 400")
    assert ["refused_encoding"] == results(sender)


@pytest.mark.parametrize("header", ["Host", "content-length", "Expect"])
def test_a_header_that_belongs_to_http_cannot_hold_the_secret(header: str) -> None:
    with pytest.raises(ValidationError, match="belongs to HTTP itself"):
        LogpushConfig(secret=Secret(SECRET), header=header)


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(sender: Sender) -> None:
    _, writer = await sender.begin("Content-Length: 500", body=row(1))
    await asyncio.sleep(0.05)
    writer.close()
    for _ in range(1000):
        if results(sender):
            break
        await asyncio.sleep(0.01)

    assert ["incomplete"] == results(sender)
    assert not sender.intake.parts


class SlowIntake(MemoryIntake):
    """Takes its time to say if anything can be stored."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def admit(self, account_id: str) -> None:
        self.asked.set()
        await self.answer.wait()
        await super().admit(account_id)


async def test_a_connection_that_is_closed_for_another_one_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The listener may close one at the moment at which its request comes; TLS takes its time."""
    authority, intake = trustme.CA(), SlowIntake()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    async with Sender(intake) as sender:
        await sender.restart(served)
        _, writer = await sender.begin("Content-Length: 500", body=row(1), tls=trusting)
        await intake.asked.wait()
        for one in gc.get_objects():
            if isinstance(one, web.RequestHandler):
                one.force_close()
        intake.answer.set()
        for _ in range(1000):
            if results(sender) or caplog.records:
                break
            await asyncio.sleep(0.01)
        writer.close()

    assert ["incomplete"] == results(sender)
    assert [] == [record.getMessage() for record in caplog.records]


async def test_silent_connections_lock_nobody_out() -> None:
    async with Sender(MemoryIntake(), limits={"connections": 10}) as sender:
        silent = [await asyncio.open_connection("127.0.0.1", sender.port) for _ in range(50)]
        status, _ = await sender.post(packed([row(1)]))
        for _, writer in silent:
            writer.close()

    assert status == 200


async def test_what_was_stored_is_counted_with_the_age_of_its_oldest_row(sender: Sender) -> None:
    await sender.post(packed([row(1), row(2), b"{}"]))

    (stored,) = sender.said(PushStored)
    assert ("acme", "access_requests", 3) == (stored.account, stored.dataset, stored.rows)
    assert stored.oldest_s is not None


async def test_the_oldest_row_of_a_push_may_be_in_any_of_its_parts(sender: Sender) -> None:
    old = orjson.dumps({"CreatedAt": "2020-01-01T00:00:00Z"})
    late = {"CreatedAt": "2026-11-30T08:00:00Z", "long": "x" * (MIB // 8)}
    new = [orjson.dumps({**late, "number": number}) for number in range(40)]
    for rows in ([old, *new], [*new, old]):
        await sender.post(packed(rows))

    assert len(sender.intake.parts) > 2
    for stored in sender.said(PushStored):
        assert stored.oldest_s > 5 * 365 * 86_400


class DamagedIntake(MemoryIntake):
    """An intake whose journal is damaged."""

    async def store(self, part: PushedPart) -> bool:  # noqa: ARG002 - it stores none
        raise DamagedError("the journal is damaged")


async def test_a_push_that_a_damaged_journal_cannot_store_is_delayed_and_counted() -> None:
    async with Sender(DamagedIntake()) as sender:
        status, answer = await sender.post(packed([row(1)]))

        assert (503, "the journal is damaged") == (status, answer)
        assert ["failed"] == results(sender)
        assert ["failed"] == [event.result for event in sender.said(PushDelayed)]
