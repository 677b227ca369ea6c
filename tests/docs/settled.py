"""``python settled.py PORT...``: returns when each port answers and daemons have delivered all."""

import json
import sys
import time
import urllib.error
import urllib.request

_LONGEST = 120.0
_LOOK = 0.2


def main(ports: list[str]) -> None:
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end and not all(map(settled, ports)):
        time.sleep(_LOOK)  # noqa: TID251 - a program of its own, with nothing else to do


def settled(port: str) -> bool:
    """Return True if a server answers, or a daemon is ready and has no backlog."""
    try:
        status = json.loads(_get(f"http://127.0.0.1:{port}/status"))
    except (urllib.error.HTTPError, json.JSONDecodeError):
        return True  # a simulator or a collector, which have no /status
    except OSError:
        return False
    read = all(stream["last_success_seconds_ago"] is not None for stream in status["streams"])
    return bool(
        status["ready"] and read and not any(sink["backlog_events"] for sink in status["sinks"])
    )


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body


if __name__ == "__main__":
    main(sys.argv[1:])
