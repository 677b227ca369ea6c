"""Faults and warnings of the settings, each with its path and line.

Faults: what pydantic refuses, in sentences for people (where, what was found, what is allowed);
streams in a filter that no source has; what two sinks, or two servers, cannot share. Warnings: a
receiver that others could push to; paths in a sink's settings that no event has, most likely typing
errors. Those are not faults, because rows may get keys that are unknown today.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from forwarder.config.document import Document, Place
from forwarder.config.models import (
    AccountSettings,
    ForwarderSettings,
    LogpushSettings,
    RootSettings,
    SinkSettings,
)
from forwarder.core.contracts import FORWARDER_STREAM
from forwarder.core.errors import Fault, NeedsOperatorError
from forwarder.core.own_events import OWN_EVENTS
from forwarder.transport.settings import CREDENTIALS, REDACTED, Settings

_LONGEST = 60
_SHOULD = re.compile(r"^\w+ should")
_KEY = "[key]"
"""Pydantic's mark that the key of a mapping is wrong, not its value."""
_KINDS = {dict: "a mapping", list: "a list", bool: "true or false", str: "a text"}


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``did you mean X?`` for the most similar name, or an empty text."""
    # 0.6 is the measure of difflib itself; less proposes unrelated names.
    close = get_close_matches(name, list(allowed), 1, 0.6)
    # Of numbers, such as versions, the most similar one is no better guess than any other.
    return f"did you mean {close[0]}?" if close and not close[0][0].isdigit() else ""


def choices(name: str, allowed: Sequence[str]) -> str:
    """Return the most similar name in front of the list of all, which may be long."""
    return f"{nearest(name, allowed)} allowed: {', '.join(allowed) or 'none'}".lstrip()


def unknown(kind: str, name: str, allowed: Sequence[str]) -> tuple[str, str]:
    """Return problem and hint for a name that is not allowed."""
    return f"unknown {kind} {name!r}", choices(name, allowed)


def faults_of(
    error: ValidationError, document: Document, at: Place, model: type[BaseModel]
) -> list[Fault]:
    """Return one fault for each place below ``at`` that ``model`` refused."""
    found: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail, document, at)
        problem, hint = _sentence(detail, document, place, keys_at(model, place[len(at) :]))
        fault = document.fault(place, problem, hint)
        # Unions report each member that failed; one fault a place is enough.
        found.setdefault(fault.path, fault)
    return list(found.values())


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model, as they are written in the file."""
    keys = [field.alias or name for name, field in model.model_fields.items()]
    if issubclass(model, Settings):
        keys += [f"{name}_file" for name in model.secret_fields()]
    return sorted(keys)


def keys_at(model: type[BaseModel], place: Place) -> list[str]:
    """Return the keys allowed beside the last part of ``place``."""
    models = [model]
    for part in place[:-1]:
        deeper = [
            nested
            for one in models
            for name, field in one.model_fields.items()
            if part in (name, field.alias)
            for nested in _nested(field.annotation)
        ]
        models = deeper or models
    return sorted({key for one in models for key in keys_of(one)})


