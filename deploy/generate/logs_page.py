"""docs/logs.md, from what the events say of their lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.generate.log_lines import Described

_HEAD = """\
<!-- Generated from the code: make generate -->
# Log lines

Logs go to standard error: JSON, one object a line, or coloured columns on a terminal
(`log.format`). Every line has `time`, `level` and `event`; `event` is one of the names below and
nothing else, so that you can search for it and alert on it. Keys without a value are left out.

A line that repeats with the same name, account, stream, sink and reason is written at most once a
minute; the next one says how many were kept back (`repeated`). Lines never hold the content of an
event, and secrets are replaced by asterisks.

If nobody reads standard error, nothing waits for it: lines beyond 256 KiB are dropped and counted
in `forwarder_log_lines_dropped_total`, and the log says how many as soon as it is read again.

| event | level | means | keys |
|---|---|---|---|
"""


def logs_page(lines: Mapping[str, Described]) -> str:
    """Return the page; ``lines`` are sorted by name."""
    return _HEAD + "".join(_row(name, line) for name, line in lines.items())


def _row(name: str, line: Described) -> str:
    levels = " or ".join(level.name.lower() for level in sorted(line.levels))
    keys = ", ".join(f"`{key}`" for key in line.keys)
    return f"| `{name}` | {levels} | {line.meaning} | {keys} |\n"
