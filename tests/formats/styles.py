"""Every format in every setting that changes what it writes."""

from __future__ import annotations

from typing import Any

from forwarder.formats.asim import AsimFormat
from forwarder.formats.cef import CefFormat
from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.leef import LeefFormat
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.raw import RawConfig, RawFormat
from forwarder.formats.templates import FormatConfig
from forwarder.formats.text import TextFormat

TEMPLATED: dict[str, Any] = {
    "ocsf": OcsfFormat(OcsfConfig()),
    "ocsf_raw_data": OcsfFormat(OcsfConfig(raw_data=True)),
    "ocsf_added": OcsfFormat(OcsfConfig()).adding({"unmapped.site": 'a"b\ue003', "message": "x"}),
    "ecs": EcsFormat(EcsConfig()),
    "ecs_original": EcsFormat(EcsConfig(event_original=True)),
    "asim": AsimFormat(FormatConfig()),
    "cim": CimFormat(FormatConfig()),
    "cef": CefFormat(FormatConfig()),
    "cef_added": CefFormat(FormatConfig()).adding({"site": "a=b\\|", "cs1": "mine"}),
    "leef": LeefFormat(FormatConfig()),
    "text": TextFormat(FormatConfig()),
}
STYLES: dict[str, Any] = {
    **TEMPLATED,
    "raw": RawFormat(RawConfig()),
    "raw_without_envelope": RawFormat(RawConfig(envelope=False)),
    "raw_added": RawFormat(RawConfig()).adding({"site.name": "east"}),
    "ocsf_1_7": OcsfFormat(OcsfConfig(ocsf_version="1.7.0")),
    "ocsf_1_9": OcsfFormat(OcsfConfig(ocsf_version="1.9.0")),
}
