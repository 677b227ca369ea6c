"""What an operator must know of a cluster before events go there."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from forwarder.core.contracts import Finding
from forwarder.core.errors import TransientError
from forwarder.sinks.elasticsearch.config import as_object, makes_data_stream, section
from forwarder.transport.http import Answer, status_error
from forwarder.transport.settings import origin

_WANTED = ("create_doc", "auto_configure")


class Asking(Protocol):
    """Sends one request to a node and returns the answer, whatever its status."""

    def __call__(
        self, method: str, url: str, body: dict[str, Any] | None = None
    ) -> Awaitable[Answer]:
        """Raise ``TransientError`` when there is no answer."""
        ...


async def findings(ask: Asking, url: str, names: Sequence[str]) -> list[Finding]:
    """Look at one node: who it is, its data streams and templates, and what we may do."""
    found = [await _greeting(ask, url)]
    if found[0].level == "fault":
        return found
    found += [await _data_stream(ask, url, name) for name in names]
    if names:
        found += await _privileges(ask, url, names)
    return found


async def _greeting(ask: Asking, url: str) -> Finding:
    answer, subject = await ask("GET", f"{url}/"), origin(url)
    if answer.status == 403:  # noqa: PLR2004 - forbidden, but not unauthorised
        return Finding("ok", subject, "knows us, and does not let us ask for its version")
    error = status_error(answer.status, subject)
    if error is not None:
        hint = error.hint if isinstance(error, TransientError) else ""
        return Finding("fault", subject, str(error), hint)
    version = section(as_object(answer.body), "version")
    name = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
    return Finding("ok", subject, f"{name} {version.get('number', 'of unknown version')}")


async def _data_stream(ask: Asking, url: str, name: str) -> Finding:
    answer = await ask("GET", f"{url}/_data_stream/{name}")
    if answer.status == 200:  # noqa: PLR2004
        return Finding("ok", name, "the data stream is there")
    if answer.status != 404:  # noqa: PLR2004
        return Finding("warning", name, f"not allowed to look for it ({answer.status})")
    templates = await ask("GET", f"{url}/_index_template")
    if templates.status != 200:  # noqa: PLR2004
        return Finding("warning", name, "not there yet, and not allowed to look for its template")
    if makes_data_stream(templates.body, name):
        return Finding("ok", name, "a template will make the data stream with the first event")
    return Finding(
        "fault",
        name,
        "no index template makes it a data stream",
        "put the templates of deploy/elastic there",
    )


async def _privileges(ask: Asking, url: str, names: Sequence[str]) -> list[Finding]:
    """Ask what we may do, where the cluster has the question (Elasticsearch with security)."""
    body = {"index": [{"names": list(names), "privileges": list(_WANTED)}]}
    answer = await ask("POST", f"{url}/_security/user/_has_privileges", body)
    if answer.status != 200:  # noqa: PLR2004
        return []
    held = section(as_object(answer.body), "index")
    missing = [
        f"{privilege} on {name}"
        for name in names
        for privilege in _WANTED
        if not section(held, name).get(privilege)
    ]
    if not missing:
        return [Finding("ok", "privileges", "create_doc and auto_configure are there")]
    return [
        Finding("fault", "privileges", f"missing: {', '.join(missing)}", "add them to the role")
    ]
