"""Jobs of Logpush are judged by what the receiver needs."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.core.contracts import Finding
from forwarder.sources.logpush.jobs import FIELDS, job_of, jobs_here, judged

ADDRESS = "https://push.example.com/acme/access_requests"
DONE, LATER = "2026-11-30T08:00:00Z", "2026-11-30T08:00:01.5Z"


def job(dataset: str = "access_requests", **changes: Any) -> dict[str, Any]:
    """Return a job as ``forwarder logpush job --create`` makes it, and what a test changes."""
    address = ADDRESS.replace("access_requests", dataset)
    made = job_of(dataset, address, "Authorization", "hidden", FIELDS[dataset].split())
    state = {"id": 7, "last_complete": DONE, "last_error": None, "error_message": None}
    options = {**made["output_options"], **changes.pop("output_options", {})}
    return {**made, **state, "filter": "", "output_options": options, **changes}


def findings(*rows: Any, expected: tuple[str, ...] = ()) -> list[Finding]:
    return judged(jobs_here(rows, {"acme", "0" * 32}), expected)


def wrong(*rows: Any) -> list[tuple[str, str]]:
    """Return level and text of what is not right, without the name of the job."""
    prefix = f"job 7 to {ADDRESS} "
    found = [one for one in findings(*rows) if one.level != "ok"]
    return [(one.level, one.text.removeprefix(prefix)) for one in found]


@pytest.mark.parametrize("dataset", list(FIELDS))
def test_the_job_that_is_made_here_is_right(dataset: str) -> None:
    (found,) = findings(job(dataset))

    assert ("ok", f"logpush {dataset}") == (found.level, found.subject)
    assert found.text.endswith(f"is enabled: it pushed the rows until {DONE}")


def test_a_job_is_ours_if_its_address_ends_with_account_and_dataset() -> None:
    ours = [
        ADDRESS,
        f"https://push.example.com/{'0' * 32}/access_requests?header_X=a/b/c",
        "https://user:hidden@push.example.com:8443/behind/a/proxy/%61cme/gateway_dns",
    ]
    others = [
        "https://push.example.com/globex/access_requests",
        "https://push.example.com/acme/access_requests/",
        "https://push.example.com/acme?x=/acme/access_requests",
        "s3://bucket/acme/access_requests",
        "https://[/acme",
    ]
    rows = [{"destination_conf": one} for one in (*ours, *others)]

    found = jobs_here([None, 5, {}, *rows], {"acme", "0" * 32})

    assert [(one.address, one.dataset) for one in found] == [
        (ADDRESS, "access_requests"),
        (ours[1].partition("?")[0], "access_requests"),
        ("https://push.example.com:8443/behind/a/proxy/%61cme/gateway_dns", "gateway_dns"),
    ]


def test_a_disabled_job_is_a_fault_unless_another_one_pushes_the_dataset() -> None:
    error = {"last_error": LATER, "error_message": "HTTP 503"}
    off = job(enabled=False, **error)

    assert wrong(off) == [
        (
            "fault",
            f"is disabled: it failed at {LATER} (HTTP 503); it pushed the rows until {DONE}",
        )
    ]
    assert wrong(off, job(id=8)) == []


@pytest.mark.parametrize(
    ("failed", "done", "fails"),
    [
        (LATER, DONE, True),
        (LATER, None, True),
        ("yesterday", DONE, True),
        (DONE, LATER, False),
        (None, None, False),
    ],
)
def test_a_job_fails_if_its_last_error_is_newer_than_its_last_success(
    failed: str | None, done: str | None, *, fails: bool
) -> None:
    found = wrong(job(last_error=failed, last_complete=done, error_message="no route"))

    assert [("fault", True)] * fails == [(level, "no route" in text) for level, text in found]


def test_rows_that_nobody_can_read_are_a_fault() -> None:
    csv = wrong(job(output_options={"output_type": "csv"}))
    elsewhere = wrong(job(dataset="access_requests") | {"dataset": "gateway_dns"})

    assert csv == [("fault", "sends csv, and every line becomes a malformed event")]
    assert elsewhere == [
        ("fault", "pushes gateway_dns: its rows are taken for rows of access_requests")
    ]


def test_fields_that_rows_need_are_missed() -> None:
    fields = [one for one in FIELDS["access_requests"].split() if one not in {"RayID", "Email"}]
    (found,) = [
        one
        for one in findings(job(output_options={"field_names": fields}))
        if one.level == "warning"
    ]

    assert "does not send Email, RayID," in found.text
    assert "compared by user" in found.hint
    assert wrong(job(output_options={"field_names": None}))
    assert wrong(job() | {"output_options": None}) == [
        ("warning", "has no output_options: its fields are not known")
    ]


def test_rows_that_a_job_leaves_out_are_a_warning() -> None:
    sampled = wrong(job(output_options={"sample_rate": 0.1}))
    filtered = wrong(job(filter='{"where":{"key":"Allowed","operator":"eq","value":false}}'))

    assert sampled == [("warning", "sends a sample of 0.1 of the rows: the others are missing")]
    assert filtered == [
        ("warning", "has a filter: the rows that it drops are missing, and cannot be counted")
    ]


def test_what_would_suit_the_receiver_better_is_one_warning() -> None:
    found = wrong(
        job(
            max_upload_bytes=None,
            max_upload_records=100_000,
            output_options={"timestamp_format": None},
        )
    )

    unlike = (
        "max_upload_bytes 5000000 (now not set), "
        "max_upload_records 1000 to 10000 (now 100000), "
        "timestamp_format rfc3339ns (now unixnano)"
    )
    assert found == [("warning", f"would suit the receiver better with {unlike}")]


def test_uploads_without_a_bound_would_suit_better_with_one() -> None:
    """To Cloudflare, 0 is no bound."""
    ((_, text),) = wrong(job(max_upload_bytes=0))

    assert text.endswith("max_upload_bytes 5000000 (now not set)")


def test_an_expected_dataset_without_a_job_is_missed() -> None:
    found = findings(job(), expected=("access_requests", "gateway_dns"))

    assert [one.subject for one in found if one.level == "warning"] == ["logpush gateway_dns"]
    assert [("ok", "logpush")] == [(one.level, one.subject) for one in findings()]


def test_what_cloudflare_says_is_one_line_without_the_secret() -> None:
    address = f'Post "{ADDRESS}?header_Authorization=hidden": refused\nok  all is well'
    (found,) = findings(job(last_error=LATER, error_message=address))

    assert f'(Post "{ADDRESS}": refused ok all is well)' in found.text
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    "said",
    [
        "header_X-Push=hidden was refused",
        f"{ADDRESS}%3Fheader_X-Push%3Dhidden: refused",
        f"{ADDRESS}?header_Authorization=Basic hidden: refused",
        "https://ann:hidden@push.example.com/ is down",
        {"X-Secret": "hidden"},
    ],
)
def test_nor_has_it_the_secret_in_another_form(said: Any) -> None:
    assert "hidden" not in repr(findings(job(last_error=LATER, error_message=said)))


@pytest.mark.parametrize("value", [None, True, -1, 1e400, "", "x", [], [None], {}, {"a": 1}])
def test_a_job_of_any_form_is_judged(value: Any) -> None:
    whole = job()
    rows = [{**whole, key: value} for key in whole if key != "destination_conf"]
    rows += [job(output_options={key: value}) for key in whole["output_options"]]

    assert {f"logpush {whole['dataset']}"} == {one.subject for one in findings(*rows)}
