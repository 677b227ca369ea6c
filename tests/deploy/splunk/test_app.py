"""The Splunk app holds together: its package, its searches, its dashboards, its lookups."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from deploy.splunk.package import APP, package
from tests.deploy.splunk.app import (
    conf,
    dashboards,
    expanded,
    lookup,
    macros_in,
    searches,
    words_of,
)

ROOT = APP.parents[2]
SAVED = conf("savedsearches")
DETECTIONS = {
    "brute_force_against_one_user",
    "spray_from_one_address",
    "first_login_from_country",
    "first_login_of_service_token",
    "refused_then_accepted",
    "login_after_disable",
    "disable_failed",
    "bulk_deprovisioning",
    "group_admin_added",
    "tor_login",
    "login_at_two_places",
    "idp_changed_for_user",
    "forwarder_gap_or_silence",
}
PERIOD = 15
"""Minutes from one run of a detection to the next."""
BASES = (
    "`cloudflare_access_logins`",
    "`cloudflare_access_changes`",
    "`cloudflare_access_forwarder`",
    "`cloudflare_access_index`",
)
MINUTES = {"m": 1, "h": 60, "d": 1440}


def detection_of(title: str) -> str:
    return title.removeprefix("Cloudflare Access: ").replace(" ", "_")


def minutes_back(text: str) -> int:
    found = re.fullmatch(r"-(\d+)([mhd])@\2", text)
    assert found, text
    return int(found[1]) * MINUTES[found[2]]


def test_the_package_is_the_same_wherever_it_is_built(tmp_path: Path) -> None:
    copy = tmp_path / APP.name
    shutil.copytree(APP, copy, copy_function=shutil.copyfile)
    (copy / "local").mkdir()
    (copy / "local/macros.conf").write_text("[cloudflare_access_index]\n")
    (copy / "metadata/local.meta").write_text("[]\n")
    (copy / ".DS_Store").write_text("")
    (copy / "default/app.conf").chmod(0o600)
    command = [sys.executable, "-m", "deploy.splunk", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    written = (tmp_path / f"{APP.name}.tgz").read_bytes()

    assert written == package()
    assert written == package(copy)


def test_the_package_holds_the_app_and_nothing_personal() -> None:
    with tarfile.open(fileobj=io.BytesIO(package())) as archive:
        entries = archive.getmembers()
    names = {entry.name.removeprefix(f"{APP.name}/") for entry in entries if entry.isfile()}

    assert {"app.manifest", "LICENSE", "default/app.conf", "metadata/default.meta"} <= names
    assert [] == [name for name in names if "local" in name or name.startswith(".")]
    assert {(0, 0, 0)} == {(entry.uid, entry.gid, entry.mtime) for entry in entries}


def test_the_app_has_one_name_and_one_version() -> None:
    app, manifest = conf("app"), json.loads((APP / "app.manifest").read_text())["info"]
    versions = {app["id"]["version"], app["launcher"]["version"], manifest["id"]["version"]}

    assert {APP.name} == {app["id"]["name"], app["package"]["id"], manifest["id"]["name"]}
    assert 1 == len(versions)
    assert app["launcher"]["description"] == manifest["description"]


def test_every_detection_has_a_search_that_names_it() -> None:
    named = {
        detection_of(title): re.findall(r"cloudflare_access_finding\((\w+),", stanza["search"])
        for title, stanza in SAVED.items()
    }

    assert {name: [name] for name in DETECTIONS} == named


def test_no_search_runs_before_somebody_enables_it() -> None:
    settings = [
        (one["disabled"], one["enableSched"], one["realtime_schedule"]) for one in SAVED.values()
    ]

    assert {("1", "1", "0")} == set(settings)


def test_a_detection_finds_late_rows_by_when_they_were_indexed() -> None:
    wrong = {
        title: stanza
        for title, stanza in SAVED.items()
        if minutes_back(stanza["dispatch.index_earliest"]) < 2 * PERIOD
        or minutes_back(stanza["dispatch.earliest_time"]) < 7 * 24 * 60
        or (stanza["dispatch.latest_time"], stanza["dispatch.index_latest"]) != ("now", "now")
    }
    since = conf("macros")["cloudflare_access_since"]["definition"]
    minutes = [
        [int(one) for one in s["cron_schedule"].split()[0].split(",")] for s in SAVED.values()
    ]

    assert {} == wrong
    assert minutes_back(since.split('"')[1]) > 2 * PERIOD
    assert all(
        later - earlier == PERIOD for run in minutes for earlier, later in itertools.pairwise(run)
    )


def test_a_detection_over_many_rows_asks_for_one_that_is_new() -> None:
    """Its window by index time is longer than the period, so old findings would come again."""
    wide = {
        title: stanza["search"]
        for title, stanza in SAVED.items()
        if minutes_back(stanza["dispatch.index_earliest"]) > 3 * PERIOD
    }

    assert len(wide) >= 9
    assert [] == [
        title for title, search in wide.items() if "cloudflare_access_since" not in search
    ]


def test_a_finding_is_throttled_by_fields_that_it_has() -> None:
    wrong = {}
    for title, stanza in SAVED.items():
        words = set(words_of(expanded(stanza["search"])))
        fields = set(stanza["alert.suppress.fields"].split(","))
        if stanza["alert.suppress"] != "1" or stanza["alert.digest_mode"] != "0" or fields - words:
            wrong[title] = fields - words

    assert {} == wrong


def test_every_search_begins_with_a_macro_that_names_the_index() -> None:
    found = {name: search.lstrip() for name, search in searches().items()}

    assert [] == [name for name, search in found.items() if not search.startswith(BASES)]
    assert [] == [name for name, search in found.items() if "index=access " not in expanded(search)]
    assert [] == [name for name, search in found.items() if "| rt" in search or "index=*" in search]


def test_every_search_counts_an_event_once() -> None:
    """Splunk removes no duplicates. The panel that counts them is the exception."""
    counting = [
        name for name, search in searches().items() if "dedup event_uid" not in expanded(search)
    ]

    assert ["forwarder/ds_twice"] == counting


def test_macros_and_lookups_are_there_and_used() -> None:
    macros, transforms = conf("macros"), conf("transforms")
    texts = [*searches().values(), *(one["definition"] for one in macros.values())]
    props = "".join(value for stanza in conf("props").values() for value in stanza.values())
    called = {name for text in texts for name in macros_in(text)}
    looked_up = {name for text in texts for name in re.findall(r"\blookup (\w+)", text)}
    used = {name for name in transforms if name in looked_up or name in props}
    files = {path.name for path in (APP / "lookups").iterdir()}

    assert set(macros) == called
    assert set(transforms) == used | looked_up
    assert files == {one["filename"] for one in transforms.values() if "filename" in one}
    assert [] == [
        name for name, one in transforms.items() if "filename" in one and not lookup(name)
    ]


def test_tags_are_for_event_types_that_exist() -> None:
    tagged = {stanza.removeprefix("eventtype=") for stanza in conf("tags")}

    assert tagged <= set(conf("eventtypes"))
    assert "cloudflare_access_logout" not in tagged


def test_every_panel_has_its_place_and_its_search() -> None:
    wrong = {}
    for name, one in dashboards().items():
        placed = sorted(item["item"] for item in one["layout"]["structure"])
        asked = sorted(panel["dataSources"]["primary"] for panel in one["visualizations"].values())
        if placed != sorted(one["visualizations"]) or asked != sorted(one["dataSources"]):
            wrong[name] = placed, asked
    views = re.findall(r'<view name="(\w+)"', (APP / "default/data/ui/nav/default.xml").read_text())

    assert {} == wrong
    assert set(dashboards()) <= set(views)


def test_the_page_lists_every_detection_with_its_number_and_severity() -> None:
    page = (ROOT / "docs/siem/splunk.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    written = {row[0].replace(" ", "_"): (row[-2], row[-1]) for row in rows if len(row) > 2}
    macros, severities = conf("macros"), {"2": "low", "3": "medium", "4": "high"}
    expected = {
        detection_of(title): (
            macros.get(f"cloudflare_access_{detection_of(title)}", {}).get("definition", ""),
            severities[stanza["alert.severity"]],
        )
        for title, stanza in SAVED.items()
    }

    assert expected == {name: written[name] for name in expected}
