"""Types that the settings of plugins share: secrets, units, TLS, addresses.

Settings are frozen and refuse unknown keys. A secret never shows itself and can be a file.
Durations and sizes are read as people write them: ``10s``, ``5m``, ``24h``, ``7d``, ``64MiB``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from forwarder.core.errors import NeedsOperatorError

REDACTED = "**********"
CREDENTIALS = re.compile(r"//[^/@\s]+@")
"""User and password in an address."""
_LARGEST_SECRET = 64 * 1024


def _small_file(path: Path) -> str:
    """Return the text of a regular file; called on the event loop, so it never waits.

    Raises ``OSError`` for anything else, and for a file that is too large to be a secret.
    """
    # O_NONBLOCK: to open a named pipe would wait until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(_LARGEST_SECRET + 1)
    if len(content) > _LARGEST_SECRET:
        raise OSError(errno.EFBIG, f"it is larger than {_LARGEST_SECRET // 1024} KiB")
    # Editors of Windows put a byte order mark first, which is not part of the secret.
    return content.decode("utf-8-sig")


class Secret:
    """A secret text, given as text or as the file that holds it.

    A file is read again whenever it has changed, so that a rotated token needs no restart.
    ``str``, ``repr``, logging and serialising give asterisks.
    """

    __slots__ = ("_path", "_stamp", "_value")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        """Take exactly one of a value or a path; a path is read at the first ``reveal``."""
        # White space around it comes from a variable or a file that ends in a line feed.
        self._value = value.strip() if value else value
        self._path = path
        self._stamp: tuple[int, int, int] | None = None

    @property
    def path(self) -> Path | None:
        """Return the file it comes from, or None."""
        return self._path

    def reveal(self) -> str:
        """Return the secret itself, without the white space around it.

        Raises ``NeedsOperatorError`` when its file cannot be read or is empty and no earlier
        content is known. Called for every connection or request, never kept by the caller.
        """
        if self._path is not None:
            self._follow(self._path)
        if not self._value:
            raise NeedsOperatorError(
                f"the secret file {self._path} is empty" if self._path else "a secret is empty",
                hint="put the secret into the file, or set the key in the settings",
            )
        return self._value

    def _follow(self, path: Path) -> None:
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                # An empty file is one that is being written: the last content stays in force.
                self._value = _small_file(path).strip() or self._value
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            if self._value is None:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise NeedsOperatorError(
                    f"the secret file {path} cannot be read: {reason}",
                    hint="check that the file exists and that this user may read it",
                ) from error

    def __repr__(self) -> str:
        """Return asterisks, and the file if there is one."""
        return f"Secret({self._path or REDACTED})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare by what was configured; a reload uses it to find what changed."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self._path is not None or other._path is not None:
            return self._path == other._path
        return self._value == other._value

    def __hash__(self) -> int:
        """Hash by the file, never by the secret."""
        return hash(self._path)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept a text or a ``Secret``; serialise to asterisks."""
        text = core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(min_length=1, strip_whitespace=True)
        )
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: str(secret.path or REDACTED)
            ),
        )


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_LONGEST, _LARGEST = 36_500 * 86_400, 2**60
"""Seconds and bytes; more is a mistake, and breaks timers and the journal."""
_DURATIONS, _SIZES = "500ms, 10s, 5m, 24h, 7d", "512KiB, 64MiB, 2GiB, 10MB"
_LAST_PORT = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[^\s\[\]]+)\]|(?P<host>[^\s:/@\[\]]+))(?::(?P<port>\d{1,5}))?", re.ASCII
)
_NOT_IN_URLS = re.compile(r"[\s\\\x00-\x1f\x7f]")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)?", re.ASCII)


class WrittenInt(int):
    """A number in a settings file. There, a duration or a size needs its unit."""


class WrittenFloat(float):
    """The same with a fraction."""


