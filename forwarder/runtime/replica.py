"""What a process has once, whatever number of journals it works on.

Its clock, its logs and metrics, its event loop, its signals, and what renders events.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import SystemRandom
from socket import gethostname
from typing import Any, TypeVar

import orjson
from prometheus_client import disable_created_metrics

from forwarder import __version__
from forwarder.config import (
    AccountSettings,
    ForwarderSettings,
    LogpushSettings,
    SinkSettings,
    TracingSettings,
    effective,
    secrets_of,
)
from forwarder.config import EventFilter as FilterSettings
from forwarder.core.contracts import FORWARDER_STREAM, Render, StreamKey
from forwarder.core.errors import ConfigError, Fault, ForwarderError, TransientError
from forwarder.core.journal import GapClosed, GapOpened, with_name
from forwarder.core.lease import Announcement, Fleet, Member
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Normaliser
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import Clock, SystemClock, format_seconds
from forwarder.formats.pipeline import Pipelines
from forwarder.formats.shape import EventFilter, Shape
from forwarder.observe.events import JournalTroubled, SettingsRefused, SettingsWarning
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import LibraryHandler, Observer
from forwarder.observe.output import LogOutput, LogStream, Redactor
from forwarder.sources.logpush.mapping import LOGINS, NORMALISERS, POLLED

T = TypeVar("T")

VERSION = __version__
USER_AGENT = f"cloudflare-access-forwarder/{VERSION}"
"""How this program introduces itself to the API and to destinations."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_PARTED = (
    "account {name} shares its credential with accounts in other shards, which count its requests "
    "apart: give it a credential of its own, or lower rate_limit.share"
)
# Room for sinks that are four full pages apart; together they take half of it.
_SHARED_PAGES_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where the process counts and logs."""

    observer: Observer
    metrics: Metrics
    output: LogOutput
    redactor: Redactor


@dataclass(frozen=True, slots=True)
class Reloads:
    """When the settings in force were read, what they lack, and what is wrong with newer ones.

    ``needs_restart`` are keys whose new values wait for a restart; ``refused`` are the faults of
    the file as it was when it was last read, empty if it is in force.
    """

    loaded_us: int
    needs_restart: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    refused_us: int | None = None


class Replica:
    """The settings in force and the parts of the process that every cell works with."""

    def __init__(self, settings: ForwarderSettings, telemetry: Telemetry, clock: Clock) -> None:
        """Take the settings that the process starts with."""
        self.clock = clock
        self.random = SystemRandom()
        self.telemetry = telemetry
        self.rendering = Rendering(settings)
        self._settings = settings
        self._reloads = Reloads(loaded_us=clock.now_us())
        self._about = Member("", VERSION, format_seconds(clock.now_us()))
        self._fleet: Fleet | None = None
        self._placed: Mapping[str, int] = {}
        self._shards = 1

    @property
    def shards(self) -> int:
        """How many shards the journal has; 1 for a file."""
        return self._shards

    @property
    def placed(self) -> Mapping[str, int]:
        """The shard of each account that has one; nothing for a file."""
        return self._placed

    def shard_of(self, account_id: str) -> int:
        """Return the shard that has an account."""
        return self._placed.get(account_id, 0)

    def name_of(self, shard: int) -> str:
        """Return what tells a sink of a shard here from those elsewhere; empty for a file."""
        if self._fleet is None:
            return ""
        return f"{gethostname()}-{shard}" if self._shards > 1 else gethostname()

    def join(self, fleet: Fleet, shards: int) -> None:
        """Share a journal of so many shards from now on."""
        self._fleet, self._shards = fleet, shards

    async def place(self, settings: ForwarderSettings) -> None:
        """Learn the shard of each account of ``settings``; new accounts get one.

        Called before anything reads them. Raises ``TransientError``.
        """
        credentials = {one.account_id: one.credential for one in settings.accounts}
        if self._fleet is not None and not credentials.keys() <= self._placed.keys():
            self._placed = await self._fleet.place(credentials)
            self._warn_of_parted(credentials)

    def _warn_of_parted(self, credentials: Mapping[str, str]) -> None:
        """Report accounts that came to one credential after they were placed apart."""
        shards: dict[str, set[int]] = {}
        for account_id, credential in credentials.items():
            shards.setdefault(credential, set()).add(self.shard_of(account_id))
        for account_id, credential in credentials.items():
            if len(shards[credential]) > 1:
                name = self.rendering.labels.get(account_id, account_id)
                self.emit(SettingsWarning(_PARTED.format(name=name)))

    @property
    def settings(self) -> ForwarderSettings:
        """The settings in force."""
        return self._settings

    @property
    def reloads(self) -> Reloads:
        """What became of the latest attempts to reload."""
        return self._reloads

    @property
    def config_hash(self) -> str:
        """12 hex digits over the settings in force, to see which pods run which.

        Secrets do not take part, nor where this replica is.
        """
        shown = effective(self._settings)
        if shown["logpush"] is not None:
            del shown["logpush"]["peer"]["host"]
        text = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        return blake2b(text, digest_size=6).hexdigest()

    def listens(self, *, admin_url: str = "", push_url: str = "") -> None:
        """Note where this process listens, for other replicas; an empty address changes nothing.

        The others get the name of this host in place of an address that stands for all interfaces.
        """
        self._about = replace(
            self._about,
            admin_url=_from_elsewhere(admin_url) or self._about.admin_url,
            push_url=_from_elsewhere(push_url) or self._about.push_url,
        )

    @property
    def push_url(self) -> str:
        """Where the other replicas pass pushes on to this one; empty if it takes none."""
        return self._about.push_url

    @property
    def announcement(self) -> Announcement:
        """What other replicas must know of this one; secrets do not take part."""
        shown = effective(self._settings)
        text = orjson.dumps([shown["accounts"], shown["sinks"]], option=orjson.OPT_SORT_KEYS)
        return Announcement(
            blake2b(text, digest_size=16).hexdigest(),
            self._settings.root.journal.settings_generation,
            [sink.name for sink in self._settings.sinks],
            self._about,
        )

    def learn(self, new: ForwarderSettings) -> None:
        """Prepare for ``new`` before anything runs with it.

        Its secrets are hidden in logs and its accounts can be rendered from now on.
        """
        self.rendering.learn(new)
        self.telemetry.redactor.know(secret for _, secret in secrets_of(new))
        self.telemetry.output.set_level(new.root.log.level)

    def adopt(self, new: ForwarderSettings, needs_restart: tuple[str, ...]) -> None:
        """Note that everything runs with ``new``, apart from keys that need a restart."""
        self._settings = new
        self._reloads = Reloads(self.clock.now_us(), needs_restart)

    def refuse(self, faults: tuple[str, ...]) -> None:
        """Note that settings with faults were refused: those in force are not those in the file."""
        self._reloads = replace(self._reloads, refused=faults, refused_us=self.clock.now_us())
        self.emit(SettingsRefused(faults))

    def emit(self, event: TelemetryEvent) -> None:
        """Count and log one event; returns at once and never raises."""
        if isinstance(event, GapOpened | GapClosed):
            # The journal knows accounts by their ids; people know them by their names.
            event = replace(event, scope=self.scope_name(event.scope))
        self.telemetry.observer.emit(event)

    def report_journal(self, error: ForwarderError, what: str = "") -> None:
        """Log that the journal failed in ``what``; whoever calls it retries later."""
        hint = error.hint if isinstance(error, TransientError) else ""
        self.emit(JournalTroubled(f"{what}: {error}" if what else str(error), hint))

    def scope_name(self, scope: str) -> str:
        """Return ``ACCOUNT_ID/STREAM`` with the account's name in place of its id."""
        return with_name(scope, self.rendering.labels)


