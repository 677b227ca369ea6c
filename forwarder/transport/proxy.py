"""Which proxy the environment asks for: ``http(s)_proxy``, ``all_proxy``, ``no_proxy``.

The HTTP client's own reading of the environment also takes passwords from ``~/.netrc`` and puts
them in place of the authorisation that the settings gave; so it is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for a request to ``url``, or None to connect directly."""
    parts = urlsplit(url)
    chosen = _named(f"{parts.scheme}_proxy", environ) or _named("all_proxy", environ)
    if not chosen or _bypassed(parts.hostname or "", parts.port, _named("no_proxy", environ)):
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _named(name: str, environ: Mapping[str, str]) -> str:
    """Return a variable that may be spelled small or in capitals; small goes first."""
    return environ.get(name) or environ.get(name.upper()) or ""


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    """Say whether ``no_proxy`` names the host, a domain it is in, host:port, or everything."""
    for entry in no_proxy.split(","):
        name = entry.strip().lower().removeprefix("*.").lstrip(".")
        if entry.strip() == "*" or (port and name == f"{host}:{port}"):
            return True
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False
