"""A thousand rows are answered fast enough to be no part of what is measured."""

from __future__ import annotations

import time

import orjson
from multidict import MultiDict

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    SCIM_UPDATES,
    ManualClock,
    SimulatorSettings,
)
from forwarder.simulator.cloud import Cloud
from forwarder.simulator.exchange import ApiRequest, answer

MOST_SECONDS = 0.03
"""Thirty times what it takes here: for slow machines, and still far from reading a history."""


def test_a_page_of_a_thousand_rows_takes_milliseconds() -> None:
    settings = SimulatorSettings(rate=200, scim_rate=50, history=100)
    cloud = Cloud(settings, clock=ManualClock(1_790_000_000))
    cloud.advance()
    params = MultiDict([("limit", "1000"), ("page", "4")])
    params.extend(("idp_id", idp) for idp in cloud.directory(DEFAULT_ACCOUNT).provisioning())

    for stream in (ACCESS_REQUESTS, SCIM_UPDATES):
        headers = {"Authorization": f"Bearer {DEFAULT_TOKEN}"}
        request = ApiRequest(stream, DEFAULT_ACCOUNT, "/", params, headers)
        durations = []
        for _ in range(20):
            started = time.process_time()
            answer(cloud, request)
            durations.append(time.process_time() - started)

        reply = answer(cloud, request)
        assert len(orjson.loads(reply.body)["result"]) == 1000
        assert min(durations) < MOST_SECONDS
