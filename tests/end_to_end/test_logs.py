"""What the logs of a whole run say, and what they never do: secrets, and what is in the events."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from deploy.generate.log_lines import log_lines
from tests.end_to_end.processes import ACCOUNT, STREAMS, Forwarder, caught_up, cloudflare, until

SECRETS = {
    "cloudflare": "planted-cloudflare-token-5d1c",
    "sink": "planted-sink-token-91aa",
    "user": "planted-password-77be",
    "admin": "planted-admin-token-e04f",
    "hash": "planted-hash-key-3c3c",
}
_SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: {account}
    name: acme
    api_token: {cloudflare}
    api_url: {url}
    rate_limit: off
    streams:
      access_requests: {{ poll_interval: 1s }}
      scim_updates: {{ poll_interval: 1s, refresh: 10s }}
sinks:
  console: {{ type: stdout, format: raw }}
  quoting: {{ type: http, format: raw, url: "{sink_url}/in", headers: {{ X-Key: {sink} }} }}
  basic:
    type: http
    format: raw
    url: "{sink_url}/down"
    username: somebody
    password: {user}
    hash_fields: [user_email]
    hash_key: {hash}
admin: {{ listen: "127.0.0.1:0", token: {admin} }}
log: {{ format: json, level: {level} }}
"""
_WORTH_HIDING = ("user_email", "ip_address", "user_uid", "ray_id", "app_domain", "cf_resource_id")


@pytest.fixture
async def rude() -> AsyncIterator[str]:
    """A destination that quotes what it was sent, with its credentials, in every refusal."""

    async def refuse(request: web.Request) -> web.Response:
        said = f"{dict(request.headers)} {(await request.read()).decode(errors='replace')}"
        return web.Response(status=400 if request.path == "/in" else 503, text=said)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{any}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def contents(events: list[dict[str, Any]]) -> Iterator[str]:
    """Return what rows say about people and places, below all their keys."""
    for event in events:
        if event["_forwarder"]["stream"] in STREAMS:
            yield from (str(event[key]) for key in _WORTH_HIDING if event.get(key))
            yield from re.findall(r"[\w.+-]+@[\w.-]+\.\w+", json.dumps(event))


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_no_secret_and_nothing_of_the_events_is_logged(
    rude: str, level: str, tmp_path: Path
) -> None:
    options = ("--rate", "10", "--scim-rate", "2", "--history", "2m")
    async with cloudflare(*options, "--token", SECRETS["cloudflare"]) as api:
        forwarder = Forwarder(tmp_path, api.url)
        forwarder.settings.chmod(0o600)
        places = {"folder": tmp_path, "account": ACCOUNT, "url": api.url, "sink_url": rude}
        forwarder.settings.write_text(_SETTINGS.format(**places, **SECRETS, level=level))
        await forwarder.start()
        try:
            url = await forwarder.admin_url()
            await caught_up(api, forwarder)
            await until(lambda: '"events_dead_lettered"' in forwarder.errors())
            async with ClientSession() as http:
                for word in (SECRETS["admin"], "guessed"):
                    headers = {"Authorization": f"Bearer {word}"}
                    await http.get(f"{url}/status?token={SECRETS['admin']}", headers=headers)
            await api.command("faults", [{"kind": "unreadable"}])
            await until(lambda: '"body_repaired"' in forwarder.errors())
            assert await forwarder.stop() == 0
        finally:
            await forwarder.kill()

    logged = forwarder.errors()
    told = set(contents(forwarder.events()))
    assert len(told) > 100
    assert [secret for secret in SECRETS.values() if secret in logged] == []
    assert sorted(text for text in told if text in logged) == []


async def test_every_line_has_a_known_name_and_there_is_one_a_batch_at_most(
    rude: str, tmp_path: Path
) -> None:
    """At info a sink that is out and one that refuses everything say so once, not once a batch."""
    async with cloudflare("--rate", "10", "--token", SECRETS["cloudflare"]) as api:
        forwarder = Forwarder(tmp_path, api.url)
        forwarder.settings.chmod(0o600)
        places = {"folder": tmp_path, "account": ACCOUNT, "url": api.url, "sink_url": rude}
        forwarder.settings.write_text(_SETTINGS.format(**places, **SECRETS, level="info"))
        await forwarder.start()
        try:
            await caught_up(api, forwarder)
            assert await forwarder.stop() == 0
        finally:
            await forwarder.kill()

    lines = forwarder.log()
    names = Counter((line["event"], line.get("sink"), line.get("reason")) for line in lines)
    assert {line["event"] for line in lines} <= log_lines().keys()
    assert max(names.values()) <= 3, names.most_common(3)
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
