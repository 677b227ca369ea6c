"""Secrets that never show themselves, and that follow the file they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from forwarder.core.errors import NeedsOperatorError

REDACTED = "**********"


class Secret:
    """A secret text, given as such or as the file that holds it.

    A file is read again whenever it has changed, so a rotated token heals without a restart.
    ``str``, ``repr``, logging and serialising give asterisks.
    """

    __slots__ = ("_path", "_stamp", "_value")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        """Take exactly one of a value or a path; a path is read at the first ``reveal``."""
        self._value = value
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
                self._value = path.read_text(encoding="utf-8").strip() or self._value
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
        """Compare by what was configured; used to see what a reload changed."""
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
            cls, core_schema.str_schema(min_length=1)
        )
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: str(secret.path or REDACTED)
            ),
        )
