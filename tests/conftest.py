"""What all tests share: how long Hypothesis searches, what a skip is, that nothing leaves here."""

import ipaddress
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# `default` gives the same verdict for the same code on every machine; `long` goes looking.
settings.register_profile(
    "default",
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_ADDRESS_EVENTS = {"socket.bind", "socket.connect", "socket.sendto"}


class NotLoopbackError(AssertionError):
    """A test tried to listen on or to send to an address other than this machine's loopback."""


def _is_loopback(host: object) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _keep_to_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a socket's address unless it is a path (Unix socket) or on the loopback."""
    if event not in _ADDRESS_EVENTS:
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _is_loopback(address[0]):
        message = f"{event} with {address!r}: tests use 127.0.0.1 only"
        raise NotLoopbackError(message)


sys.addaudithook(_keep_to_loopback)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under ``STRICT=1`` a skipped test is a failure of the run.

    It is the controller of several processes that knows, so this hook is not the suite's own.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("STRICT") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
