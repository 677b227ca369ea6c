"""Symptoms that users of log collectors report in public, each tried against this one."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import ssl
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

from forwarder.config import ForwarderSettings, load
from forwarder.core.contracts import WriteResult
from forwarder.core.errors import ConfigError, ForwarderError
from forwarder.runtime.inspection import previews
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.sinks.splunk_hec import SplunkHecConfig, SplunkHecSink
from forwarder.sinks.syslog import SyslogConfig, SyslogSink
from forwarder.testing.fake_server import FakeServer
from forwarder.testing.fake_sinks import make_batch, sink_context
from forwarder.testing.network import free_port
from tests.end_to_end.processes import ACCOUNT, SCRIPT, Forwarder, cloudflare, until
from tests.end_to_end.test_citizen import as_pid_1, child_of, running, seconds_of, shell
from tests.proof.ledger import Ledger
from tests.sources.cloudflare_access.test_growth import Tenant
from tests.transport.test_tls import write_chain

SECTION = "Field"
EMPTY = {"success": True, "errors": [], "messages": [], "result": None}


def settings(
    folder: Path,
    sinks: str = "out: { type: stdout }",
    token: str = "t",
    environ: Mapping[str, str] | None = None,
) -> ForwarderSettings:
    """Load settings with one account and one sink, as the daemon does."""
    path = folder / "settings.yaml"
    path.touch(mode=0o600)
    path.write_text(
        f"version: 1\naccounts:\n  - {{ account_id: {ACCOUNT}, api_token: '{token}' }}\n"
        f"sinks:\n  {sinks}\n"
    )
    return load(path, environ or {})


def config_of(loaded: ForwarderSettings) -> Any:
    """Return the only sink's own settings."""
    return loaded.sinks[0].config


def faults(folder: Path, sinks: str, environ: Mapping[str, str] | None = None) -> str:
    """Return what is wrong with the settings of a sink, with every hint."""
    with pytest.raises(ConfigError) as caught:
        settings(folder, sinks, environ=environ)
    return "\n".join(map(str, caught.value.faults))


