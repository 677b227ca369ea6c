"""What only the plugins themselves can judge, before anything starts."""

from __future__ import annotations

from forwarder.config import ForwarderSettings
from forwarder.core.contracts import SinkContext
from forwarder.core.errors import ConfigError, Fault
from forwarder.core.timing import SystemClock
from forwarder.runtime.rendering import Rendering


def preflight(settings: ForwarderSettings) -> None:
    """Make every sink and format once and throw it away; raises ``ConfigError`` with all faults."""
    faults: list[Fault] = []
    rendering = Rendering(settings)
    for sink in settings.sinks:
        try:
            writer = sink.format_plugin(sink.format_config)
            rendering.render_for(sink)
            context = SinkContext(sink.name, sink.format, writer.media_type, SystemClock())
            sink.plugin(sink.config, context)
        except ConfigError as error:
            faults += [
                Fault(f"sinks.{sink.name}", fault.problem, fault.hint) for fault in error.faults
            ]
    if faults:
        raise ConfigError(faults)
