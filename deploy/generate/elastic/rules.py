"""Detection rules of Elastic Security, as Kibana imports them: one JSON object a line."""

from __future__ import annotations

import json
import re
from typing import Any

from deploy.generate.elastic.detections import (
    DETECTIONS,
    UNIT_NAMES,
    Detection,
    FirstSeen,
    GapOrSilence,
    Many,
    Then,
)

_OWN = (("gaps", "gap_opened"), ("reports", "coverage"))
_TACTICS = {
    "TA0001": "Initial Access",
    "TA0003": "Persistence",
    "TA0005": "Defense Evasion",
    "TA0006": "Credential Access",
    "TA0011": "Command and Control",
    "TA0040": "Impact",
}
_PARENTS = {"T1110": "Brute Force", "T1090": "Proxy"}
_RISK = {"low": 21, "medium": 47, "high": 73}


def rules() -> str:
    """Return the text of the file to import."""
    return "".join(json.dumps(_rule(one), ensure_ascii=False) + "\n" for one in DETECTIONS)


def _rule(detection: Detection) -> dict[str, Any]:
    tactic, technique, name = detection.technique
    return {
        # The same id for ever: an import replaces the rule, and exceptions stay with it.
        "rule_id": f"cloudflare_access-{detection.id}",
        "name": f"Cloudflare Access: {detection.title}",
        "description": detection.text,
        "note": f"Tuning: {detection.tuning}",
        "severity": detection.severity,
        "risk_score": _RISK[detection.severity],
        "enabled": False,
        "interval": f"{detection.every}m",
        "from": f"now-{detection.window}m",
        "to": "now",
        # The forwarder delivers late rows: a rule looks at when an event arrived.
        "timestamp_override": "event.ingested",
        "max_signals": 100,
        "tags": ["Cloudflare Access"],
        "threat": [_threat(tactic, technique, name)],
        "author": [],
        "references": [],
        "false_positives": [],
        "version": 1,
        **_logic(detection),
    }


def _threat(tactic: str, technique: str, name: str) -> dict[str, Any]:
    site = "https://attack.mitre.org"
    main, _, part = technique.partition(".")
    entry: dict[str, Any] = {"id": main, "name": name, "reference": f"{site}/techniques/{main}/"}
    if part:
        reference = f"{site}/techniques/{main}/{part}/"
        sub = {"id": technique, "name": name, "reference": reference}
        entry = {**entry, "name": _PARENTS[main], "subtechnique": [sub]}
    about = {"id": tactic, "name": _TACTICS[tactic], "reference": f"{site}/tactics/{tactic}/"}
    return {"framework": "MITRE ATT&CK", "tactic": about, "technique": [entry]}


def _logic(detection: Detection) -> dict[str, Any]:
    logic = detection.logic
    if isinstance(logic, FirstSeen):
        return {
            "type": "new_terms",
            "language": "kuery",
            "index": [detection.index],
            "query": detection.query,
            "new_terms_fields": [logic.by, *filter(None, [logic.value])],
            "history_window_start": "now-30d",
        }
    if isinstance(logic, Many | Then | GapOrSilence):
        return {"type": "esql", "language": "esql", "query": esql(detection)}
    return {
        "type": "query",
        "language": "kuery",
        "index": [detection.index],
        "query": detection.query,
    }


def esql(detection: Detection) -> str:
    """Return the query in ES|QL, for Elasticsearch 8.14 and newer."""
    logic = detection.logic
    lines = [f"FROM {detection.index}", f"| WHERE {_condition(detection.query)}"]
    if isinstance(logic, Many):
        unit = UNIT_NAMES[logic.unit]
        # Not first and last, which are words of the language.
        times = "began = MIN(@timestamp), ended = MAX(@timestamp)"
        found = f"found = COUNT_DISTINCT({logic.distinct}), {times}"
        lines.append(f"| STATS {found} BY {logic.by}, {unit} = DATE_TRUNC(1 {unit}, @timestamp)")
        lines.append(f"| WHERE found >= {logic.least}")
    elif isinstance(logic, Then):
        lines += _sequence(logic)
    else:
        sums = (f'{name} = SUM(CASE(event.action == "{action}", 1, 0))' for name, action in _OWN)
        lines.append(f"| STATS {', '.join(sums)}")
        lines.append("| WHERE gaps > 0 OR reports IS NULL OR reports == 0")
    return "\n".join(lines)


def _sequence(logic: Then) -> list[str]:
    first, second, undone = (_condition(one) for one in (logic.first, logic.second, logic.undone))
    found = [
        f"found = COUNT_DISTINCT(CASE({first}, {logic.distinct}, NULL))",
        f"began = MIN(CASE({first}, @timestamp, NULL))",
        f"ended = MAX(CASE({first}, @timestamp, NULL))",
        f"later = MAX(CASE({second}, @timestamp, NULL))",
    ]
    wanted = [
        f"found >= {logic.least}",
        "later > ended",
        f'DATE_DIFF("minutes", began, later) <= {logic.hours * 60}',
    ]
    if undone:
        found.append(f"undone = MAX(CASE({undone}, @timestamp, NULL))")
        wanted.append("(undone IS NULL OR undone < ended)")
    if logic.people:
        wanted.append(f'{logic.by} LIKE "*@*"')
    separator = ",\n        "
    return [f"| STATS {separator.join(found)} BY {logic.by}", f"| WHERE {' AND '.join(wanted)}"]


_TERM = re.compile(r'(NOT )?([\w.]+):(?:\*|"([^"]*)"|\(([^)]*)\))')


def _condition(query: str) -> str:
    """Return a filter in ES|QL, which has neither ``field:*`` nor ``field:(a OR b)``."""
    return _TERM.sub(_term, query)


def _term(found: re.Match[str]) -> str:
    negated, field, value, values = found.groups()
    if value is not None:
        if negated:
            return f'({field} IS NULL OR {field} != "{value}")'
        return f'{field} == "{value}"'
    if values is not None:
        return f"{field} IN ({values.replace(' OR ', ', ')})"
    return f"{field} IS NOT NULL"
