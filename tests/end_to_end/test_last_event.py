"""The forwarder says that it stops while it still can."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.processes import Forwarder, cloudflare, until


async def test_that_it_stops_is_the_last_event_it_delivers(tmp_path: Path) -> None:
    async with cloudflare("--rate", "1", "--history", "10s") as api:
        forwarder = Forwarder(tmp_path, api.url)

        def own() -> list[str]:
            streams = [(event["_forwarder"]["stream"], event) for event in forwarder.events()]
            return [event["event"] for stream, event in streams if stream == "forwarder"]

        await forwarder.start()
        await until(own, 30)
        assert await forwarder.stop() == 0

        assert own()[-1] == "stop"
