"""``forwarder config init``: a small settings file for Cloudflare and one destination.

It asks only for the keys that somebody must decide; everything else has a default.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from forwarder.cli.terminal import refuse_unknown, tell
from forwarder.core.errors import ConfigError, Fault

_TEXT = re.compile(r"[A-Za-z/_$][^\s#:,\[\]{}]*(:[^\s#,\[\]{}]+)*")
"""What YAML reads as one text without quotes; an id of digits would be read as a number."""
_WORD = re.compile(r"true|false|\d+")


class Question(NamedTuple):
    """One key of the settings; without an answer its value comes from ``variable``.

    The answer to a secret is the path of a file. ``example`` is a value that is valid.
    """

    key: str
    what: str
    variable: str
    example: str
    secret: bool = False
    many: bool = False


_ACCOUNT = (
    Question(
        "account_id",
        "Account id, 32 hex digits in the address of the dashboard",
        "CLOUDFLARE_ACCOUNT_ID",
        "0" * 32,
    ),
    Question(
        "api_token",
        "API token that may read Access: Audit Logs and Access: SCIM Logs",
        "CLOUDFLARE_API_TOKEN",
        "token",
        secret=True,
    ),
)
_HOST = Question("host", "Host that receives syslog", "SYSLOG_HOST", "syslog.example.com")
_SINKS: Mapping[str, Sequence[Question]] = {
    "splunk_hec": (
        Question("url", "Address of the collector", "SPLUNK_HEC_URL", "https://splunk:8088"),
        Question("token", "HEC token", "SPLUNK_HEC_TOKEN", "token", secret=True),
    ),
    "elasticsearch": (
        Question("url", "Address of the cluster", "ELASTICSEARCH_URL", "https://elastic:9200"),
        Question("api_key", "API key", "ELASTICSEARCH_API_KEY", "aWQ6a2V5", secret=True),
    ),
    "kafka": (
        Question(
            "bootstrap_servers",
            "Brokers as HOST:PORT, separated by commas",
            "KAFKA_BROKERS",
            "kafka:9092",
            many=True,
        ),
    ),
    "loki": (Question("url", "Address of Loki", "LOKI_URL", "https://loki:3100"),),
    "object_store": (
        Question("url", "Bucket, e.g. s3://BUCKET/PREFIX", "BUCKET_URL", "s3://logs/access"),
    ),
    "sentinel": (
        Question("url", "Ingestion endpoint of the rule", "SENTINEL_URL", "https://ingest"),
        Question("rule_id", "Immutable id of the rule, dcr-...", "SENTINEL_RULE_ID", "dcr-00"),
        Question("tenant_id", "Directory (tenant) in Entra", "AZURE_TENANT_ID", "tenant"),
        Question("client_id", "Application (client) id", "AZURE_CLIENT_ID", "client"),
        Question("client_secret", "Client secret", "AZURE_CLIENT_SECRET", "secret", secret=True),
    ),
    "otlp": (Question("url", "Address of the receiver", "OTLP_URL", "https://collector:4318"),),
    "http": (Question("url", "Address that takes POST requests", "SINK_URL", "https://siem/in"),),
    "syslog": (_HOST,),
    "relp": (_HOST,),
    "file": (Question("path", "File to write", "EVENTS_FILE", "/var/log/events"),),
    "stdout": (),
    "null": (),
}


@click.command()
@click.option("--sink", "kind", metavar="TYPE", help="Type of the destination, e.g. splunk_hec.")
@click.option("--account-id", help="The Cloudflare account.")
@click.option("--token-file", help="File that holds the API token.")
@click.option(
    "--set", "given", metavar="KEY=VALUE", multiple=True, help="A key of the sink; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="config.yaml",
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(
    *,
    kind: str | None,
    account_id: str | None,
    token_file: str | None,
    given: tuple[str, ...],
    output: Path,
    force: bool,
) -> None:
    """Write a small settings file for Cloudflare and one destination.

    Asks on a terminal. Whatever is not answered is read from an environment variable when the
    forwarder starts. A secret is read from a file or from a variable; it is never written here.
    """
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists; add --force to replace it")
    kind = kind or _chosen()
    refuse_unknown("sink type", [kind], _installed())
    questions = _SINKS.get(kind, ())
    account = _answers(_ACCOUNT, {"account_id": account_id, "api_token": token_file})
    sink = _answers(questions, dict(map(_pair, given)))
    text = "\n".join(_lines(kind, account, sink)) + "\n"
    examples = {one.variable: one.example for one in (*_ACCOUNT, *questions)}
    _say_what_is_next(output, text, _write(output, text, examples))


def _chosen() -> str:
    """Ask which destination; a usage error where nobody can answer."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"add --sink TYPE; there is {', '.join(sorted(_installed()))}")
    for name, summary in _installed().items():
        tell(f"  {name:<14} {summary}")
    return str(click.prompt("Destination", err=True))


