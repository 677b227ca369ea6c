"""Content for Microsoft Sentinel: in the shape it is installed in, over columns that are filled.

No Azure is here. Microsoft's own parser of KQL reads every query and knows the table's columns.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cefp
import pytest
import yaml
from jsonschema import Draft202012Validator
from sigma.pipelines.azuremonitor.tables import AZURE_MONITOR_TABLES

from forwarder.formats.cef import CefFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, SCIM_UPDATES, page_of
from tests.content.asim import COLUMNS, EVENT_TYPES, MANDATORY
from tests.content.common_security_log import COLUMNS as FROM_CEF
from tests.content.golden import cases
from tests.content.test_sigma_rules import CANNOT

_SENTINEL = Path(__file__).parents[2] / "deploy" / "sentinel"
_KQL = Path(__file__).parent / "kql"
RULES: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in sorted(_SENTINEL.glob("rules/*.yaml"))
}
PARSERS: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in sorted(_SENTINEL.glob("parsers/*.yaml"))
}
FUNCTIONS = {path.stem: path.read_text("utf-8") for path in _SENTINEL.glob("functions/*.kql")}
_TABLE = {
    name: column["data_type"] for name, column in AZURE_MONITOR_TABLES["CommonSecurityLog"].items()
}
_CEF = Pipeline(CefFormat(FormatConfig()), NORMALISERS, ACCOUNTS)
_BY_AGENT = {"TimeGenerated", "DeviceVendor", "DeviceProduct", "DeviceEventClassID", "Activity"}
"""Columns out of the head of a CEF line, and the agent's clock."""
_SPAN = {"type": "string", "pattern": r"^[0-9]+[mhd]$"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_MAPPING = {
    "type": "object",
    "required": ["entityType", "fieldMappings"],
    "properties": {
        "entityType": {"enum": ["Account", "IP"]},
        "fieldMappings": {
            "type": "array",
            "items": {"type": "object", "required": ["identifier", "columnName"]},
        },
    },
}
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "name", "description", "severity", "requiredConnectors", "query", "kind"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "name": {"type": "string", "maxLength": 256},
        "version": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
        "kind": {"const": "Scheduled"},
        "status": {"const": "Available"},
        "severity": {"enum": ["Informational", "Low", "Medium", "High"]},
        "description": {"type": "string"},
        "requiredConnectors": {"type": "array"},
        "queryFrequency": _SPAN,
        "queryPeriod": _SPAN,
        "triggerOperator": {"const": "gt"},
        "triggerThreshold": {"type": "integer"},
        "tactics": _TEXTS,
        "relevantTechniques": {"type": "array", "items": {"pattern": "^T[0-9]{4}$"}},
        "query": {"type": "string", "maxLength": 10_000},
        "entityMappings": {"type": "array", "items": _MAPPING, "maxItems": 10},
        "incidentConfiguration": {"type": "object"},
    },
}
_MINUTES = {"m": 1, "h": 60, "d": 1440}


def test_there_is_a_rule_for_each_detection() -> None:
    twins = set(cases()) - {"login_from_unusual_country", "service_token_at_two_addresses"}

    assert set(RULES) == twins
    assert set(RULES) >= CANNOT["kusto"] - {"service_token_at_two_addresses"}


def test_a_rule_has_the_shape_that_sentinel_takes() -> None:
    schema = Draft202012Validator(_RULE)
    faults = {
        name: [fault.message for fault in schema.iter_errors(rule)] for name, rule in RULES.items()
    }
    ids = {rule["id"] for rule in RULES.values()}

    assert {name: [] for name in RULES} == faults
    assert len(ids) == len(RULES)


def test_a_rule_looks_back_as_far_as_it_runs_apart_and_sentinel_allows() -> None:
    spans = {
        name: (_minutes(rule["queryFrequency"]), _minutes(rule["queryPeriod"]))
        for name, rule in RULES.items()
    }

    assert [] == [
        name for name, (apart, back) in spans.items() if not 5 <= apart <= back <= 14 * 1440
    ]


def _minutes(span: str) -> int:
    return int(span[:-1]) * _MINUTES[span[-1]]


