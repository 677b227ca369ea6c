"""What a quiet account costs in requests, with the default intervals."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.docs.shell import BIN

_STARTING, _WATCHED = 20.0, 120.0
_FIVE_MINUTES = 300.0
_SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: simulated-token
    api_url: {url}
sinks:
  nowhere: {{ type: "null" }}
admin: {{ listen: off }}
"""


def measure_requests() -> str:
    """Watch two minutes of an account with a login now and then; return the table."""
    with tempfile.TemporaryDirectory(prefix="sizing-") as name:
        folder = Path(name)
        given = ["--port", "0", "--rate", "0.05", "--scim-rate", "0.01", "--history", "1m"]
        api = subprocess.Popen([BIN / "forwarder", "simulate", *given], stdout=subprocess.PIPE)
        assert api.stdout is not None
        url = api.stdout.readline().decode().strip()
        settings = folder / "config.yaml"
        settings.touch(mode=0o600)
        settings.write_text(_SETTINGS.format(folder=folder, url=url))
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen([BIN / "forwarder", "run", "-c", settings], stderr=log)
        try:
            time.sleep(_STARTING)  # noqa: TID251 - nothing else runs here
            before = _counts(url)
            time.sleep(_WATCHED)  # noqa: TID251 - as above
            after = _counts(url)
        finally:
            for process in (daemon, api):
                process.terminate()
                process.wait()
    spent = {what: after[what] - before.get(what, 0) for what in after}
    return _table({what: number * _FIVE_MINUTES / _WATCHED for what, number in spent.items()})


def _counts(url: str) -> dict[str, int]:
    base = url.removesuffix("/client/v4")
    with urllib.request.urlopen(f"{base}/_simulator/requests", timeout=20) as answer:
        counts: dict[str, int] = json.loads(answer.read())["counts"]
    return counts


def _table(spent: dict[str, float]) -> str:
    rows = [f"| {what} | {number:.0f} |" for what, number in sorted(spent.items()) if number]
    total = sum(spent.values())
    return "\n".join(
        (
            "| endpoint | requests in five minutes |",
            "|---|---|",
            *rows,
            f"| all | {total:.0f} |",
            "",
            f"One token carries about {1200 * 0.8 / total:.0f} such accounts with the defaults.",
        )
    )
