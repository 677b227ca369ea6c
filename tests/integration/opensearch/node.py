"""One OpenSearch node in a process of its own, from Maven artifacts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import orjson

from forwarder.testing.network import free_port
from tests.integration.debian import installed
from tests.integration.unavailable import Unavailable, output_of

_HERE = Path(__file__).parent
_START_UP = 300.0


@dataclass
class Node:
    """A node that can be stopped, killed and started again with its data."""

    jars: Path
    home: Path
    port: int
    launcher: Path = _HERE / "OneNode.java"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        java = ["java", "-Xms512m", "-Xmx512m", "-cp", f"{self.jars}/*"]
        launcher = [str(self.launcher), str(self.home), str(self.port)]
        with (self.home / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*java, *launcher], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_UP
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.call("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s")
            except (URLError, OSError):
                self._process_waits(0.2)
            else:
                return
        tail = (self.home / "node.log").read_text("utf-8", "replace")[-2000:]
        raise Unavailable(f"{self.launcher.parent.name} did not start: {tail}")

    def stop(self) -> None:
        """Let it end in order."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate(timeout=_START_UP)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate(timeout=_START_UP)

    def call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Send one JSON request and return the answer; raises for what is not a success."""
        request = Request(f"{self.url}{path}", method=method)
        request.add_header("Content-Type", "application/json")
        data = None if body is None else orjson.dumps(body)
        with urlopen(request, data, timeout=60) as answer:
            found: dict[str, object] = orjson.loads(answer.read())
            return found

    def _process_waits(self, seconds: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return


@contextmanager
def run_node(folder: Path) -> Iterator[Node]:
    """Fetch the jars into Maven's own cache, start a node, and stop it at the end."""
    installed(("java", "mvn"), ("default-jdk-headless", "maven"))
    node = Node(fetch_jars(_HERE / "pom.xml", folder / "jars"), folder / "home", free_port())
    try:
        node.start()
        yield node
    finally:
        node.kill()


def fetch_jars(pom: Path, jars: Path) -> Path:
    """Lay the jars that ``pom`` names in a folder, and return it."""
    command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom)]
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    output_of([*command, *goal], f"Maven cannot fetch the artifacts of {pom.parent.name}")
    return jars
