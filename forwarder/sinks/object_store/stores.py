"""The bucket: obstore's client made from the settings, and its errors as ours.

obstore never retries here. Its messages hold URLs and answers, so none of them is passed on.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from forwarder.core.contracts import SinkContext
from forwarder.core.errors import ForwarderError, NeedsOperatorError, TransientError
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.object_store.objects import LakeObject
from forwarder.transport.http_destination import no_batch, status_error
from forwarder.transport.settings import Secret

# No object has this name, so listing it is one small answer whatever the bucket holds.
_NOTHING = "forwarder-check"
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_MAY_NOT_LIST = re.compile(
    r"<Code>(AccessDenied|AuthorizationPermissionMismatch)</Code>|storage\.objects\.list"
)
# Where a log-in comes from if the settings have none: services of the cloud beside the bucket.
_LOGIN = re.compile(r"://(169\.254\.|metadata\.google|sts\.|login\.microsoft)|oauth2")
_NO_ANSWER: tuple[tuple[re.Pattern[str], type[TransientError], str, str], ...] = (
    (
        _LOGIN,
        NeedsOperatorError,
        ": the environment's log-in cannot be used",
        "set keys, or check the workload's identity and its role",
    ),
    (
        re.compile("certificate", re.IGNORECASE),
        NeedsOperatorError,
        ": its certificate is not trusted",
        "set ca_file, or check endpoint",
    ),
    (
        re.compile("redirect"),
        NeedsOperatorError,
        " answered with a redirect to another region",
        "check region and endpoint",
    ),
    (re.compile("timed out|TimedOut"), TransientError, " did not answer in time", ""),
)
"""Errors without an answer of the bucket: what obstore says, and what to say and do instead."""

_OPERATOR = {
    "AuthorizationHeaderMalformed": "check region",
    "ContainerNotFound": "create the container, or check url",
    "ExpiredToken": "renew the temporary keys",
    "IllegalLocationConstraintException": "check region",
    "InvalidAccessKeyId": "check access_key_id",
    "InvalidBucketName": "check url",
    "InvalidToken": "check session_token",
    "NoSuchBucket": "create the bucket, or check url",
    "NotImplemented": "this service lacks what is needed to write; check endpoint",
    "PermanentRedirect": "check region and endpoint",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": "check the secret key, and proxies that change requests",
}
"""Codes of answers that only a person can fix, and what to do."""
_PASSING = frozenset({"RequestTimeout", "OperationAborted", "ServerBusy", "SlowDown"})


class Bucket:
    """Writes objects below the prefix. A changed secret file serves the next request."""

    def __init__(self, config: ObjectStoreConfig, context: SinkContext) -> None:
        """Connect to nothing yet."""
        self._config = config
        self._agent = context.user_agent
        given = config.given
        self._secrets = {name: one for name, one in given.items() if isinstance(one, Secret)}
        self._plain = {name: one for name, one in given.items() if name not in self._secrets}
        if config.ca_file is not None:
            # No secret, but with the same life: a file that is replaced.
            self._secrets["ca_file"] = Secret(path=config.ca_file)
        self._revealed: dict[str, str] = {}
        self._store: ObjectStore | None = None

    async def put(self, one: LakeObject) -> None:
        """Return when the object is there, whole; raises what ``fault_of`` returns."""
        try:
            await obstore.put_async(
                self._current(),
                one.name,
                one.body,
                attributes={"Content-Type": one.media_type},
                # One request: parts that nobody completes would stay, and cost money.
                use_multipart=False,
            )
        except (BaseError, OSError) as error:
            raise fault_of(str(error), self._config.where) from None

    async def check(self) -> None:
        """List a name that nothing has: proves address, bucket and log-in.

        A log-in that may write and not list passes; only a write can show more.
        """
        try:
            await obstore.list_with_delimiter_async(self._current(), _NOTHING)
        except (BaseError, OSError) as error:
            if _MAY_NOT_LIST.search(str(error)):
                return
            with no_batch():
                raise fault_of(str(error), self._config.where) from None

    def _current(self) -> ObjectStore:
        revealed = {name: secret.reveal() for name, secret in self._secrets.items()}
        if self._store is None or revealed != self._revealed:
            try:
                self._store = self._made(dict(revealed))
            except (BaseError, ValueError):
                # The error's text may hold the key that cannot be read.
                raise NeedsOperatorError(
                    f"{self._config.where}: the log-in or ca_file cannot be used",
                    hint="check the keys in the settings and the files that they name",
                ) from None
            self._revealed = revealed
        return self._store

    def _made(self, secrets: dict[str, str]) -> ObjectStore:
        config = self._config
        client: dict[str, Any] = {
            "timeout": timedelta(seconds=config.response_timeout),
            "connect_timeout": timedelta(seconds=config.connect_timeout),
            "user_agent": self._agent,
            "allow_http": (config.endpoint or "").startswith("http://"),
        }
        if "ca_file" in secrets:
            client["root_certificate"] = secrets.pop("ca_file")
        if config.proxy is not None:
            client["proxy_url"] = config.proxy
        options: dict[str, Any] = {
            "prefix": config.prefix or None,
            "client_options": client,
            "retry_config": {"max_retries": 0},
            **self._plain,
            **secrets,
        }
        if config.endpoint is not None:
            options["base_url" if config.scheme == "gs" else "endpoint"] = config.endpoint
        if config.scheme == "s3":
            return S3Store(config.bucket, **options)
        if config.scheme == "gs":
            return GCSStore(config.bucket, **options)
        if "sas_token" in options:
            options["sas_key"] = options.pop("sas_token")
        return AzureStore(config.bucket, **options)


def fault_of(said: str, where: str) -> ForwarderError:
    """Return the error that obstore's message ``said`` stands for; no part of it is shown."""
    status, code = _STATUS.search(said), _CODE.search(said)
    name = code[1] if code else ""
    if name in _OPERATOR:
        return NeedsOperatorError(f"{where} answered {name}", hint=_OPERATOR[name])
    if name in _PASSING:
        return TransientError(f"{where} answered {name}")
    if status is not None and not _LOGIN.search(said):
        known = status_error(int(status[1]), where, detail=name)
        return known or TransientError(f"{where} gave an answer that cannot be read")
    for pattern, kind, what, hint in _NO_ANSWER:
        if pattern.search(said):
            return kind(f"{where}{what}", hint=hint)
    return TransientError(f"{where} cannot be reached", hint="check endpoint, network and proxy")
