"""Words that simulated companies are made of."""

from __future__ import annotations

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
