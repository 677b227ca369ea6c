"""``forwarder logpush``: the job at Cloudflare that pushes to the receiver."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import orjson

from forwarder.cli.access import settings_from
from forwarder.cli.terminal import (
    config_option,
    print_findings,
    print_json,
    printable,
    refuse_unknown,
    say,
)
from forwarder.core.errors import NeedsOperatorError
from forwarder.sources.logpush.jobs import FIELDS, OF_ZONES, job_of, jobs_here, judged
from forwarder.transport.http import HttpClient, HttpSettings
from forwarder.transport.settings import REDACTED, Secret, clean_url

_LOGS_EDIT = "a token with the permission Logs Edit is needed, and for Access Zero Trust: PII Read"


async def call(settings: HttpSettings, token: str, job: Mapping[str, Any] | None = None) -> Any:
    """Create a job (or list the jobs) at the URL of ``settings``; return the answer's ``result``.

    Raises ``NeedsOperatorError`` with Cloudflare's own words for a refusal.
    """
    client, (url,) = HttpClient(settings, "forwarder"), settings.addresses
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


@click.group()
def logpush() -> None:
    """The jobs at Cloudflare that push to the receiver."""


@logpush.command("job")
@config_option
@click.option("--account", required=True, help="The account, by its name or id.")
@click.option("--dataset", required=True, help="What is pushed, such as access_requests.")
@click.option(
    "--url", default="", help="Where Cloudflare reaches the receiver: https://HOST; any if --check."
)
@click.option("--zone", default="", help="Id of the zone, for a dataset of a zone.")
@click.option("--field", "fields", multiple=True, help="A field to send; default: all known.")
@click.option("--create", is_flag=True, help="Create the job.")
@click.option("--check", is_flag=True, help="Show the jobs that are there, and judge them.")
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

    The job has the parameters that suit the receiver. The secret is printed as asterisks; only
    `--create` sends it. Cloudflare uploads a test when a job is created, so the receiver must run.

    `--check` shows what `forwarder check --live` shows of an account's jobs: those whose address
    ends with /ACCOUNT/DATASET. The exit status is 1 if such a job is disabled, fails, or sends
    what the receiver cannot read.

    Example: `forwarder logpush job --account acme --dataset access_requests --url URL`
    """
    settings = settings_from(config)
    receiver = settings.root.logpush
    if receiver is None:
        raise click.UsageError("the settings have no `logpush`: the receiver is off")
    known = {name: one for one in settings.accounts for name in (one.label, one.account_id)}
    refuse_unknown("account", [account], known)
    owner = known[account].config
    place = _place(dataset, zone) or f"accounts/{owner.account_id}"
    where = _cleaned(url) if url or not check else ""
    if check:
        rows = asyncio.run(call(_jobs_at(owner, place), _token(owner, token_file)))
        jobs = jobs_here(rows or (), {owner.account_id, owner.label})
        chosen = [j for j in jobs if j.dataset == dataset and j.address.startswith(where)]
        sys.exit(1 if print_findings(judged(chosen, [dataset])) else 0)
    secret = receiver.secrets()[0] if create else REDACTED
    address = f"{where}/{quote(account, safe='')}/{dataset}"
    job = job_of(dataset, address, receiver.header, secret, _fields(dataset, fields))
    if not create:
        print_json(job)
        return
    made = asyncio.run(call(_jobs_at(owner, place), _token(owner, token_file), job))
    say(f"job {made.get('id') if isinstance(made, dict) else '?'} was created")


def _place(dataset: str, zone: str) -> str:
    """Return the zone's part of the address of its jobs; empty if the jobs are the account's."""
    if dataset in OF_ZONES and not zone:
        raise click.UsageError(f"jobs of {dataset} belong to a zone: name its id by --zone")
    if zone and dataset in FIELDS and dataset not in OF_ZONES:
        raise click.UsageError(f"jobs of {dataset} belong to the account: leave out --zone")
    return f"zones/{quote(zone, safe='')}" if zone else ""


def _jobs_at(owner: Any, place: str) -> HttpSettings:
    """Return where jobs are listed and created, reached as the account's logs are."""
    return HttpSettings(
        url=f"{owner.api_url}/{place}/logpush/jobs",
        tls=owner.tls,
        proxy=owner.proxy,
        proxy_username=owner.proxy_username,
        proxy_password=owner.proxy_password,
    )


def _token(owner: Any, file: Path | None) -> str:
    token = Secret(path=file) if file else owner.api_token
    if token is None:
        raise click.UsageError("a token is needed: --token-file")
    revealed: str = token.reveal()
    return revealed


def _cleaned(url: str) -> str:
    if not url:
        raise click.UsageError("--url is missing: where Cloudflare reaches the receiver")
    try:
        cleaned = clean_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    if not cleaned.startswith("https:"):
        raise click.BadParameter("Cloudflare pushes over https only", param_hint="--url")
    return cleaned


def _fields(dataset: str, given: Sequence[str]) -> Sequence[str]:
    fields = given or FIELDS.get(dataset, "").split()
    if not fields:
        raise click.UsageError(f"the fields of {dataset} are not known; name them by --field")
    return fields
