"""The jobs of Logpush that push to the receiver: one that suits it, and what is wrong with others.

Pure. ``check --live`` and ``forwarder logpush job`` judge by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from forwarder.core.contracts import Finding
from forwarder.core.masking import mask_error
from forwarder.core.timing import parse_us

FIELDS: Mapping[str, str] = {
    "access_requests": "Action Allowed AppDomain AppUUID Connection Country CreatedAt Email "
    "IPAddress PurposeJustificationPrompt PurposeJustificationResponse RayID "
    "TemporaryAccessApprovers TemporaryAccessDuration UserUID",
    "audit_logs_v2": "AccountID AccountName ActionDescription ActionResult ActionTimestamp "
    "ActionType ActorContext ActorEmail ActorID ActorIPAddress ActorTokenDetails ActorType "
    "AuditLogID Raw ResourceID ResourceProduct ResourceRequest ResourceResponse ResourceScope "
    "ResourceType ResourceValue ZoneID ZoneName",
    "device_posture_results": "ClientVersion DeviceID DeviceManufacturer DeviceModel DeviceName "
    "DeviceSerialNumber DeviceType Email OSVersion PolicyID PostureCheckName PostureCheckType "
    "PostureEvaluatedResult PostureExpectedJSON PostureReceivedJSON RegistrationID Timestamp "
    "UserUID",
    # Of the many, those that say who did what: RequestHeaders holds the user whom Access knows.
    "http_requests": "ClientASN ClientCountry ClientIP ClientMTLSAuthCertFingerprint "
    "ClientMTLSAuthStatus ClientRequestBytes ClientRequestHost ClientRequestMethod "
    "ClientRequestPath ClientRequestProtocol ClientRequestReferer ClientRequestScheme "
    "ClientRequestSource ClientRequestURI ClientRequestUserAgent ClientSSLProtocol ClientSrcPort "
    "EdgeEndTimestamp EdgeResponseBytes EdgeResponseStatus EdgeStartTimestamp JA4 OriginIP "
    "OriginResponseStatus ParentRayID RayID RequestHeaders SecurityAction SecurityActions "
    "SecurityRuleID SecurityRuleIDs SecuritySources WorkerSubrequest",
    "zero_trust_network_sessions": "AccountID BytesReceived BytesSent "
    "ClientTCPHandshakeDurationMs ClientTLSCipher ClientTLSHandshakeDurationMs ClientTLSVersion "
    "ConnectionCloseReason ConnectionReuse DestinationTunnelID DetectedProtocol DeviceID "
    "DeviceName EgressColoName EgressIP EgressPort EgressRuleID EgressRuleName Email "
    "IngressColoName InitialOriginIP Offramp OriginIP OriginPort OriginTLSCertificateIssuer "
    "OriginTLSCertificateValidationResult OriginTLSCipher OriginTLSHandshakeDurationMs "
    "OriginTLSVersion Protocol RegistrationID ResolvedFQDN RuleEvaluationDurationMs SNI "
    "SessionEndTime SessionID SessionStartTime SourceInternalIP SourceIP SourcePort TenantID "
    "UserID VirtualNetworkID",
}
"""The fields of a job; a dataset that is not here needs ``--field``."""
OF_ZONES = (
    "dns_logs",
    "firewall_events",
    "http_requests",
    "nel_reports",
    "page_shield_events",
    "spectrum_events",
    "zaraz_events",
)
"""Datasets whose jobs belong to a zone; those of all others belong to the account."""
_NEEDED: Mapping[str, str] = {
    "access_requests": "Action Allowed AppDomain AppUUID CreatedAt Email IPAddress RayID",
    "audit_logs_v2": "ActionResult ActionTimestamp ActionType AuditLogID Raw ResourceProduct "
    "ResourceType",
    "device_posture_results": "Timestamp",
    "http_requests": "ClientIP ClientRequestHost ClientRequestMethod EdgeResponseStatus "
    "EdgeStartTimestamp RayID RequestHeaders",
    "zero_trust_network_sessions": "SessionEndTime SessionID SourceIP",
}
"""Fields that give rows their time, their id and their mapping."""
_BYTES, _RECORDS, _TIMES = 5_000_000, range(1000, 10_001), "rfc3339ns"
"""What suits the receiver: the most bytes of an upload, the bounds of its rows, the times."""
_ADDRESS = re.compile(r"(https?://)(?:[^/?#@]*@)?([^?#@]+/([^/?#@]+)/([a-z0-9_]+))(?:\?.*)?")
_QUERY = re.compile(
    r"(?i)(?:\?|%3f|\bheader_)(?:[^\s\"'=]*=(?:basic|bearer|splunk|token)\s)?[^\s\"']*"
)
"""What may hold the secret; an HTTP client's text may have it decoded, or without its address."""
_LONGEST = 300


