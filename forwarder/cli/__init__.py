"""The commands: the only room that prints or exits."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

_ENDED_BY_SIGTERM = 128 + signal.SIGTERM


def main() -> None:
    """Run the command line. Entry point of the console script."""
    _end_at_sigterm()
    _open_standard_streams()
    from forwarder.cli.program import run_program  # noqa: PLC0415 - importing forwarder is free

    run_program()


def _end_at_sigterm() -> None:
    """Let SIGTERM end the process from its first instant on, also as PID 1 of a container.

    ``forwarder run`` replaces the handler by its graceful one when its event loop runs.
    """
    # The kernel ends any process without a handler, but not PID 1: there the signal is dropped,
    # and a pod that is replaced while it starts would wait for its whole grace period.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    # The image starts us with the signal blocked: the kernel keeps a blocked signal, also for
    # PID 1, while Python itself starts and no code of ours can run.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end(*_: Any) -> NoReturn:
    os._exit(_ENDED_BY_SIGTERM)


def _open_standard_streams() -> None:
    """Open the standard streams that are closed (``2>&-``) on the null device.

    Whatever is opened next would get their numbers: a sink would write its events, and Python its
    errors, into a database or a socket.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is given out, which is this one: lower ones are open by now.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
            setattr(sys, name, stream)
