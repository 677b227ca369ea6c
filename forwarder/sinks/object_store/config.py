"""The settings of the object storage sink: which bucket, how to log in, which objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from forwarder.transport.settings import Duration, PluginSettings, Secret, Settings, Url

_LOGINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "s3": (("access_key_id", "secret_access_key"),),
    "gs": (("service_account_key",),),
    "az": (("account_key",), ("sas_token",), ("tenant_id", "client_id", "client_secret")),
}
"""Ways to log in, by scheme: the keys of one way belong together."""
_OPTIONAL = {"s3": ("session_token", "region"), "gs": (), "az": ("account_name",)}
_KEYS = {
    scheme: (*optional, *dict.fromkeys(name for way in _LOGINS[scheme] for name in way))
    for scheme, optional in _OPTIONAL.items()
}
"""All keys of each scheme that the others do not have."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_SEGMENT = re.compile(r"[A-Za-z0-9!_.=*'()-]+")
_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,15}")


class SecurityLakeSettings(Settings):
    """Amazon Security Lake's names for what is written; needs the layout ``security_lake``."""

    source_prefix: str = Field(
        "cf-access",
        description="beginning of the custom sources' names, at most 15 characters; "
        "each class has its own source, such as cf-access-3002",
    )
    region: str = Field(min_length=1, description="AWS region of the data")
    account_id: str = Field(
        min_length=1, description="AWS account, or external id, that the custom sources name"
    )

    @field_validator("source_prefix")
    @classmethod
    def _short(cls, value: str) -> str:
        # Security Lake allows 20 characters, and a class adds five.
        if not _SOURCE.fullmatch(value):
            raise ValueError("takes 1 to 15 letters, digits, _ and -")
        return value

    @field_validator("region", "account_id")
    @classmethod
    def _one_segment(cls, value: str) -> str:
        if not _SEGMENT.fullmatch(value):
            raise ValueError(f"{value!r} cannot be a part of an object's name")
        return value


class ObjectStoreConfig(PluginSettings):
    """Which bucket, how to log in, and what the objects look like."""

    SCHEMES: ClassVar[dict[str, str]] = {
        "s3": "S3",
        "gs": "Google Cloud Storage",
        "az": "Azure Blob Storage",
    }

    url: str = Field(
        description="bucket or container, with an optional prefix: s3://bucket/prefix, "
        "gs://bucket/prefix or az://container/prefix"
    )
    endpoint: Url | None = Field(
        None, description="address of another service with this interface, such as R2's"
    )
    region: str | None = Field(None, description="region of an S3 bucket; R2 wants auto")
    access_key_id: Secret | None = Field(
        None, description="S3: id of an access key; may be a file, since it is replaced too"
    )
    secret_access_key: Secret | None = Field(None, description="S3: the access key's secret")
    session_token: Secret | None = Field(None, description="S3: token of temporary keys")
    service_account_key: Secret | None = Field(
        None, description="Google: key of a service account, the JSON text"
    )
    account_name: str | None = Field(None, description="Azure: name of the storage account")
    account_key: Secret | None = Field(None, description="Azure: key of the storage account")
    sas_token: Secret | None = Field(None, description="Azure: shared access signature")
    tenant_id: str | None = Field(None, description="Azure: tenant of the application")
    client_id: str | None = Field(None, description="Azure: id of the application")
    client_secret: Secret | None = Field(None, description="Azure: secret of the application")
    file_format: Literal["ndjson", "parquet"] = Field(
        "ndjson", description="objects are lines, or Parquet (needs the extra parquet)"
    )
    compression: Literal["gzip", "zstd", "none"] = Field(
        "gzip", description="of ndjson; Parquet is always compressed with zstd"
    )
    layout: Literal["hive", "flat", "security_lake"] = Field(
        "hive", description="how objects are named, and so how the lake is partitioned"
    )
    security_lake: SecurityLakeSettings | None = Field(
        None, description="names for the layout security_lake"
    )
    ca_file: Path | None = Field(
        None, description="PEM file with authorities to trust beside the public ones"
    )
    proxy: Url | None = Field(
        None, description="http or https proxy; otherwise https_proxy and no_proxy of the process"
    )
    connect_timeout: Duration = Field(10.0, gt=0, description="longest time for connecting")
    response_timeout: Duration = Field(
        60.0, gt=0, description="longest time for writing one object"
    )

    @field_validator("url")
    @classmethod
    def _names_a_bucket(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in cls.SCHEMES:
            raise ValueError(f"must begin with {', '.join(f'{name}://' for name in cls.SCHEMES)}")
        if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
            raise ValueError("names no bucket; write for example s3://my-bucket/access-logs")
        segments = parts.path.strip("/").split("/") if parts.path.strip("/") else []
        if not all(_SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments):
            raise ValueError("its prefix takes letters, digits and !_.=*'()- between slashes")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_login_that_fits(self) -> ObjectStoreConfig:
        ways, optional = _LOGINS[self.scheme], _OPTIONAL[self.scheme]
        known = {name for names in _KEYS.values() for name in names}
        used = {name for name in known if getattr(self, name) is not None} - set(optional)
        fitting = next((way for way in ways if used == set(way)), None)
        if used and fitting is None:
            choices = "; or ".join(" and ".join(way) for way in ways)
            raise ValueError(
                f"{self.scheme}:// takes {choices}; or none of them, for the environment's log-in"
            )
        if self.session_token is not None and not used:
            raise ValueError("session_token needs access_key_id and secret_access_key")
        if self.scheme == "az" and not self.account_name and self.endpoint is None:
            raise ValueError("az:// needs account_name")
        return self

    @model_validator(mode="after")
    def _layout_is_complete(self) -> ObjectStoreConfig:
        if (self.layout == "security_lake") != (self.security_lake is not None):
            raise ValueError("layout: security_lake and the group security_lake belong together")
        if self.layout == "security_lake" and self.file_format != "parquet":
            raise ValueError("layout: security_lake needs file_format: parquet")
        return self

    @property
    def scheme(self) -> str:
        """Return ``s3``, ``gs`` or ``az``."""
        return self.url.partition("://")[0]

    @property
    def given(self) -> dict[str, Any]:
        """Return the keys of this service that are set; a secret is still a ``Secret``."""
        values = {name: getattr(self, name) for name in _KEYS[self.scheme]}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def bucket(self) -> str:
        """Return the name of the bucket, or of Azure's container."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """Return what all objects' names begin with: empty, or without slashes around it."""
        return urlsplit(self.url).path.strip("/")

    @property
    def where(self) -> str:
        """Return service and bucket for messages."""
        return f"{self.SCHEMES[self.scheme]} bucket {self.bucket}"
