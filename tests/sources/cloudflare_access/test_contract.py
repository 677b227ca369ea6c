"""All streams of Cloudflare Access keep the contract of sources, over real sockets."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest

from forwarder.core.contracts import Window
from forwarder.core.source_contract import Source, SourceContext
from forwarder.core.timing import SystemClock, format_us
from forwarder.simulator import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    JIT_REQUESTS,
    NON_IDENTITY_LOGINS,
    SCIM_UPDATES,
    Fault,
    Simulator,
    SimulatorSettings,
    unreadable_row,
)
from forwarder.simulator.company import found_company
from forwarder.simulator.temporary_access import Request, made
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.testing.source_contract import CursorContract, SourceContract
from forwarder.transport.settings import Secret

NONE = "nonidentity"


class Cloudflare:
    """A simulated account without traffic of its own."""

    def __init__(self, simulator: Simulator, stream: str) -> None:
        self._simulator = simulator
        self._stream = stream
        self._start_us = (int(time.time()) - 100) * 1_000_000
        self._plugins: list[CloudflareAccess] = []
        providers = simulator.directory(DEFAULT_ACCOUNT).provisioning()
        self.parts: Sequence[str] = providers[:1] if stream == SCIM_UPDATES else ()
        self._numbers: list[int] = []

    def source(self) -> Source:
        config = AccountConfig(
            account_id=DEFAULT_ACCOUNT,
            api_token=Secret(DEFAULT_TOKEN),
            api_url=self._simulator.url,
            streams={self._stream: {"page_size": 7}},  # type: ignore[arg-type]
        )
        clock = SystemClock()
        plugin = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
        self._plugins.append(plugin)
        return plugin.streams()[self._stream].source

    def window(self) -> Window:
        return Window(self._start_us, self._start_us + 99_000_000)

    def add(self, count: int, *, twins: bool = False, together: bool = False) -> None:
        for number in range(count):
            row = self._row(0 if twins else number)
            if self._stream == ACCOUNT_AUDIT and (twins or together):
                row |= self._row(0) if twins else {"action": self._row(0)["action"]}
                row |= {"id": ""} if twins else {}
            self._numbers.append(self._simulator.add(DEFAULT_ACCOUNT, self._stream, row))

    def add_malformed(self) -> None:
        row = unreadable_row("lone_surrogate", self._row(90))
        self._simulator.add(DEFAULT_ACCOUNT, self._stream, row)

    def break_down(self) -> None:
        self._simulator.faults.add(Fault("html", status=502))

    def amend(self) -> None:
        self._simulator.amend(
            DEFAULT_ACCOUNT, self._stream, self._numbers[0], {"zone": {"name": "example.com"}}
        )

    def forget_cursors(self) -> None:
        self._simulator.faults.add(Fault("forget_cursors"))

    def repeat_cursor(self, times: int | None) -> None:
        self._simulator.faults.add(Fault("repeat_cursor", times=times))

    def send_empty_page(self) -> None:
        self._simulator.faults.add(Fault("empty_page"))

    async def aclose(self) -> None:
        for plugin in self._plugins:
            await plugin.aclose()

    def _row(self, number: int) -> dict[str, Any]:
        moment = format_us(self._start_us + 1_000_000 + number * 700_000)
        if self._stream == ACCESS_REQUESTS:
            return {"created_at": moment, "ray_id": f"{number:016x}", "action": "login"}
        if self._stream == ACCOUNT_AUDIT:
            return {"id": f"row-{number}", "action": {"time": moment, "type": "update"}}
        if self._stream == NON_IDENTITY_LOGINS:
            whole = format_us(self._start_us + (number + 1) * 1_000_000)
            return {"datetime": whole, "cfRayId": f"{number:016x}", "identityProvider": NONE}
        return {"logged_at": moment, "idp_id": self.parts[0], "cf_resource_id": f"{number}"}


class _OfCloudflare(SourceContract):
    stream: ClassVar[str]
    origin_class: ClassVar[type[Cloudflare]] = Cloudflare

    @pytest.fixture
    async def origin(self) -> AsyncIterator[Cloudflare]:
        async with Simulator(SimulatorSettings(rate=0.0, scim_rate=0.0)) as simulator:
            origin = self.origin_class(simulator, self.stream)
            yield origin
            await origin.aclose()


class TestAccessRequests(_OfCloudflare):
    stream = ACCESS_REQUESTS


class TestScimUpdates(_OfCloudflare):
    stream = SCIM_UPDATES


class Board(Cloudflare):
    """Requests for temporary access; a row of the contract is a request that was made."""

    def add(self, count: int, *, twins: bool = False, together: bool = False) -> None:
        del together
        board = self._simulator.board(DEFAULT_ACCOUNT)
        who = found_company(1, DEFAULT_ACCOUNT).people[0]
        for number in range(count):
            made_us = self._start_us + 1_000_000 + number * 700_000
            # What is listed without an id cannot be read further, and is a row itself.
            without_id = Request(self._start_us + 1_000_000, {"status": "PENDING"})
            board.add(without_id if twins else made(number, made_us, who, ()))

    def add_malformed(self) -> None:
        row = unreadable_row("lone_surrogate", {"status": "PENDING"})
        request = Request(self._start_us + 50_000_000, {}, raw=row)
        self._simulator.board(DEFAULT_ACCOUNT).add(request)


class TestJitRequests(_OfCloudflare):
    stream = JIT_REQUESTS
    origin_class = Board


class Analytics(Cloudflare):
    """Logins without identity: alike they are one group, so that twins are no groups at all."""

    def add(self, count: int, *, twins: bool = False, together: bool = False) -> None:
        if not twins:
            super().add(count, together=together)
            return
        for _ in range(count):
            row = {"count": 1, "dimensions": [self._row(0)]}
            self._simulator.add(DEFAULT_ACCOUNT, self._stream, row)

    def add_malformed(self) -> None:
        row = unreadable_row("lone_surrogate", {"count": 1, "dimensions": self._row(20)})
        self._simulator.add(DEFAULT_ACCOUNT, self._stream, row)


class TestNonIdentityLogins(_OfCloudflare):
    stream = NON_IDENTITY_LOGINS
    origin_class = Analytics


class TestAccountAudit(_OfCloudflare, CursorContract):
    stream = ACCOUNT_AUDIT
