"""Each detection asks what the Sigma rule of its name asks, in the words of pySigma's own SPL.

The rules run on matching and other events in ``tests/content``; nothing here runs SPL.
"""

from __future__ import annotations

import re

import pytest

from tests.content.sigma_rules import RULES, convert, with_parts
from tests.deploy.splunk.app import conf, expanded, lookup
from tests.deploy.splunk.test_app import DETECTIONS, SAVED, detection_of

NATIVE = {"first_login_from_country", "first_login_of_service_token"}
"""They compare with 30 days of history, for which Sigma has no form."""
TWINS = sorted(DETECTIONS - NATIVE)
SEARCHES = {detection_of(title): expanded(one["search"]) for title, one in SAVED.items()}
TITLES = {detection_of(title): title for title in SAVED}
# Levels of Sigma, and what Splunk's alerts call them by number.
SEVERITIES = {"low": "2", "medium": "3", "high": "4"}
WINDOWS = {"1h": "1h", "1d": "24h"}
# The app has these by a lookup, and by a field that is alike in all formats.
ELSEWHERE = {
    ("", "stream"),
    ("", "group"),
    ("", "members_added{}.value"),
    ("", "members_set{}.value"),
}


def conditions(search: str) -> set[tuple[str, str, str]]:
    """Return (``NOT `` or nothing, field, value) of each comparison before the first pipe."""
    base = search.split("|", maxsplit=1)[0]
    for field, values in re.findall(r"(\w+) IN \(([^)]*)\)", base):
        alternatives = " OR ".join(f"{field}={value}" for value in values.split(", "))
        base = base.replace(f"{field} IN ({values})", alternatives)
    found = re.findall(r'(NOT )?"?([\w{}.]+)"?="?([^\s")]+)"?', base)
    return {one for one in found if one[:2] not in ELSEWHERE}


@pytest.mark.parametrize("name", TWINS)
def test_a_search_selects_what_its_rule_selects(name: str) -> None:
    alone = [part for part in with_parts(name) if "detection" in RULES[part]]
    wanted = set().union(*(conditions(convert(part, "splunk")) for part in alone))

    assert wanted
    assert wanted <= conditions(SEARCHES[name])


@pytest.mark.parametrize("name", TWINS)
def test_a_search_counts_as_its_rule_counts(name: str) -> None:
    wrong = []
    for part in with_parts(name):
        correlation = RULES[part].get("correlation")
        if not correlation:
            continue
        window = f"time_window={WINDOWS[correlation['timespan']]}"
        if window not in SEARCHES[name]:
            wrong.append(window)
        if correlation["type"] == "value_count":
            counted, by = re.findall(
                r"dc\((\w+)\) as value_count by _time (\w+)", convert(part, "splunk")
            )[0]
            counts = rf"dc\(({counted}|refused)\) AS \w+.* BY vendor_account, {by}\b"
            number = str(correlation["condition"]["gte"])
            if not re.search(counts, SEARCHES[name].split("| where")[0]):
                wrong.append(counts)
            if conf("macros")[f"cloudflare_access_{name}"]["definition"] != number:
                wrong.append(number)

    assert [] == wrong


def test_a_finding_is_as_severe_as_its_rule_says() -> None:
    expected = {name: SEVERITIES[RULES[name]["level"]] for name in TWINS}

    assert expected == {name: SAVED[TITLES[name]]["alert.severity"] for name in TWINS}


def test_an_administrators_group_is_what_the_rule_takes_for_one() -> None:
    wanted = RULES["group_admin_added"]["detection"]["selection"]["group_name|contains"]

    assert [f"*{wanted}*"] == [row["group"] for row in lookup("cloudflare_access_admin_groups")]
