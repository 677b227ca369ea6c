"""``python -m bench.formats``: what a row costs in each format, beside parsing and writing it.

For each format, parsing, normalising and rendering a page is timed (and, as a second line, making
the sink's events of it, too) and divided by ``orjson.dumps(orjson.loads(row))`` over the same rows.
Baseline and formats take turns; of each page the best of several rounds counts, so that other work
on the machine disturbs little. All times are CPU times. The targets are for logins.
"""

from __future__ import annotations

import argparse
import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

import orjson

from forwarder.core.contracts import StoredPage
from forwarder.core.schema import Normaliser, Origin
from forwarder.core.timing import format_seconds
from forwarder.formats.cef import CefFormat
from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.leef import LeefFormat
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.raw import RawConfig, RawFormat
from forwarder.formats.shape import Shape
from forwarder.formats.templates import FormatConfig
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.sources.cloudflare_access.scim.mapping import SCIM_UPDATES

TARGETS = {"raw": 1.5, "ocsf": 4.0, "ecs": 3.5, "cim": 3.5, "cef": 4.0, "leef": 4.0}
_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
_FIRST, _SEEN_US = 1_783_000_000, 1_784_000_000_000_000
_TOTAL, _ROUNDS = 10_000, 20

Rows = Sequence[tuple[int, bytes]]


def formats() -> dict[str, Any]:
    """Return new formats, without templates or memory of an earlier run."""
    return {
        "raw": RawFormat(RawConfig()),
        "ocsf": OcsfFormat(OcsfConfig()),
        "ecs": EcsFormat(EcsConfig()),
        "cim": CimFormat(FormatConfig()),
        "cef": CefFormat(FormatConfig()),
        "leef": LeefFormat(FormatConfig()),
    }


def usual(count: int, *, users: int = 4000, networks: int = 6000) -> Iterator[tuple[int, bytes]]:
    """Give logins as (second since 1970, JSON): thousands of users and addresses, 120 apps.

    Fifty rows share a second, every fifth app has a path, every fifth address is of IPv6, and
    every twentieth login is refused.
    """
    rng = Random(1)
    people = [(f"user{i}@example.com", _uuid(rng)) for i in range(users)]
    addresses = [_address(rng, i) for i in range(networks)]
    apps = [
        (f"app{i}.example.com" + ("/admin" if i % 5 == 0 else ""), f"App {i}", _uuid(rng))
        for i in range(120)
    ]
    for index in range(count):
        second = _FIRST + index // 50
        email, user_id = rng.choice(people)
        domain, name, app_uid = rng.choice(apps)
        row = {
            "created_at": format_seconds(second * 1_000_000),
            "user_email": email,
            "user_id": user_id,
            "ip_address": rng.choice(addresses),
            "country": rng.choice(("US", "DE", "GB", "FR")),
            "app_domain": domain,
            "app_name": name,
            "app_uid": app_uid,
            "app_type": "self_hosted",
            "action": "login",
            "allowed": rng.randrange(20) > 0,
            "connection": rng.choice(("azureAD", "okta", "google-apps", "saml")),
            "ray_id": f"{rng.getrandbits(64):016x}",
        }
        yield second, orjson.dumps(row)


def _address(rng: Random, index: int) -> str:
    """Return an address, every fifth of IPv6."""
    if index % 5:
        return str(IPv4Address(rng.getrandbits(32)))
    return str(IPv6Address((0x20010DB8 << 96) | rng.getrandbits(64)))


def _uuid(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))


def documented(count: int) -> Iterator[tuple[int, bytes]]:
    """Give rows with the nine documented keys only."""
    for second, text in usual(count):
        row = orjson.loads(text)
        for key in ("user_id", "country", "app_name", "app_type"):
            del row[key]
        yield second, orjson.dumps(row)


def scim(count: int, *, new_bodies: bool = False) -> Iterator[tuple[int, bytes]]:
    """Give changes of users with a body to look into: always the same one, or one of each."""
    for second, text in usual(count):
        login = orjson.loads(text)
        body: dict[str, Any] = {
            "Operations": [{"op": "Replace", "path": "active", "value": "False"}]
        }
        if new_bodies:
            body = {"userName": login["user_email"], "externalId": login["ray_id"], "active": True}
        row = {
            "logged_at": login["created_at"],
            "cf_resource_id": login["user_id"],
            "idp_id": "df7e2b5f-02b7-4d9d-af26-8d1988fca630",
            "idp_resource_id": login["app_uid"],
            "resource_type": "USER",
            "resource_user_email": login["user_email"],
            "http_method": "PATCH",
            "status": "SUCCESS",
            "request_body": orjson.dumps(body).decode(),
        }
        yield second, orjson.dumps(row)


