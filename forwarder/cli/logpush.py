"""``forwarder logpush``: the job at Cloudflare that pushes to the receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click
import orjson

from forwarder.cli.access import settings_from
from forwarder.cli.terminal import config_option, print_json, printable, refuse_unknown, say
from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.http import HttpClient, HttpSettings
from forwarder.transport.settings import REDACTED, Secret, clean_url

_LOGS_EDIT = "a token with the permission Logs Edit is needed, and for Access Zero Trust: PII Read"
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
        "max_upload_bytes": 5_000_000,
        "max_upload_records": 10_000,
        "max_upload_interval_seconds": 30,
        "output_options": {
            "output_type": "ndjson",
            "timestamp_format": "rfc3339ns",
            "sample_rate": 1,
            "field_names": list(fields),
        },
    }


async def call(url: str, token: str, job: Mapping[str, Any] | None = None) -> Any:
    """Create a job (or list the jobs) at ``url`` and return the answer's ``result``.

    Raises ``NeedsOperatorError`` with Cloudflare's own words for a refusal.
    """
    client = HttpClient(HttpSettings(url=url), "forwarder")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = None if job is None else orjson.dumps(job)
    try:
        answer = await client.request(
            "GET" if job is None else "POST", url, headers=headers, body=body
        )
    finally:
        await client.aclose()
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("success") is not True:
        errors = found.get("errors") if isinstance(found, dict) else None
        words = [str(one.get("message")) for one in errors or () if isinstance(one, dict)]
        said = printable("; ".join(words)) or f"HTTP {answer.status}"
        raise NeedsOperatorError(f"{answer.where} refuses: {said}", hint=_LOGS_EDIT)
    return found.get("result")


def lines_of(jobs: Any, destination: str) -> list[str]:
    """Return a line for each job that pushes to ``destination``, as Cloudflare describes it."""
    wanted, lines = urlsplit(destination), list[str]()
    for job in jobs if isinstance(jobs, list) else ():
        found = urlsplit(str(job.get("destination_conf")))
        if (found.netloc, found.path) == (wanted.netloc, wanted.path):
            state = "enabled" if job.get("enabled") else "DISABLED"
            error = job.get("error_message")
            last = f", last complete {job.get('last_complete') or 'never'}"
            failed = f", failed at {job.get('last_error')}: {error}" if error else ""
            lines.append(printable(f"job {job.get('id')}: {state}{last}{failed}"))
    return lines


@click.group()
def logpush() -> None:
    """The jobs at Cloudflare that push to the receiver."""


@logpush.command("job")
@config_option
@click.option("--account", required=True, help="The account, by its name or id.")
@click.option("--dataset", required=True, help="What is pushed, such as http_requests.")
@click.option("--url", required=True, help="Where Cloudflare reaches the receiver: https://HOST.")
@click.option("--zone", default="", help="Id of the zone, for a dataset of a zone.")
@click.option("--field", "fields", multiple=True, help="A field to send; default: all we know.")
@click.option("--create", is_flag=True, help="Create the job.")
@click.option("--check", is_flag=True, help="Show the jobs that push there already.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a token that may edit jobs; default: the account's token.",
)
def show_job(  # noqa: PLR0913 - one for each option
    config: Path,
    *,
    account: str,
    dataset: str,
    url: str,
    zone: str,
    fields: tuple[str, ...],
    create: bool,
    check: bool,
    token_file: Path | None,
) -> None:
    """Print, create or check the job that pushes a dataset.

    The job has the parameters that suit the receiver. The secret is printed as asterisks, and sent
    with `--create`. Cloudflare uploads a test when a job is created, so the receiver must run.
    """
    settings = settings_from(config)
    receiver = settings.root.logpush
    if receiver is None:
        raise click.UsageError("the settings have no `logpush`: the receiver is off")
    known = {name: one for one in settings.accounts for name in (one.label, one.account_id)}
    refuse_unknown("account", [account], known)
    owner = known[account].config
    destination = _destination(url, account, dataset)
    secret = receiver.secrets()[0]
    shown = secret if create else REDACTED
    job = job_of(dataset, destination, receiver.header, shown, _fields(dataset, fields))
    if not create and not check:
        print_json(job)
        return
    if dataset in OF_ZONES and not zone:
        raise click.UsageError(f"jobs of {dataset} belong to a zone: --zone")
    token = Secret(path=token_file) if token_file else owner.api_token
    if token is None:
        raise click.UsageError("a token is needed: --token-file")
    place = f"zones/{zone}" if zone else f"accounts/{owner.account_id}"
    jobs = f"{owner.api_url}/{place}/logpush/jobs"
    found = asyncio.run(call(jobs, token.reveal(), job if create else None))
    if create:
        say(f"job {found.get('id') if isinstance(found, dict) else '?'} was created")
    else:
        say("\n".join(lines_of(found, destination)) or f"no job pushes to {destination}")


def _destination(url: str, account: str, dataset: str) -> str:
    try:
        cleaned = clean_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    if not cleaned.startswith("https:"):
        raise click.BadParameter("Cloudflare pushes over https only", param_hint="--url")
    return f"{cleaned}/{quote(account, safe='')}/{dataset}"


def _fields(dataset: str, given: Sequence[str]) -> Sequence[str]:
    fields = given or FIELDS.get(dataset, "").split()
    if not fields:
        raise click.UsageError(f"the fields of {dataset} are not known; name them by --field")
    return fields