def test_a_query_uses_columns_that_the_forwarder_fills() -> None:
    filled = _BY_AGENT | set(FROM_CEF.values())
    used = {
        name: {word for word in re.findall(r"\w+", text) if word in _TABLE}
        for name, text in _queries().items()
    }
    # Our own columns may have the name of one of the table.
    own = {"EventCount", "EventStartTime", "EventEndTime", "EventType"}

    assert {} == {
        name: words - filled - own for name, words in used.items() if words - filled - own
    }
    assert set(FROM_CEF.values()) <= set(_TABLE)


def test_a_class_of_events_in_a_query_is_one_that_the_forwarder_writes() -> None:
    known = re.compile(
        r"access\.log(in|out)|scim\.(user|group)\.?(create|update|delete|enable|disable|add_member"
        r"|remove_member)?|forwarder\.(gap_opened|coverage)|\.(disable|delete|remove_member)"
    )
    classes = {
        text
        for query in _queries().values()
        for text in re.findall(r'"([a-z_.]+)"', query)
        if "." in text
    }

    assert [] == [text for text in classes if not known.fullmatch(text)]
    assert len(classes) > 10


def test_the_parser_of_user_management_has_a_type_for_each_change() -> None:
    query = PARSERS["vimUserManagementCloudflareAccess"]["ParserQuery"]
    types = dict(re.findall(r'"(scim[a-z_.]+)", "(\w+)", "\w+"', query))
    written = {
        cefp.parse(event.body.decode())["device"]["event_class_id"]
        for row in SCIM_UPDATES.values()
        for event in _CEF(page_of("scim_updates", [row])).events
    }

    assert {text for text in written if "unknown" not in text} <= set(types)
    assert set(types.values()) == EVENT_TYPES["UserManagement"]


@pytest.mark.integration
def test_microsofts_parser_of_kql_finds_no_fault(tmp_path: Path) -> None:
    judged = _judge(_queries(), tmp_path)

    assert {} == {name: said["faults"] for name, said in judged.items() if said["faults"]}
    for name, rule in RULES.items():
        wanted = {
            field["columnName"]
            for entity in rule.get("entityMappings", [])
            for field in entity["fieldMappings"]
        }
        assert wanted <= set(judged[name]["columns"]), name
    for name, parser in PARSERS.items():
        schema = parser["Normalization"]["Schema"]
        assert judged[name]["columns"].items() <= COLUMNS[schema].items()
        assert MANDATORY[schema] <= set(judged[name]["columns"])


@pytest.mark.integration
def test_the_functions_return_the_rows_of_their_tables(tmp_path: Path) -> None:
    judged = _judge(FUNCTIONS, tmp_path)

    assert [] == [fault for said in judged.values() for fault in said["faults"]]
    assert "Connection" in judged["CloudflareAccessLogins"]["columns"]
    assert "MembersAdded" in judged["CloudflareAccessChanges"]["columns"]


@pytest.mark.integration
def test_the_parser_of_kql_finds_a_wrong_column_and_a_wrong_operator(tmp_path: Path) -> None:
    wrong = {
        "column": "CommonSecurityLog | where Nobody == 1",
        "operator": "CommonSecurityLog | wher 1",
    }

    judged = _judge(wrong, tmp_path)

    assert [True, True] == [bool(said["faults"]) for said in judged.values()]


def _queries() -> dict[str, str]:
    """Return each query; a parser's parameters become what they are by default."""
    queries = {name: rule["query"] for name, rule in RULES.items()}
    for name, parser in PARSERS.items():
        given = [f"let {item['Name']} = {_literal(item)};\n" for item in parser["ParserParams"]]
        queries[name] = "".join(given) + parser["ParserQuery"]
    return queries


def _literal(parameter: dict[str, str]) -> str:
    default = parameter["Default"]
    return json.dumps(default) if parameter["Type"] == "string" else str(default).lower()


def _judge(queries: dict[str, str], folder: Path) -> dict[str, Any]:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no npm: Microsoft's parser of KQL comes as its package")
    for name in ("package.json", "package-lock.json", "check.js"):
        shutil.copy(_KQL / name, folder)
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    tables = {
        table: ", ".join(f"['{n}']:{one['data_type'].lower()}" for n, one in columns.items())
        for table, columns in AZURE_MONITOR_TABLES.items()
        if table == "CommonSecurityLog" or table.startswith("ASim")
    }
    declared = {table: f"({columns})" for table, columns in tables.items()}
    given = json.dumps({"tables": declared, "queries": queries})
    run = subprocess.run(
        [node, "check.js"], cwd=folder, input=given.encode(), check=True, capture_output=True
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found
