"""The screen of ``forwarder status --watch``; tests/end_to_end/test_watch.py draws it."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.cli.status import understood
from forwarder.cli.terminal import Line
from forwarder.cli.watching import BLOCKS, SIGNS, Look, look, screen, signs_for
from forwarder.core.errors import StateError
from tests.cli.lacking import lacking
from tests.integration.chromium.state import ATTACK, state

CLOCK = "2026-11-30T12:45:10Z"


def status(seconds: int, **changes: Any) -> dict[str, Any]:
    """Return a status in which each stream has read 3 rows a second, and each sink sent 12."""
    found = {**state(), "settings": {"refused": [], "needs_restart": []}, **changes}
    for one in found["streams"]:
        one["rows"] = 3 * seconds
    for one in found["sinks"]:
        one["delivered_events"] = 0 if one["phase"] == "held" else 12 * seconds
    return found


def looks(seconds: int = 120, **changes: Any) -> list[Look]:
    return [look(1000.0 + second, status(second, **changes)) for second in range(seconds)]


def shown(
    given: list[Look], size: tuple[int, int] = (80, 60), signs: str = BLOCKS, trouble: str = ""
) -> list[str]:
    return [line.text for line in screen(given, CLOCK, size, signs, trouble)]


def row(lines: list[str], name: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"{name} ")]
    return found.split()


def test_nothing_is_wider_or_longer_than_the_terminal() -> None:
    many = [{**one, "account": f"account-{n}"} for n in range(60) for one in state()["streams"]]
    for width, height in ((80, 24), (80, 60), (200, 50), (60, 10), (40, 24), (5, 3), (1, 1)):
        lines = shown(looks(3, streams=many), (width, height))

        assert max(map(len, lines)) <= width, (width, height)
        assert len(lines) <= height, (width, height)


def test_in_80_columns_and_24_lines_everything_urgent_is_there() -> None:
    text = "\n".join(shown(looks(), (80, 24)))

    for found in ("NOT READY  forwarder-0", CLOCK, "sink elastic", "globex/scim_updates", "q ends"):
        assert found in text, found


def test_what_needs_a_person_comes_first() -> None:
    lines = shown(looks())
    sinks = lines[next(n for n, line in enumerate(lines) if line.startswith("sink ")) :]

    assert (
        lines[1] == "! sink elastic is held: 401 security_exception (give the key its privileges)"
    )
    assert "forwarder dead-letters list --sink elastic" in " ".join(" ".join(lines).split())
    assert "! open gaps (1): forwarder gaps list" in lines
    assert [line.split()[0] for line in sinks[1:5]] == ["elastic", "qradar", "splunk", "bus"]


def test_settings_that_are_refused_need_a_person() -> None:
    lines = shown(looks(1, settings={"refused": ["sinks.a: unknown key"], "needs_restart": []}))

    assert "! settings are refused: sinks.a: unknown key" in lines


def test_an_error_that_is_a_reason_is_told_once() -> None:
    error = next(one["error"] for one in state()["sinks"] if one["error"])
    lines = shown(looks(2, reasons=[f"sink x: {error}"]), (400, 60))

    assert 1 == "\n".join(lines).count(error)


def test_a_calm_forwarder_needs_nobody() -> None:
    calm: dict[str, Any] = {"dead_letters": [], "gaps": {"total": 1, "open": 0, "latest": []}}
    calm |= {"state": "ready", "reasons": [], "streams": [], "sinks": []}

    lines = shown(looks(2, **calm))

    assert "nothing needs a person" in lines
    assert any(line.endswith("; open gaps: 0") for line in lines)


def test_rates_are_those_of_the_last_half_minute() -> None:
    lines = shown([*looks(60), look(1070.0, status(60))])  # for ten seconds nothing came

    assert row(lines, "acme/access_requests")[2] == "2.0"  # 60 rows in 30 s
    assert row(lines, "elastic")[2] == "0"
    assert row(shown(looks(1)), "splunk")[2] == "12"  # the backlog: there is no rate yet


def test_a_trend_has_a_sign_for_each_ten_seconds() -> None:
    burst = [look(1000.0 + at, status(rows)) for at, rows in ((0, 0), (10, 0), (20, 70), (30, 80))]
    blocks, signs = (row(shown(burst, signs=kind), "splunk")[3] for kind in (BLOCKS, SIGNS))

    assert (blocks, signs) == ("▁█▂", "_#.")


def test_a_counter_that_began_again_is_no_negative_rate() -> None:
    lines = shown([look(1000.0, status(500)), look(1010.0, status(1))])

    assert row(lines, "splunk")[2] == "0"


def test_without_an_answer_the_last_status_stays_with_the_reason() -> None:
    lines = shown(looks(), trouble="no daemon answers\x1b[2J")

    assert lines[1] == "no answer: no daemon answers?[2J"
    assert row(lines, "splunk")


def test_texts_of_others_cannot_steer_the_terminal() -> None:
    evil = status(1, host="\x1b]0;owned\x07", reasons=[f"{ATTACK}\x9b31m\nsecond"])
    lines = screen([look(0.0, evil)], CLOCK, (80, 60), BLOCKS)

    assert all(line.text.isprintable() for line in lines)
    assert Line("! open gaps (1): forwarder gaps list", "33") in lines


@pytest.mark.parametrize(
    ("environ", "signs"),
    [
        ({"LANG": "en_US.UTF-8"}, BLOCKS),
        ({"LC_CTYPE": "C.utf8", "LANG": "C"}, BLOCKS),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, SIGNS),
        ({"LANG": "de_DE.ISO-8859-1"}, SIGNS),
        ({}, SIGNS),
    ],
)
def test_blocks_are_for_locales_with_unicode(environ: dict[str, str], signs: str) -> None:
    assert signs_for(environ) == signs


def test_a_forwarder_that_does_not_count_has_no_rates() -> None:
    found = status(5)
    for one in (*found["streams"], *found["sinks"]):
        one.pop("rows", None)
        one.pop("delivered_events", None)
    lines = shown([look(1000.0 + second, found) for second in range(5)])

    assert "running" in row(lines, "splunk")


def test_a_status_of_another_release_is_drawn_or_refused_in_one_sentence() -> None:
    drawn, refused = 0, []
    for found in lacking(status(5)):
        try:
            with understood(found):
                drawn += len(shown([look(1000.0, found)])) > 0
        except StateError as error:
            refused.append(str(error))

    assert drawn > 20
    assert all(one.startswith("the forwarder has version ") for one in refused)


def test_a_full_journal_names_the_sink_that_it_waits_for() -> None:
    journal = {**state()["journal"], "gate_closed": True}
    lines = shown(looks(2, journal=journal), (200, 60))

    assert "undelivered, full: nothing is read until sink elastic catches up" in "\n".join(lines)
