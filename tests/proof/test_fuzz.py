"""Whatever comes in, only the documented errors come out, soon, and without a secret."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config import load
from forwarder.core.contracts import Sink
from forwarder.core.errors import ConfigError, ForwarderError
from forwarder.sinks.elasticsearch import ElasticsearchSink
from forwarder.sinks.relp import RelpSink
from forwarder.sinks.splunk_hec import SplunkHecSink
from forwarder.sinks.syslog import SyslogSink
from forwarder.testing.batches import make_batch, sink_context
from forwarder.testing.sample_rows import LOGINS
from tests.proof.ledger import Ledger
from tests.proof.reading import read_through

_ROOT = Path(__file__).parents[2]
_LONGEST = 5.0
_SECRET = "a-token-that-must-not-be-told"
_ROWS = [orjson.dumps(dict(row)) for row in LOGINS.values()]
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=12,
)
_keys = st.sampled_from(
    ["created_at", "logged_at", "user_email", "action", "allowed", "ip_address", "app_uid",
     "request_body", "response_body", "ray_id", "idp_id", "status", "resource_type", "country"]
)  # fmt: skip
_row = st.dictionaries(_keys | st.text(max_size=8), _json, max_size=12)
_bodies = st.one_of(
    st.binary(max_size=200),
    st.fixed_dictionaries(
        {}, optional={"success": _json, "result": st.lists(_row, max_size=4) | _json,
                      "errors": _json, "result_info": _json}
    ).map(lambda body: orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)),
    st.lists(_row, max_size=4).map(lambda rows: orjson.dumps({"success": True, "result": rows})),
)  # fmt: skip


class UndocumentedError(AssertionError):
    """Something else than a documented error came out, or it took too long, or told a secret."""


def documented(call: Callable[[], object]) -> str:
    """Return how a call ended: ``ok`` or the documented error's name."""
    began = time.monotonic()
    try:
        call()
    except ForwarderError as error:
        if _SECRET in f"{error} {error!r}":
            raise UndocumentedError("a secret is told") from error
        outcome = type(error).__name__
    except Exception as error:
        raise UndocumentedError(repr(error)) from error
    else:
        outcome = "ok"
    if time.monotonic() - began > _LONGEST:
        raise UndocumentedError(f"took longer than {_LONGEST} s")
    return outcome


