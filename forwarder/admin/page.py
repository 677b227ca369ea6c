"""The page at ``/``: the state at a glance, put together into one self-contained file."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_SOURCES = files("forwarder.admin") / "status_page"
_SCRIPTS = ("elements.js", "charts.js", "page.js")


def _read(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STYLE = _read("style.css")
_SCRIPT = "\n".join(_read(name) for name in _SCRIPTS)

PAGE = _read("index.html").replace("/*STYLE*/", _STYLE).replace("/*SCRIPT*/", _SCRIPT)
"""The document; it asks ``status`` and ``history`` for everything that changes."""

POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy: its own style and script, and nothing from elsewhere."""
