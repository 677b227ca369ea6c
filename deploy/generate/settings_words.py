"""The type and the default of a setting, in the words of the settings file. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from forwarder.transport.settings import (
    Secret,
    TlsSettings,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

_PLAIN: Mapping[Any, str] = {
    bool: "true or false",
    int: "number",
    float: "number",
    str: "text",
    Path: "path",
    Secret: "secret",
    TlsSettings: "[TLS](#connections-over-tls)",
}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
_UNITS = {parse_duration: "duration", parse_size: "size"}
_FORMATS: Mapping[str, Callable[[Any], str]] = {"duration": format_duration, "size": format_size}


def type_words(field: FieldInfo) -> str:
    """Return what may be written, bounds included."""
    words = _unit(field.metadata) or _words(field.annotation)
    bounds = [
        f"{word} {_bound(getattr(one, key), words)}"
        for one in field.metadata
        for kind, key, word in _BOUNDS
        if isinstance(one, kind)
    ]
    return ", ".join([words, *bounds])


def default_words(field: FieldInfo) -> str:
    """Return the default as it would be written; empty when there is none."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ((), [], {}, ""):
        return ""
    return f"`{_written(value, _unit(field.metadata) or _words(field.annotation))}`"


def nested_models(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the groups of settings directly inside ``model``, each with its key."""
    for name, field in model.model_fields.items():
        for nested in _models(field.annotation):
            yield field.alias or name, nested


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _unit(metadata: Sequence[Any]) -> str:
    for one in metadata:
        if isinstance(one, BeforeValidator) and one.func in _UNITS:
            return _UNITS[one.func]
    return ""


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _unit(arguments[1:]) or _words(arguments[0])
    if origin in (Union, UnionType):
        named = [_words(one) for one in arguments if one is not type(None)]
        return " or ".join(dict.fromkeys(named))
    words = {
        Literal: lambda: ", ".join(f"`{_plain(value)}`" for value in arguments),
        list: lambda: f"list of {_words(arguments[0])}",
        tuple: lambda: f"list of {_words(arguments[0])}",
        dict: lambda: f"mapping to {_words(arguments[1])}",
    }.get(origin)
    if words:
        return words()
    nested = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return _PLAIN.get(annotation, "mapping, see below" if nested else "text")


def _written(value: Any, words: str) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_written(one, words) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_plain(one)}' for key, one in value.items())}}}"
    for unit, write in _FORMATS.items():
        if unit in words and isinstance(value, int | float) and not isinstance(value, bool):
            return write(value)
    return _plain(value)


def _bound(value: Any, words: str) -> str:
    return _written(value, words).replace("0s", "0") if value == 0 else _written(value, words)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