def job_of(
    dataset: str, destination: str, header: str, secret: str, fields: Sequence[str]
) -> dict[str, Any]:
    """Return the body of a request that creates a job; ``destination`` is a URL without query."""
    # A space must be %20: a plus stays a plus in the header.
    query = f"header_{quote(header, safe='')}={quote(secret, safe='')}"
    return {
        "name": f"forwarder-{dataset}".replace("_", "-"),
        "dataset": dataset,
        "destination_conf": f"{destination}?{query}",
        "enabled": True,
        "max_upload_bytes": _BYTES,
        "max_upload_records": _RECORDS[-1],
        "max_upload_interval_seconds": 30,
        "output_options": {
            "output_type": "ndjson",
            "timestamp_format": _TIMES,
            "sample_rate": 1,
            "field_names": list(fields),
        },
    }


class PushJob(NamedTuple):
    """A job that pushes to the receiver: where to, the dataset in that address, Cloudflare's row.

    ``address`` is without the query, which holds the secret.
    """

    address: str
    dataset: str
    row: Mapping[str, Any]

    def found(self, level: str, text: str, hint: str = "") -> Finding:
        """Return a finding of ``level`` (ok, warning, fault) that names this job."""
        text = f"job {_words(self.row.get('id'))} to {self.address} {text}"
        return Finding(level, f"logpush {self.dataset}", text, hint)


def jobs_here(rows: Iterable[Any], account: Collection[str]) -> list[PushJob]:
    """Return the jobs that push to the receiver, of the ``rows`` that Cloudflare lists.

    Their address ends with the account, by its id or its name, and a dataset.
    """
    listed = (row for row in rows if isinstance(row, Mapping))
    found = ((_ADDRESS.fullmatch(str(row.get("destination_conf"))), row) for row in listed)
    return [
        PushJob(parts[1] + parts[2], parts[4], row)
        for parts, row in found
        if parts and unquote(parts[3]) in account
    ]


def judged(jobs: Sequence[PushJob], expected: Iterable[str] = ()) -> list[Finding]:
    """Return the state of each job and what is wrong with it, and ``expected`` datasets without.

    A fault is what keeps rows away or makes them unreadable, a warning what an operator may want.
    """
    running = {job.dataset for job in jobs if job.row.get("enabled") is True}
    found = [
        finding
        for job in jobs
        for finding in (_state(job, others=job.dataset in running), *_contents(job))
    ]
    there = {job.dataset for job in jobs}
    found += [
        Finding("warning", f"logpush {dataset}", "no job pushes this dataset here", _CREATE)
        for dataset in expected
        if dataset not in there
    ]
    return found or [Finding("ok", "logpush", "no job of the account pushes here", _CREATE)]


_CREATE = "`forwarder logpush job` prints a job that suits, and creates it with --create"
_DISABLED = (
    "Cloudflare disables a job after a day without a success, and never sends the rows of the time "
    "until it is enabled again: remove the cause, then enable the job in the dashboard"
)
_FAILING = (
    "Cloudflare retries, and disables the job after a day without a success. The log and "
    "forwarder_logpush_requests_total show what the receiver answered, if it was reached"
)


