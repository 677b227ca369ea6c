"""``forwarder run``, and what stands in for Cloudflare: ``simulate`` and ``demo``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forwarder.cli.access import settings_from
from forwarder.cli.terminal import PORT, RATE, DurationType, config_option, say, tell
from forwarder.core.errors import system_reason

if TYPE_CHECKING:
    from forwarder.runtime.daemon import Daemon
    from forwarder.runtime.replica import Signals
    from forwarder.simulator import Simulator
    from forwarder.simulator.pushing import Job

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
_STREAMS = ("access_requests", "scim_updates")
_UPLOAD_EVERY = 5.0
"""Seconds; Cloudflare waits for 30 unless a job says otherwise."""
_DELIVERED = "forwarder_sink_delivered_events_total"


@click.command()
@config_option
def run(config: Path) -> None:
    """Tail Cloudflare and deliver to the sinks until stopped.

    SIGTERM or SIGINT stops it once everything in flight has settled, within 25 seconds; a second
    signal stops it at once. SIGHUP reloads the settings. Logs go to stderr.

    Exit status: 0 after a graceful stop, 1 if something failed or did not settle in time, 2 if the
    settings or the state folder cannot be used, or another process uses that folder.
    """
    # Until the event loop runs, a request to reload would end the process; the kernel keeps it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from forwarder.runtime.daemon import run_daemon  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    # os._exit: after a second signal nothing may wait, not even for threads.
    sys.exit(run_daemon(settings, lambda: settings_from(config), os._exit))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=PORT, default=8787, show_default=True, help="Port; 0 takes any free one."
)
@click.option(
    "--rate", type=RATE, default=2.0, show_default=True, help="Logins per second and account."
)
@click.option(
    "--scim-rate", type=RATE, default=0.1, show_default=True, help="SCIM updates per second."
)
@click.option(
    "--audit-rate", type=RATE, default=0.02, show_default=True, help="Audit rows per second."
)
@click.option(
    "--jit-rate",
    type=RATE,
    default=0.01,
    show_default=True,
    help="Requests for temporary access per second.",
)
@click.option(
    "--anonymous-rate",
    type=RATE,
    default=0.1,
    show_default=True,
    help="Logins without identity per second.",
)
@click.option(
    "--history",
    type=DurationType(),
    default="1h",
    show_default=True,
    help="How far back the first rows lie.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same traffic.")
@click.option("--account", "accounts", multiple=True, help="Account ids; repeatable.")
@click.option("--token", "tokens", multiple=True, help="Valid API tokens; repeatable.")
@click.option("--unlimited", is_flag=True, help="Without Cloudflare's request quota.")
@click.option("--push", metavar="URL", help="Also push the logins there, as a job of Logpush does.")
@click.option(
    "--push-faults",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of pushes that are cut, repeated, regrouped, reordered, ...",
)
def simulate(  # noqa: PLR0913 - one argument per option
    *,
    host: str,
    port: int,
    rate: float,
    scim_rate: float,
    audit_rate: float,
    jit_rate: float,
    anonymous_rate: float,
    history: float,
    seed: int,
    accounts: tuple[str, ...],
    tokens: tuple[str, ...],
    unlimited: bool,
    push: str | None,
    push_faults: float,
) -> None:
    """Serve a simulated Cloudflare API, and print its base URL on stdout.

    Companies, people, applications and their logins are made up from the seed. Set `api_url` of an
    account to the URL. Control requests below /_simulator/ cause faults and return what was shown.

    Example: `forwarder simulate --port 8787 --history 10m`
    """
    from forwarder.simulator import Simulator, SimulatorSettings, Token  # noqa: PLC0415
    from forwarder.simulator.pushing import MISHAPS, Job  # noqa: PLC0415 - imports aiohttp

    defaults = SimulatorSettings()
    settings = SimulatorSettings(
        accounts=accounts or defaults.accounts,
        tokens=tuple(Token(token) for token in tokens) or defaults.tokens,
        seed=seed,
        rate=rate,
        scim_rate=scim_rate,
        audit_rate=audit_rate,
        jit_rate=jit_rate,
        anonymous_rate=anonymous_rate,
        history=history,
        policy=None if unlimited else defaults.policy,
        query_policy=None if unlimited else defaults.query_policy,
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            serving = Simulator(settings)
            job = Job(push, seed, mishaps=MISHAPS, share=push_faults) if push else None
            asyncio.run(_serve(serving, host, port, job))
    except OSError as error:
        problem = f"cannot listen on {host}:{port}: {system_reason(error)}"
        raise click.ClickException(problem) from error


async def _serve(simulator: Simulator, host: str, port: int, job: Job | None) -> None:
    """Serve, and run the job beside it, until one of them fails."""
    from forwarder.simulator import pushing  # noqa: PLC0415 - imports aiohttp

    tasks = [simulator.serve(host, port, say)]
    if job is not None:
        tasks.append(pushing.run(simulator, job, _UPLOAD_EVERY))
    await asyncio.gather(*tasks)


@click.command()
@click.option("--for", "duration", type=DurationType(), help="Stop after this; default: Ctrl-C.")
@click.option("--format", "style", default="text", show_default=True, help="Format of the events.")
@click.option("--json", "as_json", is_flag=True, help="Print whole events (--format ocsf).")
@click.option(
    "--rate", type=RATE, default=2.0, show_default=True, help="Simulated logins per second."
)
@click.option(
    "--port", type=PORT, default=0, help="Port of status and metrics; default: any free one."
)
def demo(*, duration: float | None, style: str, as_json: bool, rate: float, port: int) -> None:
    """Run a simulated Cloudflare and the forwarder, and print events as they arrive.

    Needs no account, no settings and no network; leaves nothing behind.
    """
    from forwarder.runtime.replica import fast_loop  # noqa: PLC0415 - imports everything

    style = "ocsf" if as_json else style
    with (
        tempfile.TemporaryDirectory(prefix="forwarder-demo-") as folder,
        asyncio.Runner(loop_factory=fast_loop()) as runner,
    ):
        settled = runner.run(_demonstrate(Path(folder), style, rate, port, duration))
    sys.exit(0 if settled else 1)


async def _demonstrate(
    folder: Path, style: str, rate: float, port: int, duration: float | None
) -> bool:
    from forwarder.core.timing import SystemClock  # noqa: PLC0415 - as above
    from forwarder.runtime.daemon import Daemon  # noqa: PLC0415 - as above
    from forwarder.runtime.replica import Signals, telemetry_of  # noqa: PLC0415 - as above
    from forwarder.simulator import Simulator, SimulatorSettings  # noqa: PLC0415 - as above

    # A minute of history, so that events appear at once.
    traffic = SimulatorSettings(rate=rate, scim_rate=rate / 10, history=60.0)
    async with Simulator(traffic) as simulator:
        text = _SETTINGS.format(
            state_dir=folder / "state",
            account=traffic.accounts[0],
            token=traffic.tokens[0].value,
            url=simulator.url,
            format=style,
            port=port,
        )
        path = folder / "config.yaml"
        # It holds the token: closed to others before it has any content.
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        settings = settings_from(path)
        _note(f"simulated Cloudflare API: {simulator.url}")
        telemetry, signals = telemetry_of(settings), Signals()
        daemon = Daemon(settings, lambda: settings, telemetry, signals, SystemClock())
        settled = await _attended(daemon, signals, duration)
        shown = sum(simulator.shown_count(traffic.accounts[0], stream) for stream in _STREAMS)
        value = telemetry.metrics.registry.get_sample_value
        delivered = sum(
            value(_DELIVERED, {"sink": "console", "stream": stream}) or 0 for stream in _STREAMS
        )
        _note(f"rows shown by the API: {shown}, events delivered: {delivered:.0f}")
        return settled


async def _attended(daemon: Daemon, signals: Signals, duration: float | None) -> bool:
    """Run the daemon, print where its status is, and stop it in time."""
    with signals.caught():
        running = asyncio.create_task(daemon.run())
        started = asyncio.create_task(daemon.running.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            _note(f"status: {daemon.admin_url}/   metrics: {daemon.admin_url}/metrics")
            _note("events follow on stdout" + ("" if duration else "; Ctrl-C stops it"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(duration):
                    await _until_unwanted(signals)
            # The same way as a signal, so that the sinks drain.
            signals.ask_to_stop("the demonstration is over")
        started.cancel()
        return await running


async def _until_unwanted(signals: Signals) -> None:
    """Return after a signal, or when nobody reads stdout any more (``forwarder demo | head``)."""
    reader = select.poll()
    # No events: poll reports a closed reader (POLLERR) even if it is asked for nothing.
    reader.register(sys.stdout.fileno(), 0)
    while not signals.stop.is_set() and not reader.poll(0):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(signals.stop.wait(), 0.5)


def _note(text: str) -> None:
    tell(f"demo: {text}")
