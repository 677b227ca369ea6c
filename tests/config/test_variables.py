"""Variables are put into scalars after parsing, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.document import Document, parse_document, resolve

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_variable_stands_anywhere_in_a_scalar() -> None:
    document = parse_document("url: https://${HOST}:${PORT:-443}/x")

    assert resolve(document, {"HOST": "h"}) == ({"url": "https://h:443/x"}, [])


def test_a_variable_set_to_nothing_takes_the_default() -> None:
    assert resolve(parse_document("a: ${A:-b}"), {"A": ""})[0] == {"a": "b"}


def test_a_doubled_dollar_is_a_plain_one() -> None:
    assert resolve(parse_document("a: $${HOME} costs 5$"), {})[0] == {"a": "${HOME} costs 5$"}


def test_a_value_that_looks_like_yaml_or_a_variable_stays_text() -> None:
    found, _ = resolve(parse_document("a: ${A}"), {"A": "x: [${B}, 1]"})

    assert found == {"a": "x: [${B}, 1]"}


def test_keys_are_left_alone() -> None:
    assert resolve(parse_document("'${A}': 1"), {"A": "x"})[0] == {"${A}": 1}


def test_every_missing_variable_is_named_with_its_place() -> None:
    document = parse_document("a: ${A}\nb:\n  - ${B}\n", "c.yaml")

    assert [str(fault) for fault in resolve(document, {})[1]] == [
        "c.yaml:1: a: the environment variable A is not set (set it, or write ${A:-default})",
        "c.yaml:3: b[0]: the environment variable B is not set (set it, or write ${B:-default})",
    ]


def test_a_half_written_variable_is_a_fault() -> None:
    (fault,) = resolve(parse_document("a: ${1A}"), {})[1]

    assert "no name and closing brace" in fault.problem


@given(data=values)
def test_escaping_every_brace_gives_the_values_back(data: object) -> None:
    """Whatever the values are, written with ``$${`` for ``${`` they come out unchanged."""

    def escaped(value: object) -> object:
        if isinstance(value, str):
            return value.replace("${", "$${")
        if isinstance(value, list):
            return [escaped(item) for item in value]
        if isinstance(value, dict):
            return {key: escaped(item) for key, item in value.items()}
        return value

    assert resolve(Document("c", escaped(data)), {}) == (data, [])


@pytest.mark.parametrize(
    ("text", "environment", "value"),
    [
        ("${IDX:-${TEAM}_access}", {"TEAM": "sec"}, "sec_access"),
        ("${IDX:-${TEAM}_access}", {"IDX": "foo"}, "foo"),
        ("${A:-${B:-${C:-x}}y}z", {}, "xyz"),
        ("${A:-${B:-x}}", {"B": "b"}, "b"),
        ("{${A:-b}}", {}, "{b}"),
    ],
)
def test_a_default_may_hold_variables(text: str, environment: dict[str, str], value: str) -> None:
    """A variable that is not needed may be unset."""
    assert resolve(Document("c", text), environment) == (value, [])


@pytest.mark.parametrize("text", ["${A:-${B}", "${A:-b", "${A:-${}}"])
def test_a_default_that_does_not_end_is_a_fault(text: str) -> None:
    faults = resolve(Document("c", text), {"B": "b"})[1]

    assert "no name and closing brace" in faults[0].problem


def test_a_variable_that_a_default_needs_must_be_set() -> None:
    (fault,) = resolve(Document("c", "${A:-${B}}"), {})[1]

    assert fault.problem == "the environment variable B is not set"
