"""The table of Cloudflare's errors: each answer has one meaning and tells what to do."""

import pytest

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sources.cloudflare_access.answers import (
    ACCESS_REQUESTS,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    VERIFY_USER_TOKEN,
    Endpoint,
    Refusal,
    RequestRefusedError,
    ThrottledError,
    error_for,
)


@pytest.mark.parametrize(
    ("status", "codes", "message", "about"),
    [
        (400, (6003, 6111), "Invalid request headers", "token"),
        (400, (6111,), "Invalid format for Authorization header", "token"),
        (400, (9106,), "Missing X-Auth-Key, X-Auth-Email or Authorization headers", "token"),
        (401, (1000,), "Invalid API Token", "token"),
        (401, (9109,), "Invalid access token", "token"),
        (401, (), "", "token"),
        (401, (10000,), "Authentication error", "permission"),
        (403, (10000,), "Authentication error", "permission"),
        (200, (10000,), "Authentication error", "permission"),
        (403, (9109,), "Unauthorized to access requested resource", "permission"),
        (403, (7403,), "account not authorized", "permission"),
        (403, (), "", "permission"),
        (403, (), "access.api.error.not_enabled", "access"),
        (404, (12130,), "access.api.error.not_enabled", "access"),
        (404, (7003,), "Could not route to /accounts/x", "account"),
        (400, (7003, 7000), "No route for that URI", "account"),
        (404, (), "", "account"),
        (400, (12130,), "access.api.error.invalid_request: since", "parameters"),
        (404, (), "access.api.error.not_found", "parameters"),
        (400, (), "", "parameters"),
        (414, (), "", "parameters"),
        (422, (1004,), "", "parameters"),
        (407, (), "", "proxy"),
        (301, (), "", "address"),
        (307, (), "", "address"),
    ],
)
def test_what_a_person_must_mend(
    status: int, codes: tuple[int, ...], message: str, about: str
) -> None:
    error = error_for(Refusal(status, codes, (message,)), SCIM_UPDATES)

    assert isinstance(error, RequestRefusedError)
    assert isinstance(error, NeedsOperatorError)
    assert (error.about, error.status, error.codes) == (about, status, codes)
    assert error.hint


@pytest.mark.parametrize(
    ("status", "codes"),
    [(429, ()), (429, (10000,)), (500, (971,)), (200, (10429,)), (403, (10013,))],
)
def test_what_throttles(status: int, codes: tuple[int, ...]) -> None:
    error = error_for(Refusal(status, codes, retry_after=7.0), ACCESS_REQUESTS)

    assert isinstance(error, ThrottledError)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "codes", "message"),
    [
        (500, (), "access.api.error.internal_server_error"),
        (502, (), ""),
        (503, (10000,), "Authentication error"),
        (530, (1000,), "Invalid API Token"),
        (408, (), ""),
        (200, (), ""),
        (200, (77777,), "something new"),
        (204, (), ""),
        (999, (), ""),
    ],
)
def test_what_passes(status: int, codes: tuple[int, ...], message: str) -> None:
    error = error_for(Refusal(status, codes, (message,), retry_after=3.0), ACCESS_REQUESTS)

    assert type(error) is TransientError
    assert error.retry_after == 3.0


@pytest.mark.parametrize(
    ("endpoint", "permission"),
    [
        (ACCESS_REQUESTS, "`Access: Audit Logs Read`"),
        (SCIM_UPDATES, "`Access: SCIM Logs Read`"),
        (IDENTITY_PROVIDERS, "`Access: Organizations, Identity Providers, and Groups Read`"),
        (VERIFY_USER_TOKEN, "the permission it needs"),
    ],
)
def test_the_hint_names_the_permission_that_is_missing(endpoint: Endpoint, permission: str) -> None:
    error = error_for(Refusal(403, (10000,)), endpoint)

    assert permission in error.hint
    assert endpoint.name in str(error)


def test_the_text_has_status_codes_and_ray_and_nothing_that_was_received() -> None:
    refusal = Refusal(400, (12130, 6), ("access.api.error.invalid_request: idp_id X",), "8a1c-AMS")

    text = str(error_for(refusal, SCIM_UPDATES))

    assert "(HTTP 400, code 12130, 6, cf-ray 8a1c-AMS)" in text
    assert "idp_id X" not in text


def test_an_answer_through_a_proxy_names_it_and_blames_it_where_it_is_not_cloudflares() -> None:
    ours = error_for(Refusal(503, proxy="http://proxy:3128"), ACCESS_REQUESTS)
    theirs = error_for(Refusal(503, ray="8a1c-AMS", proxy="http://proxy:3128"), ACCESS_REQUESTS)

    assert "through the proxy http://proxy:3128" in str(ours)
    assert "through the proxy http://proxy:3128" in str(theirs)
    assert "look at the proxy first" in ours.hint
    assert "look at the proxy first" not in theirs.hint
