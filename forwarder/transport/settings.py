"""The base of every plugin's settings: frozen, strict about unknown keys, secrets also as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from forwarder.transport.secrets import Secret

_FILE = "_file"


class Settings(BaseModel):
    """A group of settings. Every key says its unit, its default and its reason."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: Any) -> Any:
        """Take ``token_file: PATH`` for ``token: TEXT`` wherever the field is a secret."""
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
        """Describe ``<key>_file`` beside every secret, one of the two where it is required."""
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
        """Return the keys that hold secrets by name; there each name may end in ``_file``."""
        return [
            name
            for name, field in cls.model_fields.items()
            if "Secret" in str(field.annotation) and get_origin(field.annotation) is dict
        ]


def _with_files(given: dict[Any, Any]) -> dict[Any, Any]:
    """Return secrets by name: what stands under ``NAME_file`` is the file of ``NAME``."""
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
        raise ValueError(f"{given!r} must not be empty")  # it would mean the current folder
    return given


NamedPath = Annotated[Path, BeforeValidator(_named)]
"""A path that is written to. Empty, as from a variable that is not set, is refused."""


class TlsSettings(Settings):
    """How a connection is protected. Verification is on; switching it off is per destination."""

    ca_file: Path | None = Field(None, description="PEM file with the authorities to trust")
    cert_file: Path | None = Field(None, description="PEM file with the client's certificate")
    key_file: Path | None = Field(None, description="PEM file with the client's key")
    server_name: str | None = Field(None, description="name to verify instead of the host")
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="lowest TLS version")
    verify: bool = Field(True, description="verify the certificate; false is for a laboratory")


class PluginSettings(Settings):
    """The base of a plugin's ``Config``: only the keys that this plugin alone understands.

    What every sink takes (format, when_full, batch, retry, only, ...) is declared once, in
    ``forwarder.config``, and never reaches the plugin.
    """

    def exclusive(self) -> Mapping[str, Any]:
        """Return, by key, what no second sink of this type may have; none unless overridden.

        Values can be compared and hashed. Called when the settings are checked. A ``Path`` is
        refused inside of ``state_dir``, too.
        """
        return {}
