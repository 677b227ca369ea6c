"""``forwarder demo``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forwarder.cli.options import PORT, RATE, DurationType

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings
    from forwarder.runtime.daemon import Daemon
    from forwarder.runtime.replica import Signals, Telemetry
    from forwarder.simulator import Simulator

_SETTINGS = """\
version: 1
state_dir: {state_dir}
accounts:
  - account_id: {account}
    name: demo
    api_token: {token}
    api_url: {url}
    streams:
      access_requests: {{ poll_interval: 1s }}
      scim_updates: {{ poll_interval: 2s }}
sinks:
  console: {{ type: stdout, format: {format} }}
admin: {{ listen: "127.0.0.1:{port}" }}
log: {{ level: warning }}
"""


@click.command()
@click.option("--for", "duration", type=DurationType(), help="End after this long; else Ctrl-C.")
@click.option("--format", "style", default="ocsf", show_default=True, help="Format of the events.")
@click.option(
    "--rate", type=RATE, default=2.0, show_default=True, help="Simulated logins a second."
)
@click.option(
    "--port", type=PORT, default=0, help="Port of status and metrics; default: a free one."
)
def command(*, duration: float | None, style: str, rate: float, port: int) -> None:
    """Run a simulated Cloudflare and the forwarder, and print events as they arrive.

    Needs no account, no settings and no network; leaves nothing behind.
    """
    from forwarder.runtime.replica import fast_loop  # noqa: PLC0415 - imports everything

    with tempfile.TemporaryDirectory(prefix="forwarder-demo-") as folder:
        demo = _Demo(Path(folder), style, rate, port)
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            sys.exit(runner.run(demo.run(duration)))


class _Demo:
    def __init__(self, folder: Path, style: str, rate: float, port: int) -> None:
        self._folder, self._style, self._rate, self._port = folder, style, rate, port

    async def run(self, duration: float | None) -> int:
        from forwarder.core.timing import SystemClock  # noqa: PLC0415 - as above
        from forwarder.runtime.daemon import Daemon  # noqa: PLC0415 - as above
        from forwarder.runtime.replica import Signals, telemetry_of  # noqa: PLC0415 - as above
        from forwarder.simulator import Simulator, SimulatorSettings  # noqa: PLC0415 - as above

        settings = SimulatorSettings(rate=self._rate, scim_rate=self._rate / 10, history=60.0)
        async with Simulator(settings) as simulator:
            checked = self._settings(simulator, await simulator.start())
            telemetry, signals = telemetry_of(checked), Signals()
            daemon = Daemon(checked, lambda: checked, telemetry, signals, SystemClock())
            settled = await _attended(daemon, signals, duration)
            _summary(simulator, telemetry)
            return 0 if settled else 1

    def _settings(self, simulator: Simulator, url: str) -> ForwarderSettings:
        from forwarder.config import load  # noqa: PLC0415 - as above

        path = self._folder / "config.yaml"
        text = _SETTINGS.format(
            state_dir=self._folder / "state",
            account=simulator.settings.accounts[0],
            token=simulator.settings.tokens[0].value,
            url=url,
            format=self._style,
            port=self._port,
        )
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        _say(f"simulated Cloudflare API: {url}")
        return load(path, os.environ)


async def _attended(daemon: Daemon, signals: Signals, duration: float | None) -> bool:
    """Run the daemon, say where it can be watched, and end it in time."""
    with signals.caught():
        running = asyncio.create_task(daemon.run())
        started = asyncio.create_task(daemon.running.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            _say(f"status: {daemon.admin_url}/   metrics: {daemon.admin_url}/metrics")
            _say("events follow on stdout" + ("" if duration else "; Ctrl-C ends it"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(duration):
                    await _until_unwanted(signals)
            signals.ask_to_stop("the demonstration is over")
        started.cancel()
        return await running


async def _until_unwanted(signals: Signals) -> None:
    """Return after a signal, or when nobody reads stdout any more (``forwarder demo | head``)."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    while not signals.stop.is_set() and not reader.poll(0):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(signals.stop.wait(), 0.5)


def _summary(simulator: Simulator, telemetry: Telemetry) -> None:
    account = simulator.settings.accounts[0]
    shown = sum(
        simulator.shown_count(account, stream) for stream in ("access_requests", "scim_updates")
    )
    value = telemetry.metrics.registry.get_sample_value
    delivered = sum(
        value("forwarder_sink_delivered_events_total", {"sink": "console", "stream": stream}) or 0
        for stream in ("access_requests", "scim_updates")
    )
    _say(f"rows shown by the API: {shown}, events delivered: {delivered:.0f}")


def _say(text: str) -> None:
    click.echo(f"demo: {text}", err=True)
