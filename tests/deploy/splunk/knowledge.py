"""What Splunk makes of an event by the app's props.conf, as far as tables and names decide it.

Of calculated fields only ``lower``, ``coalesce`` and ``nullif`` of names and constant texts are
worked out; what anything else gives is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.raw import RawConfig, RawFormat
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, ROWS, page_of
from tests.content.golden import cases
from tests.deploy.splunk.app import conf, lookup

FORMATS: Mapping[str, Any] = {
    "": CimFormat(FormatConfig()),
    ":ocsf": OcsfFormat(OcsfConfig()),
    ":ecs": EcsFormat(EcsConfig()),
    ":raw": RawFormat(RawConfig()),
}
"""What is written by the end of its sourcetype."""
UNKNOWN_HERE = object()
"""The value of a calculated field that is not worked out."""
Fields = dict[str, Any]
_TWICE = re.compile(r"""nullif\(nullif\(('[^']+'), "(\w+)"\), "(\w+)"\)""")


def rendered(stream: str, row: Mapping[str, Any], style: Any) -> bytes:
    """Return the body that the sink gets."""
    (event,) = Pipeline(style, NORMALISERS, ACCOUNTS)(page_of(stream, [row])).events
    return bytes(event.body)


def sample_fields(sourcetype: str) -> Iterator[tuple[str, Fields]]:
    """Yield name and fields, under ``sourcetype``, of each sample row and row of an example."""
    _, stream, *_ = sourcetype.split(":")
    style = FORMATS[sourcetype.removeprefix(f"cloudflare:{stream}")]
    golden = [
        (f"{name}: {example.name} {number}", one)
        for name, case in cases().items()
        for example in case.match + case.silent
        for number, one in enumerate(example.rows)
        if one.stream == stream
    ]
    for name, row in [*ROWS[stream].items(), *((name, one.row) for name, one in golden)]:
        yield name, fields_of(rendered(stream, row, style), sourcetype)


def fields_of(body: bytes, sourcetype: str) -> Fields:
    """Return the fields of one event: JSON, transforms, aliases, calculated fields, lookups."""
    stanza = conf("props")[sourcetype]
    found = extracted(body)
    for transform in _names(stanza.get("REPORT-forwarder", "")):
        if match := re.search(conf("transforms")[transform]["REGEX"], body.decode()):
            found |= match.groupdict()
    # Splunk's order: aliases, then calculated fields (which do not see each other), then lookups.
    before = dict(found)
    for source, name in aliases(stanza):
        if source in before:
            found[name] = before[source]
    found |= {name: _calculated(text, found) for name, text in calculated(stanza).items()}
    for table, key, field, outputs in lookups(stanza):
        value = str(found.get(field, "")).lower()
        for entry in lookup(table):
            if entry[key].lower() == value:
                found |= {name: entry[name] or None for name in outputs}
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def extracted(body: bytes) -> Fields:
    """Return what ``KV_MODE = json`` finds: dots lead into objects, ``{}`` into lists."""
    values: dict[str, list[Any]] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, f"{path}{{}}")
        else:
            # Splunk writes null out, too.
            text = (
                "null"
                if value is None
                else str(value).lower()
                if isinstance(value, bool)
                else value
            )
            values.setdefault(path, []).append(text)

    walk(orjson.loads(body), "")
    return {path: many if "{}" in path else many[0] for path, many in values.items()}


def aliases(stanza: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (field, new name) of a stanza's aliases."""
    text = " ".join(value for key, value in stanza.items() if key.startswith("FIELDALIAS-"))
    pairs = re.findall(r'("[^"]+"|\S+) AS (\S+)', text)
    return [(source.strip('"'), name) for source, name in pairs]


def calculated(stanza: Mapping[str, str]) -> dict[str, str]:
    """Return the calculated fields of a stanza."""
    return {key[5:]: value for key, value in stanza.items() if key.startswith("EVAL-")}


def lookups(stanza: Mapping[str, str]) -> list[tuple[str, str, str, list[str]]]:
    """Return (table, its key, the event's field, the fields put out) of a stanza's lookups."""
    found = []
    for key, value in stanza.items():
        if key.startswith("LOOKUP-"):
            given, outputs = value.split(" OUTPUT ")
            table, column, *alias = given.split(" ")
            found.append((table, column, alias[-1] if alias else column, outputs.split()))
    return found


def names_in(expression: str) -> list[str]:
    """Return the fields that a calculated field is made of, in order."""
    return re.findall(r"'([^']+)'", expression)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name]


def _calculated(text: str, found: Fields) -> Any:
    if re.fullmatch(r'"[^"]*"', text):
        return text.strip('"')
    if lowered := re.fullmatch(r"lower\('([^']+)'\)", text):
        return str(found.get(lowered[1], "")).lower()
    text = _TWICE.sub(r'nullif(\1, "\2|\3")', text)
    one = r"""nullif\('[^']+', "[^"]*"\)|'[^']+'|"[^"]*\""""
    if not re.fullmatch(rf"coalesce\((?:{one})(?:, (?:{one}))*\)", text):
        return UNKNOWN_HERE
    parts = [
        (name or other, no, constant)
        for name, no, other, constant in re.findall(
            r"""nullif\('([^']+)', "([^"]*)"\)|'([^']+)'|"([^"]*)\"""", text
        )
    ]
    values = [constant or found.get(name, "") for name, _, constant in parts]
    return next(
        (
            value
            for value, (_, no, _) in zip(values, parts, strict=True)
            if value not in ("", *no.split("|"))
        ),
        None,
    )
