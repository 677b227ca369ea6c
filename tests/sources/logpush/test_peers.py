"""A push that arrives at another replica is passed on, once, and its answer is relayed."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import ClientSession, TCPConnector

from forwarder.sources.logpush.events import PushDelayed, PushRefused, RequestAnswered
from forwarder.sources.logpush.proof import tags
from forwarder.testing.network import free_port
from forwarder.testing.source_contract import MemoryIntake
from forwarder.transport.settings import Secret, TlsSettings
from forwarder.transport.tls import ServerTls
from tests.sources.logpush.conftest import PATH, SECRET, Sender, packed, row

MIB = 2**20
BODY = packed([row(1)])


def results(sender: Sender) -> list[str]:
    return [event.result for event in sender.said(RequestAnswered)]


def proof_in(head: bytes) -> str:
    """Return the proof in the head of a request."""
    found = re.search(r"Forwarder-Passed-On: (.*)\r\n", head.decode())
    return found[1] if found else ""


@pytest.fixture
async def owner() -> AsyncIterator[Sender]:
    async with Sender(MemoryIntake()) as owner:
        yield owner


@pytest.fixture
def other(sender: Sender, owner: Sender) -> Sender:
    """Return a receiver whose accounts are with ``owner``."""
    sender.intake.lead(owner.url)
    return sender


async def test_the_owner_stores_and_its_answer_is_relayed(other: Sender, owner: Sender) -> None:
    rows = [row(1), b"broken", row(2)]
    answers = [await other.post(packed(rows)) for _ in range(2)]
    test = await other.post(gzip.compress(b'{"content":"tests"}'))
    refused = await other.post(b"no gzip")

    assert [(200, "accepted"), (200, "duplicate"), (200, "validation")] == [*answers, test]
    assert (400, "the body is not valid gzip: it does not begin as gzip does") == refused
    assert ["passed_on"] * 4 == results(other)
    assert ["accepted", "duplicate", "validation", "refused_encoding"] == results(owner)
    assert [] == other.intake.parts
    assert 3 == len(owner.intake.records)


async def test_replicas_reach_each_other_without_the_proxy_of_the_environment(
    sender: Sender, owner: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    await sender.restart()
    sender.intake.lead(owner.url)

    assert (200, "accepted") == await sender.post(packed([row(1)]))


async def test_a_secret_that_is_no_ascii_is_proven() -> None:
    secret = Secret("geheimnis-äöü-0123456789abcdefghij")
    async with (
        Sender(MemoryIntake(), secret=secret) as owner,
        Sender(MemoryIntake(), secret=secret) as other,
    ):
        other.intake.lead(owner.url)
        answer = await other.post(packed([row(1)]), secret=secret.reveal())

    assert (200, "accepted") == answer


async def test_nobody_without_the_secret_is_passed_on(other: Sender, owner: Sender) -> None:
    answer = await other.post(packed([row(1)]), secret="wrong")

    assert 401 == answer[0]
    assert [] == results(owner)


async def test_there_is_no_second_hop(other: Sender, owner: Sender) -> None:
    """Each believes that the other is the owner, as in the moments of a take-over."""
    owner.intake.lead(other.url)
    owner.intake.close("no_owner")
    answer = await other.post(packed([row(1)]))

    assert (503, "closed by the test") == answer
    assert ["passed_on"] == results(other)
    assert ["no_owner"] == results(owner)


async def test_an_owner_that_is_gone_delays_the_push(sender: Sender) -> None:
    sender.intake.lead(f"http://127.0.0.1:{free_port()}")
    status, reason = await sender.post(packed([row(1)]))

    assert 503 == status
    assert "no connection to http://127.0.0.1" in reason
    assert ["no_owner"] == [event.result for event in sender.said(PushDelayed)]


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://u:p@127.0.0.1:1",
        f"http://{'a' * 64}:1",
        "x",
    ],
)
async def test_an_address_that_is_none_delays_the_push(sender: Sender, url: str) -> None:
    """A replica announced it, or somebody has written it into the database."""
    sender.intake.lead(url)

    assert 503 == (await sender.post(packed([row(1)])))[0]
    assert ["no_owner"] == results(sender)


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "000 X", "999 X"])
async def test_a_stranger_at_the_address_of_a_replica_is_not_believed(
    sender: Sender, status: str
) -> None:
    """Its 200 would make Cloudflare forget rows that nobody has stored; nor does it see the secret.

    It sends back what it was sent, since a replica's answer has a header of the same name.
    """
    heads = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        mark = f"Forwarder-Passed-On: {proof_in(heads[0]).rpartition(' ')[2]}"
        writer.write(f"HTTP/1.1 {status}\r\n{mark}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        sender.intake.lead(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        answer = await sender.post(packed([row(1)]))

    assert 503 == answer[0]
    assert ["no_owner"] == results(sender)
    assert b"Authorization" not in heads[0]
    assert SECRET.encode() not in heads[0]


async def test_a_proof_holds_once_and_for_one_address(sender: Sender, owner: Sender) -> None:
    """Whoever reads it, or has changed the address in the database, can do nothing with it."""
    sent = []

    async def listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(proof_in(await reader.readuntil(b"\r\n\r\n")))
        writer.close()

    async with await asyncio.start_server(listener, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sender.intake.lead(address)
        await sender.post(BODY)

    async def replayed(dataset: str = "access_requests", encoding: str = "gzip") -> int:
        path = f"/{'a' * 32}/{dataset}"
        given = {"Forwarder-Passed-On": sent[0], "Content-Encoding": encoding}
        return (await owner.post(BODY, path=path, secret="", headers=given))[0]

    elsewhere = await replayed()
    owner.intake.listen(address)
    changed = [await replayed("http_requests"), await replayed(encoding="identity")]
    answers = [await replayed(), await replayed()]

    assert 503 == elsewhere
    assert [503, 503] == changed
    assert [200, 503] == answers
    assert ["refused_peer"] * 3 + ["accepted", "refused_peer"] == results(owner)


@pytest.mark.parametrize("header", ["1", "", "1 " + "0" * 32 + " " + "0" * 64, "\xe4"])
async def test_a_proof_that_is_none_is_refused_even_beside_the_secret(
    owner: Sender, header: str
) -> None:
    answer = await owner.post(BODY, headers={"Forwarder-Passed-On": header})

    assert 503 == answer[0]
    assert ["refused_peer"] == results(owner)


@pytest.mark.parametrize(
    ("passing", "owning", "status"),
    [
        ("old\nnew", "old", 200),
        ("old\nnew", "new", 200),
        ("new", "old\nnew", 200),
        ("new", "old", 503),
    ],
)
async def test_while_the_secret_changes_cloudflare_never_gets_401(
    passing: str, owning: str, status: int
) -> None:
    """The job has the new secret already; files reach the replicas one after the other."""
    async with (
        Sender(MemoryIntake(), secret=Secret(owning)) as owner,
        Sender(MemoryIntake(), secret=Secret(passing)) as other,
    ):
        other.intake.lead(owner.url)
        answer = await other.post(BODY, secret="new")

    assert status == answer[0]
    assert ["accepted" if status == 200 else "refused_peer"] == results(owner)


@pytest.mark.parametrize(("ahead", "status"), [(50, 200), (-50, 200), (75, 503), (-75, 503)])
async def test_clocks_may_differ_by_a_minute(ahead: int, status: int, owner: Sender) -> None:
    async with Sender(MemoryIntake(), ahead=ahead) as other:
        other.intake.lead(owner.url)
        answer = await other.post(BODY)
    said = [event.reason for event in owner.said(PushRefused)]

    assert status == answer[0]
    assert (status != 200) == any("the clock of that replica is 7" in one for one in said)


async def test_a_push_is_waited_for_no_longer_than_the_replica_has_the_journal(
    sender: Sender,
) -> None:
    """The owner is frozen: its kernel takes the connection, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        sender.intake.lead(f"http://127.0.0.1:{frozen.getsockname()[1]}")
        push = asyncio.create_task(sender.post(BODY))
        await asyncio.wait({push}, timeout=1)
        waited = not push.done()
        sender.intake.lead("http://127.0.0.1:1")
        began = asyncio.get_running_loop().time()
        answer = await push
        took = asyncio.get_running_loop().time() - began

    assert waited
    assert (503, "the replica that has the journal of the account: it has lost it") == answer
    assert ["no_owner"] == results(sender)
    assert took < 5


