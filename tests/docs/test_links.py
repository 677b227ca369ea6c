"""Every link inside the repository leads somewhere, and every alert to its runbook."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import yaml

from deploy.generate.artefacts import pages
from deploy.generate.markdown import anchors, links, title
from tests.docs.shell import ROOT

_OTHERS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/elastic/README.md")
PAGES = {
    **pages(ROOT),
    **{name: (ROOT / name).read_text(encoding="utf-8") for name in (*_OTHERS, "docs/not-run.md")},
}


def test_every_link_leads_somewhere() -> None:
    broken = [
        (page, link)
        for page, text in PAGES.items()
        for link in links(text)
        if not _resolves(ROOT / page, link)
    ]

    assert broken == []


def _resolves(page: Path, link: str) -> bool:
    if link.startswith(("https://", "http://", "mailto:")):
        return True
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_a_broken_link_is_noticed() -> None:
    page = ROOT / "README.md"

    assert _resolves(page, "docs/metrics.md#streams")
    assert not _resolves(page, "docs/metrics.md#rivers")
    assert not _resolves(page, "docs/nothing.md")
    assert not _resolves(page, "../elsewhere.md")


def test_every_alert_has_its_heading_in_the_runbook() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    targets = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for group in rules["groups"]
        for rule in group["rules"]
    }

    missing = {name: url for name, url in targets.items() if not _resolves(ROOT / "README.md", url)}
    assert targets
    assert missing == {}


def test_every_alert_is_named_in_the_runbook() -> None:
    text = PAGES["docs/operations.md"]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))

    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert [name for name in names if name not in text] == []


def test_every_page_has_a_title_and_can_be_found_from_the_first_one() -> None:
    reached, ahead = set[str](), ["README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        for link in links(PAGES[page]):
            target = (ROOT / page).parent / unquote(link).partition("#")[0]
            found = [target, *target.glob("*.md")] if target.is_dir() else [target]
            names = {str(one.resolve().relative_to(ROOT)) for one in found if one.exists()}
            ahead += (names & PAGES.keys()) - reached

    assert [page for page in PAGES if not title(PAGES[page])] == []
    assert set(PAGES) - reached - {"CHANGELOG.md"} == set()