def _installed() -> Mapping[str, str]:
    """Return the sinks that can be used and what each is."""
    from forwarder.config.plugins import InstalledPlugins  # noqa: PLC0415 - imports pydantic

    listed = InstalledPlugins().listed()
    return {
        one["name"]: one["summary"] for one in listed if one["kind"] == "sink" and not one["error"]
    }


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"--set {text}: write KEY=VALUE")
    return key.strip(), value.strip()


def _answers(questions: Sequence[Question], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the YAML of each key: what was given, what is answered, or a variable."""
    found: dict[str, str] = {}
    for one in questions:
        variable, file = f"${{{one.variable}}}", f"{one.key}_file"
        answer = given.get(file) or given.get(one.key) or _ask(one)
        if one.many:
            values = [_scalar(part.strip()) for part in answer.split(",") if answer]
            found[one.key] = f"[{', '.join(values) or _quoted(variable)}]"
        elif answer and (one.secret or file in given):
            found[file] = _scalar(answer)
        else:
            found[one.key] = _scalar(answer) if answer else variable
    named = {one.key for one in questions} | {f"{one.key}_file" for one in questions}
    extra = {
        key: value if _WORD.fullmatch(value) else _scalar(value)
        for key, value in given.items()
        if key not in named and value
    }
    return found | extra


def _ask(question: Question) -> str:
    if not sys.stdin.isatty():
        return ""
    what = f"{question.what}{'; path of its file' if question.secret else ''}"
    return str(
        click.prompt(f"{what} [${question.variable}]", default="", show_default=False, err=True)
    ).strip()


def _scalar(value: str) -> str:
    return value if _TEXT.fullmatch(value) and not _WORD.fullmatch(value) else _quoted(value)


def _quoted(value: str) -> str:
    # A text in JSON is the same text in YAML.
    return json.dumps(value)


def _lines(kind: str, account: Mapping[str, str], sink: Mapping[str, str]) -> Iterator[str]:
    yield f"# Cloudflare Access to {kind}. docs/configuration.md lists every key."
    yield "version: 1"
    yield ""
    yield "# Folder of the journal: positions, rows that wait, dead letters. Use a local disk."
    yield "state_dir: ${FORWARDER_STATE_DIR:-./state}"
    yield ""
    yield "accounts:"
    first, *others = (f"{key}: {value}" for key, value in account.items())
    yield f"  - {first}"
    yield from (f"    {line}" for line in others)
    yield "    # To try it without an account: the address that `forwarder simulate` prints."
    yield "    api_url: ${CLOUDFLARE_API_URL:-https://api.cloudflare.com/client/v4}"
    yield "    # How long your plan keeps its logs; what is older counts as lost. Free: 24h."
    yield "    retention: 24h"
    yield ""
    yield "sinks:"
    yield f"  {kind}:"
    yield f"    type: {kind}"
    yield from (f"    {key}: {value}" for key, value in sink.items())


def _write(output: Path, text: str, examples: Mapping[str, str]) -> Sequence[Fault]:
    """Validate the text, with examples for variables that are not set, and put it into place.

    Returns what is missing on this machine, such as an extra. Raises ``ConfigError`` if the text
    has faults; then nothing is written.
    """
    from forwarder.config.loading import load  # noqa: PLC0415 - imports pydantic
    from forwarder.runtime.workers import preflight  # noqa: PLC0415 - imports everything

    draft = output.with_name(f".{output.name}.new")
    try:
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        settings = load(draft, {**examples, **os.environ})
        draft.replace(output)
    except ConfigError as error:
        # Where a fault would be means nothing: the file does not exist.
        where = re.compile(rf"{re.escape(str(draft))}(:\d+)?: ")
        faults = [replace(fault, path=where.sub("", fault.path)) for fault in error.faults]
        raise ConfigError(faults) from error
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    try:
        preflight(settings)
    except ConfigError as error:
        return error.faults
    return ()


def _say_what_is_next(output: Path, text: str, missing: Sequence[Fault]) -> None:
    tell(f"{output}: written and valid. Next:")
    for fault in missing:
        tell(f"  {fault}")
    for variable in re.findall(r"\$\{(\w+)\}", text):
        if variable not in os.environ:
            tell(f"  export {variable}=...")
    tell(f"  forwarder check --live -c {output}")
    tell(f"  forwarder run -c {output}")
