"""From settings to the pipeline that renders pages for one sink."""

from __future__ import annotations

from forwarder.config import EventFilter as FilterSettings
from forwarder.config import ForwarderSettings, SinkSettings
from forwarder.core.contracts import FORWARDER_STREAM, Render
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Normaliser
from forwarder.formats.pipeline import Pipelines
from forwarder.formats.shape import EventFilter, Shape

_SHARED_PAGES_BYTES = 8 * 2**20
"""Room for sinks that are four full pages apart; together they take half of it."""


class Rendering:
    """Knows the accounts' labels and the streams' normalisers; a reload may bring more of them."""

    def __init__(self, settings: ForwarderSettings) -> None:
        """Begin with the accounts of ``settings``."""
        self._labels: dict[str, str] = {}
        self._normalisers: dict[str, Normaliser] = {FORWARDER_STREAM: OWN_EVENTS}
        self._pipelines = Pipelines(self._normalisers, self._labels, max_bytes=_SHARED_PAGES_BYTES)
        self.learn(settings)

    def learn(self, settings: ForwarderSettings) -> None:
        """Take the accounts of new settings; pipelines that were made before see them too."""
        for account in settings.accounts:
            self._labels[account.account_id] = account.label
            self._normalisers.update(account.plugin.normalisers)

    def render_for(self, sink: SinkSettings) -> Render:
        """Return what renders pages for ``sink``; its key of hashes is read now.

        Sinks with the same format and shape share their pages, until each is given back.
        """
        return self._pipelines.render_for(sink.format_plugin, sink.format_config, shape_of(sink))

    def release(self, render: Render) -> None:
        """Take back what ``render_for`` gave: its sink is gone."""
        self._pipelines.release(render)


def shape_of(sink: SinkSettings) -> Shape:
    """Return what the settings say about the events that a sink gets."""
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