async def command(*arguments: Any, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return all that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(SCRIPT, *arguments), stdout=PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(process.communicate(), 120)
    return printed.decode()


@asynccontextmanager
async def answering(content: Any, status: int = 200) -> AsyncIterator[str]:
    """Serve one JSON answer to every request."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(content, status=status)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/client/v4"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def started(folder: Path, url: str) -> AsyncIterator[Forwarder]:
    """Run a daemon that reads from ``url``; kill it if the block has not stopped it."""
    forwarder = Forwarder(folder, url)
    await forwarder.start()
    try:
        yield forwarder
    finally:
        await forwarder.kill()


async def readiness(http: ClientSession, url: str) -> tuple[int, str]:
    async with http.get(url + "/readyz") as answer:
        return answer.status, " ".join((await answer.json())["reasons"])


async def test_a_log_that_nobody_drains(tmp_path: Path, ledger: Ledger) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    rows, port = tmp_path / "rows", free_port()
    admin = f"http://127.0.0.1:{port}"
    async with cloudflare("--rate", "50", "--history", "1m") as api:
        forwarder = Forwarder(tmp_path, api.url)
        text = forwarder.settings.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
        forwarder.settings.write_text(text.replace("format: json", "format: json, level: debug"))
        command = (SCRIPT, "run", "-c", forwarder.settings)
        with rows.open("wb") as stdout:
            async with running(*command, stdout=stdout, stderr=write) as process:
                os.close(write)
                await until(lambda: rows.read_bytes().count(b"\n") > 3000)
                async with ClientSession() as http, http.get(admin + "/livez") as live:
                    assert live.status == 200
                process.terminate()
                code = await asyncio.wait_for(process.wait(), 40)
        os.close(read)

    assert code == 0
    events = rows.read_bytes().count(b"\n")
    ledger.row(
        SECTION, "the log goes to a pipe of 4 KiB that nobody reads, at level debug",
        times=1, events=events, more="delivers on, answers /livez, ends at SIGTERM with status 0",
    )  # fmt: skip


async def test_a_busy_collector_that_says_how_much_it_took(ledger: Ledger) -> None:
    class Busy(FakeServer):
        """Takes ten events of the first request and says so; then whatever comes."""

        def __init__(self) -> None:
            super().__init__()
            self.arrived = Counter[str]()

        async def answer(self, request: web.Request) -> web.StreamResponse:
            body = (await request.read()).decode()
            lines = [one for one in body.replace("}{", "}\n{").splitlines() if one]
            first = not self.arrived
            self.arrived.update(lines[:10] if first else lines)
            text = {"text": "Server is busy", "code": 9, "invalid-event-number": 10}
            done = {"text": "Success", "code": 0}
            return web.json_response(text if first else done, status=503 if first else 200)

    async with Busy() as hec:
        config = {"url": hec.url, "token": "t", "gzip": False}
        sink = SplunkHecSink(SplunkHecConfig.model_validate(config), sink_context())
        batch = make_batch(200)
        result = await sink.write(batch)
        await sink.aclose()

    deferred = getattr(result, "deferred", ())
    assert isinstance(result, WriteResult)
    assert len(deferred) == 190
    ledger.row(
        SECTION, "a collector is busy and says that it took the first ten of 200 events",
        events=200, again=0, more="the ten are acknowledged, the other 190 are sent again",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "operation", "classified"),
    [
        ("user disabled", {"op": "replace", "path": "{user}:active", "value": False}, (3001, 5)),
        ("member added", {"op": "add", "path": "{group}:members", "value": [{"value": "m-1"}]},
         (3006, 3)),
        ("member removed", {"op": "remove", "path": '{group}:members[value eq "m-1"]'}, (3006, 4)),
    ],
)  # fmt: skip
def test_paths_with_the_name_of_their_schema(
    tmp_path: Path,
    ledger: Ledger,
    what: str,
    operation: dict[str, Any],
    classified: tuple[int, int],
) -> None:
    core = "urn:ietf:params:scim:schemas:core:2.0"
    path = operation["path"].format(user=f"{core}:User", group=f"{core}:Group")
    body = orjson.dumps({"Operations": [{**operation, "path": path}]}).decode()
    row = {
        "idp_id": "df7e2a5f-02b7-4d9d-af26-8d1988fca630", "logged_at": "2026-01-01T05:20:00Z",
        "http_method": "PATCH", "status": "SUCCESS", "request_body": body,
        "resource_type": "USER" if "User" in path else "GROUP", "cf_resource_id": "r-1",
    }  # fmt: skip
    checked = settings(tmp_path, "out: { type: stdout, format: ocsf }")
    (shown,) = previews(checked, [("scim_updates", row)], [], 0)
    event = orjson.loads(shown.bodies["out"] or b"{}")

    assert (event["class_uid"], event["activity_id"]) == classified
    ledger.row(
        SECTION, f"a SCIM path names its schema: {what}", events=1,
        more=f"OCSF {classified[0]}/{classified[1]}, as without the name",
    )  # fmt: skip


async def test_a_quiet_tenant_that_bursts(tmp_path: Path, ledger: Ledger) -> None:
    tenant = Tenant(tmp_path)
    count = tenant.burst(30, 20, (1.0, 1.0), 5.0)
    await tenant.live_on(40)
    gaps, delivered = tenant.journal.gaps(), tenant.delivered()
    tenant.journal.close()

    assert [] == gaps
    assert count == delivered
    ledger.row(
        SECTION, "a tenant without a login has 30 a second at once", events=count, lost=0,
        more="no gap is reported",
    )  # fmt: skip


def test_a_default_inside_a_default(tmp_path: Path, ledger: Ledger) -> None:
    sinks = (
        'hec: { type: splunk_hec, url: "http://127.0.0.1:1", token: t,'
        ' index: "${IDX:-${TEAM}_access}" }'
    )
    found = {
        config_of(settings(tmp_path, sinks, environ=environ)).index
        for environ in ({"TEAM": "sec"}, {"TEAM": "sec", "IDX": "foo"})
    }

    assert found == {"sec_access", "foo"}
    ledger.row(SECTION, "a variable's default holds a variable", times=2, more="both are resolved")


_BYPASSES = ("127.0.0.0/8", "localhost 127.0.0.1", "127.*", "other.example,127.0.0.1:{port}")


async def test_a_proxy_that_must_not_be_used(tmp_path: Path, ledger: Ledger) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    async with cloudflare("--history", "1m") as api:
        port = api.url.partition("127.0.0.1:")[2].partition("/")[0]
        forwarder = Forwarder(tmp_path, api.url)
        check = ("check", "--live", "-c", forwarder.settings)
        told = [
            await command(*check, environ={"HTTP_PROXY": proxy, "NO_PROXY": form.format(port=port)})
            for form in _BYPASSES
        ]
        through = await command(*check, environ={"HTTP_PROXY": proxy, "NO_PROXY": ""})

    assert not any("\nfault" in text for text in told), told
    assert f"proxy {proxy}" in through
    ledger.row(
        SECTION, "NO_PROXY as a network, with blanks, with a star, with a port",
        times=len(_BYPASSES), more="each is honoured; where a proxy is used, messages name it",
    )  # fmt: skip


async def test_a_certificate_that_newer_versions_refuse(tmp_path: Path, ledger: Ledger) -> None:
    write_chain(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def failure(**tls: Any) -> str:
        config = {
            "host": "localhost", "port": port, "transport": "tls",
            "tls": {"ca_file": tmp_path / "ca.pem", **tls},
        }  # fmt: skip
        sink = SyslogSink(SyslogConfig.model_validate(config), sink_context())
        try:
            await sink.open()
        except ForwarderError as error:
            return f"{error} {getattr(error, 'hint', '')}"
        finally:
            await sink.aclose()
        return ""

    async with server:
        taken, strict = await failure(), await failure(strict=True)

    assert taken == ""
    assert "Authority Key Identifier" in strict
    assert "tls.strict" in strict
    ledger.row(
        SECTION, "a private authority whose certificates lack a key identifier",
        more="taken; with tls.strict the message says which rule is broken",
    )  # fmt: skip


async def test_closed_standard_streams(tmp_path: Path, ledger: Ledger) -> None:
    forms = ("2>&-", "<&- >&-", "<&- >&- 2>&-")
    port, codes = free_port(), list[int]()
    async with cloudflare("--rate", "5", "--history", "1m") as api, ClientSession() as http:
        for form in forms:
            folder = tmp_path / str(len(codes))
            folder.mkdir()
            forwarder = Forwarder(folder, api.url)
            text = forwarder.settings.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
            forwarder.settings.write_text(text)

            async def ready() -> bool:
                try:
                    return (await readiness(http, f"http://127.0.0.1:{port}"))[0] == 200
                except OSError:
                    return False

            command = f"{SCRIPT} run -c {forwarder.settings} {form}"
            async with running(*shell(command), stdout=DEVNULL) as process:
                await until(ready)
                process.terminate()
                codes.append(await asyncio.wait_for(process.wait(), 40))

    assert codes == [0, 0, 0]
    ledger.row(
        SECTION, "started with closed standard streams", times=len(forms),
        more="becomes ready, ends with status 0",
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a process PID 1")
async def test_sigterm_for_a_container_that_has_just_started(
    tmp_path: Path, ledger: Ledger
) -> None:
    moments, codes = (0.15, 0.3, 0.5, 0.8), []
    async with cloudflare("--history", "1m") as api:
        forwarder = Forwarder(tmp_path, api.url)
        for moment in moments:
            command = as_pid_1(forwarder.settings)
            async with running(*command, stdout=DEVNULL, stderr=DEVNULL) as process:

                def reached(process: Any = process, moment: float = moment) -> bool:
                    child = child_of(process)
                    return bool(child) and seconds_of(child) >= moment

                await until(reached)
                os.kill(child_of(process), signal.SIGTERM)
                codes.append(await asyncio.wait_for(process.wait(), 20))

    assert set(codes) <= {0, 128 + signal.SIGTERM}
    ledger.row(
        SECTION, "SIGTERM for PID 1 while it starts", times=len(moments),
        more="after 0.15 to 0.8 s of CPU time; ends at once",
    )  # fmt: skip


_REASONS = (
    "pipeline with id [x] does not exist",
    "Limit of total fields [1000] has been exceeded",
)


async def test_two_refusals_with_one_error_type(ledger: Ledger) -> None:
    reasons = set()
    for reason in _REASONS:

        class Bulk(FakeServer):
            """Refuses every event for one reason."""

            async def answer(self, request: web.Request, reason: str = reason) -> web.Response:
                await request.read()
                error = {"type": "illegal_argument_exception", "reason": reason}
                items = [{"create": {"status": 400, "error": error}}] * 3
                return web.json_response({"errors": True, "items": items})

        async with Bulk() as elastic:
            config = {"url": elastic.url}
            sink = ElasticsearchSink(ElasticsearchConfig.model_validate(config), sink_context())
            result = await sink.write(make_batch(3))
            await sink.aclose()
            reasons |= {one.reason for one in result.rejected}

    assert len(reasons) == len(_REASONS)
    ledger.row(
        SECTION, "two refusals of Elasticsearch that differ in their text only", times=2,
        more="; ".join(sorted(reasons)),
    )  # fmt: skip


async def test_null_for_an_empty_list(tmp_path: Path, ledger: Ledger) -> None:
    async with (
        answering(EMPTY) as url,
        ClientSession() as http,
        started(tmp_path, url) as forwarder,
    ):
        admin = await forwarder.admin_url()

        async def ready() -> bool:
            return (await readiness(http, admin))[0] == 200

        await until(ready)
        await asyncio.sleep(3)
        assert await forwarder.stop() == 0

    failures = [line for line in forwarder.log() if line["event"].startswith("poll_")]
    assert failures == []
    ledger.row(
        SECTION, "an API that says null where a list is empty", more="an empty list; no failure"
    )


async def test_an_api_that_never_answers_well(tmp_path: Path, ledger: Ledger) -> None:
    failing = answering({"success": False}, status=503)
    async with failing as url, ClientSession() as http, started(tmp_path, url) as forwarder:
        admin = await forwarder.admin_url()
        await until(lambda: any(line["event"] == "poll_failed" for line in forwarder.log()))
        status, reasons = await readiness(http, admin)
        await forwarder.stop()

    assert status == 503
    assert "access_requests" in reasons
    more = "not ready, with the stream and the failure"
    ledger.row(SECTION, "an API that has failed since the start", more=more)


async def test_a_balancer_that_closes_idle_connections(ledger: Ledger) -> None:
    """A close seconds after the last message lost nothing, and must not send events for ever."""
    arrived = Counter[bytes]()
    closings = 0

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closings
        try:
            async with asyncio.timeout(0.2):
                while line := await reader.readline():
                    arrived[line] += 1
        except TimeoutError:
            closings += 1
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    config = {
        "host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "transport": "tcp",
        "framing": "lf",
    }  # fmt: skip
    sink = SyslogSink(SyslogConfig.model_validate(config), sink_context())
    async with server:
        await sink.open()
        await sink.write(make_batch(3))
        counts = []
        for _ in range(12):
            await asyncio.sleep(1)
            counts.append(arrived.total())
        await sink.aclose()

    most = max(arrived.values())
    assert len(arrived) == 3
    assert most <= 4
    assert all(before == after for before, after in list(pairwise(counts))[-3:])
    ledger.row(
        SECTION, "a balancer closes idle connections, again and again", events=3, lost=0,
        again=arrived.total() - 3, more=f"{closings} closings, each event {most} times at most",
    )  # fmt: skip


def test_settings_that_people_get_wrong(tmp_path: Path, ledger: Ledger) -> None:
    hec = 'hec: {{ type: splunk_hec, url: "http://127.0.0.1:1", token: "{}" }}'.format("${TOK}")
    read = settings(tmp_path, hec, environ={"TOK": "abc\n"})
    key = 'es: { type: elasticsearch, url: "http://127.0.0.1:1", api_key: "id:key" }'
    host = 'log: { type: syslog, host: "tcp://127.0.0.1:5514" }'
    port = 'bus: { type: kafka, topic: t, bootstrap_servers: "127.0.0.1:99999" }'
    flow = "bus: { type: kafka, topic: t, bootstrap_servers: ${BROKERS} }"

    assert config_of(read).token.reveal() == "abc"
    assert "base64" in faults(tmp_path, key)
    assert "host" in faults(tmp_path, host)
    assert "65535" in faults(tmp_path, port)
    assert "quote" in faults(tmp_path, flow, {"BROKERS": "127.0.0.1:1"})
    for what, outcome in (
        ("a token with a line end in its variable", "taken without the line end"),
        ("an API key that was not encoded", "refused with the form to write"),
        ("an address where a host name belongs", "refused by check"),
        ("a port beyond 65535", "refused by check"),
        ("an unquoted variable between braces", "refused with the word about quotes"),
    ):
        ledger.row(SECTION, what, more=outcome)


async def test_a_state_folder_that_others_may_enter(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    api = cloudflare("--history", "1m")
    async with api as cloud, started(tmp_path, cloud.url) as forwarder:
        await until(forwarder.has_started)
        await forwarder.stop()

    assert any("chmod 700" in str(line) for line in forwarder.log())
    ledger.row(SECTION, "a state folder of mode 0755", more="a warning at the start")
