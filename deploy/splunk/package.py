"""Packs the app as Splunk installs it, without what an installation has added to it."""

from __future__ import annotations

from pathlib import Path

from deploy.archive import contents, packed

APP = Path(__file__).parent / "cloudflare_access_forwarder"
_LICENSE = Path(__file__).parents[2] / "LICENSE"


def package(app: Path = APP) -> bytes:
    """Return the app as a gzipped tar archive; the same files give the same bytes."""
    files = contents([app], app.parent)
    return packed(files | {f"{app.name}/LICENSE": _LICENSE.read_bytes()})