def harmed(text: bytes, rng: Random) -> bytes:
    """Return a text with a few bytes flipped, cut out or doubled."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(len(data) + 1), rng.randint(0, 30)
        match rng.randrange(4):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case _:
                data[at:at] = rng.choice((b"[", b"{", b"]", b'"', b"\\ud800", b"1e999", b"\x00"))
    return bytes(data)


def test_any_answer_is_read_or_refused(ledger: Ledger) -> None:
    examples = 0

    @given(_bodies, st.sampled_from([200, 200, 200, 204, 301, 400, 401, 403, 429, 500, 530]))
    @settings(deadline=_LONGEST * 1000)
    def every(body: bytes, status: int) -> None:
        nonlocal examples
        examples += 1
        headers = {"retry-after": str(len(body)), "date": "whenever"}
        documented(lambda: read_through(status, headers, body))

    every()
    ledger.row(
        "Fuzz", "API answers made of the right parts (Hypothesis)", times=examples,
        more="read and rendered in every format, or a documented error",
    )  # fmt: skip


def test_good_answers_with_damage_are_read_or_refused(ledger: Ledger, *, long: bool) -> None:
    rng, times = Random(3), 50_000 if long else 2_000
    good = b'{"success":true,"errors":[],"result":[' + b",".join(_ROWS[:6]) + b"]}"
    ended = [documented(lambda: read_through(200, {}, harmed(good, rng))) for _ in range(times)]

    assert ended.count("ok") > times // 10
    ledger.row(
        "Fuzz", "API answers with flipped, cut and doubled bytes", times=times,
        more=f"{ended.count('ok'):,} read in spite of it",
    )  # fmt: skip


@pytest.mark.timeout(0)
def test_coverage_guided_fuzzing_finds_nothing(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    for number, row in enumerate(_ROWS):
        (tmp_path / str(number)).write_bytes(b"[" + row + b"]")
    seconds = 3600 if long else 30
    process = subprocess.run(
        [sys.executable, "-m", "tests.proof.fuzz_answers", f"-max_total_time={seconds}",
         "-timeout=5", "-max_len=4096", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/",
         tmp_path],
        cwd=_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    done = re.findall(r"Done (\d+) runs", process.stderr)

    assert process.returncode == 0, process.stderr[-3000:]
    ledger.row(
        "Fuzz", "envelope, identities, normalisers and formats (atheris)", times=int(done[0]),
        more=f"{seconds} s, guided by coverage",
    )  # fmt: skip


def test_any_settings_file_is_taken_or_refused(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, times = Random(4), 10_000 if long else 600
    good = (_ROOT / "config.yaml").read_bytes()
    text = good.replace(b"simulated-token", _SECRET.encode())
    file = tmp_path / "config.yaml"
    ended = []
    for _ in range(times):
        file.write_bytes(harmed(text, rng))
        ended.append(documented(lambda: load(file, {})))

    assert set(ended) <= {"ok", ConfigError.__name__}
    ledger.row(
        "Fuzz", "settings files with damage", times=times,
        more=f"{ended.count('ok')} could still be used; the others say what is wrong",
    )  # fmt: skip


def test_any_value_of_any_setting_is_taken_or_refused(tmp_path: Path, ledger: Ledger) -> None:
    good = yaml.safe_load((_ROOT / "config.yaml").read_bytes())
    places = list(_places(good))
    examples = 0

    @given(st.sampled_from(places), _json)
    def every(place: tuple[Any, ...], value: Any) -> None:
        nonlocal examples
        examples += 1
        settings_now = yaml.safe_load(yaml.safe_dump(good))
        inner = settings_now
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings_now))
        documented(lambda: load(file, {}))

    every()
    ledger.row("Fuzz", "settings files with any value in any place (Hypothesis)", times=examples)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [path] if path else []
    if isinstance(data, dict):
        for key in data:
            found += _places(data[key], (*path, key))
    return found


_SINKS: dict[str, Callable[[int], Sink]] = {
    "splunk_hec": lambda port: SplunkHecSink(
        SplunkHecSink.Config.model_validate(
            {"url": f"http://127.0.0.1:{port}", "token": _SECRET, "ack_timeout": 1}
        ),
        sink_context(),
    ),
    "elasticsearch": lambda port: ElasticsearchSink(
        ElasticsearchSink.Config.model_validate(
            {"url": f"http://127.0.0.1:{port}", "api_key": _SECRET}
        ),
        sink_context(),
    ),
    "relp": lambda port: RelpSink(
        RelpSink.Config.model_validate({"host": "127.0.0.1", "port": port}), sink_context()
    ),
    "syslog": lambda port: SyslogSink(
        SyslogSink.Config.model_validate({"host": "127.0.0.1", "port": port, "transport": "tcp"}),
        sink_context(),
    ),
}
_GOOD: dict[str, bytes] = {
    "splunk_hec": b'{"text":"Success","code":0,"ackId":1,"acks":{"1":true}}',
    "elasticsearch": b'{"took":3,"errors":true,"items":[{"create":{"status":201}},'
    b'{"create":{"status":400,"error":{"type":"x","reason":"y"}}},{"create":{"status":429}}]}',
    "relp": b"1 rsp 58 200 OK\nrelp_version=0\nrelp_software=fake\ncommands=syslog\n"
    b"2 rsp 6 200 OK\n",
    "syslog": b"unexpected",
}


def _answer(kind: str, rng: Random) -> bytes:
    """Return what a destination says: damaged good answers, in damaged HTTP where it is HTTP."""
    body = harmed(_GOOD[kind], rng) if rng.random() < 0.8 else rng.randbytes(rng.randrange(300))
    if kind in ("relp", "syslog"):
        return body
    status = rng.choice((200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 413, 429, 500, 503))
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n".encode()
    after = rng.choice(("1", "x", "-5"))
    head += f"Content-Length: {len(body)}\r\nRetry-After: {after}\r\n\r\n".encode()
    return harmed(head, rng) + body if rng.random() < 0.2 else head + body


async def _once(kind: str, rng: Random) -> str:
    """Open a sink and write a batch while the destination answers anything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            for _ in range(8):
                if not await reader.read(1 << 16):
                    break
                writer.write(_answer(kind, rng))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = _SINKS[kind](server.sockets[0].getsockname()[1])
    try:
        return await _ended(lambda: _use(sink))
    finally:
        await asyncio.wait_for(sink.aclose(), _LONGEST)
        server.close()


async def _use(sink: Sink) -> None:
    await sink.open()
    await sink.write(make_batch(3))


async def _ended(call: Callable[[], Awaitable[None]]) -> str:
    """Return how a call ended, as ``documented`` does; waiting in silence is what engines cut."""
    try:
        await asyncio.wait_for(call(), 0.3)
    except ForwarderError as error:
        if _SECRET in f"{error} {error!r}":
            raise UndocumentedError("a secret is told") from error
        return type(error).__name__
    except TimeoutError:
        return "still waiting, as told by its time-out"
    except Exception as error:
        raise UndocumentedError(repr(error)) from error
    return "ok"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", _SINKS)
async def test_any_answer_of_a_destination_is_understood_or_refused(
    kind: str, ledger: Ledger, *, long: bool
) -> None:
    rng, times, ended = Random(5), 3_000 if long else 60, dict[str, int]()
    for _ in range(times):
        outcome = await _once(kind, rng)
        ended[outcome] = ended.get(outcome, 0) + 1

    ledger.row(
        "Fuzz", f"answers of a destination: {kind}", times=times,
        more=", ".join(f"{name}: {number}" for name, number in sorted(ended.items())),
    )  # fmt: skip


def test_an_undocumented_error_and_a_told_secret_are_found(ledger: Ledger) -> None:
    def tell() -> None:
        raise ForwarderError(f"refused with {_SECRET}")

    with pytest.raises(UndocumentedError) as crash:
        documented(lambda: orjson.loads(b"{")["result"])
    with pytest.raises(UndocumentedError) as told:
        documented(tell)
    ledger.plant("Fuzz", "a parser that lets a foreign error through", crash.value)
    ledger.plant("Fuzz", "an error that tells a token", told.value)
