"""The lock files: everything pinned by hash, from no particular index, and up to date."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _entries(lock: Path) -> list[str]:
    """The lock's requirements, each with its hashes, as one line."""
    joined = lock.read_text().replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def _pins(lock: Path) -> dict[str, str]:
    """Package name -> the pinned version."""
    wanted = [Requirement(entry.split("--hash")[0].strip()) for entry in _entries(lock)]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in wanted}


def _group(name: str) -> list[str]:
    wanted: list[str] = []
    for item in PROJECT["dependency-groups"][name]:
        wanted += _group(item["include-group"]) if isinstance(item, dict) else [item]
    return wanted


def test_there_is_a_lock_for_each_purpose() -> None:
    assert [lock.stem for lock in LOCKS] == [
        *("audit", "build", "dev", "image", "proof", "runtime", "splunk")
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_index(lock: Path) -> None:
    text = lock.read_text()

    assert not re.search(
        r"://|--(extra-)?index-url|--find-links|--trusted-host|^-", text, re.MULTILINE
    )


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_requirement_is_pinned_by_hash(lock: Path) -> None:
    pinned = re.compile(r"[\w.-]+==[\w.!+]+( ;[^\\]+)?( +--hash=sha256:[0-9a-f]{64})+")

    assert [] == [entry for entry in _entries(lock) if not pinned.fullmatch(entry.strip())]


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime", PROJECT["project"]["dependencies"]),
        (
            "image",
            PROJECT["project"]["dependencies"]
            + [
                one
                for extra in PROJECT["project"]["optional-dependencies"].values()
                for one in extra
            ],
        ),
        ("build", PROJECT["build-system"]["requires"] + _group("build")),
        ("dev", PROJECT["project"]["dependencies"] + _group("dev")),
        ("proof", _group("proof")),
        ("audit", _group("audit")),
        ("splunk", _group("splunk")),
    ],
)
def test_a_lock_holds_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    pins = _pins(ROOT / "requirements" / f"{lock}.txt")
    missing = [
        one
        for one in map(Requirement, wanted)
        if not one.specifier.contains(pins.get(canonicalize_name(one.name), "0"))
    ]

    assert [] == missing, "run `make lock`"


@pytest.mark.parametrize("smaller", ["runtime", "image", "build"])
def test_development_uses_the_very_versions_that_are_shipped(smaller: str) -> None:
    shipped = _pins(ROOT / "requirements" / f"{smaller}.txt")
    developed_with = _pins(ROOT / "requirements" / "dev.txt")

    assert shipped == {name: developed_with.get(name) for name in shipped}