def _from_elsewhere(url: str) -> str:
    """Return a base URL with this host's name if it names no host."""
    return re.sub(r"//(0\.0\.0\.0|\[::\])(?=:)", f"//{gethostname()}", url)


class Rendering:
    """Makes what renders pages for a sink; knows the accounts' names and the streams' normalisers.

    One for a process, since sinks with the same format and shape share their rendered pages.
    """

    def __init__(self, settings: ForwarderSettings) -> None:
        """Begin with the accounts of ``settings``."""
        self.labels: dict[str, str] = {}
        self._normalisers: dict[str, Normaliser] = {FORWARDER_STREAM: OWN_EVENTS}
        self._names: dict[StreamKey, str] = {}
        self._pipelines = Pipelines(
            self._normalisers,
            self.labels,
            names=self._names,
            max_bytes=_SHARED_PAGES_BYTES,
        )
        self.learn(settings)

    def learn(self, settings: ForwarderSettings) -> None:
        """Add the accounts of new settings; pipelines that were made before see them too.

        Accounts that are gone are kept: the journal may still hold their rows.
        """
        # All are filled in place, since pipelines hold on to them.
        for account in settings.accounts:
            self.labels[account.account_id] = account.label
            self._normalisers.update(account.plugin.normalisers)
        logpush = settings.root.logpush
        if logpush is not None:
            for dataset, normaliser in NORMALISERS.items():
                self._normalisers[logpush.stream_prefix + dataset] = normaliser
            for account in settings.accounts:
                self._names |= _names(account, logpush)

    def render_for(self, sink: SinkSettings, shard: int = 0) -> Render:
        """Return what renders a shard's pages for ``sink``; the key of its hashes is read now.

        ``release`` must be called with the result when the sink is closed.
        """
        return self._pipelines.render_for(
            sink.format_plugin, sink.format_config, _shape_of(sink), shard
        )

    def release(self, render: Render) -> None:
        """Drop the pages that are kept for the sink of ``render``."""
        self._pipelines.release(render)