def pages(stream: str, rows: Rows, size: int) -> list[StoredPage]:
    """Return the rows as pages of ``size``, unparsed."""
    return [
        StoredPage(
            first_offset=first,
            account_id=_ACCOUNT,
            stream=stream,
            seen_us=_SEEN_US,
            times_us=tuple(second * 1_000_000 for second, _ in rows[first : first + size]),
            ids=Random(first).randbytes(16 * len(rows[first : first + size])),
            body=b"[%b]" % b",".join(text for _, text in rows[first : first + size]),
        )
        for first in range(0, len(rows), size)
    ]


def baseline_seconds(rows: Rows) -> float:
    """Time parsing and writing each row."""
    loads, dumps = orjson.loads, orjson.dumps
    begin = time.thread_time()
    for _, text in rows:
        dumps(loads(text))
    return time.thread_time() - begin


def render_seconds(style: Any, normaliser: Normaliser, page: StoredPage) -> float:
    """Time parsing, normalising and rendering the rows of a page that nobody has parsed yet."""
    page = replace(page)
    begin = time.thread_time()
    origin = Origin(page.account_id, "acme", page.stream, page.seen_us)
    columns = page.rows, page.hex_ids, page.times_us
    style.render_rows(*columns, origin, normaliser, Shape().bodies(usual=style.request_bodies))
    return time.thread_time() - begin


def pipeline_seconds(pipeline: Pipeline, page: StoredPage) -> float:
    """Time the same and making the sink's events of it: all there is to do for a page."""
    page = replace(page)
    begin = time.thread_time()
    pipeline(page)
    return time.thread_time() - begin


def ratios(stream: str, rows: Rows, size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return, for each format, the cost of rendering and of the whole pipeline over baseline."""
    normalisers = {"access_requests": LOGINS, "scim_updates": SCIM_UPDATES}
    chunks = pages(stream, rows, size)
    best: dict[Any, list[float]] = {}
    styles = formats()
    for _ in range(rounds):
        for index, page in enumerate(chunks):
            part = rows[page.first_offset : page.end_offset]
            _note(best, "baseline", index, baseline_seconds(part))
        for name, style in styles.items():
            pipeline = Pipeline(style, normalisers, {})
            for index, page in enumerate(chunks):
                seconds = render_seconds(style, normalisers[stream], page)
                _note(best, (name, 0), index, seconds)
                _note(best, (name, 1), index, pipeline_seconds(pipeline, page))
    sums = {key: sum(seconds) for key, seconds in best.items()}
    base = sums["baseline"]
    return {name: (sums[name, 0] / base, sums[name, 1] / base) for name in styles}


def _note(best: dict[Any, list[float]], name: Any, index: int, seconds: float) -> None:
    known = best.setdefault(name, [])
    if index == len(known):
        known.append(seconds)
    known[index] = min(known[index], seconds)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.formats", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--page", type=int, default=250, help="rows in a page")
    chosen = parser.parse_args()
    gc.collect()
    gc.freeze()  # as the daemon does
    sets: dict[str, tuple[str, Iterator[tuple[int, bytes]]]] = {
        "usual": ("access_requests", usual(_TOTAL)),
        "all new": ("access_requests", usual(_TOTAL, users=10**6, networks=10**6)),
        "9 keys": ("access_requests", documented(_TOTAL)),
        "scim": ("scim_updates", scim(_TOTAL // 10)),
        "scim, new bodies": ("scim_updates", scim(_TOTAL // 10, new_bodies=True)),
    }
    print(f"{'':18}" + "".join(f"{name:>8}" for name in TARGETS))
    print(f"{'target':18}" + "".join(f"{target:8.2f}" for target in TARGETS.values()))
    for name, (stream, made) in sets.items():
        rows = list(made)
        found = ratios(stream, rows, chosen.page, chosen.rounds)
        size = sum(len(text) for _, text in rows) // len(rows)
        rendered, sent = zip(*(found[one] for one in TARGETS), strict=True)
        print(f"{name:18}" + "".join(f"{x:8.2f}" for x in rendered) + f"  ({size} bytes a row)")
        print(f"{'  to the sink':18}" + "".join(f"{x:8.2f}" for x in sent))


if __name__ == "__main__":
    main()
