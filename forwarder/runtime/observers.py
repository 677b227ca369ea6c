"""Which observer the settings ask for."""

from __future__ import annotations

from forwarder import __version__
from forwarder.config.models import TracingSettings
from forwarder.core.errors import ConfigError, Fault
from forwarder.core.timing import Clock
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput


def observer_of(
    wanted: TracingSettings | None, metrics: Metrics, output: LogOutput, clock: Clock
) -> Observer:
    """Return who counts and logs, and makes spans if they are wanted.

    Raises ``ConfigError`` when they are and OpenTelemetry is not installed.
    """
    if wanted is None:
        return Observer(metrics, output, clock)
    try:
        from forwarder.observe.tracing import Tracing  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        hint = "pip install 'cloudflare-access-forwarder[otel]', or leave tracing out"
        raise ConfigError([Fault("tracing", "OpenTelemetry is not installed", hint)]) from error
    tracing = Tracing(str(wanted.endpoint), wanted.ratio, __version__, clock.now_us)
    return Observer(metrics, output, clock, tracing)