def _names(account: AccountSettings, logpush: LogpushSettings) -> dict[StreamKey, str]:
    """Return what sinks call the logs of an account that may be polled and pushed.

    A pushed log has the name of the polled one, unless they get both: each row would count twice.
    """
    names: dict[StreamKey, str] = {}
    for dataset, polled in POLLED.items():
        pushed = logpush.stream_prefix + dataset
        deliver: str = logpush.deliver if dataset == LOGINS else "both"
        if getattr(getattr(account.config, "streams", None), polled, None) is None:
            deliver = "alone"
        of_polled, of_pushed = {
            "poll": (polled, ""),
            "push": ("", polled),
            "both": (polled, pushed),
            "alone": (polled, polled),
        }[deliver]
        names[StreamKey(account.account_id, polled)] = of_polled
        names[StreamKey(account.account_id, pushed)] = of_pushed
    return names


def _shape_of(sink: SinkSettings) -> Shape:
    options = sink.options
    return Shape(
        only=_filter(options.only),
        unless=_filter(options.except_),
        drop_fields=options.drop_fields,
        hash_fields=options.hash_fields,
        hash_key=options.hash_key.reveal().encode() if options.hash_key else b"",
        add_fields=tuple(options.add_fields.items()),
        redact_request_body=options.redact_request_body,
    )


def _filter(given: FilterSettings | None) -> EventFilter | None:
    return None if given is None else EventFilter(**given.model_dump())


class Signals:
    """What signals have requested: TERM and INT to stop, a second one at once, HUP to reload."""

    def __init__(self) -> None:
        """Nothing was requested yet."""
        self.stop = asyncio.Event()
        self.insist = asyncio.Event()
        self.reason = ""
        self._reload = asyncio.Event()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals while the block runs; then their handlers are as before."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (*_ENDING, signal.SIGHUP)}
        for number in _ENDING:
            loop.add_signal_handler(number, self._end, number.name)
        loop.add_signal_handler(signal.SIGHUP, self.ask_to_reload)
        # ``forwarder run`` blocks it in its first instant, when it would end the process; one that
        # has arrived since is delivered now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                # As PID 1 the default means that SIGTERM is dropped by the kernel.
                signal.signal(number, handler)

    def ask_to_reload(self) -> None:
        """Request a reload from inside the process, as SIGHUP does from outside."""
        self._reload.set()

    def ask_to_stop(self, reason: str) -> None:
        """Request an end from inside the process."""
        self.reason = self.reason or reason
        self.stop.set()

    async def wait(self) -> bool:
        """Wait for a request to reload or to stop; return True if a reload was requested.

        Several requests to reload that came meanwhile count as one.
        """
        waits = [asyncio.ensure_future(event.wait()) for event in (self.stop, self._reload)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        # Cleared before the reload begins: a signal that arrives during it must not be lost.
        reload = self._reload.is_set()
        self._reload.clear()
        return reload

    def _end(self, name: str) -> None:
        if self.stop.is_set():
            self.insist.set()
        self.ask_to_stop(name)


def telemetry_of(settings: ForwarderSettings, stream: LogStream | None = None) -> Telemetry:
    """Return where this process counts and logs; without a ``stream`` it logs to stderr."""
    log = settings.root.log
    redactor = Redactor(secret for _, secret in secrets_of(settings))
    output = LogOutput(stream or sys.stderr, redactor, level=log.level, style=log.format)
    # A time of creation beside each counter would double the number of series.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics()
    observer = observer_of(settings.root.tracing, metrics, output, SystemClock())
    return Telemetry(observer, metrics, output, redactor)


def observer_of(
    wanted: TracingSettings | None, metrics: Metrics, output: LogOutput, clock: Clock
) -> Observer:
    """Return what counts and logs, and also makes spans if they are wanted.

    Raises ``ConfigError`` if spans are wanted and OpenTelemetry is not installed.
    """
    if wanted is None:
        return Observer(metrics, output, clock)
    try:
        from forwarder.observe.tracing import Tracing  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        hint = "pip install 'cloudflare-access-forwarder[otel]', or leave tracing out"
        raise ConfigError([Fault("tracing", "OpenTelemetry is not installed", hint)]) from error
    tracing = Tracing(str(wanted.endpoint), wanted.ratio, VERSION, clock.now_us)
    return Observer(metrics, output, clock, tracing)


@contextmanager
def libraries_logged(observer: Observer) -> Iterator[None]:
    """Send the warnings of libraries to our log while the block runs."""
    root, handler = logging.getLogger(), LibraryHandler(observer.emit)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def run_fast(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine on the daemon's kind of loop, so that its errors have the same texts."""
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(work)


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory if uvloop is installed; else None, which means asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
