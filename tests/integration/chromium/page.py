"""A headless Chromium driven over its own debugging protocol: one page, what it asks and says."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

_PATIENCE = 60.0
_EVENTS = ("Page", "Runtime", "Network", "Log", "Performance")


@dataclass
class Page:
    """One tab. ``requests`` are the URLs it asked for, ``complaints`` what its console said."""

    socket: ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Carry out one command of the protocol and return its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, _PATIENCE)

    async def open(self, url: str) -> None:
        """Load ``url``; what is asked and said counts from now on."""
        self.requests.clear()
        self.complaints.clear()
        await self.command("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Return what an expression, or the promise that it gives, comes to."""
        answer = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Return when an expression is true; fail when it never is."""
        async with asyncio.timeout(_PATIENCE):
            while not await self.value(f"Boolean({expression})"):  # noqa: ASYNC110 - it is remote
                await asyncio.sleep(0.05)

    async def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9
            )

    async def colours(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.command("Emulation.setEmulatedMedia", features=[feature])

    async def width(self, pixels: int) -> None:
        """Be a window of this width."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def picture(self) -> bytes:
        """Return what the whole page looks like, as a PNG."""
        answer = await self.command("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def screen(self) -> bytes:
        """Return what is seen of the page without scrolling, as a PNG."""
        return base64.b64decode((await self.command("Page.captureScreenshot"))["data"])

    async def listen(self) -> None:
        """Take what the browser sends, until the connection ends."""
        async for message in self.socket:
            content = message.json()
            if "id" in content:
                answer = self._answers.pop(content["id"])
                answer.set_result(content.get("result", {"error": content.get("error")}))
            else:
                self._note(content["method"], content["params"])

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(said["args"]))


@asynccontextmanager
async def tab(port: int) -> AsyncIterator[Page]:
    """Open a tab in the browser that is debugged at ``port``."""
    async with (
        ClientSession(f"http://127.0.0.1:{port}") as http,
        http.put("/json/new?about:blank") as answer,
    ):
        target = await answer.json(content_type=None)
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            for domain in _EVENTS:
                await page.command(f"{domain}.enable")
            yield page
            listening.cancel()
        async with http.get(f"/json/close/{target['id']}"):
            pass
