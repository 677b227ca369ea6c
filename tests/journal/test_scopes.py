"""Gaps are shown with the account's name, which people know, in place of its id."""

from __future__ import annotations

import pytest

from forwarder.core.journal import with_name


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("0" * 32 + "/access_requests", "acme/access_requests"),
        ("1" * 32 + "/access_requests", "1" * 32 + "/access_requests"),
        ("sink:hec", "sink:hec"),
    ],
)
def test_an_account_that_has_a_name_is_told_by_it(scope: str, told: str) -> None:
    assert with_name(scope, {"0" * 32: "acme"}) == told
