"""Splunk's own tools find no fault in the Splunk app, and a linter none in its searches."""

from __future__ import annotations

import copy
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.splunk.package import APP, package
from tests.deploy.splunk.app import dashboards, expanded, searches
from tests.integration.conftest import Start
from tests.integration.splunk.judges import Judges

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
PAGE = APP.parents[2] / "docs/siem/splunk.md"
JUDGED = ("error", "failure", "warning")


@pytest.fixture(scope="module")
def judges(start: Start[Judges], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judges]:
    folder = tmp_path_factory.mktemp("splunk")
    yield from start("AppInspect", lambda: Judges.run(folder))


def test_appinspect_finds_no_fault_as_the_page_says(judges: Judges, tmp_path: Path) -> None:
    target = tmp_path / f"{APP.name}.tgz"
    target.write_bytes(package())
    summary = judges.inspect(target)["summary"]
    page = PAGE.read_text(encoding="utf-8")
    (written,) = re.findall(r"\| error \| failure \| warning \|\n\|[-|]+\n\| (.*) \|", page)

    assert summary["success"] > 100
    assert written.split(" | ") == [str(summary[key]) for key in JUDGED]
    assert (0, 0, 0) == tuple(summary[key] for key in JUDGED)


def test_appinspect_would_find_a_fault(judges: Judges, tmp_path: Path) -> None:
    target = tmp_path / f"{APP.name}.tgz"
    with tarfile.open(fileobj=io.BytesIO(package())) as archive:
        archive.extractall(tmp_path, filter="data")
    app = tmp_path / APP.name / "default/app.conf"
    app.write_text(app.read_text().replace("is_configured = false", "is_configured = true"))
    with tarfile.open(target, "w:gz") as archive:
        archive.add(tmp_path / APP.name, APP.name)

    assert 1 == judges.inspect(target)["summary"]["failure"]


def test_the_linter_finds_nothing_in_any_search(judges: Judges) -> None:
    found = {name: judges.lint(expanded(search)) for name, search in searches().items()}
    costly = judges.lint("index=* | join user [search index=a] | sort _time")

    assert {} == {name: issues for name, issues in found.items() if issues}
    assert 3 == len(costly)


@pytest.mark.parametrize("name", sorted(dashboards()))
def test_a_dashboard_is_as_splunks_schemas_want_it(judges: Judges, name: str) -> None:
    wrong = copy.deepcopy(dashboards()[name])
    wrong["visualizations"][next(iter(wrong["visualizations"]))]["options"] = {"stackMode": 17}

    assert [] == judges.faults_of(dashboards()[name])
    assert judges.faults_of(wrong)
