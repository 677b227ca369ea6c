"""``deploy/elastic/install.sh``: what it sends, to a server that only writes requests down."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "elastic"
MONITORS = "/_plugins/_alerting/monitors"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the installer needs curl")


@contextmanager
def opensearch() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """Give the address of a server that says it is OpenSearch, and the requests it has had."""
    requests: list[tuple[str, str, bytes]] = []

    class Answers(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append((self.command, self.path, body))
            empty = self.command == "POST" and not body
            answer = b'{"distribution":"opensearch"}'
            self.send_response(400 if empty else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = _answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_monitor_is_sought_by_its_name_and_sent_whole() -> None:
    with opensearch() as (url, requests):
        done = subprocess.run(
            ["/bin/sh", str(FOLDER / "install.sh")],
            env={"PATH": "/usr/bin:/bin", "SIEM_URL": url, "SIEM_API_KEY": "key"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    monitors = (FOLDER / "opensearch/monitors.ndjson").read_bytes().splitlines()
    sent = [body for method, path, body in requests if (method, path) == ("POST", MONITORS)]
    sought = [body for _, path, body in requests if path == f"{MONITORS}/_search"]
    assert (done.returncode, done.stderr) == (0, "")
    assert sent == monitors
    assert len(sought) == len(monitors)
    assert all(b"Cloudflare Access: " in body for body in sought)


def test_a_monitor_that_is_refused_fails_the_installation(tmp_path: Path) -> None:
    folder = tmp_path / "elastic"
    shutil.copytree(FOLDER, folder)
    # An empty line is a monitor without a body, which the server refuses.
    (folder / "opensearch/monitors.ndjson").write_text("\n", encoding="utf-8")
    with opensearch() as (url, _):
        done = subprocess.run(
            ["/bin/sh", str(folder / "install.sh")],
            env={"PATH": "/usr/bin:/bin", "SIEM_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert "HTTP 400" in done.stderr
