"""Azurite, as the package-lock beside this file pins it, and versitygw, compiled by Go."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import shutil
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.request import Request, urlopen

from forwarder.testing.network import free_port
from tests.integration.debian import installed
from tests.integration.go_programs import go_program, running
from tests.integration.unavailable import output_of
from tests.sinks.object_store.seaweed import S3Server

_HERE = Path(__file__).parent
ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"a key of this test alone, long enough to be one of Azure's").decode()
"""Azurite takes any account and key that ``AZURITE_ACCOUNTS`` names."""
_VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """Run Azure's emulator with an empty container ``lake``; yield its endpoint."""
    installed(("npm", "node"), ("npm", "nodejs"))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    output_of(command, "npm cannot fetch Azurite", folder)
    port = free_port()
    server: list[str | Path] = [
        folder / "node_modules/.bin/azurite-blob",
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry"),
    ]
    with running(server, folder, port, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _make_container(endpoint)
        yield endpoint


def _make_container(endpoint: str) -> None:
    """Make the container ``lake``; obstore has no call for it."""
    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    named = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + named + f"/{ACCOUNT}/{ACCOUNT}/lake\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = Request(f"{endpoint}/lake?restype=container", headers=headers, method="PUT")
    with urlopen(request, timeout=30):
        pass


@contextlib.contextmanager
def versitygw(folder: Path, programs: Path) -> Iterator[tuple[S3Server, Path]]:
    """Run an S3 service over a folder; yield it and the folder of its bucket.

    The program is compiled into ``programs``, which takes minutes, unless it is there.
    """
    program = go_program("versitygw", _VERSITYGW, programs)
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", key_id="rootkey", secret="rootsecret")
    bucket = folder / "buckets" / server.bucket
    bucket.mkdir(parents=True)
    keys = ("--access", server.key_id, "--secret", server.secret)
    run: list[str | Path] = [
        program,
        *keys,
        "--port",
        f"127.0.0.1:{port}",
        "posix",
        str(bucket.parent),
    ]
    with running(run, folder, port):
        yield server, bucket
