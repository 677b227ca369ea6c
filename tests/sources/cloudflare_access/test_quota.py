"""What Cloudflare's headers say about a quota."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.cloudflare_access.rate_limit import Limit, Standing, policies, standing


def test_the_documented_headers_are_read() -> None:
    headers = {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=1200;w=300'}

    assert standing(headers) == Standing(remaining=50, reset=30.0)
    assert policies(headers) == (Limit(1200, 300.0),)


def test_of_several_quotas_the_tightest_standing_and_every_policy_count() -> None:
    headers = {
        "ratelimit": '"default";r=50;t=30, "burst";r=3;t=7',
        "ratelimit-policy": 'default; q=1200; w=300, "burst";w=60;q=100',
    }

    assert standing(headers) == Standing(3, 7.0)
    assert policies(headers) == (Limit(1200, 300.0), Limit(100, 60.0))


@pytest.mark.parametrize("text", ["", "x", '"d";r=;t=', '"d";r=-1;t=3', '"d";r=5', "r=5;t=x", ";;"])
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert standing({"ratelimit": text}) is None
    assert policies({"ratelimit-policy": text.replace("r", "q").replace("t", "w")}) == ()


@pytest.mark.parametrize("text", ['"d";q=0;w=300', '"d";q=10;w=0', '"d";q=10;w=86400'])
def test_a_policy_that_would_stop_everything_is_not_believed(text: str) -> None:
    assert policies({"ratelimit-policy": text}) == ()


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_does_harm(one: str, other: str) -> None:
    headers = {"ratelimit": one, "ratelimit-policy": other}

    policies(headers)
    standing(headers)


def test_a_share_is_cut_to_whole_requests_and_at_least_one() -> None:
    assert Limit(1200, 300).shared(0.8) == Limit(960, 300)
    assert Limit(120, 30).shared(0.8) == Limit(96, 30)
    assert Limit(12, 30).shared(0.8) == Limit(9, 30)
    assert Limit(1, 30).shared(0.1) == Limit(1, 30)
    assert Limit(100, 30).shared(0.29) == Limit(29, 30)
