"""``python -m tests.docs.pictures``: docs/images/status-page.png, of a forwarder that runs.

A simulated Cloudflare, three sinks of which one has a wrong token, and a real browser (Debian's
chromium). It takes some minutes, so that the charts have something to show.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from tests.end_to_end.processes import Forwarder, cloudflare
from tests.integration.chromium.browser import chromium
from tests.integration.chromium.page import tab
from tests.sinks.fakes.hec import FakeHec

_TARGET = Path(__file__).parents[2] / "docs" / "images" / "status-page.png"
_RUN = 180.0
_WIDTH = 1280


async def picture(folder: Path) -> bytes:
    """Return the first screen of the page, as a PNG."""
    async with FakeHec() as hec, cloudflare("--rate", "20", "--scim-rate", "1") as api:
        daemon = Forwarder(folder, api.url)
        settings = yaml.safe_load(daemon.settings.read_text())
        del settings["accounts"][0]["rate_limit"]  # the page shows the budget
        splunk = {"type": "splunk_hec", "url": hec.url}
        settings["sinks"] = {
            "splunk": {**splunk, "token": hec.token, "batch": {"max_wait": "1s"}},
            "soc": {**splunk, "token": "a-token-that-was-revoked"},
            "archive": {"type": "file", "path": str(folder / "events"), "format": "ocsf"},
        }
        daemon.settings.write_text(yaml.safe_dump(settings))
        await daemon.start()
        await asyncio.sleep(_RUN)
        with chromium(folder) as browser:
            async with tab(browser.port) as page:
                await page.width(_WIDTH)
                await page.open(await daemon.admin_url())
                await page.until("document.querySelectorAll('#chart-backlog path').length")
                taken = await page.screen()
        await daemon.stop()
    return taken


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        _TARGET.write_bytes(asyncio.run(picture(Path(made))))
    print(f"written: {_TARGET}")  # noqa: T201 - a command's answer
