"""The settings of the file sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from forwarder.transport.settings import NamedPath, PluginSettings
from forwarder.transport.units import Duration, Size


class FileConfig(PluginSettings):
    """Which file, and when it gives way to a new one."""

    path: NamedPath = Field(description="the file that is written; its folder must exist")
    max_size: Size = Field(
        100 * 2**20, description="size from which a new file is begun; 0 never", ge=0
    )
    max_age: Duration = Field(
        86_400.0, description="age from which a new file is begun; 0 never", ge=0
    )
    compress: bool = Field(True, description="gzip files that are no longer written")
    keep: int | None = Field(
        None, description="how many older files to keep; all of them if unset", ge=1
    )

    def exclusive(self) -> Mapping[str, Any]:
        """Return the file: of two that write it one would be held."""
        return {"path": self.path}
