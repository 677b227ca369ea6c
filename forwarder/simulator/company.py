"""Who and what a simulated account consists of, drawn from a seed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

COMPANIES = (
    "Northwind", "Globex", "Initech", "Umbrella", "Contoso", "Fabrikam", "Acme", "Hooli",
    "Stark", "Wayne", "Tyrell", "Cyberdyne", "Soylent", "Vandelay", "Wonka", "Aperture",
)  # fmt: skip

GIVEN_NAMES = (
    "Aisha", "Amélie", "Bruno", "Carlos", "Chloé", "Dagmar", "Darius", "Elif", "Emma", "Fatima",
    "Giulia", "Hana", "Ibrahim", "Ingrid", "Jamal", "João", "Kaito", "Katarzyna", "Lars", "Leila",
    "Łukasz", "Mei", "Mohammed", "Nadia", "Noah", "Olga", "Priya", "Quentin", "Rosa", "Samuel",
    "Siobhán", "Søren", "Tariq", "Ursula", "Víctor", "Wanjiru", "Xin", "Yuki", "Zainab", "Zoë",
)  # fmt: skip

FAMILY_NAMES = (
    "Abe", "Almeida", "Andersen", "Bakker", "Chen", "Costa", "Dubois", "Eriksson", "Fischer",
    "García", "Haddad", "Ivanova", "Jansen", "Kowalski", "Kumar", "Lindqvist", "Martins", "Moreau",
    "Müller", "Nakamura", "Novák", "O'Brien", "Okafor", "Papadopoulos", "Petrov", "Quinn", "Rossi",
    "Sánchez", "Schmidt", "Silva", "Singh", "Smith", "Tanaka", "Torres", "Ueda", "Van Dijk",
    "Weber", "Yavuz", "Zhang", "Živković",
)  # fmt: skip

COUNTRIES = ("US", "DE", "GB", "FR", "NL", "PT", "BR", "IN", "JP", "SE", "PL", "KE", "AU", "CA")

SELF_HOSTED_APPS = (
    ("Wiki", "wiki", ""),
    ("Grafana", "grafana", ""),
    ("Kibana", "kibana", "/app/discover"),
    ("Jenkins", "ci", "/job/release"),
    ("Admin console", "backoffice", "/admin"),
    ("Payroll", "payroll", ""),
    ("Git", "git", ""),
    ("Staging shop", "staging", "/checkout"),
    ("Metabase", "bi", "/dashboard"),
)
"""Name, first label of the host, path."""

SAAS_APPS = ("Salesforce", "Slack", "Zendesk", "Workday")
INFRASTRUCTURE_APPS = (("Bastion", "ssh"), ("Build hosts", "vnc"), ("Windows jump box", "rdp"))

SERVICES = ("deploy-bot", "prometheus-scraper", "backup-runner", "synthetic-monitor")

ASSETS = (
    "app.3f9c1e.js", "vendor.77ab02.js", "main.css", "logo.svg", "inter-var.woff2", "i18n.en.json",
)  # fmt: skip

GROUPS = ("engineering", "finance", "people-ops", "security", "contractors", "sales", "on-call")

SCIM_ERRORS = (
    "user not found",
    "seat limit reached: cannot provision user",
    "invalid filter in PATCH operation",
    "group has no members attribute",
)


def seeded(*words: object) -> Random:
    """Return a generator that depends only on these words."""
    text = "/".join(map(str, words))
    return Random(text)  # noqa: S311 - traffic, not cryptography  # nosec B311


def whole_number(draw: Random, expected: float) -> int:
    """Return a whole number whose average is `expected`."""
    whole = int(expected)
    return whole + (draw.random() < expected - whole)


PEOPLE = 120
# NFKD does not decompose these letters; blanks and apostrophes do not fit an e-mail address.
LETTERS = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "'": None, " ": None})


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """An identity provider; `scim` is None if its type cannot provision."""

    id: str
    name: str
    type: str
    scim: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the provider as the list of identity providers shows it, its secret redacted."""
        # As in the real list: what configures the login is left out, secrets are asterisks.
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
    """A person who logs in."""

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
    """Everything that the traffic of one account is drawn from."""

    name: str
    domain: str
    people: tuple[Person, ...]
    applications: tuple[Application, ...]
    service_tokens: tuple[str, ...]
    identity_providers: tuple[IdentityProvider, ...]


