"""A path that no event can have is reported, with the nearest one that it can have."""

from __future__ import annotations

import pytest

from forwarder.config import InstalledPlugins
from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.validation import nearest_key
from forwarder.core.schema import Normaliser
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.sources.cloudflare_access.scim.mapping import SCIM_UPDATES
from tests.config.conftest import FakePlugins, Service


def _warnings(sink: str) -> list[str]:
    text = f"""
version: 1
accounts:
  - account_id: {"a" * 32}
    api_token: t0ken
    streams: {{ access_requests: {{}} }}
sinks:
  console: {{ type: stdout, {sink} }}
"""
    return [*build(parse_document(text, "config.yaml"), {}, InstalledPlugins()).warnings]


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("user_emial", "user_email"),
        ("user.email", "user_email"),
        ("src_ip", "ip_address"),
        ("source.ip", "ip_address"),
        ("http.request.body", "request_body"),
        ("resource_user_mail", "resource_user_email"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_the_nearest_key(path: str, nearest: str) -> None:
    (dropped,) = _warnings(f"drop_fields: [ray_id, {path}]")
    (hashed,) = _warnings(f"hash_fields: [{path}], hash_key: k")

    assert dropped.startswith(f"sinks.console.drop_fields: no known row has '{path}'")
    assert hashed.startswith(f"sinks.console.hash_fields: no known row has '{path}'")
    assert nearest in dropped
    assert nearest in hashed


def test_each_key_of_a_row_may_be_hidden_without_a_word() -> None:
    for key in sorted(LOGINS.keys | SCIM_UPDATES.keys):
        assert _warnings(f"drop_fields: [{key}]") == []


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("site", "unmapped.site"),
        ("mesage", "message"),
        ("metdata.tenant_uid", "metadata.tenant_uid"),
    ],
)
def test_ocsf_has_no_place_for_any_added_field(path: str, nearest: str) -> None:
    (warning,) = _warnings(f"format: ocsf, add_fields: {{ {path}: x }}")

    assert f"no event in ocsf can have '{path}'" in warning
    assert f"'{nearest}'" in warning
    assert _warnings(f"format: ocsf, add_fields: {{ {nearest}: x }}") == []


@pytest.mark.parametrize("style", ["raw", "ecs", "cim", "cef", "leef"])
def test_other_formats_take_any_added_field(style: str) -> None:
    assert _warnings(f"format: {style}, add_fields: {{ site: x }}") == []


def test_a_source_that_does_not_tell_its_keys_is_believed() -> None:
    class Silent(Service):
        normalisers = {"logins": Normaliser(LOGINS.normalise)}  # noqa: RUF012 - as the contract has it

    class Plugins(FakePlugins):
        known = {**FakePlugins.known, "sources": {"cloudflare_access": Silent}}  # noqa: RUF012 - as above

    text = """
version: 1
accounts: [{ account_id: a1, api_token: t0ken }]
sinks: { console: { type: stdout, drop_fields: [usr] } }
"""
    assert build(parse_document(text, "config.yaml"), {}, Plugins()).warnings == ()


def test_the_nearest_key_is_the_one_spelled_most_alike() -> None:
    assert nearest_key("b.ray", ["ray_id", "user_id"]) == "ray_id"
