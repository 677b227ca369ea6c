"""A Cloudflare API to run: the log endpoints, traffic from a seed, scripted faults, an oracle.

It shares no code with what it tests. Start reading at `simulator` (what a test holds), `exchange`
(the way of one request) and `faults` (what can go wrong).
"""

from __future__ import annotations

from forwarder.simulator.company import IdentityProvider
from forwarder.simulator.faults import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    IDENTITY_PROVIDERS,
    JIT_REQUESTS,
    NON_IDENTITY_LOGINS,
    SCIM_UPDATES,
    VERIFY,
    Fault,
    FaultScript,
)
from forwarder.simulator.feed import Clock, ManualClock, SystemClock, unreadable_row
from forwarder.simulator.settings import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    RatePolicy,
    SimulatorSettings,
    Token,
)
from forwarder.simulator.simulator import Simulator

__all__ = [
    "ACCESS_REQUESTS",
    "ACCOUNT_AUDIT",
    "DEFAULT_ACCOUNT",
    "DEFAULT_TOKEN",
    "IDENTITY_PROVIDERS",
    "JIT_REQUESTS",
    "NON_IDENTITY_LOGINS",
    "SCIM_UPDATES",
    "VERIFY",
    "Clock",
    "Fault",
    "FaultScript",
    "IdentityProvider",
    "ManualClock",
    "RatePolicy",
    "Simulator",
    "SimulatorSettings",
    "SystemClock",
    "Token",
    "unreadable_row",
]
