"""Each format keeps the contract of all formats."""

from forwarder.formats.asim import AsimFormat
from forwarder.formats.cef import CefFormat
from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsFormat
from forwarder.formats.leef import LeefFormat
from forwarder.formats.ocsf import OcsfFormat
from forwarder.formats.raw import RawFormat
from forwarder.formats.text import TextFormat
from forwarder.testing.format_contract import FormatContract


class TestRaw(FormatContract):
    plugin = RawFormat


class TestRawWithoutEnvelope(FormatContract):
    plugin = RawFormat
    settings = {"envelope": False}  # noqa: RUF012 - as the contract has it


class TestOcsf(FormatContract):
    plugin = OcsfFormat


class TestOcsfWithRawData(FormatContract):
    plugin = OcsfFormat
    settings = {"ocsf_version": "1.9.0", "raw_data": True}  # noqa: RUF012 - as above


class TestEcs(FormatContract):
    plugin = EcsFormat


class TestEcsWithOriginal(FormatContract):
    plugin = EcsFormat
    settings = {"event_original": True}  # noqa: RUF012 - as above


class TestCim(FormatContract):
    plugin = CimFormat


class TestAsim(FormatContract):
    plugin = AsimFormat


class TestCef(FormatContract):
    plugin = CefFormat


class TestLeef(FormatContract):
    plugin = LeefFormat


class TestText(FormatContract):
    plugin = TextFormat
