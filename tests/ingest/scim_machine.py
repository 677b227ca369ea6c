"""The state machine for the provisioning log: identity providers come, go and are refused.

A provider counts as known once the poller has asked for its rows, or when it is there at the end.
Whatever is shown of a known one must arrive, whoever else is refused meanwhile. Where all of them
are refused the stream waits for a person, who comes at the end.
"""

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from forwarder.core.contracts import StreamKey
from forwarder.core.journal import Gap
from forwarder.core.source_contract import Source
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.scim.updates import REFUSED, ScimUpdates
from tests.ingest.scripted_cloudflare import SECOND_US, SECRET, Row, ScriptedApi, created_at
from tests.ingest.tailing_machine import ACCOUNT, POLL_S, TailingMachine

REFRESH_S = 300.0
_MOST_PROVIDERS = 26
BODIES: tuple[Any, ...] = (
    '{"userName":"ann"}',
    f'{{"userName":"ann","password":"{SECRET}"}}',
    f'{{"Operations":[{{"op":"replace","path":"password","value":"{SECRET}"}}]}}',
    f'{{"password":"{SECRET}"',
    '"{}}"',
    "",
    None,
    7,
    {"userName": "ann", "password": SECRET},
)
LACKS = ("user_email", "http_method", "request_method", "request_body", "status")
chosen = st.integers(0, _MOST_PROVIDERS - 1)


class ScimMachine(TailingMachine):
    """What a day of provisioning does to a poller."""

    key: ClassVar[StreamKey] = StreamKey(ACCOUNT, "scim_updates")
    start_from: ClassVar[float] = 50_000.0
    reads: ClassVar[type[ScimUpdates]] = ScimUpdates
    rest: ClassVar[float] = 2 * REFRESH_S + 6 * POLL_S

    def __init__(self) -> None:
        super().__init__()
        self.cloudflare.time_key = "logged_at"
        self.ever_refused: set[str] = set()

    def set_up(self, data: st.DataObject) -> None:
        self._provide(data.draw(st.sampled_from([0, 1, 2, 3, 21])))
        super().set_up(data)

    @rule(history_s=st.sampled_from([0, 30, 5000]), rows=st.integers(0, 2))
    def a_provider_appears(self, history_s: int, rows: int) -> None:
        self._provide(1)
        id_ = list(self.cloudflare.providers)[-1]
        for _ in range(rows):
            self._row(self.clock.true_us - history_s * SECOND_US, idp_id=id_)

    @rule(number=chosen)
    def a_provider_is_switched_off(self, number: int) -> None:
        self._switch(number, on=False)

    @rule(number=chosen)
    def a_provider_is_switched_on(self, number: int) -> None:
        self._switch(number, on=True)

    @rule(number=chosen)
    def a_provider_is_deleted(self, number: int) -> None:
        """Nobody lists it any more and it cannot be asked for."""
        self._switch(number, on=False)
        self._refuse(number)

    @rule(number=chosen)
    def a_provider_is_refused(self, number: int) -> None:
        self._refuse(number)

    @precondition(lambda self: self.cloudflare.refused)
    @rule()
    def nobody_is_refused_any_more(self) -> None:
        self.cloudflare.refused.clear()

    @rule(how=st.lists(st.sampled_from(["denied", "broken", "throttled"]), min_size=1, max_size=3))
    def the_providers_are_not_listed(self, how: list[str]) -> None:
        self.cloudflare.unlisted.extend(how)

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.cloudflare.unlisted.clear()
        enabled = {id_ for id_, on in self.cloudflare.providers.items() if on}
        if enabled and enabled <= self.cloudflare.refused:
            self.nobody_is_refused_any_more()
        super()._finish()

    def _is_wanted(self, row: Row) -> bool:
        id_ = row.body["idp_id"]
        return id_ in self.cloudflare.asked or self.cloudflare.providers.get(id_, False)

    def _explains(self, gap: Gap, row: Row) -> bool:
        refused = gap.reason != REFUSED or row.body["idp_id"] in self.ever_refused
        return refused and super()._explains(gap, row)

    # -- the works ------------------------------------------------------------------------------

    def _source(self, api: ScriptedApi, config: AccountConfig) -> Source:
        settings = ScimUpdatesConfig(refresh=REFRESH_S)
        return self.reads(api, config, settings, self.clock, advance=type(self).walk)

    def _row(self, time_us: int, digits: int = 6, *, late_us: int = 0, **values: Any) -> None:
        number = len(self.cloudflare.rows)
        full = {
            "user_email": "ann@example.org",
            "http_method": "PATCH",
            "request_method": "PATCH",
            "request_body": BODIES[number % len(BODIES)],
            "status": "SUCCESS",
        }
        full.pop(LACKS[number // 2 % len(LACKS)])
        values = {"cf_resource_id": f"res-{number}"} | full | values
        self._add(time_us, created_at(time_us, digits), late_us=late_us, **values)

    def _add(self, time_us: int, text: Any, **values: Any) -> None:
        ids = list(self.cloudflare.providers) or ["nobody"]
        someone = ids[time_us // SECOND_US % len(ids)]
        secret = f'{{"password":"{SECRET}"}}'
        values = {"idp_id": someone, "request_body": secret} | values
        self.cloudflare.add(time_us, text, **values)

    def _provide(self, count: int) -> None:
        providers = self.cloudflare.providers
        for number in range(len(providers), min(len(providers) + count, _MOST_PROVIDERS)):
            providers[f"idp-{number}"] = True

    def _switch(self, number: int, *, on: bool) -> None:
        if f"idp-{number}" in self.cloudflare.providers:
            self.cloudflare.providers[f"idp-{number}"] = on

    def _refuse(self, number: int) -> None:
        if f"idp-{number}" in self.cloudflare.providers:
            self.cloudflare.refused.add(f"idp-{number}")
            self.ever_refused.add(f"idp-{number}")
