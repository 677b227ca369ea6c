"""A stage: a folder, an API, fresh destinations, and the settings that fit them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from bench.processes import OWN, Daemon, broker, daemon, helper
from bench.recordings import EVENTS, Recording, of_pieces, of_topics
from bench.rows import PROVIDER
from bench.watching import until

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
QUIET_ACCOUNT = "023e105f4ecef8ad9ca31a8372d00000"
LOGINS, CHANGES = "access_requests", "scim_updates"
_OF_STREAM: dict[str, dict[str, Any]] = {LOGINS: {}, CHANGES: {"identity_providers": [PROVIDER]}}
WITHOUT_SERVER = {"null", "journal", "stdout", "file", "api"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one measurement of ``program`` takes place; ``ports`` has each sink's destination."""

    folder: Path
    api: int
    ports: dict[str, int]
    program: Path = OWN
    stream: str = LOGINS

    def settings(self, *, paused: Sequence[str] = (), account: str = ACCOUNT) -> dict[str, Any]:
        """Return default settings, but for the rate limit and for a journal that never waits."""
        return {
            "version": 1,
            "state_dir": str(self.folder / "state"),
            "journal": {"max_size": "64GiB"},
            "accounts": [self.account(account, {"start_from": "25d"})],
            "sinks": {
                kind: {**self._sink(kind), "paused": kind in paused, "start_at": "beginning"}
                for kind in self.ports
            },
            "log": {"level": "warning", "format": "json"},
        }

    def account(self, account: str, stream: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of an account whose one stream is read without looking back."""
        return {
            "account_id": account,
            "api_token": f"token-of-{account}",
            "api_url": f"http://127.0.0.1:{self.api}/client/v4",
            "rate_limit": "off",
            "retention": "30d",
            "streams": {self.stream: {"reconcile": [], **_OF_STREAM[self.stream], **stream}},
        }

    def _sink(self, kind: str) -> dict[str, Any]:
        port, folder = self.ports[kind], self.folder
        url, here = f"http://127.0.0.1:{port}", {"host": "127.0.0.1", "port": port}
        tls = {"ca_file": str(folder / "ca.pem")}
        bucket = {
            "type": "object_store",
            "url": "s3://bench",
            "endpoint": url,
            "region": "us-east-1",
            "access_key_id": "bench",
            "secret_access_key": "bench",
            # The last batch would wait for five minutes.
            "batch": {"max_wait": "1s"},
        }
        kinds: dict[str, dict[str, Any]] = {
            "journal": {"type": "null", "format": "raw"},
            "null": {"type": "null", "format": "raw"},
            "stdout": {"type": "stdout"},
            "file": {"type": "file", "path": str(folder / "events.ndjson")},
            "hec": {"type": "splunk_hec", "url": url, "token": "bench"},
            "bulk": {"type": "elasticsearch", "format": "ecs", "url": url, "api_key": "bench"},
            "kafka": {
                "type": "kafka",
                "bootstrap_servers": [f"127.0.0.1:{port}"],
                "idempotent": False,
            },
            "tcp": {"type": "syslog", "transport": "tcp", **here},
            "tls": {"type": "syslog", "transport": "tls", "tls": tls, **here, "host": "localhost"},
            "relp": {"type": "relp", **here},
            "otlp": {"type": "otlp", "format": "ecs", "url": url},
            "sentinel": {
                "type": "sentinel",
                "format": "asim",
                "url": url,
                "authority": url,
                "rule_id": "dcr-0",
                "tenant_id": "bench",
                "client_id": "bench",
                "client_secret": "bench",
            },
            "lake": {**bucket, "compression": "gzip"},
            "lake-parquet": {**bucket, "file_format": "parquet"},
        }
        return {"format": "ocsf", **kinds[kind]}

    @contextmanager
    def daemon(self, **changes: Any) -> Iterator[Daemon]:
        """Run the daemon here; changes are those of ``settings``."""
        with daemon(self.folder, self.settings(**changes), program=self.program) as process:
            yield process


@contextmanager
def stage(
    sinks: Sequence[str],
    api: int,
    keep: Path | None = None,
    program: Path = OWN,
    stream: str = LOGINS,
) -> Iterator[Stage]:
    """Start fresh destinations; they keep what comes in ``keep`` if there is one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        ports = {}
        for kind in sinks:
            words = ["bench.destinations", kind, str(folder), *([str(keep)] if keep else [])]
            if kind in WITHOUT_SERVER:
                ports[kind] = 0
            else:
                ports[kind] = stack.enter_context(broker() if kind == "kafka" else helper(*words))
        yield Stage(folder, api, ports, program, stream)


def record(kind: str) -> Recording:
    """Return what the daemon sends of ``EVENTS`` events into a destination of this kind."""
    with (
        tempfile.TemporaryDirectory(prefix="bench") as kept,
        helper("bench.cloudflare", str(EVENTS)) as api,
        stage((kind,), api, Path(kept)) as here,
    ):
        printed = here.folder / "stdout"
        with daemon(here.folder, here.settings(), printed) as process:
            until(EVENTS, lambda: process.delivered((kind,)))
            process.stop()
        if kind == "kafka":
            return asyncio.run(of_topics(here.ports[kind], ("access.access_requests",)))
        files = {"file": here.folder / "events.ndjson", "stdout": printed}
        paths = [files[kind]] if kind in files else sorted(Path(kept).iterdir())
        return of_pieces(kind, [path.read_bytes() for path in paths])
