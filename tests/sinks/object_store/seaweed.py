"""SeaweedFS as an S3 service: a program out of a wheel, with signatures and permissions."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from forwarder.testing.network import free_port

PROGRAM = Path(sys.executable).parent / "weed"
_START_UP = 60.0


@dataclass(frozen=True)
class S3Server:
    """An S3 service with one bucket; ``key_id`` may write, read and list it."""

    url: str
    bucket: str = "lake"
    key_id: str = "lakekey"
    secret: str = "lakesecret"
    admin: tuple[str, str] = ("rootkey", "rootsecret")

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a sink that writes there."""
        return {
            "url": f"s3://{self.bucket}/access",
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": self.key_id,
            "secret_access_key": self.secret,
            **more,
        }

    def store(self) -> S3Store:
        """Return the bucket as its administrator sees it."""
        return S3Store(
            self.bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=self.admin[0],
            secret_access_key=self.admin[1],
            client_options={"allow_http": True},
        )

    def objects(self) -> dict[str, bytes]:
        """Return everything that is listed, and the bytes of each object."""
        store = self.store()
        names = [one["path"] for one in obstore.list(store).collect()]
        return {name: bytes(obstore.get(store, name).bytes()) for name in names}


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[S3Server]:
    """Run a server with its data in ``folder``."""
    server = S3Server(f"http://127.0.0.1:{(port := free_port())}")
    identities = folder / "s3.json"
    identities.write_text(json.dumps({"identities": _identities(server)}))
    options: dict[str, Any] = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3": "true",
        "s3.port": port,
        "s3.config": identities,
        "s3.localSocket": folder / "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "filer.localSocket": folder / "filer.sock",
        "master.volumeSizeLimitMB": 64,
        # It would report to its makers.
        "master.telemetry": "false",
    }
    for name in ("master", "volume", "filer"):
        options[f"{name}.port"] = free_port()
    for name in ("master", "volume", "filer", "s3"):
        options[f"{name}.port.grpc"] = free_port()
    command = [str(PROGRAM), "server", *(f"-{key}={value}" for key, value in options.items())]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _wait(server, process)
            yield server
        finally:
            process.kill()
            process.wait()


def _identities(server: S3Server) -> list[dict[str, Any]]:
    rights = [f"{action}:{server.bucket}" for action in ("Read", "Write", "List")]
    keys = (server.key_id, server.secret), server.admin
    return [
        {
            "name": key,
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": actions,
        }
        for (key, secret), actions in zip(keys, (rights, ["Admin"]), strict=True)
    ]


def _wait(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Make the bucket, and return when the service takes objects."""
    until = time.monotonic() + _START_UP
    while True:
        try:
            # An administrator's first object makes its bucket.
            obstore.put(server.store(), "ready", b"")
            return obstore.delete(server.store(), "ready")
        except (BaseError, OSError):
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)  # noqa: TID251 - the other side is a process
