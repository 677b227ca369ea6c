"""Reads the Splunk app: its files, its macros, and the words that its searches use."""

from __future__ import annotations

import configparser
import csv
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

from deploy.splunk.package import APP

_CALL = re.compile(r"`(\w+)(?:\(([^`]*)\))?`")
_TEXT = re.compile(r'"[^"]*"')
_OPTION = re.compile(r"\b(\w+)=[\w.\"-]+(?=[ ,|\]]|$)")
_CREATED = re.compile(r"\bAS (\w+)|(?:\beval |, )(\w+)=(?!=)")

Conf = Mapping[str, Mapping[str, str]]


@cache
def conf(name: str) -> Conf:
    """Return the stanzas of ``default/NAME.conf``; a backslash continues a line."""
    text = (APP / "default" / f"{name}.conf").read_text(encoding="utf-8").replace("\\\n", "")
    parser = configparser.RawConfigParser(delimiters="=", comment_prefixes="#", strict=True)
    setattr(parser, "optionxform", str)  # noqa: B010 - names keep their case; mypy takes it for a method
    parser.read_string(text)
    return {stanza: dict(parser[stanza]) for stanza in parser.sections()}


@cache
def lookup(name: str) -> list[dict[str, str]]:
    """Return the rows of a lookup by the name of its stanza in transforms.conf."""
    path = APP / "lookups" / conf("transforms")[name]["filename"]
    with path.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the definition of each view by name."""
    found = {}
    for path in sorted((APP / "default/data/ui/views").glob("*.xml")):
        text = ET.parse(path).findtext("definition")
        assert text, path
        found[path.stem] = json.loads(text)
    return found


def searches() -> dict[str, str]:
    """Return every search as shipped: saved searches by title, panels as ``view/panel``."""
    found = {name: stanza["search"] for name, stanza in conf("savedsearches").items()}
    for view, definition in dashboards().items():
        for name, source in definition["dataSources"].items():
            found[f"{view}/{name}"] = source["options"]["query"]
    return found


def macros_in(text: str) -> list[str]:
    """Return the macros that a search calls, by the names of their stanzas."""
    return [
        f"{name}({arguments.count(',') + 1})" if arguments else name
        for name, arguments in _CALL.findall(text)
    ]


def expanded(text: str) -> str:
    """Return a search with its macros replaced by what they stand for, which is all they do."""
    macros = conf("macros")

    def one(call: re.Match[str]) -> str:
        (stanza,) = macros_in(call[0])
        meaning = macros[stanza]["definition"]
        names = [name.strip() for name in macros[stanza].get("args", "").split(",")]
        for name, value in zip(names, (call[2] or "").split(","), strict=True):
            meaning = meaning.replace(f"${name}$", value.strip()) if name else meaning
        return meaning

    while _CALL.search(text):
        text = _CALL.sub(one, text)
    return text


def created_in(search: str) -> set[str]:
    """Return the fields that a search makes by itself."""
    return {name for pair in _CREATED.findall(search) for name in pair if name}


def words_of(search: str) -> Iterator[str]:
    """Yield the words of an expanded search that are neither texts, numbers nor options."""
    text = _TEXT.sub('""', search)
    base, *rest = text.split("|")
    # field=value before the first pipe; after it, name=value is an option of a command.
    fields = re.findall(r"\b([A-Za-z_]\w*)=", base)
    yield from fields
    for part in rest:
        without = _OPTION.sub("", part) if not part.lstrip().startswith(("where", "eval")) else part
        yield from re.findall(r"(?<![\w.-])[A-Za-z_]\w*", re.sub(r"-\d+\w(@\w)?", "", without))


def wanted_values(search: str) -> set[tuple[str, str]]:
    """Return the (field, value) pairs that a search compares; ``*`` is any value."""
    base = search.split("|", maxsplit=1)[0]
    pairs = re.findall(r"\b([A-Za-z_]\w*)=(\*|[\w.]+)", base)
    return {*pairs, *re.findall(r'\b([A-Za-z_]\w*)[!=]="([^"]*)"', search)}
