"""A preview can be read at any width, and copied out of a pipe."""

from __future__ import annotations

import io

import orjson
from rich.console import Console

from forwarder.cli.preview import plain, rendered
from forwarder.runtime.inspection import Preview

_ROW = {"app_uid": "df7e2a5f-02b7-4d9d-af26-8d1988fca630", "user_email": "[red]ann@example.com"}
_JSON = orjson.dumps({"user": {"id": _ROW["app_uid"], "name": _ROW["user_email"]}})
_CEF = b"CEF:0|Cloudflare|Access|1|" + b"x" * 300
_SINKS = ("splunk", "elastic", "kafka", "sentinel", "archive")


def _preview(count: int) -> Preview:
    """Return a preview of ``count`` sinks, the last of which gets a line that is not JSON."""
    bodies = {**dict.fromkeys(_SINKS[: count - 1], _JSON), "syslog": _CEF}
    return Preview("access_requests", _ROW, bodies)


def _shown(preview: Preview, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(rendered(preview, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_six_sinks_are_stacked_at_any_usual_width() -> None:
    for width in (80, 200):
        lines = _shown(_preview(6), width)

        headings = [line for line in lines if line.startswith("\u256d")]
        assert [heading.split()[1] for heading in headings] == [
            "access_requests:",
            *_SINKS,
            "syslog",
        ]
        assert {len(line) for line in lines} == {width}
        assert sum(f'"id": "{_ROW["app_uid"]}"' in line for line in lines) == len(_SINKS)


def test_what_fits_stands_side_by_side() -> None:
    lines = _shown(_preview(2), 200)

    assert all(name in lines[1] for name in ("access_requests: as received", "splunk", "syslog"))
    assert any(_ROW["app_uid"] in line and f'"id": "{_ROW["app_uid"]}"' in line for line in lines)
    assert max(map(len, lines)) <= 200


def test_one_sink_is_stacked_in_a_narrow_terminal() -> None:
    lines = _shown(_preview(1), 80)

    assert not [line for line in lines if "as received" in line and "syslog" in line]
    assert max(map(len, lines)) == 80


def test_a_text_is_shown_as_it_is() -> None:
    assert any("[red]ann@example.com" in line for line in _shown(_preview(2), 80))


def test_piped_output_has_no_frames_and_no_broken_lines() -> None:
    text = plain(_preview(2))
    lines = text.splitlines()

    assert _CEF.decode() in lines
    assert lines[0] == "access_requests: as received"
    assert lines[lines.index("syslog") + 1] == _CEF.decode()
    assert orjson.loads("".join(lines[lines.index("splunk") + 1 : lines.index("syslog")]))
    assert text.isascii()


def test_an_event_that_a_filter_drops_is_said_to_be() -> None:
    preview = Preview("access_requests", _ROW, {"splunk": None})

    assert "excluded by" in plain(preview)
    assert any("excluded by" in line for line in _shown(preview, 80))