def _state(job: PushJob, *, others: bool) -> Finding:
    """Return whether rows come; ``others``: an enabled job pushes the same dataset."""
    done, failed = job.row.get("last_complete"), job.row.get("last_error")
    until = f"it pushed the rows until {_words(done)}" if done else "it has pushed nothing yet"
    message = _words(job.row.get("error_message") or "no reason given")
    error = f"it failed at {_words(failed)} ({message}); {until}" if failed else until
    if job.row.get("enabled") is True:
        if _fails(job.row):
            return job.found("fault", f"fails: {error}", _FAILING)
        return job.found("ok", f"is enabled: {until}")
    if others:
        return job.found("ok", "is disabled, and another job pushes this dataset")
    return job.found("fault", f"is disabled: {error}", _DISABLED)


def _fails(row: Mapping[str, Any]) -> bool:
    """Return True if the last upload failed; Cloudflare forgets an error after a success."""
    if not row.get("last_error"):
        return False
    failed_us, done_us = parse_us(row["last_error"]), parse_us(row.get("last_complete"))
    return failed_us is None or done_us is None or failed_us > done_us


def _contents(job: PushJob) -> Iterator[Finding]:
    """Yield what is wrong with the rows that a job sends."""
    row, named = job.row, job.row.get("dataset")
    if named and named != job.dataset:
        text = f"pushes {_words(named)}: its rows are taken for rows of {job.dataset}"
        yield job.found("fault", text, "the address must end with the name of the dataset")
    options = row.get("output_options")
    if not isinstance(options, Mapping):
        yield job.found("warning", "has no output_options: its fields are not known", _CREATE)
        return
    kind = options.get("output_type") or "ndjson"
    if kind != "ndjson":
        text = f"sends {_words(kind)}, and every line becomes a malformed event"
        yield job.found("fault", text, "set output_type to ndjson")
    fields = options.get("field_names")
    sent = fields if isinstance(fields, list) else ()
    if lacking := [one for one in _NEEDED.get(job.dataset, "").split() if one not in sent]:
        text = f"does not send {', '.join(lacking)}, which rows need for time, id or mapping"
        hint = "logins without RayID are compared by user" if "RayID" in lacking else ""
        yield job.found("warning", text, hint if job.dataset == "access_requests" else "")
    yield from _losses(job, options)
    if unlike := list(_unlike(row, options)):
        text = f"would suit the receiver better with {', '.join(unlike)}"
        yield job.found("warning", text, _CREATE)


def _losses(job: PushJob, options: Mapping[str, Any]) -> Iterator[Finding]:
    rate = options.get("sample_rate")
    if isinstance(rate, int | float) and rate < 1:
        text = f"sends a sample of {rate:g} of the rows: the others are missing"
        yield job.found("warning", text, "set sample_rate to 1")
    if job.row.get("filter"):
        text = "has a filter: the rows that it drops are missing, and cannot be counted"
        yield job.found("warning", text)


def _unlike(row: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the job that ``job_of`` makes has instead."""
    size, rows = row.get("max_upload_bytes"), row.get("max_upload_records")
    if not isinstance(size, int) or not 0 < size <= _BYTES:
        yield f"max_upload_bytes {_BYTES} (now {_words(size or 'not set')})"
    if rows not in _RECORDS:
        now = _words(rows or "not set")
        yield f"max_upload_records {_RECORDS[0]} to {_RECORDS[-1]} (now {now})"
    # The API's own default; the dashboard has another one.
    times = options.get("timestamp_format") or "unixnano"
    if times != _TIMES:
        yield f"timestamp_format {_TIMES} (now {_words(times)})"


def _words(value: Any) -> str:
    """Return what Cloudflare says as one line, without the secret that an address may hold."""
    said: str = mask_error(_QUERY.sub("", " ".join(str(value).split())))
    return said[:_LONGEST]
