"""The settings file as plain values, with the line of each value, and its variables.

``${VAR}`` and ``${VAR:-default}`` are resolved in scalars after parsing, so that the value of a
variable can never change the structure of the file. ``$${`` is a plain ``${``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from forwarder.core.errors import ConfigError, Fault
from forwarder.transport.settings import WrittenFloat, WrittenInt

Place: TypeAlias = tuple[str | int, ...]
"""The path of a value: keys and list indices from the top."""

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"
_MAPPING = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"
_DEEPEST = 50
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Document:
    """A settings file: ``data`` as written, variables unresolved; ``lines`` count from 1."""

    name: str
    data: Any
    lines: Mapping[Place, int] = field(default_factory=dict)

    def fault(self, place: Place, problem: str, hint: str = "") -> Fault:
        """Return a fault that names the file, the line and the path of ``place``."""
        # A missing key has no line of its own: take that of the nearest parent.
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        return Fault(": ".join(filter(None, (f"{self.name}{line}", dotted(place)))), problem, hint)

    def has(self, place: Place) -> bool:
        """Return True if the file has something at ``place``."""
        return self.written(place, _ABSENT) is not _ABSENT

    def written(self, place: Place, default: Any = None) -> Any:
        """Return what the file has at ``place``, variables unresolved, or ``default``."""
        found = self.data
        for part in place:
            fits = isinstance(found, list) if isinstance(part, int) else isinstance(found, dict)
            if not fits or (part not in found if isinstance(part, str) else part >= len(found)):
                return default
            found = found[part]
        return found


def dotted(place: Place) -> str:
    """Return ``sinks.splunk.urls[0]`` for ``("sinks", "splunk", "urls", 0)``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(path: Path) -> Document:
    """Read and parse a settings file.

    Raises ``ConfigError`` if it cannot be read, is not YAML, or has a key twice.
    """
    try:
        _refuse_named_pipe(path)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"the settings cannot be read: {error.strerror}"
        raise ConfigError([Fault(str(path), problem, "name the file with -c")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(str(path), "the settings are not UTF-8 text")]) from error
    return parse_document(text, str(path))


def _refuse_named_pipe(path: Path) -> None:
    """Raise ``OSError`` for a pipe whose writer may never come: a reload would wait for ever.

    The shell's ``<(...)`` is a pipe, too, below /dev, and has its writer already.
    """
    if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
        raise OSError(errno.EINVAL, "it is a named pipe")


def parse_document(text: str, name: str = "settings") -> Document:
    """Parse YAML; every fault begins with ``name``."""
    try:
        return _Reader(text, name).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        said = error.problem or ""
        hint = _hint(text, mark.line if mark else 0, said)
        # PyYAML spreads one sentence over context and problem.
        if said.startswith("but "):
            said = f"{error.context}, {said}"
        raise ConfigError([Fault(place, f"invalid YAML: {said}", hint)]) from error
    except yaml.reader.ReaderError as error:
        place = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        problem = f"invalid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise ConfigError([Fault(place, problem)]) from error


def _hint(text: str, line: int, said: str) -> str:
    """Return what to do about two usual slips: an unquoted variable in { } or [ ], and tabs."""
    if r"'\t'" in said:
        return "indent with spaces"
    lines = text.splitlines()
    # YAML takes the brace of ${VAR} for a mapping there. PyYAML marks this line or the next one.
    if "got '{'" in said and "${" in "".join(lines[max(0, line - 1) : line + 1]):
        return 'between { } and [ ] a variable needs quotes: "${NAME}"'
    return ""


def _written(value: Any) -> Any:
    """Return a number as one that was written in a file, and anything else as it is."""
    if isinstance(value, float):
        return WrittenFloat(value)
    return WrittenInt(value) if type(value) is int else value


