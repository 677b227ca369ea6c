"""What the app searches for is what the sink writes, under the same names in every format."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import BatchEvent
from forwarder.sinks.splunk_hec.envelope import Envelopes, SplunkHecConfig
from forwarder.testing.samples import ACCOUNT, ROWS, time_of
from tests.deploy.splunk.app import (
    conf,
    created_in,
    expanded,
    lookup,
    searches,
    wanted_values,
    words_of,
)
from tests.deploy.splunk.knowledge import (
    FORMATS,
    UNKNOWN_HERE,
    aliases,
    calculated,
    extracted,
    lookups,
    names_in,
    rendered,
    sample_fields,
)

PROPS = conf("props")
CIM = {f"cloudflare:{stream}": dict(sample_fields(f"cloudflare:{stream}")) for stream in ROWS}
SPLUNK_OWN = {"_time", "_indextime", "index", "sourcetype", "_raw"}
# Words of SPL that the searches use: commands, their clauses, functions. A word that is neither
# here nor a field is most likely a field that nobody writes.
SPL = frozenset(
    """
    search dedup eval stats streamstats eventstats where table sort fillnull fields lookup
    convert appendpipe timechart chart iplocation geostats rename BY AS OUTPUT OVER AND OR NOT
    IN coalesce if case lower isnull isnotnull null relative_time now round strftime ctime count
    dc min max values last sum median perc95
    """.split()  # noqa: SIM905 - fifty lines otherwise
)
# Fields that commands add.
ADDED = {"lat", "lon", "count"}
ALIKE = {
    "access_requests": (
        "event_uid vendor_account vendor_account_name signature user user_id user_type src dest "
        "action authentication_method ray_id app vendor_product "
    ),
    "scim_updates": (
        "event_uid vendor_account vendor_account_name action command object_category "
        "object user object_id object_attrs group src_user status result member_added "
        "member_set vendor_product dest change_type "
    ),
    "account_audit": (
        "event_uid vendor_account vendor_account_name user src object_category object_id product "
        "ray_id status vendor_product "
    ),
    "jit_requests": (
        "event_uid vendor_account vendor_account_name user object_category object_id product "
        "ray_id status vendor_product "
    ),
    "logpush_http_requests": (
        "event_uid vendor_account vendor_account_name user src src_port src_country dest dest_ip "
        "status http_method http_referrer http_user_agent site uri_path uri_query url ray_id "
        "bytes_in bytes_out action app vendor_product "
    ),
    "logpush_zero_trust_network_sessions": (
        "event_uid vendor_account vendor_account_name user src src_port dest dest_ip dest_port "
        "session_id transport reason status bytes_in bytes_out action src_device_id "
        "src_device_name vendor_product "
    ),
    "non_identity_logins": (
        "event_uid vendor_account vendor_account_name signature user user_type src dest "
        "action authentication_method ray_id app app_uid login_count sample_interval "
        "vendor_product "
    ),
    "forwarder": (
        "event_uid vendor_account vendor_account_name action about_stream about_sink "
        "reason from to rows version status vendor_product "
    ),
}
"""Fields that ocsf and ecs must have wherever cim has them, with the same value."""
DIFFERENT = {
    # OCSF demands a name for an entity of unknown type, and its activity is free.
    ("cloudflare:scim_updates:ocsf", "scim_unknown"): {
        "object",
        "action",
        "command",
        "object_category",
        "result",
    },
    # A row without a mapping: what schemas demand of any event.
    **{
        (f"cloudflare:logpush_{dataset}{ending}", name): {"status"}
        for ending in (":ocsf", ":ecs")
        for dataset, name in (
            ("http_requests", "request_without_identity"),
            ("http_requests", "request_odd"),
            ("zero_trust_network_sessions", "session_odd"),
        )
    },
    ("cloudflare:scim_updates:ecs", "scim_unknown"): {"action", "command", "object_category"},
}


def known_fields() -> set[str]:
    fields = {name for events in CIM.values() for event in events.values() for name in event}
    columns = {
        name
        for table, one in conf("transforms").items()
        if "filename" in one
        for name in lookup(table)[0]
    }
    return fields | columns | set(conf("transforms")) | SPLUNK_OWN | ADDED | SPL


def test_the_stanzas_are_the_sourcetypes_that_the_sink_writes() -> None:
    config = SplunkHecConfig.model_validate({"url": "http://127.0.0.1:8088", "token": "t"})
    envelopes = Envelopes(config, json=True)
    written = set()
    for stream in ROWS:
        event = BatchEvent(0, "0" * 32, stream, ACCOUNT, 0, 0, "", "", b"{}")
        written.add(orjson.loads(envelopes.encode([event]))["sourcetype"])

    assert {f"{one}{ending}" for one in written for ending in FORMATS} == set(PROPS)


def test_every_word_of_a_search_is_a_field_that_somebody_writes() -> None:
    known = known_fields()
    texts = {**searches(), **{name: one["search"] for name, one in conf("eventtypes").items()}}
    unknown = {
        name: sorted(set(words_of(search)) - known - created_in(search))
        for name, text in texts.items()
        if (search := expanded(text))
    }

    assert {} == {name: words for name, words in unknown.items() if words}


def test_every_value_that_a_search_compares_occurs() -> None:
    made = {"expected", "silent"}
    seen: dict[str, set[str]] = {}
    for events in CIM.values():
        for event in events.values():
            for field, value in event.items():
                seen.setdefault(field, set()).update(
                    map(str, value if isinstance(value, list) else [value])
                )
    texts = [*searches().values(), *(one["search"] for one in conf("eventtypes").values())]
    wanted = {pair for text in texts for pair in wanted_values(expanded(text))}
    missing = [
        (field, value)
        for field, value in sorted(wanted)
        if field not in made | SPLUNK_OWN
        and (not seen.get(field) if value == "*" else value not in seen.get(field, ()))
    ]

    assert len(wanted) > 20
    assert [] == missing


@pytest.mark.parametrize("sourcetype", sorted(PROPS))
def test_an_alias_renames_a_field_that_the_format_writes(sourcetype: str) -> None:
    _, stream, *_ = sourcetype.split(":")
    style = FORMATS[sourcetype.removeprefix(f"cloudflare:{stream}")]
    written: set[str] = set()
    for row in ROWS[stream].values():
        written |= set(extracted(rendered(stream, row, style)))
    stanza = PROPS[sourcetype]
    named = {source for source, _ in aliases(stanza)}
    named |= {name for text in calculated(stanza).values() for name in names_in(text)}
    made = {name for _, name in aliases(stanza)} | set(calculated(stanza))
    named |= {field for _, _, field, _ in lookups(stanza)} - made
    # Splunk has `user` or `user{}`, by whether it is a list. `users` is of OCSF 1.9, and no sample
    # sets members by name.
    alternatives = {
        name
        for name in named
        if name.startswith("users{}")
        or f"{name}{{}}" in written
        or name.replace("display", "value") in written
    }

    assert [] == sorted(named - written - alternatives)


@pytest.mark.parametrize("ending", [":ocsf", ":ecs"])
@pytest.mark.parametrize("stream", sorted(ROWS))
def test_every_format_has_the_names_and_values_of_cim(stream: str, ending: str) -> None:
    sourcetype = f"cloudflare:{stream}{ending}"
    differing = []
    for name, fields in sample_fields(sourcetype):
        for field in ALIKE[stream].split():
            expected, actual = CIM[f"cloudflare:{stream}"][name].get(field), fields.get(field)
            if field in DIFFERENT.get((sourcetype, name), ()) or actual is UNKNOWN_HERE:
                continue
            if (
                field == "user"
                and isinstance(expected, list)
                and set(actual or ()) <= set(expected)
            ):
                continue  # cim names who came and who left, the others only who came
            # A name that cim does not have is most likely one that a schema made up.
            if (
                expected is not UNKNOWN_HERE
                and expected != actual
                and (expected or field == "user")
            ):
                differing.append((name, field, expected, actual))

    assert [] == differing


@pytest.mark.parametrize("sourcetype", sorted(PROPS))
def test_the_time_of_a_bare_line_is_found(sourcetype: str) -> None:
    _, stream, *_ = sourcetype.split(":")
    stanza = PROPS[sourcetype]
    wrong = []
    for name, row in ROWS[stream].items():
        line = rendered(
            stream, row, FORMATS[sourcetype.removeprefix(f"cloudflare:{stream}")]
        ).decode()
        found = re.search(stanza["TIME_PREFIX"], line)
        if not found:
            wrong.append(name)
            continue
        text = line[found.end() :][: int(stanza["MAX_TIMESTAMP_LOOKAHEAD"])]
        if (time := _seconds(text, stanza.get("TIME_FORMAT", ""))) != time_of(
            row
        ) // 1000 * 1000 and time != time_of(row):
            wrong.append(name)

    # Their rows have no usable time.
    without = (
        {
            *("login_wrong_values", "login_unreadable", "audit_odd", "jit_odd", "group_odd"),
            *("request_few_fields", "request_hostile", "request_odd"),
            *("session_hostile", "session_odd", "session_udp"),
        }
        if sourcetype.endswith(":raw")
        else set()
    )
    assert set(wrong) <= without


def _seconds(text: str, style: str) -> Any:
    if style == "%s%3N":
        return int(text) * 1000
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text)
    if not found:
        return None
    return round(datetime.fromisoformat(found[0]).astimezone(UTC).timestamp() * 1_000_000)
