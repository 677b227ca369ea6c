"""Messages are read back by an independent parser, whatever is in the event."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syslog_rfc5424_parser import SyslogMessage

from forwarder.core.contracts import BatchEvent
from forwarder.testing.fake_sinks import make_event
from forwarder.transport.syslog import (
    FACILITIES,
    SEVERITIES,
    Header,
    SyslogLines,
    escape_param,
    lf_terminated,
    octet_counted,
    printable,
    within,
)
from tests.sinks.fakes_stream.syslog_receiver import lf_frames, octet_frames

EVENT = make_event(1, body=b'{"a":1}')
# The parser takes a value's last backslash for an escape; escaping has a test of its own.
no_backslash = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\")
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


def line(event: BatchEvent = EVENT, **header: Any) -> bytes:
    return SyslogLines(Header(**{"hostname": "here", **header})).lines([event])[0]


def test_rfc_5424() -> None:
    expected = (
        b"<86>1 2026-01-01T00:00:01.123456Z here cloudflare-access - access_requests "
        b'[access@32473 stream="access_requests" account="acme" event_id="%b"] {"a":1}'
    )

    assert line() == expected % EVENT.id.encode()


def test_rfc_3164() -> None:
    assert line(rfc="3164") == b'<86>Jan  1 00:00:01 here cloudflare-access: {"a":1}'


def test_rfc_3164_without_a_tag_is_the_prefix_that_cef_readers_want() -> None:
    event = make_event(1, body=b"CEF:0|x")

    assert line(event, rfc="3164", app_name="") == b"<86>Jan  1 00:00:01 here CEF:0|x"


def test_without_structured_data_there_is_a_dash() -> None:
    assert line(sd_id=None).endswith(b' access_requests - {"a":1}')


def test_a_byte_order_mark_stands_before_the_body() -> None:
    assert line(bom=True).endswith(b'"] \xef\xbb\xbf{"a":1}')


def test_milliseconds_are_cut_not_rounded() -> None:
    event = EVENT._replace(time_us=1_767_225_600_999_999)

    assert b" 2026-01-01T00:00:00.999Z " in b" " + line(event, digits=3)[6:]


@pytest.mark.parametrize(
    ("outcome", "priority"), [("success", 86), ("failure", 85), ("unknown", 85), ("other", 85)]
)
def test_the_outcome_sets_the_severity(outcome: str, priority: int) -> None:
    assert line(EVENT._replace(outcome=outcome)).startswith(b"<%d>1 " % priority)


def test_times_of_all_years_have_four_digits() -> None:
    assert line(EVENT._replace(time_us=-62_135_596_800_000_000)).startswith(b"<86>1 0001-01-01T")
    assert line(EVENT._replace(time_us=253_402_300_799_999_999)).startswith(b"<86>1 9999-12-31T")


@given(
    account=st.text(no_backslash, max_size=30),
    host=texts,
    app=texts,
    time_us=st.integers(0, 4_102_444_800_000_000),
)
def test_an_independent_parser_reads_every_field(
    account: str, host: str, app: str, time_us: int
) -> None:
    event = EVENT._replace(account=account, time_us=time_us)

    read = SyslogMessage.parse(line(event, hostname=host, app_name=app).decode())

    data = read.sd["access@32473"]
    assert data["event_id"] == EVENT.id
    assert unescape(data["account"]) == account
    assert read.hostname in (printable(host, 255), None)
    assert read.appname in (printable(app, 48), None)
    assert read.msg == '{"a":1}'


@given(
    st.lists(
        st.builds(
            lambda n, us, name: make_event(n, stream=name, account=name)._replace(time_us=us),
            st.integers(0, 9),
            st.sampled_from([0, 1, 1_000_000]),
            st.sampled_from(["a", "b"]),
        )
    ),
    st.sampled_from(["5424", "3164"]),
)
def test_neighbours_do_not_change_a_message(events: list[BatchEvent], rfc: str) -> None:
    lines = SyslogLines(Header(rfc=rfc, hostname="here")).lines(events)  # type: ignore[arg-type]

    assert lines == [line(event, rfc=rfc) for event in events]


@given(texts)
def test_escaping_a_parameter_can_be_undone(value: str) -> None:
    assert unescape(escape_param(value)) == value
    assert not re.search(r'(?<!\\)(\\\\)*["\]]', escape_param(value))


def unescape(value: str) -> str:
    return re.sub(r'\\(["\\\]])', r"\1", value)


@given(st.lists(st.binary(max_size=50)))
def test_octet_counting_carries_any_bytes(messages: list[bytes]) -> None:
    assert list(octet_frames(b"".join(octet_counted(messages)))) == messages


@given(st.lists(st.binary(max_size=50)))
def test_a_line_feed_inside_never_splits_a_message(messages: list[bytes]) -> None:
    read = list(lf_frames(b"".join(lf_terminated(messages))))

    assert read == [message.replace(b"\n", b"\\n") for message in messages]


def test_a_long_message_is_rejected_with_its_size() -> None:
    events = [make_event(1), make_event(2)]

    kept, refused = within(events, [b"x" * 10, b"y" * 11], 10, cut=False)

    assert kept == [b"x" * 10]
    assert [rejection.offset for rejection in refused] == [2]
    assert "11 bytes" in refused[0].reason


@given(st.text(min_size=1, max_size=40), st.integers(1, 40))
def test_a_cut_message_ends_with_a_whole_character(text: str, most: int) -> None:
    message = text.encode(errors="ignore")

    [cut], refused = within([EVENT], [message], most, cut=True)

    assert not refused
    assert len(cut) <= most
    assert message.startswith(cut)
    assert cut.decode() == message.decode()[: len(cut.decode())]
    assert len(message) <= most or len(cut) > most - 4


def test_names_and_numbers_are_those_of_the_rfc() -> None:
    assert (FACILITIES["authpriv"], FACILITIES["audit"], FACILITIES["local0"]) == (10, 13, 16)
    assert (SEVERITIES["notice"], SEVERITIES["info"], SEVERITIES["debug"]) == (5, 6, 7)
