"""``python -m tests.docs.hec PORT``: a Splunk-like HTTP Event Collector that prints what arrives.

For those who want to see the path to a SIEM and have no Splunk at hand. It is the fake that the
tests of the sink use.
"""

from __future__ import annotations

import asyncio
import sys

import orjson

from tests.sinks.fakes.hec import FakeHec

_LOOK = 0.1


async def main(port: int) -> None:
    hec, printed = FakeHec(), 0
    hec._port = port  # noqa: SLF001 - a fixed address, since the reader was promised one
    await hec.start()
    print(f"HEC on http://127.0.0.1:{port}, token {hec.token}", flush=True)  # noqa: T201
    while True:
        for event in hec.indexed[printed:]:
            print(orjson.dumps(event).decode(), flush=True)  # noqa: T201 - what it is for
            printed += 1
        await asyncio.sleep(_LOOK)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
