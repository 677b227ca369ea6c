"""Who and what a simulated account consists of, drawn from a seed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from forwarder.simulator import vocabulary
from forwarder.simulator.draws import seeded

PEOPLE = 120
LETTERS = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "'": None, " ": None})


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """An identity provider; `scim` is None where the type cannot provision at all."""

    id: str
    name: str
    type: str
    scim: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the provider as the list of identity providers shows it, its secret redacted."""
        shown: dict[str, Any] = {"id": self.id, "name": self.name, "type": self.type, "config": {}}
        if self.scim is not None:
            shown["scim_config"] = {
                "enabled": self.scim,
                "identity_update_behavior": "automatic",
                "scim_base_url": f"https://scim.example.com/{self.id}/v2",
                "seat_deprovision": True,
                "user_deprovision": True,
                "secret": "*" * 10,
            }
        return shown


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who logs in."""

    given: str
    family: str
    email: str
    id: str
    connection: str
    country: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Application:
    """Something people log in to; `domain` is a host with an optional path."""

    name: str
    domain: str
    uid: str
    type: str


@dataclass(frozen=True, slots=True)
class Company:
    """All that the traffic of one account is drawn from."""

    name: str
    domain: str
    people: tuple[Person, ...]
    applications: tuple[Application, ...]
    service_tokens: tuple[str, ...]
    identity_providers: tuple[IdentityProvider, ...]


def found_company(seed: int, account: str) -> Company:
    """Return the company that owns `account`; the same for the same arguments, always."""
    draw = seeded(seed, account, "company")
    name = draw.choice(vocabulary.COMPANIES)
    domain = f"{name.lower()}-{account[:4].lower()}.example.com"
    providers = _identity_providers(domain)
    return Company(
        name=name,
        domain=domain,
        people=tuple(_person(draw, domain, number) for number in range(PEOPLE)),
        applications=_applications(domain),
        service_tokens=tuple(f"{draw.getrandbits(128):032x}.access" for _ in vocabulary.SERVICES),
        identity_providers=providers,
    )


def stable_id(*parts: str) -> str:
    """Return the UUID that belongs to these words."""
    return str(uuid5(NAMESPACE_DNS, "/".join(parts)))


def _identity_providers(domain: str) -> tuple[IdentityProvider, ...]:
    kinds = (
        ("okta", "Okta", True),
        ("azureAD", "Entra ID", True),
        ("google-apps", "Google Workspace", False),
        ("saml", "Partner SAML", False),
        ("onetimepin", "One-time PIN", None),
    )
    return tuple(
        IdentityProvider(stable_id(domain, "idp", kind), name, kind, scim)
        for kind, name, scim in kinds
    )


def _person(draw: Random, domain: str, number: int) -> Person:
    given, family = draw.choice(vocabulary.GIVEN_NAMES), draw.choice(vocabulary.FAMILY_NAMES)
    local = f"{_ascii(given)}.{_ascii(family)}".lower()
    email = f"{local}{number if draw.random() < 0.3 else ''}@{domain}"  # noqa: PLR2004
    connection = draw.choices(
        ("okta", "azureAD", "google-apps", "saml", "onetimepin"), (45, 30, 12, 8, 5)
    )[0]
    return Person(
        given=given,
        family=family,
        email=email,
        id=stable_id(domain, email),
        connection=connection,
        country=draw.choice(vocabulary.COUNTRIES),
        addresses=(_address4(draw), _address4(draw), _address6(draw)),
    )


def _ascii(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.translate(LETTERS))
    return decomposed.encode("ascii", "ignore").decode()


def _address4(draw: Random) -> str:
    network = draw.choice(("192.0.2", "198.51.100", "203.0.113"))
    return f"{network}.{draw.randrange(1, 255)}"


def _address6(draw: Random) -> str:
    return f"2001:db8:{draw.getrandbits(16) or 1:x}::{draw.getrandbits(16) or 1:x}"


def _applications(domain: str) -> tuple[Application, ...]:
    team = domain.partition(".")[0]
    hosted = [
        (name, f"{label}.{domain}{path}", "self_hosted")
        for name, label, path in vocabulary.SELF_HOSTED_APPS
    ]
    saas = [
        (name, f"{team}.cloudflareaccess.com/cdn-cgi/access/sso/saml/{name.lower()}", "saas")
        for name in vocabulary.SAAS_APPS
    ]
    remote = [(name, f"{kind}.{domain}", kind) for name, kind in vocabulary.INFRASTRUCTURE_APPS]
    own = [
        ("App Launcher", f"{team}.cloudflareaccess.com", "app_launcher"),
        ("Warp Login App", f"{team}.cloudflareaccess.com/warp", "warp"),
    ]
    return tuple(
        Application(name, where, stable_id(where), kind)
        for name, where, kind in (*hosted, *saas, *remote, *own)
    )