def _refuse_unitless(value: Any, *units: str) -> None:
    """Raise ``ValueError`` for a number without a unit, as text or in a settings file."""
    # Code may pass plain numbers, in the base unit. In a file, `retention: 24` could mean hours.
    written = isinstance(value, WrittenInt | WrittenFloat) or (
        isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    )
    if written and (float(value) if isinstance(value, str) else value):
        spelled = ", ".join(f"{value}{unit}".strip() for unit in units)
        raise ValueError(f"{value!r} has no unit; write for example {spelled}")


def parse_duration(value: Any) -> float:
    """Return seconds for ``1h30m``, ``500ms`` or ``0``, and for a number of seconds in code.

    Raises ``ValueError`` with what is allowed.
    """
    _refuse_unitless(value, "s", "m", "h")
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is not a duration; write for example {_DURATIONS}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"is longer than a century; write for example {_DURATIONS}")
    return seconds


def parse_size(value: Any) -> int:
    """Return bytes for ``64MiB``, ``1GB``, ``512B`` or ``0``, and for a number of bytes in code.

    Raises ``ValueError`` with what is allowed.
    """
    _refuse_unitless(value, "B", "MiB", "GiB")
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) >= 0:
        return int(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or (match[2] or "B") not in _BYTES:
        raise ValueError(f"{value!r} is not a size; write for example {_SIZES}")
    size = float(match[1]) * _BYTES[match[2] or "B"]
    if size > _LARGEST:
        raise ValueError(f"is more than any disk holds; write for example {_SIZES}")
    return int(size)


def format_duration(seconds: float) -> str:
    """Return the shortest exact spelling: ``90`` gives ``1m30s``, ``-0.25`` gives ``-250ms``."""
    rest, parts = abs(round(seconds * 1000)), ["-"] if seconds < 0 else []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) if parts and parts != ["-"] else "0s"


def format_size(size: int) -> str:
    """Return the shortest exact spelling: ``67108864`` gives ``64MiB``, ``1500`` ``1500B``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B" if size else "0"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$|^0$"},
                {"const": 0},
            ]
        }
    ),
]
"""Seconds, written as a duration."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*([kKMGT]i?)?B$|^0$"},
                {"const": 0},
            ]
        }
    ),
]
"""Bytes, written as a size."""


_FILE = "_file"