def _nested(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _nested(argument)


def _place(detail: ErrorDetails, document: Document, at: Place) -> Place:
    """Return the place that pydantic means, in keys of the file."""
    # Its location also names members of unions, which the file does not have.
    place, last = at, len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if document.has((*place, part)) or (index == last and _names_a_key(detail)):
            place = (*place, part)
        elif isinstance(part, str) and document.has((*place, f"{part}_file")):
            place = (*place, f"{part}_file")
    return place


def _names_a_key(detail: ErrorDetails) -> bool:
    return detail["type"] in {"missing", "extra_forbidden"}


def _found(detail: ErrorDetails, document: Document, place: Place, keys: Sequence[str]) -> str:
    """Return what the file has there, unless it is a secret; of a wrong key, the key itself."""
    if detail["loc"] and detail["loc"][-1] == _KEY:
        return repr(place[-1])
    # Only secrets can also be given as a file: that tells them apart.
    is_secret = bool(place) and f"{place[-1]}_file" in keys
    return "a secret" if is_secret else shown(document.written(place))


def _sentence(
    detail: ErrorDetails, document: Document, place: Place, keys: Sequence[str]
) -> tuple[str, str]:
    found = _found(detail, document, place, keys)
    hint = ""
    match detail["type"]:
        case "missing":
            problem = "required, but not given"
        case "extra_forbidden":
            problem, hint = "unknown key", choices(str(place[-1]), keys)
        case "literal_error":
            expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
            allowed = [word.strip().strip("'") for word in expected.split(",")]
            problem, hint = f"found {found}; allowed: {', '.join(allowed)}", nearest(found, allowed)
        case "value_error" | "assertion_error":
            reason = str(detail.get("ctx", {}).get("error", detail["msg"]))
            # Validators repeat their input, which may have been a secret.
            problem = reason.replace(repr(detail["input"]), found)
        case "too_short" | "string_too_short" if detail.get("ctx", {}).get("min_length") == 1:
            problem = f"found {found}; must not be empty"
        case "bool_type" | "bool_parsing":
            problem = f"found {found}; must be true or false"
        case "path_type":
            problem = f"found {found}; must be a path"
        case "string_type" | "is_instance_of":
            problem = f"found {found}; must be a text"
            hint = "" if isinstance(detail["input"], dict | list) else "put it in quotes"
        case kind if kind not in {"model_type", "dict_type", "model_attributes_type"}:
            rule = _SHOULD.sub("must", detail["msg"].partition(",")[0])
            problem = f"found {found}; {rule}"
        case _:
            written = document.written(place)
            # Whoever writes a value where a mapping belongs may have meant a secret.
            problem = f"found {kind_of(written)}; must be a mapping of keys"
            hint = _as_mapping(written)
    return problem, hint


def _as_mapping(written: Any) -> str:
    """Return how to write the mapping that is wanted in place of a list of names, if it is one."""
    named = isinstance(written, list) and any(isinstance(name, str) for name in written)
    return "write { NAME: {} } for each name" if named else ""


def kind_of(value: Any) -> str:
    """Return what kind of value the file has, never the value."""
    if value is None or isinstance(value, dict | list):
        return shown(value)
    return _KINDS.get(type(value), "a value")


def shown(value: Any) -> str:
    """Return what the file has, short; of a variable its name, never its value."""
    if isinstance(value, dict | list):
        return _KINDS[type(value)] if value else f"an empty {_KINDS[type(value)][2:]}"
    if value is None:
        return "nothing"
    text = CREDENTIALS.sub(f"//{REDACTED}@", repr(value))
    return text if len(text) <= _LONGEST else f"{_KINDS.get(type(value), 'a value')} of {len(text)}"


def check_streams(
    accounts: Sequence[AccountSettings], sinks: Sequence[SinkSettings], document: Document
) -> list[Fault]:
    """Return a fault for each stream in a filter that no source has.

    None if a source does not declare its streams.
    """
    known = _streams(accounts)
    faults: list[Fault] = []
    for sink in sinks if known else ():
        chosen = {"only": sink.options.only, "except": sink.options.except_}
        for key, filter_ in chosen.items():
            for name in filter_.stream if filter_ else ():
                # Any dataset may be pushed, and has a stream of its own.
                if name not in known and not name.startswith(LogpushSettings.stream_prefix):
                    place = ("sinks", sink.name, key, "stream")
                    faults.append(document.fault(place, *unknown("stream", name, sorted(known))))
    return faults


def _streams(accounts: Sequence[AccountSettings]) -> Collection[str]:
    told = [getattr(account.plugin, "normalisers", {}) for account in accounts]
    return {FORWARDER_STREAM}.union(*told) if all(told) else ()


def unknown_paths(
    accounts: Sequence[AccountSettings], sinks: Sequence[SinkSettings]
) -> Iterator[str]:
    """Yield a warning for each path that no event has in drop_, hash_ and add_fields.

    None for rows of a source that does not declare its keys, and for fields added in a format that
    takes any.
    """
    keys = _row_keys(accounts)
    for sink in sinks:
        yield from _unknown_keys(sink, keys)
        nearest_path: Any = getattr(sink.format_plugin, "nearest_path", None)
        for path in sink.options.add_fields if nearest_path else ():
            if (nearest := nearest_path(path)) != path:
                yield (
                    f"sinks.{sink.name}.add_fields: no event in {sink.format} can have {path!r};"
                    f" the nearest that is allowed is {nearest!r}"
                )


def _unknown_keys(sink: SinkSettings, keys: Collection[str]) -> Iterator[str]:
    for setting in ("drop_fields", "hash_fields") if keys else ():
        for path in getattr(sink.options, setting):
            if path not in keys:
                yield (
                    f"sinks.{sink.name}.{setting}: no known row has {path!r}, so it hides"
                    f" nothing; the nearest key of a row is {nearest_key(path, keys)!r}"
                )


def _row_keys(accounts: Sequence[AccountSettings]) -> frozenset[str]:
    """Return the keys that rows may have; none if a source does not declare them."""
    known = [
        normaliser.keys
        for account in accounts
        for normaliser in getattr(account.plugin, "normalisers", {}).values()
    ]
    return OWN_EVENTS.keys.union(*known) if known and all(known) else frozenset()


def nearest_key(path: str, keys: Collection[str]) -> str:
    """Return the key that shares most words with ``path``, and of those the most similar one."""
    spelled = path.replace(".", "_")
    words = set(spelled.split("_"))

    def likeness(key: str) -> tuple[int, float]:
        return len(words & set(key.split("_"))), SequenceMatcher(None, spelled, key).ratio()

    return max(sorted(keys), key=likeness)


def check_exclusive(settings: ForwarderSettings, document: Document) -> list[Fault]:
    """Return a fault for each sink that writes where another sink or the forwarder itself writes.

    Sinks of one type are compared by ``PluginSettings.exclusive``; paths by the file that they
    lead to, so that a link does not hide it.
    """
    faults: list[Fault] = []
    first: dict[tuple[str, str, Any], str] = {}
    state = settings.root.state_dir.resolve()
    for sink in settings.sinks:
        for key, given in sink.config.exclusive().items():
            place = ("sinks", sink.name, key)
            # A link may lead two paths to one file.
            value = given.resolve() if isinstance(given, Path) else given
            owner = first.setdefault((sink.type, key, value), sink.name)
            if owner != sink.name:
                problem = f"the same as sinks.{owner}.{key}, and two sinks cannot share it"
                faults.append(document.fault(place, problem, "give each its own"))
            if isinstance(value, Path) and value.is_relative_to(state):
                problem = f"{given} is inside state_dir, which is for the journal only"
                faults.append(document.fault(place, problem, "choose another folder"))
    return faults


_SHORT = 32


def check_receiver(root: RootSettings, document: Document) -> tuple[list[Fault], list[str]]:
    """Return faults and warnings of ``logpush`` beside what each key may be."""
    receiver, faults, warnings = root.logpush, list[Fault](), list[str]()
    if receiver is None:
        return faults, warnings
    host, port = receiver.address
    other, taken = root.admin.address or ("", 0)
    if port and port == taken and (host == other or _is("unspecified", host, other)):
        problem = "the port is that of admin.listen, and two servers cannot share it"
        faults.append(document.fault(("logpush", "listen"), problem, "give each its own"))
    secrets: Sequence[str] = ()
    with suppress(NeedsOperatorError):  # that it cannot be read is a fault of every secret
        secrets = receiver.secrets()
    if any(map(is_no_header, secrets)):
        key = "secret_file" if receiver.secret.path else "secret"
        faults.append(document.fault(("logpush", key), NO_HEADER))
    if any(len(secret) < _SHORT for secret in secrets):
        warnings.append(
            f"logpush.secret has fewer than {_SHORT} characters, and is all that proves who sends"
        )
    if receiver.tls is None and host != "localhost" and not _is("loopback", host):
        warnings.append(
            f"logpush.listen {receiver.listen} takes the secret over plain HTTP: give it "
            "logpush.tls, or have only a proxy with HTTPS reach it"
        )
    return faults, warnings


NO_HEADER = "holds a line end or another control character, which no header can have"
"""What is wrong with a value for which ``is_no_header`` is True."""


def is_no_header(value: str) -> bool:
    """Return True if no request can have a header with this value (RFC 9110, 5.5)."""
    return any((one < " " and one != "\t") or one == "\x7f" for one in value)


def _is(kind: str, *hosts: str) -> bool:
    """Return True if one of them is an address of a kind that ``ipaddress`` knows."""
    found = False
    for host in hosts:
        with suppress(ValueError):  # a name
            found |= getattr(ip_address(host), f"is_{kind}")
    return found
