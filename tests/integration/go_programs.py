"""Servers that Go compiles, and how any server of a test is run.

``GO_PROGRAMS`` names a folder to keep what was compiled in; else each run compiles again.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from forwarder.testing.network import free_port, wait_for_port
from tests.integration.unavailable import Unavailable, output_of

_VICTORIA_LOGS = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1"
_BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.165.0"
_PARTS = """\
dist: {name: otelcol, output_path: out}
receivers: [{gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v0.165.0}]
exporters: [{gomod: go.opentelemetry.io/collector/exporter/debugexporter v0.165.0}]
providers: [{gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v1.71.0}]
conf_resolver: {default_uri_scheme: file}
"""
_PIPELINE = """\
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:PORT"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], exporters: [debug]}}
"""


def go_program(name: str, module: str, programs: Path) -> Path:
    """Return a program of this name in ``programs``, compiled unless it is there."""
    program = programs / name
    if not program.exists():
        command = ["env", f"GOBIN={programs}", _go(), "install", module]
        output_of(command, f"Go cannot build {name}")
    return program


def _go() -> str:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        raise Unavailable("go not found")
    return go


@contextlib.contextmanager
def victoria_logs(folder: Path, programs: Path) -> Iterator[str]:
    """Run an empty VictoriaLogs; yield its URL."""
    program, port = go_program("victoria-logs", _VICTORIA_LOGS, programs), free_port()
    options = (f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}")
    with running([program, *options, "-retentionPeriod=100y"], folder, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def collector(folder: Path, programs: Path) -> Iterator[tuple[str, Path]]:
    """Run an OpenTelemetry Collector; yield its URL and the file with what it has received."""
    program, port = programs / "otelcol", free_port()
    if not program.exists():
        builder = go_program("builder", _BUILDER, programs)
        (folder / "parts.yaml").write_text(_PARTS)
        path = f"PATH={Path(_go()).parent}:/usr/bin:/bin"
        command: list[str | Path] = ["env", path, builder, "--config", "parts.yaml"]
        output_of(command, "the collector cannot be built", folder)
        shutil.move(folder / "out" / "otelcol", program)
    (folder / "pipeline.yaml").write_text(_PIPELINE.replace("PORT", str(port)))
    with running([program, "--config", "file:pipeline.yaml"], folder, port):
        yield f"http://127.0.0.1:{port}", folder / "server.log"


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], folder: Path, port: int, more: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server in ``folder`` until the block ends; it has ``server.log`` there."""
    words = ["env", *(f"{name}={value}" for name, value in (more or {}).items()), *command]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for_port(port, 60)
            yield
        finally:
            process.kill()
            process.wait()