class Settings(BaseModel):
    """A group of settings. Every key says its unit, its default and its reason."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: Any) -> Any:
        """Accept ``token_file: PATH`` in place of ``token: TEXT`` for every secret."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        for name in cls.secret_fields():
            path = values.pop(f"{name}_file", None)
            if path is None:
                continue
            if values.get(name) is not None:
                raise ValueError(f"{name} and {name}_file exclude each other")
            values[name] = Secret(path=Path(str(path)))
        for name in cls.secret_maps():
            if isinstance(values.get(name), dict):
                values[name] = _with_files(values[name])
        return values

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe ``<key>_file`` beside every secret; where it is required, one of the two is."""
        schema = handler(core_schema)
        target = handler.resolve_ref_schema(schema)
        for name in cls.secret_fields():
            described = {"type": "string", "description": f"file that holds {name}"}
            target["properties"][f"{name}_file"] = described
            if name in target.get("required", ()):
                target["required"].remove(name)
                either = {"anyOf": [{"required": [name]}, {"required": [f"{name}_file"]}]}
                target.setdefault("allOf", []).append(either)
        for name in cls.secret_maps():
            described = {"type": "string", "description": "file that holds the value"}
            target["properties"][name]["patternProperties"] = {f"{_FILE}$": described}
        return schema

    @classmethod
    def secret_fields(cls) -> list[str]:
        """Return the keys that hold a secret; each may also be given as ``<key>_file``."""
        return [
            name
            for name, field in cls.model_fields.items()
            if "Secret" in str(field.annotation) and get_origin(field.annotation) is not dict
        ]

    @classmethod
    def secret_maps(cls) -> list[str]:
        """Return the keys that hold secrets by name; each name there may end in ``_file``."""
        return [
            name
            for name, field in cls.model_fields.items()
            if "Secret" in str(field.annotation) and get_origin(field.annotation) is dict
        ]


def _with_files(given: dict[Any, Any]) -> dict[Any, Any]:
    """Return secrets by name: the value of ``NAME_file`` is the file of ``NAME``."""
    values: dict[Any, Any] = {}
    for key, value in given.items():
        from_file = isinstance(key, str) and key.endswith(_FILE)
        name = key.removesuffix(_FILE) if from_file else key
        if name in values:
            raise ValueError(f"{name} and {name}{_FILE} exclude each other")
        values[name] = Secret(path=Path(str(value))) if from_file else value
    return values


def _named(given: Any) -> Any:
    if given == "":
        # An empty path would mean the current folder.
        raise ValueError(f"{given!r} must not be empty")
    return given


NamedPath = Annotated[Path, BeforeValidator(_named)]
"""A path that is written to. Empty, as from a variable that is not set, is refused."""


class TlsSettings(Settings):
    """How a connection is protected. Verification is switched off for one destination only."""

    ca_file: Path | None = Field(None, description="PEM file with the authorities to trust")
    cert_file: Path | None = Field(None, description="PEM file with the client's certificate")
    key_file: Path | None = Field(None, description="PEM file with the client's key")
    server_name: str | None = Field(None, description="name to verify instead of the host")
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="lowest TLS version")
    verify: bool = Field(True, description="verify the certificate; false is for a laboratory")
    strict: bool = Field(
        False, description="also refuse certificates that are valid, but break RFC 5280 in form"
    )

    @field_validator("server_name")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and split_address(value)[1] is not None:
            raise ValueError("is a name without a port")
        return value


class ServerTlsSettings(Settings):
    """HTTPS for a listener; changed files serve the next connection."""

    cert_file: Path = Field(description="PEM file with the certificate and its chain")
    key_file: Path = Field(description="PEM file with the key, without a password")
    ca_file: Path | None = Field(
        None,
        description="PEM file with authorities; then every client needs a certificate, probes too",
    )
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="lowest TLS version")


class PluginSettings(Settings):
    """The base of a plugin's ``Config``: only the keys that this plugin alone understands.

    What every sink takes (format, when_full, batch, retry, only, ...) is declared once, in
    ``forwarder.config``, and never reaches the plugin.
    """

    def exclusive(self) -> Mapping[str, Any]:
        """Return, by key, the values that no second sink of this type may have; none by default.

        They must be hashable. Called when the settings are checked. A ``Path`` inside
        ``state_dir`` is refused too.
        """
        return {}


def clean_url(value: str) -> str:
    """Return an http or https URL without a slash at its end, its scheme in lower case.

    Raises ``ValueError`` for another scheme, a missing host, and a user or password in it, which
    would show in logs.
    """
    text = value.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is no URL; write for example https://host:8088") from error
    if port == 0:
        raise ValueError("has port 0; ports are 1 to 65535")
    # urlsplit would leave line ends out, and take a blank or a backslash for a part of the host.
    if parts.scheme not in ("http", "https") or not host or _NOT_IN_URLS.search(text):
        raise ValueError("is no http or https URL; write for example https://host:8088")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user and no password; there are keys of their own for them")
    if parts.fragment:
        raise ValueError("must have no part after #")
    return (parts.scheme + text[len(parts.scheme) :]).rstrip("/")


Url = Annotated[str, AfterValidator(clean_url)]
"""A field that holds an address, as ``clean_url`` returns it."""


def split_address(address: str) -> tuple[str, int | None]:
    """Return host and port of ``host``, ``host:port``, an IPv6 address or ``[v6]:port``.

    Raises ``ValueError`` with what to write for anything else, such as a URL.
    """
    match = _ADDRESS.fullmatch(address)
    port = int(match["port"]) if match and match["port"] else None
    if port is not None and not 1 <= port <= _LAST_PORT:
        raise ValueError(f"{address!r} has port {port}; ports are 1 to {_LAST_PORT}")
    if match is not None and match["host"]:
        return match["host"], port
    try:
        return str(IPv6Address(match["six"] if match else address)), port
    except ValueError:
        form = "write host, host:port or [address]:port, without a scheme"
        raise ValueError(f"{address!r} is no address; {form}") from None


def origin(url: str) -> str:
    """Return scheme, host and port of a URL: its path may be a secret and is never shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