class _Reader:
    """Walks the node tree, which has the duplicate keys and line numbers that values lack."""

    def __init__(self, text: str, name: str) -> None:
        self._loader = yaml.SafeLoader(text)
        self._name = name
        self._lines: dict[Place, int] = {}
        self._faults: list[Fault] = []

    def read(self) -> Document:
        try:
            node = self._loader.get_single_node()
            # An empty file has no node; its faults are the missing keys.
            data = {} if node is None else self._value(node, ())
        finally:
            self._loader.dispose()
        if self._faults:
            raise ConfigError(self._faults)
        return Document(self._name, data, self._lines)

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        # Anchors that refer to themselves would go on for ever.
        if len(place) > _DEEPEST:
            raise ConfigError([Fault(self._name, f"nested deeper than {_DEEPEST} levels")])
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        if node.tag == _TIMESTAMP:
            # YAML would make a datetime of it; settings take texts.
            return node.value
        try:
            return _written(self._loader.construct_object(node))
        except (ValueError, KeyError):
            # It looks or is tagged like a number and is not one: 0x, 1__0, !!int x.
            kind = node.tag.rpartition(":")[2]
            where = f"{self._name}:{node.start_mark.line + 1}: {dotted(place)}"
            self._faults.append(
                Fault(where, f"{node.value!r} is not a valid {kind}", "put it in quotes")
            )
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        self._refuse_duplicates(node, place)
        # Merge keys (`<<`) may repeat keys, so duplicates are looked for before.
        self._loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            self._lines[(*place, key)] = key_node.start_mark.line + 1
            result[key] = self._value(value_node, (*place, key))
        return result

    def _refuse_duplicates(self, node: yaml.MappingNode, place: Place) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            # `<<` may stand several times, each with another mapping.
            if key_node.tag == _MERGE:
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first:
                where = f"{self._name}:{line}: {dotted((*place, key))}"
                self._faults.append(
                    Fault(where, f"given twice, first on line {first[key]}", "keep one of them")
                )
            first.setdefault(key, line)


_TOKEN = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_]\w*)(?P<then>\}|:-))?|(?P<close>\})", re.ASCII
)


def resolve(document: Document, environment: Mapping[str, str]) -> tuple[Any, list[Fault]]:
    """Return the document's values with variables resolved, and a fault for each unset variable.

    An empty variable takes the default if there is one, as in a shell. A default may hold further
    variables, which are read only if the default is taken.
    """
    resolver = _Resolver(document, environment)
    return resolver.value(document.data, ()), resolver.faults


class _Resolver:
    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._environment = environment

    def value(self, given: Any, place: Place) -> Any:
        if isinstance(given, dict):
            return {key: self.value(item, (*place, key)) for key, item in given.items()}
        if isinstance(given, list):
            return [self.value(item, (*place, index)) for index, item in enumerate(given)]
        if isinstance(given, str) and "${" in given:
            return self._text(given, 0, place, inside=False, taken=True)[0]
        return given

    def _text(
        self, text: str, start: int, place: Place, *, inside: bool, taken: bool
    ) -> tuple[str, int]:
        """Return the text from ``start`` on, resolved, and where it ends.

        ``inside`` a default it ends at the brace that closes it. If the default is not ``taken``,
        its variables may be unset.
        """
        parts: list[str] = []
        while match := _TOKEN.search(text, start):
            parts.append(text[start : match.start()])
            start = match.end()
            if match["close"] and inside:
                return "".join(parts), start
            if match["then"] == ":-":
                found = self._environment.get(match["name"])
                default, start = self._text(
                    text, start, place, inside=True, taken=taken and not found
                )
                parts.append(found or default)
            else:
                parts.append(self._plain(match, place, taken=taken))
        if inside:
            self._refuse(place)
        return "".join(parts) + text[start:], len(text)

    def _plain(self, match: re.Match[str], place: Place, *, taken: bool) -> str:
        """Return what a token stands for that has no default."""
        if match["close"]:
            return "}"
        if match["escaped"]:
            return "${"
        name = match["name"]
        if name is None:
            self._refuse(place)
            return ""
        found = self._environment.get(name)
        if found is None and taken:
            hint = f"set it, or write ${{{name}:-default}}"
            problem = f"the environment variable {name} is not set"
            self.faults.append(self._document.fault(place, problem, hint))
        return found or ""

    def _refuse(self, place: Place) -> None:
        problem = "${ begins a variable here, but no name and closing brace follow"
        self.faults.append(self._document.fault(place, problem, "write $${ for a plain ${"))
