"""From what pydantic found to sentences for people: where, what was found, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from forwarder.config.document import Document, Place
from forwarder.core.errors import Fault
from forwarder.transport.settings import Settings

_LONGEST = 60
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_SHOULD = re.compile(r"^\w+ should")
_KEY = "[key]"
"""How pydantic says that the key of a mapping is meant, and not its value."""
_KINDS = {dict: "a mapping", list: "a list", bool: "true or false", str: "a text"}


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``did you mean X?`` for the most similar name, or an empty text."""
    close = get_close_matches(name, list(allowed), 1, 0.6)
    return f"did you mean {close[0]}?" if close else ""


def unknown(kind: str, name: str, allowed: Sequence[str]) -> tuple[str, str]:
    """Return problem and hint for a name that is not among those allowed."""
    return f"unknown {kind} {name!r}; allowed: {', '.join(allowed) or 'none'}", nearest(
        name, allowed
    )


def faults_of(
    error: ValidationError, document: Document, at: Place, model: type[BaseModel]
) -> list[Fault]:
    """Return one fault for each place at which ``model`` refused what stands below ``at``."""
    found: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail, document, at)
        problem, hint = _sentence(detail, document, place, keys_at(model, place[len(at) :]))
        fault = document.fault(place, problem, hint)
        found.setdefault(fault.path, fault)
    return list(found.values())


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that a model takes, as they are written in the file."""
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
    """Drop the parts of pydantic's location that name a union's member and not a key."""
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
    """Return what the file says there, unless it is a secret; of a wrong key the key itself."""
    if detail["loc"] and detail["loc"][-1] == _KEY:
        return repr(place[-1])
    is_secret = bool(place) and f"{place[-1]}_file" in keys
    return "a secret" if is_secret else shown(document.written(place))


def _sentence(
    detail: ErrorDetails, document: Document, place: Place, keys: Sequence[str]
) -> tuple[str, str]:
    found = _found(detail, document, place, keys)
    problem, hint = f"found {found}; must be a mapping of keys", ""
    match detail["type"]:
        case "missing":
            problem = "required, but not given"
        case "extra_forbidden":
            problem = f"unknown key; allowed: {', '.join(keys)}"
            hint = nearest(str(place[-1]), keys)
        case "literal_error":
            expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
            allowed = [word.strip().strip("'") for word in expected.split(",")]
            problem, hint = f"found {found}; allowed: {', '.join(allowed)}", nearest(found, allowed)
        case "value_error" | "assertion_error":
            reason = str(detail.get("ctx", {}).get("error", detail["msg"]))
            problem = reason.replace(repr(detail["input"]), found)
        case "too_short" | "string_too_short" if detail.get("ctx", {}).get("min_length") == 1:
            problem = f"found {found}; must not be empty"
        case "bool_type" | "bool_parsing":
            problem = f"found {found}; must be true or false"
        case "path_type":
            problem = f"found {found}; must be a path"
        case "string_type" | "is_instance_of" if not isinstance(detail["input"], dict | list):
            problem, hint = f"found {found}; must be a text", "put it in quotes"
        case kind if kind not in {"model_type", "dict_type", "model_attributes_type"}:
            rule = _SHOULD.sub("must", detail["msg"].partition(",")[0])
            problem = f"found {found}; {rule}"
    return problem, hint


def shown(value: Any) -> str:
    """Return what the file says, short; a variable shows its name and never its value."""
    if isinstance(value, dict | list):
        return _KINDS[type(value)] if value else f"an empty {_KINDS[type(value)][2:]}"
    if value is None:
        return "nothing"
    text = _CREDENTIALS.sub("//**********@", repr(value))
    return text if len(text) <= _LONGEST else f"{_KINDS.get(type(value), 'a value')} of {len(text)}"
