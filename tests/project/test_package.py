"""What an installed `cloudflare-access-forwarder` brings: version, types, command, plugins."""

import ast
import importlib.util
import re
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import forwarder

ROOT = Path(__file__).parents[2]
KINDS = {"sinks": "Sink", "formats": "Format"}


def test_the_version_has_one_source() -> None:
    assert distribution("cloudflare-access-forwarder").version == forwarder.__version__


def test_the_changelog_has_this_version_below_what_is_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)

    assert [name for name, _ in headings[:2]] == ["Unreleased", forwarder.__version__]
    assert headings[1][1] != ""


def test_the_package_ships_its_types() -> None:
    found = importlib.util.find_spec("forwarder")

    assert found is not None
    assert found.origin is not None
    assert Path(found.origin).with_name("py.typed").exists()


def test_the_command_is_called_forwarder() -> None:
    (command,) = entry_points(group="console_scripts", name="forwarder")

    assert command.value == "forwarder.cli:main"


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_in_the_package_can_be_named_in_the_settings(kind: str) -> None:
    declared = {entry.value for entry in entry_points(group=f"forwarder.{kind}")}
    written = {
        f"forwarder.{kind}.{path.stem}:{node.name}"
        for path in (ROOT / "forwarder" / kind).glob("[a-z]*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name.endswith(KINDS[kind])
    }

    assert written <= declared


@pytest.mark.parametrize("group", ["sources", "sinks", "formats"])
def test_a_plugin_is_named_after_its_module(group: str) -> None:
    for entry in entry_points(group=f"forwarder.{group}"):
        assert entry.module == f"forwarder.{group}.{entry.name}"