async def test_while_the_owners_journal_is_full_no_body_is_read(
    other: Sender, owner: Sender
) -> None:
    """The client waits for its 100, and gets the owner's answer in its place."""
    owner.intake.close()
    answer = await other.refused("Content-Length: 5000000", "Expect: 100-continue")

    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 30" in answer


async def test_a_body_streams_through(sender: Sender) -> None:
    """Its beginning is with the owner before its end was sent."""
    half, reached = b"x" * MIB, asyncio.Event()

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proof = proof_in(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(MIB // 2)
        reached.set()
        await reader.readuntil(b"\r\n0\r\n\r\n")
        mark = tags([SECRET], "answer", proof, "200", "accepted")
        writer.write(f"HTTP/1.1 200 OK\r\nForwarder-Passed-On: {mark}\r\n".encode())
        writer.write(b"Content-Length: 9\r\n\r\naccepted\n")
        writer.close()

    async def halves() -> AsyncIterator[bytes]:
        yield half
        await asyncio.wait_for(reached.wait(), 30)
        yield half

    async with await asyncio.start_server(own, "127.0.0.1", 0, limit=3 * MIB) as server:
        sender.intake.lead(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        answer = await sender.post(halves())

    assert (200, "accepted") == answer


def served(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    """Return how a receiver named push.example.com protects its connections."""
    chain, key = folder / "chain", folder / "key"
    issued = authority.issue_cert("push.example.com")
    chain.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return ServerTls(TlsSettings(cert_file=chain, key_file=key)).listening(lambda _: None)


async def test_from_https_nothing_is_passed_on_in_clear(
    sender: Sender, owner: Sender, tmp_path: Path
) -> None:
    authority = trustme.CA()
    await sender.restart(served(authority, tmp_path))
    sender.intake.lead(owner.url)
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    trusting.check_hostname = False
    async with (
        ClientSession(connector=TCPConnector(ssl=trusting)) as http,
        http.post(sender.url + PATH, headers={"Authorization": SECRET}, data=row(1)) as answer,
    ):
        status = answer.status

    assert 503 == status
    assert [] == results(owner)


@pytest.mark.parametrize(("name", "status"), [("push.example.com", 200), (None, 503)])
async def test_the_owners_certificate_is_verified(
    tmp_path: Path, name: str | None, status: int
) -> None:
    """The address of a replica is in no certificate: its name is given beside it."""
    authority = trustme.CA()
    ca = tmp_path / "ca"
    ca.write_bytes(authority.cert_pem.bytes())
    context = served(authority, tmp_path)
    peer = {"tls": {"ca_file": ca, "server_name": name}}
    async with Sender(MemoryIntake(), peer=peer) as other, Sender(MemoryIntake()) as owner:
        await owner.restart(context)
        other.intake.lead(owner.url)
        answer = await other.post(packed([row(1)]))

    assert status == answer[0]


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    other: Sender, owner: Sender
) -> None:
    _, writer = await other.begin("Content-Length: 500", body=row(1))
    await asyncio.sleep(0.2)
    writer.close()
    for _ in range(1000):
        if results(owner):
            break
        await asyncio.sleep(0.01)

    assert ["incomplete"] == results(owner)
    assert [] == owner.intake.parts
