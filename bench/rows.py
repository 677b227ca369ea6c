"""Rows as Cloudflare gives them, reproducible, with the spread of a company of some thousands."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from random import Random

from forwarder.core.timing import format_seconds

SEED = 1
USERS, APPS, NETWORKS = 4000, 120, 6000
ROWS_A_SECOND = 50
_SECOND_US = 1_000_000
_COUNTRIES = ("US", "DE", "GB", "FR", "IN", "BR", "JP", "us")
_CONNECTIONS = ("azureAD", "okta", "google-apps", "onetimepin", "saml")


def rows(count: int, until_us: int) -> Iterator[tuple[int, bytes]]:
    """Give ``count`` logins as (second since 1970, JSON), oldest first, up to ``until_us``.

    Fifty rows share a second; ray ids are all different; every twentieth login is refused.
    """
    rng = Random(SEED)
    users = [
        (f"user{i}@example.com", str(uuid.UUID(int=rng.getrandbits(128)))) for i in range(USERS)
    ]
    apps = [
        (f"app{i}.example.com/admin", f"Internal app {i}", str(uuid.UUID(int=rng.getrandbits(128))))
        for i in range(APPS)
    ]
    ips = [f"203.0.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(NETWORKS)]
    first = until_us // _SECOND_US - count // ROWS_A_SECOND
    for index in range(count):
        second = first + index // ROWS_A_SECOND
        email, user_id = rng.choice(users)
        domain, name, app_uid = rng.choice(apps)
        yield (
            second,
            (
                f'{{"created_at":"{format_seconds(second * _SECOND_US)}","user_email":"{email}",'
                f'"user_id":"{user_id}","ip_address":"{rng.choice(ips)}",'
                f'"country":"{rng.choice(_COUNTRIES)}","app_domain":"{domain}",'
                f'"app_name":"{name}","app_uid":"{app_uid}","app_type":"self_hosted",'
                f'"action":"login","allowed":{"false" if rng.random() < 0.05 else "true"},'  # noqa: PLR2004
                f'"connection":"{rng.choice(_CONNECTIONS)}","ray_id":"{rng.getrandbits(64):016x}"}}'
            ).encode(),
        )
