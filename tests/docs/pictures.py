"""``python -m tests.docs.pictures``: docs/images/status-page.png, of a forwarder that runs.

A simulated Cloudflare, three sinks of which one has a wrong token, and a real browser (Debian's
chromium). It takes some minutes, so that the charts have something to show.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from forwarder.testing.network import free_port
from tests.end_to_end.processes import ACCOUNT, Forwarder, cloudflare
from tests.integration.chromium.browser import chromium
from tests.integration.chromium.page import tab
from tests.sinks.fakes.hec import FakeHec

_TARGET = Path(__file__).parents[2] / "docs" / "images" / "status-page.png"
_RUN = 180.0
_WIDTH = 1280
_SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: {account}
    name: acme
    api_token_file: {folder}/token
    api_url: {url}
    streams:
      access_requests: {{ poll_interval: 5s }}
      scim_updates: {{ poll_interval: 5s }}
sinks:
  splunk: {{ type: splunk_hec, url: "{hec}", token: {token}, batch: {{ max_wait: 1s }} }}
  soc: {{ type: splunk_hec, url: "{hec}", token: a-token-that-was-revoked }}
  archive: {{ type: file, path: {folder}/events.ndjson, format: ocsf }}
admin: {{ listen: "127.0.0.1:{port}" }}
"""


async def picture(folder: Path) -> bytes:
    """Return the first screen of the page, as a PNG."""
    port = free_port()
    async with FakeHec() as hec, cloudflare("--rate", "20", "--scim-rate", "1") as api:
        daemon = Forwarder(folder, api.url)
        daemon.settings.write_text(
            _SETTINGS.format(
                folder=folder,
                account=ACCOUNT,
                url=api.url,
                hec=hec.url,
                token=hec.token,
                port=port,
            )
        )
        await daemon.start()
        await asyncio.sleep(_RUN)
        with chromium(folder) as browser:
            async with tab(browser.port) as page:
                await page.width(_WIDTH)
                await page.open(f"http://127.0.0.1:{port}/")
                await page.until("document.querySelectorAll('#chart-backlog path').length")
                taken = await page.screen()
        await daemon.stop()
    return taken


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        _TARGET.write_bytes(asyncio.run(picture(Path(made))))
    print(f"written: {_TARGET}")  # noqa: T201 - a command's answer