def found_company(seed: int, account: str) -> Company:
    """Return the company that owns `account`; the same arguments return the same company."""
    draw = seeded(seed, account, "company")
    name = draw.choice(COMPANIES)
    domain = f"{name.lower()}-{account[:4].lower()}.example.com"
    providers = _identity_providers(domain)
    return Company(
        name=name,
        domain=domain,
        people=tuple(_person(draw, domain, number) for number in range(PEOPLE)),
        applications=_applications(domain),
        service_tokens=tuple(f"{draw.getrandbits(128):032x}.access" for _ in SERVICES),
        identity_providers=providers,
    )


def stable_id(*parts: str) -> str:
    """Return the UUID that these words always have."""
    # Derived and not drawn: one person more must not change the ids of all others.
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
    given, family = draw.choice(GIVEN_NAMES), draw.choice(FAMILY_NAMES)
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
        country=draw.choice(COUNTRIES),
        addresses=(_address4(draw), _address4(draw), _address6(draw)),
    )


def _ascii(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.translate(LETTERS))
    return decomposed.encode("ascii", "ignore").decode()


def _address4(draw: Random) -> str:
    # Networks for documentation (RFC 5737, RFC 3849): nobody real can appear in a test.
    network = draw.choice(("192.0.2", "198.51.100", "203.0.113"))
    return f"{network}.{draw.randrange(1, 255)}"


def _address6(draw: Random) -> str:
    return f"2001:db8:{draw.getrandbits(16) or 1:x}::{draw.getrandbits(16) or 1:x}"


def _applications(domain: str) -> tuple[Application, ...]:
    team = domain.partition(".")[0]
    hosted = [
        (name, f"{label}.{domain}{path}", "self_hosted") for name, label, path in SELF_HOSTED_APPS
    ]
    saas = [
        (name, f"{team}.cloudflareaccess.com/cdn-cgi/access/sso/saml/{name.lower()}", "saas")
        for name in SAAS_APPS
    ]
    remote = [(name, f"{kind}.{domain}", kind) for name, kind in INFRASTRUCTURE_APPS]
    own = [
        # Every account has these two, and people log in to them as to any other.
        ("App Launcher", f"{team}.cloudflareaccess.com", "app_launcher"),
        ("Warp Login App", f"{team}.cloudflareaccess.com/warp", "warp"),
    ]
    return tuple(
        Application(name, where, stable_id(where), kind)
        for name, where, kind in (*hosted, *saas, *remote, *own)
    )


class Directory:
    """An account's identity providers, and the ids that the API accepts in `idp_id`.

    Providers come, go and are switched while the simulator runs.
    """

    def __init__(self, providers: Iterable[IdentityProvider]) -> None:
        self._providers = {provider.id: provider for provider in providers}
        self._known = set(self._providers)
        self._refused: set[str] = set()

    def listed(self, *, scim_only: bool = False) -> list[IdentityProvider]:
        """Return the providers that exist, or only those that provision."""
        return [one for one in self._providers.values() if one.scim or not scim_only]

    def provisioning(self) -> tuple[str, ...]:
        """Return the ids of the providers that provision."""
        return tuple(one.id for one in self.listed(scim_only=True))

    def add(self, provider: IdentityProvider) -> None:
        """Add a provider, or replace the one with that id."""
        self._providers[provider.id] = provider
        # Ids of removed providers stay known: their old rows can still be read.
        self._known.add(provider.id)
        self._refused.discard(provider.id)

    def remove(self, idp_id: str, *, refused: bool = False) -> None:
        """Remove a provider. Its rows can still be read, unless `refused`."""
        self._providers.pop(idp_id, None)
        if refused:
            self.refuse(idp_id)

    def switch(self, idp_id: str, *, scim: bool) -> None:
        """Switch a provider's provisioning on or off.

        Raises:
            KeyError: there is no such provider.

        """
        self._providers[idp_id] = replace(self._providers[idp_id], scim=scim)

    def refuse(self, idp_id: str, *, refused: bool = True) -> None:
        """Refuse requests that name this id with 400 from now on, or accept them again."""
        (self._refused.add if refused else self._refused.discard)(idp_id)

    def accepts(self, idp_id: str, *, unknown: bool) -> bool:
        """Return True if the API accepts `idp_id`; `unknown` is the answer for ids it never had."""
        return idp_id not in self._refused and (unknown or idp_id in self._known)
